// Removes a mount that is still being served, wherever it is by now: umount2(2) directly where that is
// permitted, else through fusermount3.

import { Errno } from '../errors.ts';
import type { NativeAddon } from '../native.ts';
import { findMount, type MountTableEntry, readMountTable } from './mount-table.ts';
import { FUSERMOUNT, FUSERMOUNT_TIMEOUT_MS } from './mounting.ts';
import { runProgram } from './run-program.ts';

/** A mount by its line of the mount table, if it was found there when it was made. */
export interface KnownMount {
  entry: MountTableEntry | undefined;
}

const MNT_DETACH = 2;

/**
 * Where the mount is by now: a parent may have been renamed, or it may be gone. The kernel gives the
 * numbers of a mount to others when it is gone, but the device of a superblock that is still served
 * belongs to nobody else.
 */
function locate(mount: KnownMount, mountpoint: string): string | undefined {
  const { entry } = mount;
  if (entry === undefined) return mountpoint;
  let table: MountTableEntry[];
  try {
    table = readMountTable();
  } catch {
    return mountpoint;
  }
  return table.find(
    ({ id, device, type }) => id === entry.id && device === entry.device && type === entry.type,
  )?.mountpoint;
}

/**
 * Unmounts a mount that is still being served, wherever it is by now; `lazy` detaches it even while
 * in use. 0, also if it is gone, or the errno (positive) of the failure. Something mounted over it
 * is left alone.
 */
export function unmountFuse(
  native: NativeAddon,
  mount: KnownMount,
  mountpoint: string,
  lazy: boolean,
): number {
  const { errno, path } = unmountDirectly(native, mount, mountpoint, lazy);
  if (errno !== Errno.EPERM) return errno;
  const helper = runProgram(FUSERMOUNT, helperArguments(path, lazy), {
    stdio: 'ignore',
    encoding: 'utf8',
    timeout: FUSERMOUNT_TIMEOUT_MS,
  });
  return helper.status === 0 ? 0 : Errno.EBUSY;
}

/** The same without the helper: EPERM where only that may unmount `path`. */
export function unmountDirectly(
  native: NativeAddon,
  mount: KnownMount,
  mountpoint: string,
  lazy: boolean,
): { errno: number; path: string } {
  const path = locate(mount, mountpoint);
  if (path === undefined) return { errno: 0, path: mountpoint };
  if (isCovered(mount, path)) return { errno: Errno.EBUSY, path };
  return { errno: -native.unmount(path, lazy ? MNT_DETACH : 0), path };
}

/** With which FUSERMOUNT unmounts. */
export function helperArguments(path: string, lazy: boolean): string[] {
  return ['-u', ...(lazy ? ['-z'] : []), '--', path];
}

/** Whether another mount lies over this one on the same path. */
function isCovered(mount: KnownMount, path: string): boolean {
  if (mount.entry === undefined) return false;
  try {
    return findMount(path)?.id !== mount.entry.id;
  } catch {
    return false;
  }
}
