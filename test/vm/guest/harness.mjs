// What the modules of this folder share. They run in a guest (test/support/vm.ts), as root and as the
// only user, on a machine that is switched off afterwards: nothing has to be cleaned up. Cases hand
// facts back; what the facts should be is said in the test on the other side.

import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Where the project lies. */
export const project = join(import.meta.dirname, '../../..');

/** What the test passed along. */
export const input = JSON.parse(readFileSync('/vm/input.json', 'utf8'));

/** An empty directory in the guest's memory. */
export const folder = () => mkdtempSync('/tmp/');

export function run(command, args, { timeoutMs = 60_000, env = process.env } = {}) {
  const options = { encoding: 'utf8', timeout: timeoutMs, env, maxBuffer: 64 << 20 };
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, options);
  if (error?.code === 'ENOENT') throw error;
  return { code: status ?? signal, stdout, stderr };
}

/** The same for a command that others may run beside. */
export function runBeside(command, args, { timeoutMs = 120_000 } = {}) {
  const options = { encoding: 'utf8', timeout: timeoutMs, killSignal: 'SIGKILL' };
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : (error.code ?? error.signal);
      // A program that is not there says nothing itself.
      resolve({ code, stdout, stderr: stderr || (error?.message ?? '') });
    });
  });
}

/** Standard output of a command that succeeds. */
export function must(command, ...args) {
  const { code, stdout, stderr } = run(command, args);
  if (code === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')}: exit code ${code}: ${stderr.trim()}`);
}

/** One of the project's commands by name, as arguments for `run` and `must`. */
export const ours = (name, ...args) => [
  process.execPath,
  join(project, `dist/cli/${name}.js`),
  ...args,
];

/** What a call comes to: its value, or the code of the error it throws. */
export function outcome(call) {
  try {
    return call();
  } catch (error) {
    if (error.code === undefined) throw error;
    return error.code;
  }
}

/** Runs every case and reports it on its own, so that one that fails or hangs hides no other. */
export async function runCases(cases) {
  const port = openSync('/dev/ttyS1', 'w');
  const report = (line) => {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    for (let at = 0; at < bytes.length;) at += writeSync(port, bytes, at);
  };
  for (const [name, body] of Object.entries(cases)) {
    report({ case: name, state: 'begun' });
    const begun = performance.now();
    const ms = () => Math.round(performance.now() - begun);
    try {
      const value = await body();
      report({ case: name, state: 'done', value, ms: ms() });
    } catch (error) {
      report({ case: name, state: 'failed', error: error.stack ?? String(error), ms: ms() });
    }
  }
}

/** A filesystem of its own in memory, ext4 with fs-verity. Returns where it is mounted. */
export function mountExt4({ sizeMb = 64 } = {}) {
  const place = folder();
  const [disk, mountpoint] = [join(place, 'disk'), join(place, 'mnt')];
  openSync(disk, 'w');
  truncateSync(disk, sizeMb << 20);
  must('mkfs.ext4', '-q', '-O', 'verity', '-b', '4096', disk);
  mkdirSync(mountpoint);
  must('mount', '-t', 'ext4', '-o', 'loop', disk, mountpoint);
  // For ordinary users too.
  chmodSync(place, 0o755);
  return mountpoint;
}

/** The kernel's digest of a file with fs-verity, as fsverity(1) says it; undefined without. */
export function measure(path) {
  const { code, stdout } = run('fsverity', ['measure', path]);
  return code === 0 ? /^sha256:([0-9a-f]{64}) /.exec(stdout)?.[1] : undefined;
}

/** STATX_ATTR_VERITY of statx(2), which Node does not show. */
export function hasVerityAttribute(path) {
  const program = `
import ctypes, os, struct, sys
answer = ctypes.create_string_buffer(256)
AT_FDCWD = -100
if ctypes.CDLL(None).statx(AT_FDCWD, os.fsencode(sys.argv[1]), 0, 0, answer): sys.exit("statx")
print(struct.unpack_from("<Q", answer, 8)[0] & 0x00100000 != 0)`;
  return must('python3', '-I', '-c', program, path) === 'True\n';
}

/** Mounts with our daemon in the background. */
export function mountOurs(image, basedirs, ...options) {
  const place = folder();
  const mountpoint = join(place, 'mnt');
  mkdirSync(mountpoint);
  const [log, pidFile] = [join(place, 'log'), join(place, 'pid')];
  must(
    ...ours('composefs-fuse', '--log-file', log, '--pid-file', pidFile),
    ...basedirs.flatMap((path) => ['--basedir', path]),
    ...options,
    image,
    mountpoint,
  );
  const pid = Number(readFileSync(pidFile, 'utf8'));
  const events = () =>
    readFileSync(log, 'utf8')
      .split('\n')
      // What stands behind the last newline is still being written.
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  /** Unmounts and waits for the end of the daemon. The messages it has logged. */
  const unmount = async () => {
    must('umount', mountpoint);
    const end = performance.now() + 20_000;
    while (outcome(() => process.kill(pid, 0)) !== 'ESRCH') {
      if (performance.now() > end) throw new Error('the daemon does not end');
      await delay(20);
    }
    return events().map((event) => event.msg);
  };
  return { mountpoint, pid, events, unmount };
}

/** The kernel's own mount of an image: erofs and overlayfs, with the options of mount.composefs. */
export function mountKernel(image, basedirs, { verity } = {}) {
  const place = folder();
  const [lower, mountpoint] = [join(place, 'erofs'), join(place, 'mnt')];
  mkdirSync(lower);
  mkdirSync(mountpoint);
  must('mount', '-t', 'erofs', '-o', 'loop,ro', image, lower);
  const overlay = (separator) => {
    const options = ['ro', 'metacopy=on', 'redirect_dir=on'];
    if (verity !== undefined) options.push(`verity=${verity}`);
    options.push(`lowerdir=${[lower, ...basedirs].join(separator)}`);
    return ['mount', '-t', 'overlay', 'overlay', '-o', options.join(','), mountpoint];
  };
  const [command, ...args] = overlay('::');
  // Before Linux 6.5 there are no data-only layers, and the objects are ordinary lower layers.
  if (run(command, args).code !== 0) must(...overlay(':'));
  return mountpoint;
}

/** The lines that the walking oracle prints for a tree, by path. */
export function walk(root, parts = 'stat,dirent,xattr,link,read,access') {
  const script = join(project, 'test/support/tree-walk.py');
  return parseWalk(must('python3', '-I', script, `--parts=${parts}`, root));
}

/** What it printed, as `walk` returns it. */
export function parseWalk(text) {
  return new Map(
    text
      .trimEnd()
      .split('\n')
      .map((line) => {
        const entry = JSON.parse(line);
        return [entry.path, entry];
      }),
  );
}

/** What two trees differ in; of many differences the first ones, which say enough. */
export function differences(expected, actual) {
  const found = [];
  for (const path of new Set([...expected.keys(), ...actual.keys()])) {
    const [left = {}, right = {}] = [expected.get(path), actual.get(path)];
    for (const field of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const [expected, actual] = [left[field], right[field]];
      if (JSON.stringify(expected) !== JSON.stringify(actual))
        found.push({ path, field, expected, actual });
    }
  }
  return found.slice(0, 20);
}
