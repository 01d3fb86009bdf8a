// A directory of content-addressed objects: files go in, and what is there is named by its fs-verity
// SHA-256 digest. Objects are complete and on the disk before they get their name, so a store may be
// filled by several processes at once, and a killed one leaves nothing half made.

import { lstatSync, mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Errno, FileChangedError, InputError, StoreError } from '../errors.ts';
import { loadNative, type NativeAddon, OBJECT_FACTS } from '../native.ts';
import { type FilePath, measureFile } from '../verify/index.ts';
import { DEFAULT_CONCURRENCY } from '../verify/measure.ts';
import { digestHex, type ObjectDigest, objectPath } from './object-name.ts';
import {
  type Batch,
  batchFiles,
  readStored,
  type SourceFile,
  type StoredFile,
  type StoredObject,
  takeBatch,
} from './store-batch.ts';
import { cannotFill, unreadableObject } from './store-errors.ts';
import { describeErrno } from './system-errors.ts';

export interface AddFilesOptions<S extends FilePath | SourceFile = FilePath | SourceFile> {
  /** Batches under way at a time. More than libuv's pool has threads (4) are of no use. */
  readonly concurrency?: number | undefined;
  /** Noticed between batches. What was begun is finished before the iteration rejects. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Sees the error of a file that could not be stored, which is then left out. Without it the first
   * such error ends the iteration.
   */
  readonly onError?: ((error: StoreError, source: S) => void) | undefined;
}

/** Whether an object's content is what its name says. `actual` is the digest that it has, in hex. */
export type ObjectVerdict =
  | { readonly verdict: 'ok'; readonly sizeBytes: number }
  | { readonly verdict: 'wrong'; readonly sizeBytes: number; readonly actual: string }
  | { readonly verdict: 'missing' };

/** An open object store. Needs the native addon. */
export class ObjectStore implements Disposable {
  /** Absolute path. */
  readonly directory: string;
  readonly #native: NativeAddon;
  /** From the addon's openBasedir; undefined once closed. */
  #fd: number | undefined;

  private constructor(native: NativeAddon, directory: string) {
    this.directory = resolve(directory);
    this.#native = native;
    const fd = native.openBasedir(directory);
    if (fd < 0) {
      throw new StoreError(`cannot open store: ${directory}: ${describeErrno(fd)}`, directory);
    }
    this.#fd = fd;
  }

  /** Opens a directory that exists. Throws StoreError, or AddonError without the native addon. */
  static open(directory: string): ObjectStore {
    return new ObjectStore(loadNative(), directory);
  }

  /** As `open`, but makes the directory, and those above it, where it is missing. */
  static create(directory: string): ObjectStore {
    const native = loadNative();
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new StoreError(`cannot fill store: ${directory} cannot be made (${code})`, directory);
    }
    return new ObjectStore(native, directory);
  }

  /**
   * `xx/yyyy...`: where the object with this digest is, relative to any store. Throws TypeError for
   * what is no SHA-256 digest.
   */
  static pathOf(digest: ObjectDigest): string {
    return objectPath(digestHex(digest));
  }

  /**
   * Copies files into the store, those that it does not have yet. They are read ahead and stored in
   * batches of up to 1024 files or 64 MiB; results come in the order in which batches are done, each
   * with the `source` that it is for. Leaving the loop waits for the batches under way; what they add
   * stays.
   *
   * Rejects with StoreError for a file that cannot be read, is not a regular file or changed
   * meanwhile, for an object that is there with another content, and for a full disk.
   */
  async *addFiles<S extends FilePath | SourceFile>(
    sources: AsyncIterable<S> | Iterable<S>,
    options: AddFilesOptions<S> = {},
  ): AsyncGenerator<StoredFile<S>> {
    const { concurrency = DEFAULT_CONCURRENCY, signal, onError } = options;
    if (!(Number.isInteger(concurrency) && concurrency >= 1)) {
      throw new RangeError('concurrency must be a positive integer');
    }
    const maxFiles = batchFiles(concurrency);
    const iterator =
      Symbol.asyncIterator in sources
        ? sources[Symbol.asyncIterator]()
        : sources[Symbol.iterator]();
    const running = new Map<Batch<S>, Promise<StoredBatch<S>>>();
    try {
      for (let isEnd = false; ;) {
        signal?.throwIfAborted();
        while (!isEnd && running.size < concurrency) {
          const batch = await takeBatch(iterator, maxFiles);
          if (batch === undefined) isEnd = true;
          else running.set(batch, this.#storeBatch(batch));
        }
        if (running.size === 0) return;
        // Not in order: a batch with one large file does not hold up the others.
        const { batch, records } = await Promise.race(running.values());
        running.delete(batch);
        for (const [i, source] of batch.sources.entries()) {
          const stored = readStored(batch, records, i);
          if (!(stored instanceof StoreError)) yield stored;
          else if (onError === undefined) throw stored;
          else onError(stored, source);
        }
      }
    } finally {
      await Promise.allSettled(running.values());
      await iterator.return?.();
    }
  }

  /**
   * Copies one file into the store unless it is there. Rejects as addFiles does. Many files are
   * faster there: each call waits for the disk.
   */
  async addFile<S extends FilePath | SourceFile>(source: S): Promise<StoredFile<S>> {
    const taken = await takeBatch([source].values(), 1);
    const { batch, records } = await this.#storeBatch(taken!);
    const stored = readStored(batch, records, 0);
    if (stored instanceof StoreError) throw stored;
    return stored;
  }

  /**
   * Whether there is a regular file with the object's name; a symlink is none. Its content is not
   * looked at. Throws StoreError where that cannot be told, TypeError for what is no digest.
   */
  has(digest: ObjectDigest): boolean {
    const fd = this.#openObject(objectPath(digestHex(digest)));
    if (fd === undefined) return false;
    this.#native.closeDescriptor(fd);
    return true;
  }

  /**
   * Reads the object and compares its digest with its name. `missing` is what `has` says is not
   * there. Rejects with StoreError where the object cannot be read, with FileChangedError where it is
   * written meanwhile.
   */
  async verify(digest: ObjectDigest): Promise<ObjectVerdict> {
    const expected = digestHex(digest);
    const path = objectPath(expected);
    const fd = this.#openObject(path);
    if (fd === undefined) return { verdict: 'missing' };
    try {
      const { hex: actual, sizeBytes } = await measureFile(fd);
      return actual === expected
        ? { verdict: 'ok', sizeBytes }
        : { verdict: 'wrong', sizeBytes, actual };
    } catch (error) {
      throw nameObject(error, path);
    } finally {
      this.#native.closeDescriptor(fd);
    }
  }

  /**
   * The objects in the order of their digests, without looking at contents. Whatever is not named as
   * an object, or is not a regular file, is left out. What is added or removed meanwhile may be among
   * them or not. Rejects with StoreError where a directory cannot be read.
   */
  async *list(): AsyncGenerator<StoredObject> {
    // A descriptor of its own, since the store may be closed while this waits.
    const fd = this.#native.duplicate(this.#descriptor());
    if (fd < 0) throw this.#unreadable(fd);
    const root = `/proc/self/fd/${fd}`;
    try {
      for (const folder of await this.#names(root, 'directory', /^[0-9a-f]{2}$/)) {
        for (const name of await this.#names(`${root}/${folder}`, 'file', /^[0-9a-f]{62}$/)) {
          const path = `${folder}/${name}`;
          const facts = lstatSync(`${root}/${path}`, { throwIfNoEntry: false });
          if (facts === undefined) continue;
          yield { hex: folder + name, objectPath: path, sizeBytes: facts.size };
        }
      }
    } finally {
      this.#native.closeDescriptor(fd);
    }
  }

  /** Idempotent. What is under way goes on to its end, but adds no further batch. */
  close(): void {
    if (this.#fd !== undefined) this.#native.closeDescriptor(this.#fd);
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #descriptor(): number {
    if (this.#fd !== undefined) return this.#fd;
    throw new StoreError(`store is closed: ${this.directory}`, this.directory);
  }
  #storeBatch<S extends FilePath | SourceFile>(batch: Batch<S>): Promise<StoredBatch<S>> {
    const work = this.#native.storeObjects(this.#descriptor(), batch.paths);
    if (typeof work === 'number') throw cannotFill(this.directory, work);
    return work.then((records) => ({ batch, records }));
  }

  /** A descriptor, or undefined where no regular file has the name. */
  #openObject(path: string): number | undefined {
    const bytes = new TextEncoder().encode(path);
    const facts = new BigInt64Array(OBJECT_FACTS.WORDS);
    const fd = this.#native.openObject(this.#descriptor(), bytes, bytes.length, facts);
    if (fd >= 0) return fd;
    if (NO_OBJECT.has(-fd)) return undefined;
    throw unreadableObject(path, describeErrno(fd));
  }

  /** The matching names in a directory, sorted; none in one that is gone. */
  async #names(path: string, type: 'file' | 'directory', pattern: RegExp): Promise<string[]> {
    try {
      const entries = await readdir(path, { withFileTypes: true });
      return entries
        .filter((entry) => (type === 'file' ? entry.isFile() : entry.isDirectory()))
        .map((entry) => entry.name)
        .filter((name) => pattern.test(name))
        .sort();
    } catch (error) {
      const { errno = 0 } = error as NodeJS.ErrnoException;
      if (errno === -Errno.ENOENT) return [];
      throw this.#unreadable(errno);
    }
  }

  #unreadable(errno: number): StoreError {
    const { directory } = this;
    return new StoreError(`cannot read store: ${directory}: ${describeErrno(errno)}`, directory);
  }
}

/** What the addon's openObject says of a name that is free or not a regular file's. */
const NO_OBJECT: ReadonlySet<number> = new Set([
  Errno.ENOENT,
  Errno.ENOTDIR,
  Errno.EISDIR,
  Errno.ELOOP,
  Errno.EINVAL,
]);

interface StoredBatch<S> {
  readonly batch: Batch<S>;
  /** As the addon's storeObjects gives them. */
  readonly records: Uint8Array;
}

/** An error of measureFile with the object in place of the descriptor, which tells a caller nothing. */
function nameObject(error: unknown, path: string): unknown {
  if (error instanceof FileChangedError) return new FileChangedError(path);
  if (!(error instanceof InputError)) return error;
  return new StoreError(error.message.replace(/^descriptor \d+/, `object ${path}`), path);
}
