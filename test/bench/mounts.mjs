// The kinds of mounts that are compared, and the mounts themselves with the daemons behind them.
// A new mode of ours is one line in `modes`. A mount is gone only when its daemon has ended, so that
// none that was measured before takes processor time or memory from the next.

import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { root } from '../../scripts/setup.mjs';
import { run } from './processes.mjs';

/** Ways to mount ours: the name of the mount in the results, and the options of the command. */
export const modes = {
  off: ['--verity', 'off'],
  open: [],
  passthrough: ['--data', 'passthrough'],
  read: ['--verify-at', 'read'],
  overlay: ['--data', 'overlay', '--verity', 'off'],
  io_uring: ['--transport', 'io_uring'],
  'fuse-native': ['--transport', 'fuse-native'],
};

/** Runs a command while the kernel offers FUSE over io_uring, which is off unless somebody wants it. */
const withRings = [
  'sh',
  '-c',
  'p=/sys/module/fuse/parameters/enable_uring; was=$(cat $p) && echo Y > $p || exit 1; ' +
    '"$@"; code=$?; echo $was > $p; exit $code',
  'sh',
];

const endTimeoutMs = 10_000;
const lookAroundMs = 2_000;

/** erofs from a loop device, overlayfs above it with the basedirs as data-only layers. */
const kernelKind = {
  name: 'kernel',
  is: 'erofs + overlayfs',
  storage: 'objects',
  steps({ image, basedirs }, folder, mountpoint) {
    const lower = join(folder, 'erofs');
    mkdirSync(lower);
    const options = `ro,metacopy=on,redirect_dir=on,lowerdir=${[lower, ...basedirs].join('::')}`;
    return [
      { at: lower, command: ['mount', '-t', 'erofs', '-o', 'loop,ro', image, lower] },
      { at: mountpoint, command: ['mount', '-t', 'overlay', 'overlay', '-o', options, mountpoint] },
    ];
  },
};

const squashfuseKind = {
  name: 'squashfuse_ll',
  is: 'squashfuse_ll of the same files in an uncompressed squashfs',
  storage: 'squashfs',
  steps({ squashfs }, _folder, mountpoint) {
    if (squashfs.reason !== undefined) throw new Error(squashfs.reason);
    return [{ at: mountpoint, command: ['squashfuse_ll', squashfs.path, mountpoint] }];
  },
};

function ourKind(mode, threads) {
  const options = [...modes[mode], ...(threads === undefined ? [] : ['--threads', threads])];
  return {
    name: mode,
    is: ['composefs-fuse', ...options].join(' '),
    storage: 'objects',
    isOurs: true,
    steps({ image, basedirs }, folder, mountpoint) {
      const log = ['--log-level', 'warn', '--log-file', join(folder, 'log')];
      const stores = basedirs.flatMap((path) => ['--basedir', path]);
      const ours = join(root, 'dist/cli/composefs-fuse');
      const command = [ours, ...stores, ...options, ...log, image, mountpoint];
      const isRing = options.includes('io_uring');
      return [{ at: mountpoint, command: isRing ? [...withRings, ...command] : command }];
    },
  };
}

/** Everything that this run shall mount, the kernel's mount first. */
export function kindsOf(modeNames, threads) {
  return [kernelKind, ...modeNames.map((mode) => ourKind(mode, threads)), squashfuseKind];
}

function isMounted(path) {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.some((line) => line.split(' ')[4] === path);
}

/** Processes with this mountpoint, which no other run uses, on their command line. */
function processesOf(mountpoint) {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(mountpoint);
      } catch {
        return false;
      }
    });
}

function isRunning(pid) {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function haveEnded(pids) {
  for (const end = performance.now() + endTimeoutMs; performance.now() < end;) {
    if (!pids.some(isRunning)) return true;
    // Not `pause`: this is also part of cleaning up.
    // oxlint-disable-next-line no-await-in-loop
    await delay(5);
  }
  return false;
}

/** Lazily if need be: a mount that stays is worse than one that was busy for a moment. */
async function unmountOnce(at) {
  await run('umount', [at], { always: true }).catch(() =>
    run('umount', ['-l', at], { always: true }),
  );
}

const active = new Set();

class Mount {
  /** Ids of the processes that serve; none for the kernel's mount. */
  pids = [];
  #steps;

  constructor(kind, source, folder) {
    this.kind = kind;
    this.name = kind.name;
    this.source = source;
    this.folder = folder;
    mkdirSync(folder);
    this.directory = join(folder, 'mnt');
    mkdirSync(this.directory);
    this.#steps = kind.steps(source, folder, this.directory);
  }

  async start() {
    active.add(this);
    for (const { command } of this.#steps) {
      const [program, ...args] = command;
      await run(program, args, { finish: true });
    }
  }

  findProcesses() {
    this.pids = processesOf(this.directory);
  }

  /** Throws when the mount cannot be taken away or a daemon had to be killed. */
  async end() {
    active.delete(this);
    const pids = [...new Set([...this.pids, ...processesOf(this.directory)])];
    for (const { at } of this.#steps.toReversed())
      // A mode may put several mounts on one directory.
      while (isMounted(at)) await unmountOnce(at);
    if (await haveEnded(pids, lookAroundMs)) return;
    const isHeld = isHeldElsewhere(this.directory);
    if (!isHeld && (await haveEnded(pids, endTimeoutMs))) return;
    for (const pid of pids.filter(isRunning)) process.kill(pid, 'SIGTERM');
    const hasEnded = await haveEnded(pids, endTimeoutMs);
    for (const pid of pids.filter(isRunning)) process.kill(pid, 'SIGKILL');
    if (!hasEnded) throw new Error(`${this.name}: the daemon had to be killed`);
    if (!isHeld) throw new Error(`${this.name}: the daemon did not end after umount`);
  }

  /** What our daemon complained of. */
  complaints() {
    try {
      return readFileSync(join(this.folder, 'log'), 'utf8').split('\n').filter(Boolean);
    } catch {
      return [];
    }
  }
}

/**
 * Mounts and returns the mount with the seconds that the commands took. Throws with one line when
 * that is not possible; nothing is left mounted then.
 */
export async function mountAs(kind, source, folder) {
  const mount = new Mount(kind, source, folder);
  try {
    const started = performance.now();
    await mount.start();
    mount.startSeconds = (performance.now() - started) / 1000;
  } catch (error) {
    await mount.end();
    throw error;
  }
  mount.findProcesses();
  return mount;
}

/** Somebody else's mount of the same tree: never mounted or unmounted here. */
export function peerMount(name, directory, source) {
  return { name, directory, source, kind: { name, is: `peer at ${directory}` }, pids: [] };
}

/** Takes away every mount that is left, all at once. Returns what went wrong, a line each. */
export async function unmountAll() {
  const outcomes = await Promise.allSettled([...active].map((mount) => mount.end()));
  return outcomes.flatMap(({ reason }) => (reason === undefined ? [] : [reason.message]));
}
