// The interface between the Merkle tree and whoever computes hashes. An engine hashes blocks in the
// calling thread; one that can also read files in other threads says so with `files`.

import type { VerityParameters } from './parameters.ts';

/** Hashes with fixed parameters. Not to be shared between threads. */
export interface BlockHasher {
  /**
   * Writes the digests of the blocks of `bytes[start, start + length)`, salted, the last one padded
   * with zeros, to `digests` from byte `at` on. The number of blocks.
   */
  hashBlocks(
    bytes: Uint8Array,
    start: number,
    length: number,
    digests: Uint8Array,
    at: number,
  ): number;
  /** The plain hash of a descriptor of 256 bytes: the fs-verity digest. */
  hashDescriptor(descriptor: Uint8Array): Uint8Array;
}

/** Reads and hashes in other threads. */
export interface FileHasher {
  /**
   * The digests of the blocks of `length` bytes at `offset`; or -errno, or VERITY_STATUS.CHANGED if
   * the file ends earlier. Never rejects. `fd` may be closed before the promise is settled.
   */
  hashRange(
    parameters: VerityParameters,
    fd: number,
    offset: number,
    length: number,
  ): Promise<Uint8Array | number>;
  /** One MEASURED record (src/native.ts) for each of the paths, which end with a NUL each. */
  measurePaths(
    parameters: VerityParameters,
    paths: Uint8Array,
    limitBytes: number,
  ): Promise<Uint8Array>;
}

export interface DigestEngine {
  readonly name: string;
  createHasher(parameters: VerityParameters): BlockHasher;
  readonly files?: FileHasher;
}

/** A BlockHasher over a function that hashes one message with the parameters' algorithm. */
export function makeBlockHasher(
  parameters: VerityParameters,
  hash: (message: Uint8Array) => Uint8Array,
): BlockHasher {
  const { blockSize, digestSize, salt } = parameters;
  // The salt is padded to the block of the compression function: 64 or 128 bytes.
  const prefix = salt.length === 0 ? 0 : digestSize * 2;
  const message = new Uint8Array(prefix + blockSize);
  message.set(salt);
  return {
    hashBlocks(bytes, start, length, digests, at) {
      const count = Math.ceil(length / blockSize);
      for (let i = 0; i < count; i++) {
        const from = start + i * blockSize;
        const to = Math.min(from + blockSize, start + length);
        if (prefix === 0 && to - from === blockSize) {
          digests.set(hash(bytes.subarray(from, to)), at + i * digestSize);
          continue;
        }
        message.set(bytes.subarray(from, to), prefix);
        message.fill(0, prefix + to - from);
        digests.set(hash(message), at + i * digestSize);
      }
      return count;
    },
    hashDescriptor: hash,
  };
}
