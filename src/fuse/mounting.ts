// Makes the mount: mount(2) directly where that is permitted, else through the setuid helper fusermount3
// and its descriptor passing. Knows the mount options, not the protocol. See unmounting.ts for its end.

import { lstatSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { Errno, errnoName, MountError } from '../errors.ts';
import type { NativeAddon } from '../native.ts';
import { adminScope } from './caller.ts';
import { MAX_READ } from './init.ts';
import { findMount, isFuseMount, isOurOverlay, type MountTableEntry } from './mount-table.ts';
import { runProgram } from './run-program.ts';

/** Mount flags of mount(2), <sys/mount.h>, with the word by which options call them. */
export const MountFlag = {
  ro: 1,
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  sync: 16,
  dirsync: 128,
  nosymfollow: 256,
  noatime: 1024,
  nodiratime: 2048,
  relatime: 0x200000,
  strictatime: 0x1000000,
} as const;
export type MountFlagName = keyof typeof MountFlag;

export const FUSERMOUNT = 'fusermount3';
/** Flags that it refuses or is given anyway; access times do not exist on a read-only mount. */
const MEANINGLESS_TO_HELPER: ReadonlySet<MountFlagName> = new Set([
  'ro',
  'nodiratime',
  'relatime',
  'strictatime',
]);
/** The helper only mounts and passes a descriptor; a hung one must not hang us. */
export const FUSERMOUNT_TIMEOUT_MS = 20_000;
/** What the mount table shows behind `fuse.`. */
export const SUBTYPE = 'composefs';

/** How to mount. */
export interface MountWishes {
  /** Absolute path of the mountpoint, resolved. */
  mountpoint: string;
  /** First column of the mount table. */
  source: string;
  /** Further flags; read-only is implied. */
  flags: readonly MountFlagName[];
  /**
   * Whether users other than the mounter may enter. `where-permitted`: yes when mounting directly,
   * as for any kernel mount (the kernel checks permissions), no through fusermount3.
   */
  allowOther: 'yes' | 'no' | 'where-permitted';
  /** Largest read request in bytes, at most MAX_READ. */
  maxRead: number;
  /** Options that go to the kernel as they are (SELinux contexts). */
  kernelOptions: readonly string[];
}

/** A live mount. */
export interface FuseMount {
  /** The connected /dev/fuse descriptor; INIT is waiting in it. */
  device: number;
  how: 'mount(2)' | 'fusermount3';
  allowOther: boolean;
  /** Its line of the mount table; undefined if it could not be found there. */
  entry: MountTableEntry | undefined;
}

/**
 * Resolves and checks a mountpoint without hanging on a dead or hung mount that is there already.
 * Throws MountError saying what is wrong. `allowStacking` permits mounting over another FUSE mount,
 * or an overlayfs of ours.
 */
export function resolveMountpoint(path: string, allowStacking: boolean): string {
  const absolute = resolve(path);
  let resolved: string;
  try {
    // The parent first: the mountpoint itself may be a mount that does not answer.
    const candidate =
      absolute === '/' ? absolute : join(realpathSync(dirname(absolute)), basename(absolute));
    const existing = findMount(candidate);
    if (existing !== undefined && isServed(existing) && !allowStacking) {
      throw occupied(candidate, existing.source);
    }
    resolved = lstatSync(candidate).isSymbolicLink() ? realpathSync(candidate) : candidate;
  } catch (cause) {
    if (cause instanceof MountError) throw cause;
    throw unusable(absolute, cause);
  }
  const existing = findMount(resolved);
  if (existing !== undefined && isServed(existing) && !allowStacking) {
    throw occupied(resolved, existing.source);
  }
  let isDirectory: boolean;
  try {
    isDirectory = statSync(resolved).isDirectory();
  } catch (cause) {
    throw unusable(resolved, cause);
  }
  if (!isDirectory) {
    throw new MountError(`mountpoint ${absolute} is not a directory`, {
      errno: Errno.ENOTDIR,
      path: absolute,
      isInput: true,
    });
  }
  return resolved;
}

function isServed(entry: MountTableEntry): boolean {
  return isFuseMount(entry) || isOurOverlay(entry);
}

function unusable(path: string, cause: unknown): MountError {
  const code = (cause as NodeJS.ErrnoException).code;
  switch (code) {
    case 'ENOENT':
      return new MountError(`mountpoint ${path} does not exist; create the directory first`, {
        errno: Errno.ENOENT,
        path,
        cause,
        isInput: true,
      });
    case 'ENOTCONN':
      return new MountError(
        `mountpoint ${path} is a dead FUSE mount (its daemon is gone); ` +
          `remove it with \`fusermount3 -u ${path}\` or \`umount ${path}\``,
        { errno: Errno.ENOTCONN, path, cause, isInput: true },
      );
    default:
      return new MountError(`mountpoint ${path} cannot be used (${code ?? String(cause)})`, {
        path,
        cause,
        isInput: true,
      });
  }
}

/** Whether the FUSE mount on `path` has lost its daemon. Asked by a child that can be given up on. */
export function isDeadMount(path: string): boolean {
  const probe = runProgram('stat', ['-f', '--', path], {
    timeout: 2000,
    killSignal: 'SIGKILL',
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  return probe.status !== 0 && probe.stderr.includes('not connected');
}

function occupied(path: string, source: string): MountError {
  if (isDeadMount(path)) return unusable(path, { code: 'ENOTCONN' });
  // fusermount3, which mounts for ordinary users, mounts over no FUSE mount whatever it is told.
  const other = adminScope(process.pid) === 'none' ? '' : ', or give -o nonempty';
  return new MountError(
    `mountpoint ${path} is busy: ${source} is mounted there; unmount it first${other}`,
    { errno: Errno.EBUSY, path, isInput: true },
  );
}

/** Mounts and returns the connected device. Throws MountError. */
export function mountFuse(native: NativeAddon, wishes: MountWishes): FuseMount {
  const device = openFuseDevice(native);
  const direct = mountDirectly(native, wishes, device);
  if (direct === 0) {
    const allowOther = wishes.allowOther !== 'no';
    return { device, how: 'mount(2)', allowOther, entry: entryOf(wishes.mountpoint) };
  }
  native.closeDescriptor(device);
  if (direct !== -Errno.EPERM) {
    const hint =
      direct === -Errno.EINVAL ? ' (the kernel does not accept one of the mount options)' : '';
    throw new MountError(`mounting on ${wishes.mountpoint} failed: ${errnoName(direct)}${hint}`, {
      errno: -direct,
      path: wishes.mountpoint,
    });
  }
  return mountThroughHelper(native, wishes);
}

/** A descriptor of /dev/fuse, without a connection. Throws MountError. */
export function openFuseDevice(native: NativeAddon): number {
  const device = native.openDevice();
  if (device >= 0) return device;
  const { found, remedy } = deviceObstacle(device);
  const message = remedy === undefined ? found : `${found}: ${remedy}`;
  throw new MountError(message, { errno: -device, path: '/dev/fuse' });
}

/** What a failure (negative errno) to open /dev/fuse means, and what helps. */
export function deviceObstacle(status: number): { found: string; remedy?: string } {
  switch (-status) {
    case Errno.ENOENT:
    case Errno.ENODEV:
    case Errno.ENXIO:
      return {
        found: '/dev/fuse is missing or without driver',
        remedy: 'load it with `modprobe fuse`, or give the container `--device /dev/fuse`',
      };
    case Errno.EACCES:
    case Errno.EPERM:
      return {
        found: '/dev/fuse may not be opened by this user',
        remedy: 'it needs mode 0666, or in a container `--device /dev/fuse`',
      };
    default:
      return { found: `/dev/fuse cannot be opened: ${errnoName(status)}` };
  }
}

function mountDirectly(native: NativeAddon, wishes: MountWishes, device: number): number {
  const data = [
    'rootmode=40000',
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    `max_read=${Math.min(wishes.maxRead, MAX_READ)}`,
    ...(wishes.allowOther === 'no' ? [] : ['allow_other']),
    ...wishes.kernelOptions,
  ];
  const flags = wishes.flags.reduce((all, name) => all | MountFlag[name], MountFlag.ro as number);
  const type = `fuse.${SUBTYPE}`;
  return native.mount(wishes.source, wishes.mountpoint, type, flags, data.join(','), device);
}

/**
 * fusermount3 mounts for an ordinary user and sends the device over a socket whose number is in
 * _FUSE_COMMFD. (libfuse's protocol; without auto_unmount the helper ends after sending.)
 */
function mountThroughHelper(native: NativeAddon, wishes: MountWishes): FuseMount {
  const { mountpoint } = wishes;
  const pair = native.socketPair();
  if (typeof pair === 'number') {
    throw new MountError(`no socket for ${FUSERMOUNT}: ${errnoName(pair)}`, { path: mountpoint });
  }
  const [ours, theirs] = pair;
  const options = [
    'ro',
    ...wishes.flags.filter((name) => !MEANINGLESS_TO_HELPER.has(name)),
    `fsname=${escapeOption(wishes.source)}`,
    `subtype=${SUBTYPE}`,
    'default_permissions',
    `max_read=${Math.min(wishes.maxRead, MAX_READ)}`,
    ...(wishes.allowOther === 'yes' ? ['allow_other'] : []),
    ...wishes.kernelOptions,
  ];
  const helper = runProgram(FUSERMOUNT, ['-o', options.join(','), '--', mountpoint], {
    stdio: ['ignore', 'ignore', 'pipe', theirs],
    env: { ...process.env, LC_ALL: 'C', _FUSE_COMMFD: '3' },
    timeout: FUSERMOUNT_TIMEOUT_MS,
    encoding: 'utf8',
  });
  // The helper's end first: without it, receiving ends instead of waiting when nothing was sent.
  native.closeDescriptor(theirs);
  const failed = helper.error !== undefined || helper.status !== 0;
  const device = failed ? -Errno.EPERM : native.receiveDescriptor(ours);
  native.closeDescriptor(ours);
  if (device < 0) throw helperFailed(mountpoint, helper.error, helper.stderr ?? '');
  return {
    device,
    how: FUSERMOUNT,
    allowOther: wishes.allowOther === 'yes',
    entry: entryOf(mountpoint),
  };
}

function helperFailed(
  path: string,
  error: NodeJS.ErrnoException | undefined,
  stderr: string,
): MountError {
  const errno = Errno.EPERM;
  // mount(2) was tried before. Root without the right to mount is root of a container.
  if (process.geteuid?.() === 0) {
    const message =
      `mounting on ${path} is not permitted, even for root: give the container ` +
      '`--cap-add SYS_ADMIN`, or run in a user namespace: `unshare -Urm`';
    return new MountError(message, { errno, path, cause: error });
  }
  if (error?.code === 'ENOENT') {
    const message =
      `mounting on ${path} is not permitted for this user, and ${FUSERMOUNT} is not installed; ` +
      'install the package fuse3, or run as root or in a user namespace';
    return new MountError(message, { errno, path, cause: error });
  }
  if (stderr.includes('user_allow_other')) {
    const message =
      'allow_other is not permitted for this user: ' +
      'add the line user_allow_other to /etc/fuse.conf, or leave the option out';
    return new MountError(message, { errno, path });
  }
  const reason = stderr.trim().split('\n').at(-1)?.replace(`${FUSERMOUNT}: `, '') ?? '';
  const said = reason === '' ? (error?.message ?? 'no reason given') : reason;
  return new MountError(`mounting on ${path} is not permitted: ${FUSERMOUNT} says: ${said}`, {
    errno,
    path,
    cause: error,
  });
}

/** In an option list of libfuse a comma and a backslash inside a value are escaped. */
export function escapeOption(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll(',', '\\,');
}

/** The mount just made. Not to know it is no reason to fail: it is only needed to be careful. */
export function entryOf(mountpoint: string): MountTableEntry | undefined {
  try {
    const entry = findMount(mountpoint);
    return entry !== undefined && entry.type === `fuse.${SUBTYPE}` ? entry : undefined;
  } catch {
    return undefined;
  }
}
