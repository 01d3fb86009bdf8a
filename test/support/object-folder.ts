// A folder of objects on disk, filled by tests, and the image nodes that refer to them.

import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Bytes, external, toBytes, toHex } from './image-nodes.ts';
import type { TestExternal } from './image-nodes.ts';

const BLOCK = 4096;

type Algorithm = 'sha256' | 'sha512';

const digestOf = (algorithm: Algorithm, bytes: Uint8Array): Buffer =>
  createHash(algorithm).update(bytes).digest();

function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length === BLOCK) return bytes;
  const block = new Uint8Array(BLOCK);
  block.set(bytes);
  return block;
}

function hashBlocks(algorithm: Algorithm, bytes: Uint8Array): Buffer[] {
  const hashes: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK)
    hashes.push(digestOf(algorithm, padded(bytes.subarray(at, at + BLOCK))));
  return hashes;
}

/**
 * The fs-verity digest (4096-byte blocks, no salt) of a content: the hash of struct
 * fsverity_descriptor, which holds the root of the Merkle tree. The tests' own, to hold the
 * product's against.
 */
export function verityDigest(content: Uint8Array, algorithm: Algorithm = 'sha256'): Uint8Array {
  let level = hashBlocks(algorithm, content);
  while (level.length > 1) level = hashBlocks(algorithm, Buffer.concat(level));
  return describe(algorithm, content.length, level[0]);
}

/** The same of `size` zero bytes, which need not be there. */
export function zerosDigest(size: number): Uint8Array {
  let hash = digestOf('sha256', new Uint8Array(BLOCK));
  let count = Math.ceil(size / BLOCK);
  const perBlock = BLOCK / hash.length;
  while (count > 1) {
    const [full, rest] = [Math.floor(count / perBlock), count % perBlock];
    if (full > 0 && rest > 0) throw new Error(`${size} bytes of zeros need an uneven tree`);
    hash = digestOf(
      'sha256',
      padded(Buffer.concat(new Array(full > 0 ? perBlock : rest).fill(hash))),
    );
    count = Math.max(full, 1);
  }
  return describe('sha256', size, hash);
}

function describe(algorithm: Algorithm, size: number, root: Uint8Array | undefined): Uint8Array {
  const descriptor = Buffer.alloc(256);
  descriptor[0] = 1; // version
  descriptor[1] = algorithm === 'sha512' ? 2 : 1; // FS_VERITY_HASH_ALG_*
  descriptor[2] = 12; // log2 of the block size
  descriptor.writeBigUInt64LE(BigInt(size), 8);
  if (root !== undefined) descriptor.set(root, 16);
  return digestOf(algorithm, descriptor);
}

/** Bytes that differ from block to block and from one seed to the next. */
export function patternBytes(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >>> 12) * 13 + seed * 31 + 3) % 251;
  return bytes;
}

export class ObjectFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true });
  }

  /** Writes an object where mkcomposefs would, and returns an external file for it. */
  add(content: Bytes, attributes: Partial<TestExternal> = {}): TestExternal {
    const bytes = toBytes(content);
    const digest = verityDigest(bytes);
    const hex = toHex(digest);
    this.write(`${hex.slice(0, 2)}/${hex.slice(2)}`, bytes);
    return external(bytes.length, { digest }, attributes);
  }

  /** Writes an object at a path of its own, which has nothing to do with a digest. */
  addAt(path: string, content: Bytes, attributes: Partial<TestExternal> = {}): TestExternal {
    const bytes = toBytes(content);
    this.write(path, bytes);
    return external(bytes.length, { redirect: `/${path}` }, attributes);
  }

  /** An object of `size` bytes with data at the given offsets and holes between them. */
  addSparse(
    path: string,
    size: number,
    data: readonly [at: number, content: Bytes][],
  ): TestExternal {
    const file = this.write(path, new Uint8Array(0));
    truncateSync(file, size);
    for (const [at, content] of data) writeAt(file, at, toBytes(content));
    return external(size, { redirect: `/${path}` });
  }

  /** The file behind a path below the folder, written and returned. */
  write(path: string, bytes: Uint8Array): string {
    const file = this.at(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    return file;
  }

  /** Absolute path of an object. */
  at(path: string): string {
    return join(this.path, path);
  }
}

function writeAt(file: string, at: number, content: Uint8Array): void {
  const fd = openSync(file, 'r+');
  try {
    writeSync(fd, content, 0, content.length, at);
  } finally {
    closeSync(fd);
  }
}
