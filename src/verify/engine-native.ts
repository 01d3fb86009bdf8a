// Hashing in the addon: interleaved SHA-NI or AVX2 (native/verity_sha2.h), files on libuv's thread
// pool. 2700 MB/s on one core with SHA-256, where OpenSSL's one stream has 1400.

import { loadNative } from '../native.ts';
import type { NativeAddon, NativeBlockHasher } from '../native.ts';
import { DESCRIPTOR } from './descriptor.ts';
import type { BlockHasher, DigestEngine, FileHasher } from './engine.ts';
import type { DigestAlgorithm, VerityParameters } from './parameters.ts';

/**
 * Bytes that cross into the addon at a time. They are copied: 1600 MB/s come out of measureBytes where
 * the hashing alone does 2600.
 */
const INPUT_SIZE = 1 << 17;

/**
 * The bytes are copied into an array of our own, since the addon keeps the addresses: a caller may
 * detach its array. Whoever has such an array itself uses NativeAddon.BlockHasher directly.
 */
class NativeHasher implements BlockHasher {
  readonly #digestSize: number;
  readonly #blockSize: number;
  readonly #input: Uint8Array;
  readonly #digests: Uint8Array;
  readonly #blocks: NativeBlockHasher;
  readonly #descriptors: NativeBlockHasher;

  constructor(native: NativeAddon, parameters: VerityParameters, variant: number) {
    const { algorithmNumber, blockSize, digestSize, salt } = parameters;
    this.#digestSize = digestSize;
    this.#blockSize = blockSize;
    this.#input = new Uint8Array(INPUT_SIZE);
    this.#digests = new Uint8Array((INPUT_SIZE / blockSize) * digestSize);
    const arrays = [this.#input, this.#digests] as const;
    this.#blocks = new native.BlockHasher(algorithmNumber, blockSize, salt, variant, ...arrays);
    this.#descriptors = new native.BlockHasher(
      algorithmNumber,
      DESCRIPTOR.SIZE,
      new Uint8Array(0),
      variant,
      ...arrays,
    );
  }

  hashBlocks(
    bytes: Uint8Array,
    start: number,
    length: number,
    digests: Uint8Array,
    at: number,
  ): number {
    let count = 0;
    for (let done = 0; done < length; done += INPUT_SIZE) {
      const part = Math.min(INPUT_SIZE, length - done);
      this.#input.set(bytes.subarray(start + done, start + done + part));
      const hashed = this.#blocks.hash(0, part, 0);
      const size = hashed * this.#digestSize;
      digests.set(
        this.#digests.subarray(0, size),
        at + (done / this.#blockSize) * this.#digestSize,
      );
      count += hashed;
    }
    return count;
  }

  hashDescriptor(descriptor: Uint8Array): Uint8Array {
    this.#input.set(descriptor);
    this.#descriptors.hash(0, DESCRIPTOR.SIZE, 0);
    return this.#digests.slice(0, this.#digestSize);
  }
}

/** Names of the hash implementations that work on this processor, the fastest first. */
export function nativeVariants(algorithm: DigestAlgorithm): string[] {
  return loadNative().verityVariants(algorithm === 'sha256' ? 1 : 2);
}

/**
 * `variant` is one of `nativeVariants`, for tests and measurements; without it the fastest is used.
 * Throws AddonError where the addon is missing, RangeError at use for a variant that is not there.
 */
export function createNativeEngine(variant?: string): DigestEngine & { files: FileHasher } {
  const native = loadNative();
  const indexOf = ({ algorithm, algorithmNumber }: VerityParameters): number => {
    const index =
      variant === undefined ? 0 : native.verityVariants(algorithmNumber).indexOf(variant);
    if (index < 0) throw new RangeError(`no ${algorithm} implementation ${variant} here`);
    return index;
  };
  // A hasher keeps nothing between calls: all trees of a thread share one, not 132 KiB for each.
  const hashers = new Map<string, NativeHasher>();
  return {
    name: variant === undefined ? 'native' : `native ${variant}`,
    createHasher: (parameters) => {
      const { algorithm, blockSize, salt } = parameters;
      const key = `${algorithm} ${blockSize}`;
      const hasher =
        (salt.length === 0 ? hashers.get(key) : undefined) ??
        new NativeHasher(native, parameters, indexOf(parameters));
      if (salt.length === 0) hashers.set(key, hasher);
      return hasher;
    },
    files: {
      hashRange: (parameters, fd, offset, length) => {
        const { algorithmNumber, blockSize, salt } = parameters;
        const variantIndex = indexOf(parameters);
        return native.hashRange(fd, offset, length, algorithmNumber, blockSize, salt, variantIndex);
      },
      measurePaths: (parameters, paths, limitBytes) => {
        const { algorithmNumber, blockSize, salt } = parameters;
        const variantIndex = indexOf(parameters);
        return native.measurePaths(
          paths,
          algorithmNumber,
          blockSize,
          salt,
          variantIndex,
          limitBytes,
        );
      },
    },
  };
}
