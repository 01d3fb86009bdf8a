// The files of the image that mount.mjs measures when none is given:
//
//   system/   a system in small: 51,000 entries in 3,000 directories, most of them small files
//   wide/     one directory with 50,000 entries
//   labels/   20,000 files with extended attributes
//   deep/     a hundred levels
//   python/   Python with its libraries, to be started with this as its root directory
//   big       a file of 128 MiB

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from './processes.mjs';

const python = '/usr/bin/python3';

/** How much of each there is; `quick` is for a smoke run. */
export function sizesOf(quick) {
  return quick
    ? { groups: 5, folders: 10, wide: 2_000, labels: 400, levels: 100, bigBytes: 1 << 23 }
    : { groups: 60, folders: 50, wide: 50_000, labels: 20_000, levels: 100, bigBytes: 1 << 27 };
}

const FILES_PER_FOLDER = 17;
const LABELS_PER_FOLDER = 200;
const FILES_PER_LEVEL = 10;

/** Bytes that differ from file to file and do not repeat within one. */
function patternBytes(length, seed) {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** Sizes as in /usr: most files are small, a few are not. */
function systemFileBytes(i) {
  if (i % 100 === 0) return 200_000;
  if (i % 10 === 0) return 40_000;
  return 500 + ((i * 37) % 8000);
}

function makeSystem(folder, { groups, folders }) {
  let i = 0;
  for (let g = 0; g < groups; g++)
    for (let f = 0; f < folders; f++) {
      const directory = join(folder, `group-${g}`, `folder-${f}`);
      mkdirSync(directory, { recursive: true });
      for (let k = 0; k < FILES_PER_FOLDER; k++, i++) {
        const path = join(directory, `file-${i}`);
        if (i % 12 === 0) symlinkSync(`../folder-${i % 7}/file-${i}`, path);
        // A file of up to 64 bytes is kept in the image itself.
        else if (i % 8 === 0) writeFileSync(path, `inline file ${i}`);
        else writeFileSync(path, patternBytes(systemFileBytes(i), i));
      }
    }
}

function makeFiles(folder, count) {
  mkdirSync(folder, { recursive: true });
  for (let i = 0; i < count; i++) writeFileSync(join(folder, `entry-${i}`), '');
}

async function makeLabels(folder, count, program) {
  for (let i = 0; i * LABELS_PER_FOLDER < count; i++)
    makeFiles(join(folder, `folder-${i}`), Math.min(LABELS_PER_FOLDER, count));
  await run(program, ['label', folder]);
}

function makeDeep(folder, levels) {
  let path = folder;
  for (let level = 0; level < levels; level++) {
    makeFiles(path, FILES_PER_LEVEL);
    path = join(path, `level-${level}`);
  }
  mkdirSync(path);
}

/** Copies Python and all that it needs to start. Returns its path below `folder`, or why not. */
async function copyPython(folder) {
  if (!existsSync(python)) return { reason: `no ${python} on this machine` };
  try {
    const program = realpathSync(python);
    const print = 'import sysconfig; print(sysconfig.get_paths()["stdlib"])';
    const library = (await run(program, ['-I', '-c', print])).trim();
    const libraries = (await run('ldd', [program])).match(/\/\S+(?= \(0x)/g) ?? [];
    for (const path of [program, ...libraries]) {
      mkdirSync(join(folder, dirname(path)), { recursive: true });
      copyFileSync(path, join(folder, path));
    }
    // The part for compiling against Python is as large as all the rest.
    const script = 'tar -C / --exclude="config-*" -cf - ".$1" | tar -C "$2" -xf -';
    await run('sh', ['-c', script, 'sh', library, folder]);
    return { path: program };
  } catch (error) {
    return { reason: `Python cannot be copied: ${error.message}` };
  }
}

/** Writes the tree into the folder. Returns what of Python is in it. */
export async function makeTree(folder, program, quick) {
  const sizes = sizesOf(quick);
  makeSystem(join(folder, 'system'), sizes);
  makeFiles(join(folder, 'wide'), sizes.wide);
  await makeLabels(join(folder, 'labels'), sizes.labels, program);
  makeDeep(join(folder, 'deep'), sizes.levels);
  mkdirSync(join(folder, 'python'));
  writeFileSync(join(folder, 'big'), patternBytes(sizes.bigBytes, 7));
  return { python: await copyPython(join(folder, 'python')) };
}
