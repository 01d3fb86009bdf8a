// The digest an image is pinned by. What is checked are the bytes in memory that are going to be
// served, so that nothing that happens to the file afterwards matters.

import { ImageDigestError } from '../errors.ts';
import type { NativeAddon } from '../native.ts';
import { type DigestAlgorithm, measureBytes, toHex } from '../verify/index.ts';

/**
 * To be called before the open file `fd` is read. The returned function throws ImageDigestError unless
 * `bytes`, which were read then, have the fs-verity digest `expected`: 64 (SHA-256) or 128 (SHA-512)
 * lower-case hex digits. Where the kernel had fs-verity for the file before, it has checked every
 * read, and its word is enough. (Asked afterwards, it may speak of what replaced the bytes.)
 */
export function imageDigestCheck(
  native: NativeAddon,
  path: string,
  fd: number,
  expected: string,
): (bytes: Uint8Array) => void {
  const kernels = kernelDigest(native, fd);
  return (bytes) => requireDigest(path, kernels, bytes, expected);
}

function requireDigest(
  path: string,
  kernels: string | undefined,
  bytes: Uint8Array,
  expected: string,
): void {
  const algorithm: DigestAlgorithm = expected.length === 128 ? 'sha512' : 'sha256';
  if (kernels === `${algorithm}:${expected}`) return;
  // With another algorithm, the kernel's digest says nothing about the one that is asked for.
  if (kernels?.startsWith(algorithm) === true) {
    throw new ImageDigestError(path, `${algorithm}:${expected}`, kernels);
  }
  const computed = `${algorithm}:${toHex(measureBytes(bytes, { algorithm }).digest)}`;
  if (computed !== `${algorithm}:${expected}`) {
    throw new ImageDigestError(path, `${algorithm}:${expected}`, computed);
  }
}

/** `sha256:HEX` if the file has fs-verity and the kernel can tell. */
function kernelDigest(native: NativeAddon, fd: number): string | undefined {
  const digest = new Uint8Array(64);
  const measured = native.measureVerity(fd, digest);
  if (measured < 0) return undefined;
  const name = measured >> 16 === 2 ? 'sha512' : 'sha256';
  return `${name}:${toHex(digest.subarray(0, measured & 0xffff))}`;
}
