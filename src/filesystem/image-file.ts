// Loads an image file into memory that all workers share. What is served is this copy: whatever
// happens to the file later (overwritten, truncated, deleted) changes nothing and kills nothing.

import { constants } from 'node:buffer';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { ComposefsError, ImageError, UnsupportedFeatureError } from '../errors.ts';
import { hasComposefsMagic, Image } from '../image-reader/index.ts';

/** Bytes per read(2) while loading. */
const READ_CHUNK = 8 * 1024 * 1024;
/** Of the first one: enough to see what the file is. */
const FIRST_CHUNK = 4096;

export class ImageFile {
  readonly path: string;
  readonly buffer: SharedArrayBuffer;
  #fd: number;

  /**
   * Opens the file and takes memory for it, which `prepareMemory` sees while no page of it exists.
   * Throws ImageError.
   */
  constructor(path: string, prepareMemory?: (memory: Uint8Array) => void) {
    this.path = path;
    try {
      // O_NONBLOCK: a FIFO by this name must not make us wait for a writer.
      this.#fd = openSync(path, 0o4000);
    } catch (cause) {
      throw new ImageError(`image ${path} ${explain(cause as NodeJS.ErrnoException)}`);
    }
    const facts = fstatSync(this.#fd);
    if (!facts.isFile()) {
      this.close();
      throw new ImageError(`image ${path} is not a regular file`);
    }
    if (facts.size > constants.MAX_LENGTH) {
      this.close();
      const limit = `${constants.MAX_LENGTH} bytes, the largest this Node.js can hold`;
      throw new ImageError(`image ${path} has ${facts.size} bytes, more than ${limit}`);
    }
    this.buffer = new SharedArrayBuffer(facts.size);
    prepareMemory?.(new Uint8Array(this.buffer));
  }

  /** The open file, until `load` has read it. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * Reads and checks the image. Throws ImageError or UnsupportedFeatureError, naming the file.
   * `prepare` sees the open file before it is read, and what it returns sees what was read before
   * anything in it is believed. Both may throw.
   */
  load(prepare?: (fd: number) => (bytes: Uint8Array) => void): Image {
    const bytes = new Uint8Array(this.buffer);
    try {
      const verify = prepare?.(this.#fd);
      for (let at = 0; at < bytes.length;) {
        const length = Math.min(at === 0 ? FIRST_CHUNK : READ_CHUNK, bytes.length - at);
        const count = readSync(this.#fd, bytes, at, length, at);
        // A file that is something else is not read to its end.
        if (at === 0 && !hasComposefsMagic(bytes)) return Image.open(bytes.slice(0, count));
        if (count === 0) {
          throw new ImageError(`it became shorter while it was read (at byte ${at})`);
        }
        at += count;
      }
      verify?.(bytes);
      return Image.open(bytes);
    } catch (error) {
      throw this.#named(error);
    } finally {
      this.close();
    }
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #named(error: unknown): unknown {
    const prefix = `image ${this.path}: `;
    if (error instanceof UnsupportedFeatureError) {
      return new UnsupportedFeatureError(error.feature, error.value, prefix + error.message);
    }
    if (error instanceof ImageError) {
      const facts: { offset?: number; nid?: number } = {};
      if (error.offset !== undefined) facts.offset = error.offset;
      if (error.nid !== undefined) facts.nid = error.nid;
      return new ImageError(prefix + error.message, facts);
    }
    if (error instanceof ComposefsError) return error;
    const code = (error as NodeJS.ErrnoException).code;
    return code === undefined ? error : new ImageError(`${prefix}reading failed (${code})`);
  }
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return 'does not exist';
    case 'EACCES':
      return 'may not be read by this user';
    default:
      return `cannot be opened (${error.code ?? error.message})`;
  }
}
