// The content-addressed objects: one or more base directories, searched in order. A redirect from
// the image is hostile input; it never leaves its base directory, follows no symlink and opens
// nothing but regular files (the addon's openObject).

import { Errno } from '../errors.ts';
import { type NativeAddon, OBJECT_FACTS } from '../native.ts';

/** Longest object path that is tried; PATH_MAX of Linux. */
const MAX_PATH = 4096;

/** Opens the objects that the redirects of an image name. */
export class ObjectOpener {
  readonly #native: NativeAddon;
  readonly #basedirs: readonly number[];
  readonly #path = new Uint8Array(MAX_PATH);
  /** OBJECT_FACTS of the object opened last. */
  readonly facts: BigInt64Array = new BigInt64Array(OBJECT_FACTS.WORDS);
  readonly #words = new Uint32Array(this.facts.buffer);

  /** `basedirs` are descriptors from the addon's openBasedir, which stay the caller's. */
  constructor(native: NativeAddon, basedirs: readonly number[]) {
    this.#native = native;
    this.#basedirs = basedirs;
  }

  /**
   * Opens the object at `bytes[start, start + length)` in the first base directory that has the
   * path. A descriptor, which the caller closes, or -errno: -ENOENT if none has it; -EISDIR, -ELOOP,
   * -EINVAL, -EXDEV for what is there but must not be used.
   */
  open(bytes: Uint8Array, start: number, length: number): number {
    if (length > MAX_PATH) return -Errno.ENAMETOOLONG;
    for (let i = 0; i < length; i++) this.#path[i] = bytes[start + i]!;
    for (let i = 0; i < this.#basedirs.length; i++) {
      const fd = this.#native.openObject(this.#basedirs[i]!, this.#path, length, this.facts);
      if (fd !== -Errno.ENOENT && fd !== -Errno.ENOTDIR) return fd;
    }
    return -Errno.ENOENT;
  }

  /** Whether the object opened last has exactly this size, given as two 32-bit words. */
  hasSize(sizeLow: number, sizeHigh: number): boolean {
    const at = OBJECT_FACTS.SIZE * 2;
    return this.#words[at] === sizeLow && this.#words[at + 1] === sizeHigh;
  }

  /** Size in bytes of the object opened last. */
  get openedSize(): bigint {
    return this.facts[OBJECT_FACTS.SIZE]!;
  }

  /** SEEK_DATA (3) or SEEK_HOLE (4) on an open object: the offset, or -errno. */
  seek(fd: number, offset: number, whence: number): number {
    return this.#native.seek(fd, offset, whence);
  }

  close(fd: number): number {
    return this.#native.closeDescriptor(fd);
  }
}
