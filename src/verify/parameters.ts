// What an fs-verity digest depends on besides the content, checked once.

export type DigestAlgorithm = 'sha256' | 'sha512';

/** Parameters as callers give them; composefs uses the defaults: sha256, 4096, no salt. */
export interface VerityOptions {
  algorithm?: DigestAlgorithm | undefined;
  /** A power of two from 1024 to 65536. */
  blockSize?: number | undefined;
  /** At most 32 bytes. */
  salt?: Uint8Array | undefined;
}

export interface VerityParameters {
  readonly algorithm: DigestAlgorithm;
  /** FS_VERITY_HASH_ALG_* of <linux/fsverity.h>. */
  readonly algorithmNumber: 1 | 2;
  readonly digestSize: 32 | 64;
  readonly blockSize: number;
  readonly salt: Uint8Array;
}

export const BLOCK_SIZE_MIN = 1024;
export const BLOCK_SIZE_MAX = 65536;
export const SALT_MAX = 32;

/** Throws TypeError or RangeError for parameters that fs-verity does not have. */
export function resolveParameters(options: VerityOptions = {}): VerityParameters {
  const { algorithm = 'sha256', blockSize = 4096, salt = new Uint8Array(0) } = options;
  if (algorithm !== 'sha256' && algorithm !== 'sha512') {
    throw new RangeError(`algorithm must be sha256 or sha512, not ${String(algorithm)}`);
  }
  const isPowerOfTwo = Number.isInteger(blockSize) && (blockSize & (blockSize - 1)) === 0;
  if (!isPowerOfTwo || blockSize < BLOCK_SIZE_MIN || blockSize > BLOCK_SIZE_MAX) {
    throw new RangeError(
      `blockSize must be a power of two from 1024 to 65536, not ${String(blockSize)}`,
    );
  }
  if (!(salt instanceof Uint8Array)) throw new TypeError('salt must be a Uint8Array');
  if (salt.length > SALT_MAX) throw new RangeError(`salt must have at most ${SALT_MAX} bytes`);
  const isSha256 = algorithm === 'sha256';
  return {
    algorithm,
    algorithmNumber: isSha256 ? 1 : 2,
    digestSize: isSha256 ? 32 : 64,
    blockSize,
    // A copy: the caller may go on to use its array.
    salt: Uint8Array.from(salt),
  };
}

const hexOfByte = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** `bytes` in lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += hexOfByte[byte]!;
  return text;
}
