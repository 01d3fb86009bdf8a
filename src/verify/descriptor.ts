// The 256 bytes whose hash is the fs-verity digest.

import type { VerityParameters } from './parameters.ts';

/** struct fsverity_descriptor (linux/fsverity.h), little-endian. What is not named is zero. */
export const DESCRIPTOR = {
  VERSION: 0,
  HASH_ALGORITHM: 1,
  LOG_BLOCKSIZE: 2,
  SALT_SIZE: 3,
  DATA_SIZE: 8,
  ROOT_HASH: 16,
  SALT: 80,
  SIZE: 256,
} as const;

/** `rootHash` is all zeros for an empty file. */
export function encodeDescriptor(
  parameters: VerityParameters,
  sizeBytes: number,
  rootHash: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTOR.SIZE);
  bytes[DESCRIPTOR.VERSION] = 1;
  bytes[DESCRIPTOR.HASH_ALGORITHM] = parameters.algorithmNumber;
  bytes[DESCRIPTOR.LOG_BLOCKSIZE] = 31 - Math.clz32(parameters.blockSize);
  bytes[DESCRIPTOR.SALT_SIZE] = parameters.salt.length;
  new DataView(bytes.buffer).setBigUint64(DESCRIPTOR.DATA_SIZE, BigInt(sizeBytes), true);
  bytes.set(rootHash, DESCRIPTOR.ROOT_HASH);
  bytes.set(parameters.salt, DESCRIPTOR.SALT);
  return bytes;
}
