// Unmounting by the process that serves the mount on the same thread: fusermount3 must not be waited
// for, since it may look at the mount.

import { spawn } from 'node:child_process';
import { Errno } from '../errors.ts';
import { FUSERMOUNT, FUSERMOUNT_TIMEOUT_MS } from '../fuse/mounting.ts';
import { helperArguments, type KnownMount, unmountDirectly } from '../fuse/unmounting.ts';
import type { NativeAddon } from '../native.ts';

/** Unmounts, lazily if it is in use. 0, also if it is gone, or the errno (positive) of the failure. */
export async function unmountServed(
  native: NativeAddon,
  mount: KnownMount,
  mountpoint: string,
): Promise<number> {
  const errno = await unmountOnce(native, mount, mountpoint, false);
  return errno === 0 ? 0 : await unmountOnce(native, mount, mountpoint, true);
}

async function unmountOnce(
  native: NativeAddon,
  mount: KnownMount,
  mountpoint: string,
  lazy: boolean,
): Promise<number> {
  const { errno, path } = unmountDirectly(native, mount, mountpoint, lazy);
  return errno === Errno.EPERM ? await runHelper(helperArguments(path, lazy)) : errno;
}

function runHelper(args: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    const helper = spawn(FUSERMOUNT, args, { stdio: 'ignore', timeout: FUSERMOUNT_TIMEOUT_MS });
    helper.on('error', () => resolve(Errno.EPERM));
    helper.on('exit', (code) => resolve(code === 0 ? 0 : Errno.EBUSY));
  });
}
