// Our mount beside the directory that its image was made of, and beside the kernel's own mount.

import {
  chmodSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  differences,
  folder,
  input,
  mountExt4,
  mountKernel,
  mountOurs,
  must,
  ours,
  outcome,
  run,
  runCases,
  walk,
} from './harness.mjs';
import { mounterCases } from './mounters.mjs';

/** What an image keeps of an entry; not so inode numbers, link counts, blocks, directories' sizes. */
const kept = ['type', 'mode', 'uid', 'gid', 'rdev', 'mtime', 'target', 'xattrs', 'read'];

function setXattr(path, name, value) {
  const program = 'import os, sys; os.setxattr(*sys.argv[1:3], sys.argv[3].encode())';
  must('python3', '-I', '-c', program, path, name, value);
}

function writeSource(source) {
  mkdirSync(join(source, 'sub/empty'), { recursive: true });
  for (const size of [0, 64, 65, 4096, 4097, 1_000_001])
    writeFileSync(join(source, `${size}`), Buffer.alloc(size, `${size} `));
  for (let i = 0; i < 200; i++) writeFileSync(join(source, `sub/file-${i}`), `content ${i}`);
  symlinkSync('sub/file-1', join(source, 'link'));
  must('mknod', join(source, 'null'), 'c', '1', '3');
  must('mknod', join(source, 'fifo'), 'p');
  chmodSync(join(source, '4097'), 0o4711);
  lchownSync(join(source, '65'), 1000, 2000);
  setXattr(join(source, '64'), 'user.own', 'value');
  setXattr(join(source, 'sub'), 'trusted.own', 'value');
}

/** Our mount, what it shows, and its clean end. */
async function look(image, basedirs, ...options) {
  const mount = mountOurs(image, basedirs, ...options);
  const table = readFileSync('/proc/self/mounts', 'utf8').trimEnd().split('\n');
  const line = table.map((text) => text.split(' ')).find((words) => words[1] === mount.mountpoint);
  const tree = walk(mount.mountpoint);
  return { type: line[2], tree, log: await mount.unmount() };
}

const only = (tree, fields) =>
  new Map(
    [...tree].map(([path, entry]) => [
      path,
      Object.fromEntries(fields.map((field) => [field, entry[field]])),
    ]),
  );

const disk = mountExt4();
const [source, store, image] = ['source', 'objects', 'image.cfs'].map((name) => join(disk, name));
const cases = {
  'a directory': async () => {
    writeSource(source);
    must(...ours('mkcomposefs', '--digest-store', store, source, image));
    const { type, tree, log } = await look(image, [store]);
    const expected = only(walk(source), kept);
    return {
      type,
      entries: tree.size,
      differences: differences(expected, only(tree, kept)),
      log,
    };
  },
};

async function compareWithKernel(image, basedirs, options, ...ourOptions) {
  const expected = walk(mountKernel(image, basedirs, options));
  const { tree } = await look(image, basedirs, ...ourOptions);
  return { entries: tree.size, differences: differences(expected, tree) };
}

const withOverlayfs = ['--data', 'overlay', '--verity', 'require'];

/** What reading an external file through an overlayfs of ours comes to. */
async function readWithOverlayfs(basedir) {
  const mount = mountOurs(image, [basedir], ...withOverlayfs);
  const result = outcome(() => readFileSync(join(mount.mountpoint, '4096')).length);
  await mount.unmount();
  return result;
}

if (input.everyKind !== undefined) {
  const { image: everyKind, objects } = input.everyKind;
  Object.assign(cases, {
    'every kind of file': () => compareWithKernel(everyKind, [objects]),
    'verity=require': () => compareWithKernel(image, [store], { verity: 'require' }),
    'verity=require without fs-verity': () => {
      const copy = folder();
      must('cp', '-r', `${store}/.`, copy);
      const mountpoint = mountKernel(image, [copy], { verity: 'require' });
      return outcome(() => readFileSync(join(mountpoint, '4096')).length);
    },
    'overlayfs of ours': () =>
      compareWithKernel(image, [store], { verity: 'require' }, ...withOverlayfs),
    'overlayfs of ours, objects': async () => {
      // On the same filesystem, but what is copied has no fs-verity.
      const copy = join(disk, 'copy');
      must('cp', '-r', `${store}/.`, copy);
      return [await readWithOverlayfs(store), await readWithOverlayfs(copy)];
    },
    'overlayfs of ours without fs-verity': () => {
      const copy = folder();
      must('cp', '-r', `${store}/.`, copy);
      const [command, ...args] = ours('composefs-fuse', ...withOverlayfs, '--basedir', copy);
      const { code, stderr } = run(command, [...args, image, folder()]);
      return [code, stderr];
    },
  });
}

await runCases({ ...cases, ...mounterCases() });
