// The objects that are open for readers, shared by all threads of a mount. An object stays open for a
// while after its last reader, so that opening a file again costs neither a path walk nor a hash.

import type { NativeAddon, NativeOpenFiles } from '../native.ts';

/**
 * Objects that stay open without readers. Each holds a descriptor and about a kilobyte of the kernel's
 * memory; a program's start touches hundreds, a build tens of thousands.
 */
const IDLE_MAX = 32_768;

/** Makes the table for a mount that may have `openMax` objects open. */
export function createFileTable(native: NativeAddon, openMax: number): number {
  return native.createFileTable(openMax, Math.min(IDLE_MAX, openMax));
}

export class OpenFiles {
  readonly #files: NativeOpenFiles;
  readonly #backing: Int32Array;

  /** `table` is from createFileTable, `facts` the array that the opener of the objects fills. */
  constructor(native: NativeAddon, table: number, facts: BigInt64Array) {
    const words = new BigInt64Array(1);
    this.#files = new native.OpenFiles(table, facts, words);
    this.#backing = new Int32Array(words.buffer);
  }

  /** Opens the file `nid` if its object is open and unchanged: a descriptor, or -ENOENT. */
  acquire(nid: number): number {
    return this.#files.acquire(nid);
  }

  /** The same even if the object has changed: for reads, whose every block is checked. */
  acquireAny(nid: number): number {
    return this.#files.acquireAny(nid);
  }

  /**
   * Takes over the object that was opened last as that of the file `nid`. A descriptor, -EMFILE or
   * -EBUSY.
   */
  insert(nid: number, fd: number, passthrough: boolean): number {
    return this.#files.insert(nid, fd, passthrough ? 1 : 0);
  }

  /** The kernel's name for the object that was acquired or inserted last, 0 without passthrough. */
  get backingId(): number {
    return this.#backing[0]!;
  }

  /** Ends one acquire or insert. 0 or -EBADF. */
  release(nid: number): number {
    return this.#files.release(nid);
  }

  /**
   * Gives the kernel the content of a file that was just acquired or inserted, which it then need not
   * ask for. Does nothing where that would not be safe, or was done since `unload`.
   */
  preload(nid: number, nodeid: number, sizeBytes: number): void {
    this.#files.preload(nid, nodeid, sizeBytes);
  }

  /** The kernel has forgotten the file. */
  unload(nid: number): void {
    this.#files.unload(nid);
  }

  /** Closes what nobody has open. False if there is nothing to close. */
  trim(): boolean {
    return this.#files.trim() !== 0;
  }

  /** From now on every object is opened and verified anew. */
  forget(): void {
    this.#files.forget();
  }

  /** Why the kernel refused passthrough (negative errno), 0 if it did not. */
  get backingError(): number {
    return this.#files.backingError();
  }
}
