// `npm run demo`: builds what is missing, makes a small image, mounts it, reads it, tampers with an
// object, and cleans up. As root or as an ordinary user with fusermount3.

import {
  accessSync,
  appendFileSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { capture } from './lib/process.mjs';
import { importTypeScript } from './lib/typescript.mjs';
import { root, setup } from './setup.mjs';

const command = join(root, 'dist/cli/composefs-fuse.js');
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

  const { makeDemoImage } = await importTypeScript('test/support/demo-image.ts');
  const { image, basedir, objects } = makeDemoImage(folder);
  const objectCount = readdirSync(basedir, { recursive: true }).filter((name) =>
    statSync(join(basedir, name)).isFile(),
  ).length;
  const kilobytes = statSync(image).size / 1024;
  console.log(`\n1. An image: metadata and short files, ${kilobytes} KiB, in ${image}`);
  console.log(`   Its larger files are ${objectCount} objects, named by digest, in ${basedir}`);

  const mountpoint = join(folder, 'mnt');
  const log = join(folder, 'log');
  mkdirSync(mountpoint);
  const options = ['--basedir', basedir, '--log-file', log];
  const shown = ['composefs-fuse', '--basedir', basedir, image, mountpoint].join(' ');
  console.log(`\n2. Mounting:  ${shown}`);
  undo.push(() => {
    if (isMounted(mountpoint))
      ask(isRoot ? 'umount' : 'fusermount3', isRoot ? '-l' : '-uz', mountpoint);
  });
  must(process.execPath, command, ...options, image, mountpoint);
  console.log(indent(must('findmnt', '--noheadings', '-o', 'SOURCE,FSTYPE', mountpoint)));

  console.log('\n3. What a user sees:');
  console.log(indent(must('find', mountpoint, '-mindepth', '1', '-printf', '%M %8s  %P %l\n')));

  console.log(
    '\n4. Reading a file of the image, and comparing files with their objects byte for byte:',
  );
  console.log(indent(must('cat', join(mountpoint, 'README.txt'))));
  for (const [path, object] of Object.entries(objects)) {
    must('cmp', join(mountpoint, path), object);
    console.log(`      ${path}: equal`);
  }
  check(must('cat', join(mountpoint, 'docs/latest')).startsWith('composefs keeps'), 'the symlink');

  console.log('\n5. Writing is refused, and so is an object that is not what the image says:');
  const write = ask('sh', '-c', 'echo x > "$1"', 'sh', join(mountpoint, 'README.txt'));
  check(write.code !== 0 && write.stderr.includes('Read-only'), 'writing is refused');
  console.log(indent(`write: ${write.stderr.trim().split(': ').at(-1)}`));
  const object = objects['docs/manual.txt'];
  chmodSync(object, 0o644);
  appendFileSync(object, 'one line too many\n');
  const read = ask('cat', join(mountpoint, 'docs/manual.txt'));
  check(read.code !== 0 && read.stdout === '', 'a resized object is refused');
  console.log(
    indent(`read of the file whose object has grown: ${read.stderr.trim().split(': ').at(-1)}`),
  );

  unmount(mountpoint);
  check(!isMounted(mountpoint), 'the mount is gone');
  const events = await lastEvents(log);
  const problem = events.find((event) => event.path === '/docs/manual.txt');
  check(problem !== undefined, 'the problem was logged');
  console.log('\n6. Unmounted. The log tells which file and which object were concerned:');
  console.log(indent(`${problem.path}: ${problem.msg}`));
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
