// Files in a folder, opened as objects, verified and read as the daemon does it: through the addon.

import { createHash } from 'node:crypto';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import {
  FOUND_DIGEST,
  loadNative,
  type NativeObjectVerifier,
  type NativeSession,
  OBJECT_FACTS,
  VERIFY_ENGINE,
} from '../../src/native.ts';
import { type DigestAlgorithm, measureBytes } from '../../src/verify/index.ts';

const native = loadNative();
const REPLY_SIZE = 2 << 20;

/** Bytes without repetition, the same ones each time. */
export function noise(size: number, seed = ''): Buffer {
  return createHash('shake256', { outputLength: Math.max(size, 1) })
    .update(`${size} ${seed}`)
    .digest()
    .subarray(0, size);
}

/** By node:crypto, which shares nothing with the addon. */
export function digestOf(content: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Uint8Array {
  return measureBytes(content, { algorithm, engine: 'node' }).digest;
}

/** Overwrites bytes of a file in place. */
export function overwrite(path: string, at: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, bytes, 0, bytes.length, at);
  } finally {
    closeSync(fd);
  }
}

/** A session on an unconnected device, for its readObject. Needs /dev/fuse. */
export function unconnectedSession(request: Uint8Array, reply: Uint8Array): NativeSession {
  const wake = native.createWake();
  const session = new native.Session(native.openDevice(), request, reply, wake);
  native.closeDescriptor(wake);
  return session;
}

export class GuardedObjects {
  readonly folder: string;
  readonly basedir: number;
  readonly facts: BigInt64Array = new BigInt64Array(OBJECT_FACTS.WORDS);
  readonly found: Uint8Array = new Uint8Array(FOUND_DIGEST.SIZE);
  /** Where `verify` puts the expected digest, as if it were an image. */
  readonly #image = new Uint8Array(64);
  readonly #reply = new Uint8Array(REPLY_SIZE);
  #session: NativeSession | undefined;

  constructor(folder: string) {
    this.folder = folder;
    this.basedir = native.openBasedir(folder);
  }

  close(): void {
    this.#session?.close();
    native.closeDescriptor(this.basedir);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, content: Uint8Array): string {
    writeFileSync(this.path(name), content);
    return this.path(name);
  }

  /** A descriptor, whose facts are in `facts`. Throws if there is none. */
  open(name: string): number {
    const path = Buffer.from(name);
    const fd = native.openObject(this.basedir, path, path.length, this.facts);
    if (fd < 0) throw new Error(`${name}: ${fd}`);
    return fd;
  }

  verifier(
    engine: number = VERIFY_ENGINE.ANY,
    limit: number = Number.MAX_SAFE_INTEGER,
  ): NativeObjectVerifier {
    return new native.ObjectVerifier(this.#image, this.facts, this.found, engine, limit);
  }

  /** Verifies the object that was opened last. */
  verify(fd: number, digest: Uint8Array, verifier: NativeObjectVerifier = this.verifier()): number {
    this.#image.set(digest);
    return verifier.verify(fd, digest.length === 64 ? 2 : 1, 0);
  }

  /** Opens, verifies and closes. */
  verifyName(name: string, digest: Uint8Array, verifier?: NativeObjectVerifier): number {
    const fd = this.open(name);
    const result = this.verify(fd, digest, verifier);
    native.closeDescriptor(fd);
    return result;
  }

  /** The bytes, valid until the next read; or what readObject says instead. */
  read(fd: number, offset: number, length: number): Buffer | number {
    this.#session ??= unconnectedSession(new Uint8Array(8192), this.#reply);
    const count = this.#session.readObject(fd, offset, length, 0);
    return count < 0 ? count : Buffer.from(this.#reply.buffer, 0, count);
  }
}
