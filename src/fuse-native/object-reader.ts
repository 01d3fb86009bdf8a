// Reads from open objects, checking every block of those that were hashed, for a transport that has no
// session of the kernel's protocol.

import { errnoName, MountError } from '../errors.ts';
import type { ReadTarget } from '../filesystem/contents.ts';
import { openFuseDevice } from '../fuse/mounting.ts';
import type { NativeAddon, NativeSession } from '../native.ts';

/** libfuse 2 asks for 128 KiB at most. */
const BUFFER_SIZE = 256 * 1024;
/** The smallest one that the addon takes; nothing is ever read into it. */
const UNUSED_BUFFER_SIZE = 8192;

/**
 * The addon's checked read belongs to a session and fills its reply buffer. This one's device is never
 * connected to anything.
 */
export class ObjectReader implements ReadTarget {
  readonly bytes: Uint8Array = new Uint8Array(BUFFER_SIZE);
  readonly #session: NativeSession;

  /** Throws MountError where /dev/fuse cannot be opened, which mounting needs as well. */
  constructor(native: NativeAddon) {
    const device = openFuseDevice(native);
    const wake = native.createWake();
    if (wake < 0) {
      native.closeDescriptor(device);
      throw new MountError(`mounting failed: no descriptor: ${errnoName(wake)}`, {
        path: '/dev/fuse',
      });
    }
    const unused = new Uint8Array(UNUSED_BUFFER_SIZE);
    this.#session = new native.Session(device, unused, this.bytes, wake);
    // The session has a copy.
    native.closeDescriptor(wake);
  }

  readObject(fd: number, offset: number, length: number, at: number): number {
    return this.#session.readObject(fd, offset, length, at);
  }

  close(): void {
    this.#session.close();
  }
}
