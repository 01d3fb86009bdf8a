// What all mounts show: an image with its objects, the same files as a squashfs, and a second image
// that shares the big object. Also which paths the workloads visit, and which objects lie behind
// them; both come from the image's dump, so that nothing is asked of a mount.

import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../scripts/setup.mjs';
import { run } from './processes.mjs';
import { makeTree } from './tree.mjs';

const SMALL_BYTES = 256 * 1024;
const TAR_GROUPS = 6;

const tool = (name, ...args) => run(process.execPath, [join(root, `dist/cli/${name}.js`), ...args]);

/** The entries of a dump: path without the leading slash, type, size and object. */
function parseDump(text) {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [path, size, mode, , , , , , payload, , digest] = line.split(' ');
      return { line, path: path.slice(1), size: Number(size), mode, payload, digest };
    });
}

const isDirectory = (entry) => entry.mode.startsWith('4');
const isFile = (entry) => entry.mode.startsWith('10');
const hasObject = (entry) => isFile(entry) && entry.payload !== '-';
// An escaped name would have to be decoded for the list, where it could hold a line break.
const isPlain = (entry) => !entry.path.includes('\\') && !entry.payload.includes('\\');

/** Up to `count` of the list, in an order that jumps about. */
function pick(list, count) {
  const step = 7919; // A prime, and no divisor of the length of a list that occurs.
  const picked = [];
  for (let i = 0; i < Math.min(count, list.length); i++)
    picked.push(list[(i * step) % list.length]);
  return picked;
}

/** The image given on the command line, or one of a tree made for this run. */
async function imageOf(folder, { image, basedirs, quick }, program) {
  if (image !== undefined) return { image, basedirs, made: false, python: notInImage };
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  const { python } = await makeTree(tree, program, quick);
  const made = { image: join(folder, 'image.cfs'), basedirs: [join(folder, 'objects')] };
  await tool('mkcomposefs', `--digest-store=${made.basedirs[0]}`, tree, made.image);
  rmSync(tree, { recursive: true });
  return { ...made, made: true, python };
}

const notInImage = { reason: 'the image given with --image is not laid out for it' };

/** An image that holds the big file alone: the same object in another image. */
async function makeSecondImage(folder, entries, big) {
  const dump = join(folder, 'second.dump');
  const top = entries.find((entry) => entry.path === '');
  const alone = `/big${big.line.slice(big.line.indexOf(' '))}`;
  writeFileSync(dump, `${top.line}\n${alone}\n`);
  const image = join(folder, 'second.cfs');
  await tool('mkcomposefs', '--from-file', dump, image);
  return image;
}

/** Makes the image, or takes the one given, and lists what the workloads need of it. */
export async function makeCorpus(folder, options, program) {
  const { image, basedirs, made, python } = await imageOf(folder, options, program);
  const entries = parseDump(await tool('composefs-info', 'dump', image));
  const under = (part) => (made ? `${part}/` : '');
  const below = (part) => entries.filter((entry) => entry.path.startsWith(under(part)));
  const list = (name, lines) => {
    const file = join(folder, `${name}.list`);
    writeFileSync(file, lines.map((line) => `${line}\n`).join(''));
    return { file, count: lines.length };
  };
  const objectList = (name, files) => {
    const paths = files.filter((entry) => hasObject(entry) && isPlain(entry));
    const found = paths.map(({ payload }) =>
      basedirs.map((base) => join(base, payload)).find((path) => statSync(path, quiet)),
    );
    return list(name, [...new Set(found.filter((path) => path !== undefined))]).file;
  };
  const system = below('system');
  const files = pick(
    system.filter((entry) => !isDirectory(entry) && isPlain(entry)),
    50_000,
  );
  const small = system.filter(
    (entry) => isFile(entry) && isPlain(entry) && entry.size > 0 && entry.size <= SMALL_BYTES,
  );
  const read = pick(small, 20_000);
  const largest = entries.filter((entry) => hasObject(entry) && isPlain(entry));
  const big = largest.reduce((a, b) => (b.size > a.size ? b : a), { size: 0 });
  const groups = Array.from({ length: TAR_GROUPS }, (_, i) => `system/group-${i}`);
  const tarred = made
    ? groups.filter((group) => entries.some(({ path }) => path === group))
    : ['.'];
  const isTarred = ({ path }) => !made || tarred.some((group) => path.startsWith(`${group}/`));
  return {
    image,
    basedirs,
    bytes: statSync(image).size,
    entries: entries.length,
    source: made ? 'made for this run' : image,
    root: made ? 'system' : '.',
    rootEntries: system.length,
    firstPath: files[0]?.path,
    stat: list(
      'stat',
      files.map(({ path }) => path),
    ),
    read: {
      ...list(
        'read',
        read.map(({ path }) => path),
      ),
      objects: objectList('read-objects', read),
    },
    tar: {
      names: tarred,
      count: entries.filter(isTarred).length,
      objects: objectList('tar-objects', entries.filter(isTarred)),
    },
    big:
      big.size < 1 << 20
        ? { reason: 'the image has no file of 1 MiB or more' }
        : {
            path: big.path,
            bytes: big.size,
            objects: objectList('big-object', [big]),
            second: await makeSecondImage(folder, entries, big),
          },
    python: { ...python, objects: objectList('python-objects', made ? below('python') : []) },
    ...countParts(made, below),
  };
}

const quiet = { throwIfNoEntry: false };

function countParts(made, below) {
  const names = ['wide', 'labels', 'deep'];
  const count = (name) => below(name).filter(isFile).length;
  const part = (name) => (made ? { path: name, count: count(name) } : notInImage);
  return Object.fromEntries(names.map((name) => [name, part(name)]));
}

/** Makes a squashfs of what a mount shows. Returns its path, or why there is none. */
export async function makeSquashfs(path, from) {
  const plain = ['-noI', '-noD', '-noF', '-noX', '-no-progress', '-quiet'];
  try {
    await run('mksquashfs', [from, path, ...plain]);
    return { path };
  } catch (error) {
    return { reason: `no squashfs: ${error.message}` };
  }
}
