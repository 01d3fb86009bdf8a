// The Merkle tree of fs-verity. MerkleBuilder takes the content or its leaves in order and keeps one
// buffer of a block for each level; MerkleTree keeps the leaves, to check single blocks later.

import { encodeDescriptor } from './descriptor.ts';
import type { BlockHasher, DigestEngine } from './engine.ts';
import type { VerityParameters } from './parameters.ts';

/** Bytes that are hashed in one call; a multiple of every block size. */
const STEP_SIZE = 1 << 17;

/** The digests of one level that have not been hashed into the level above. */
interface Level {
  readonly digests: Uint8Array;
  used: number;
}

export interface MerkleResult {
  sizeBytes: number;
  rootHash: Uint8Array;
  /** The fs-verity digest. */
  digest: Uint8Array;
}

/** Computes a digest from content in order, of any size. */
export class MerkleBuilder {
  readonly #parameters: VerityParameters;
  readonly #hasher: BlockHasher;
  readonly #levels: Level[] = [];
  readonly #partial: Uint8Array;
  readonly #leaves: Uint8Array;
  readonly #onLeaves: ((leaves: Uint8Array) => void) | undefined;
  #partialUsed = 0;
  #sizeBytes = 0;

  /** `onLeaves` sees the leaves in order; the array is valid during the call. */
  constructor(
    parameters: VerityParameters,
    hasher: BlockHasher,
    onLeaves?: (leaves: Uint8Array) => void,
  ) {
    this.#parameters = parameters;
    this.#hasher = hasher;
    this.#onLeaves = onLeaves;
    this.#partial = new Uint8Array(parameters.blockSize);
    this.#leaves = new Uint8Array((STEP_SIZE / parameters.blockSize) * parameters.digestSize);
  }

  /** Takes the next bytes of the content, any number of them. */
  update(bytes: Uint8Array): void {
    const { blockSize } = this.#parameters;
    let at = 0;
    if (this.#partialUsed > 0) {
      at = Math.min(bytes.length, blockSize - this.#partialUsed);
      this.#partial.set(bytes.subarray(0, at), this.#partialUsed);
      this.#partialUsed += at;
      if (this.#partialUsed < blockSize) return;
      this.#hashLeaves(this.#partial, 0, blockSize);
      this.#partialUsed = 0;
    }
    const end = bytes.length - ((bytes.length - at) % blockSize);
    for (; at < end; at += STEP_SIZE) {
      this.#hashLeaves(bytes, at, Math.min(STEP_SIZE, end - at));
    }
    this.#partial.set(bytes.subarray(end));
    this.#partialUsed = bytes.length - end;
  }

  /**
   * Takes the digests of the next `sizeBytes` bytes of content, which begin at a block's start and,
   * unless they are the last ones, end at a block's end.
   */
  appendLeaves(leaves: Uint8Array, sizeBytes: number): void {
    const { blockSize, digestSize } = this.#parameters;
    if (this.#partialUsed > 0 || this.#sizeBytes % blockSize !== 0) {
      throw new RangeError('leaves must begin at the start of a block');
    }
    if (leaves.length !== Math.ceil(sizeBytes / blockSize) * digestSize) {
      throw new RangeError('the number of leaves does not fit the size');
    }
    this.#takeLeaves(leaves, sizeBytes);
  }

  /** The digest of everything. The builder is used up. */
  finish(): MerkleResult {
    if (this.#partialUsed > 0) this.#hashLeaves(this.#partial, 0, this.#partialUsed);
    const { digestSize } = this.#parameters;
    const rootHash = new Uint8Array(digestSize);
    for (let i = 0; i < this.#levels.length; i++) {
      const level = this.#levels[i]!;
      if (i === this.#levels.length - 1 && level.used === digestSize) {
        rootHash.set(level.digests.subarray(0, digestSize));
      } else {
        this.#raise(i);
      }
    }
    const descriptor = encodeDescriptor(this.#parameters, this.#sizeBytes, rootHash);
    const digest = this.#hasher.hashDescriptor(descriptor);
    return { sizeBytes: this.#sizeBytes, rootHash, digest: Uint8Array.from(digest) };
  }

  #hashLeaves(bytes: Uint8Array, start: number, length: number): void {
    const count = this.#hasher.hashBlocks(bytes, start, length, this.#leaves, 0);
    this.#takeLeaves(this.#leaves.subarray(0, count * this.#parameters.digestSize), length);
  }

  #takeLeaves(leaves: Uint8Array, sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    this.#onLeaves?.(leaves);
    this.#append(0, leaves);
  }

  /** A full level is raised only when more arrives, for until then it may be the top. */
  #append(index: number, digests: Uint8Array): void {
    const { blockSize } = this.#parameters;
    for (let at = 0; at < digests.length;) {
      if (index === this.#levels.length) {
        this.#levels.push({ digests: new Uint8Array(blockSize), used: 0 });
      }
      const level = this.#levels[index]!;
      if (level.used === blockSize) this.#raise(index);
      const part = Math.min(blockSize - level.used, digests.length - at);
      level.digests.set(digests.subarray(at, at + part), level.used);
      level.used += part;
      at += part;
    }
  }

  #raise(index: number): void {
    const level = this.#levels[index]!;
    const digest = new Uint8Array(this.#parameters.digestSize);
    this.#hasher.hashBlocks(level.digests, 0, level.used, digest, 0);
    level.used = 0;
    this.#append(index + 1, digest);
  }
}

/**
 * The leaves of a file's tree: `digestSize` bytes for each block of content, 1/128 of the file with
 * SHA-256 and 4 KiB blocks, 1/64 with SHA-512; and 4 or 8 KiB to hash into. The levels above are not
 * kept: `digest` is computed from the leaves, so comparing it once covers them all.
 */
export class MerkleTree {
  readonly parameters: VerityParameters;
  readonly sizeBytes: number;
  readonly rootHash: Uint8Array;
  /** The fs-verity digest. */
  readonly digest: Uint8Array;
  /** The digests of the blocks in order. Not to be written. */
  readonly leaves: Uint8Array;
  readonly #hasher: BlockHasher;
  readonly #digests: Uint8Array;

  /** Throws RangeError if the number of leaves does not fit the size. Keeps `leaves`. */
  constructor(
    parameters: VerityParameters,
    engine: DigestEngine,
    sizeBytes: number,
    leaves: Uint8Array,
  ) {
    this.parameters = parameters;
    this.sizeBytes = sizeBytes;
    this.leaves = leaves;
    this.#hasher = engine.createHasher(parameters);
    const builder = new MerkleBuilder(parameters, this.#hasher);
    builder.appendLeaves(leaves, sizeBytes);
    ({ rootHash: this.rootHash, digest: this.digest } = builder.finish());
    this.#digests = new Uint8Array((STEP_SIZE / parameters.blockSize) * parameters.digestSize);
  }

  get blockCount(): number {
    return this.leaves.length / this.parameters.digestSize;
  }

  /** Whether `bytes` are exactly block `index` of the content; the last one may be short. */
  verifyBlock(index: number, bytes: Uint8Array): boolean {
    const { blockSize } = this.parameters;
    if (!Number.isInteger(index) || index < 0 || index >= this.blockCount) return false;
    const expectedLength = Math.min(blockSize, this.sizeBytes - index * blockSize);
    return bytes.length === expectedLength && this.findBadBlock(index, bytes, 0, bytes.length) < 0;
  }

  /**
   * Checks `bytes[start, start + length)` against the blocks from `firstIndex` on; `length` is a
   * multiple of the block size, or ends where the content ends. The index of the first block that
   * differs or does not exist, or -1 if all are right.
   */
  findBadBlock(firstIndex: number, bytes: Uint8Array, start: number, length: number): number {
    const { blockSize, digestSize } = this.parameters;
    const offset = firstIndex * blockSize;
    const end = offset + length;
    // Zeros after the end would hash as the padding does.
    if (end > this.sizeBytes || (end < this.sizeBytes && length % blockSize !== 0)) {
      return Math.min(Math.floor(end / blockSize), this.blockCount);
    }
    for (let done = 0; done < length; done += STEP_SIZE) {
      const part = Math.min(STEP_SIZE, length - done);
      const count = this.#hasher.hashBlocks(bytes, start + done, part, this.#digests, 0);
      const leafAt = ((offset + done) / blockSize) * digestSize;
      for (let i = 0; i < count * digestSize; i++) {
        if (this.#digests[i] !== this.leaves[leafAt + i]) {
          return Math.floor((leafAt + i) / digestSize);
        }
      }
    }
    return -1;
  }

  /**
   * The whole tree as the kernel stores it and FS_IOC_READ_VERITY_METADATA returns it: the levels
   * from the root's block down to the leaves, each padded to whole blocks; empty for one block.
   */
  toBytes(): Uint8Array {
    const { blockSize, digestSize } = this.parameters;
    const levels: Uint8Array[] = [];
    for (let level = this.leaves; level.length > digestSize;) {
      const padded = new Uint8Array(Math.ceil(level.length / blockSize) * blockSize);
      padded.set(level);
      levels.unshift(padded);
      const next = new Uint8Array((padded.length / blockSize) * digestSize);
      this.#hasher.hashBlocks(padded, 0, padded.length, next, 0);
      level = next;
    }
    const bytes = new Uint8Array(levels.reduce((sum, level) => sum + level.length, 0));
    let at = 0;
    for (const level of levels) {
      bytes.set(level, at);
      at += level.length;
    }
    return bytes;
  }
}
