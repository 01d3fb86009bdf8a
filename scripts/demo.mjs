// `npm run demo`: builds what is missing, makes a small image, mounts it, reads it, tampers with an
// object, and cleans up. As root or as an ordinary user with fusermount3.

import {
  accessSync,
  appendFileSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { capture } from './lib/process.mjs';
import { root, setup } from './setup.mjs';

const command = join(root, 'dist/cli/composefs-fuse.js');
const mkcomposefs = join(root, 'dist/cli/mkcomposefs.js');
const isRoot = process.getuid() === 0;
const undo = [];

/** Everything that touches the mount runs in a process of its own, with a time limit. */
function ask(program, ...args) {
  return capture(program, args, { timeoutMs: 15_000, env: { ...process.env, LC_ALL: 'C' } });
}

function must(program, ...args) {
  const result = ask(program, ...args);
  if (result.code === 0) return result.stdout;
  throw new Error(`${program} ${args.join(' ')}: ${result.stderr.trim() || 'no answer'}`);
}

function check(condition, what) {
  if (!condition) throw new Error(`not as expected: ${what}`);
}

/** A step's headline, and the command that a user would type for it. */
function say(number, what, typed) {
  console.log(`\n${number}. ${what}${typed === undefined ? '' : `:  ${typed}`}`);
}

const indent = (text) => text.trimEnd().replaceAll(/^/gm, '      ');

/** What keeps this user from mounting, or undefined. */
function whatIsMissing() {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/fuse, readable and writable for this user (modprobe fuse, or docker run --device /dev/fuse)';
  }
  if (!isRoot && ask('fusermount3', '--version').code !== 0)
    return 'fusermount3, since you are not root (apt-get install fuse3)';
  return undefined;
}

function unmount(mountpoint) {
  return isRoot ? must('umount', mountpoint) : must('fusermount3', '-u', mountpoint);
}

function isMounted(mountpoint) {
  return ask('findmnt', '--noheadings', '--mountpoint', mountpoint).code === 0;
}

async function demo() {
  await setup(['demo']);
  const missing = whatIsMissing();
  if (missing !== undefined) throw new Error(`this machine lacks ${missing}`);
  const folder = mkdtempSync(join(tmpdir(), 'composefs-demo-'));
  undo.push(() => rmSync(folder, { recursive: true, force: true }));

  // A real directory: this project's own sources.
  const source = join(root, 'src');
  const image = join(folder, 'demo.cfs');
  const basedir = join(folder, 'objects');
  const files = must('find', source, '-type', 'f').trimEnd().split('\n').length;
  say(1, 'An image of a directory', `mkcomposefs --digest-store=${basedir} ${source} ${image}`);
  const made = JSON.parse(
    must(process.execPath, mkcomposefs, '--json', `--digest-store=${basedir}`, source, image),
  );
  console.log(`      ${files} files: metadata in ${made.sizeBytes / 1024} KiB of image,`);
  console.log(`      contents in ${made.objects.added} objects, named by their fs-verity digest`);
  console.log(`      the image's own digest: ${made.digest}`);

  const mountpoint = join(folder, 'mnt');
  const log = join(folder, 'log');
  mkdirSync(mountpoint);
  const options = ['--basedir', basedir, '--log-file', log];
  say(2, 'Mounted', ['composefs-fuse', ...options, image, mountpoint].join(' '));
  undo.push(() => {
    if (isMounted(mountpoint))
      ask(isRoot ? 'umount' : 'fusermount3', isRoot ? '-l' : '-uz', mountpoint);
  });
  must(process.execPath, command, ...options, image, mountpoint);
  console.log(indent(must('findmnt', '--noheadings', '-o', 'SOURCE,FSTYPE', mountpoint)));

  say(3, 'Compared with the directory, byte for byte', `diff -r ${source} ${mountpoint}`);
  must('diff', '-r', source, mountpoint);
  const again = must(process.execPath, mkcomposefs, '--print-digest-only', mountpoint).trim();
  check(again === made.digest, 'an image of the mount is the same image');
  console.log('      no difference; and an image made of the mount has the same digest');

  say(4, 'Refused: writing, and an object that is not what the image says');
  const write = ask('sh', '-c', 'echo x > "$1"', 'sh', join(mountpoint, 'errors.ts'));
  check(write.code !== 0 && write.stderr.includes('Read-only'), 'writing is refused');
  console.log(indent(`write: ${write.stderr.trim().split(': ').at(-1)}`));
  const victim = join(source, 'mount.ts');
  const object = must('grep', '-rlxF', '--', readFileSync(victim, 'utf8').split('\n')[0], basedir);
  appendFileSync(object.split('\n')[0], 'one line too many\n');
  const read = ask('cat', join(mountpoint, 'mount.ts'));
  check(read.code !== 0 && read.stdout === '', 'a resized object is refused');
  console.log(
    indent(`read of a file whose object has grown: ${read.stderr.trim().split(': ').at(-1)}`),
  );

  unmount(mountpoint);
  check(!isMounted(mountpoint), 'the mount is gone');
  const events = await lastEvents(log);
  const problem = events.find((event) => event.path === '/mount.ts');
  check(problem !== undefined, 'the problem was logged');
  say(5, 'Unmounted. The log names the file and the object concerned');
  console.log(indent(`${problem.path}: ${problem.msg} (object ${problem.objectPath})`));
  console.log('\nEverything made for this demo is removed again.');
}

/** The log, once the daemon has written its last line; it ends by itself after the unmount. */
async function lastEvents(log) {
  for (let attempt = 0; attempt < 500; attempt++) {
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
    const events = lines.map((line) => JSON.parse(line));
    if (events.at(-1).msg === 'unmounted') return events;
    await delay(10);
  }
  throw new Error('the daemon does not end');
}

function cleanUp() {
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) step();
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
try {
  await demo();
} catch (error) {
  console.error(`demo: ${error.message}`);
  process.exitCode = 1;
} finally {
  cleanUp();
}
