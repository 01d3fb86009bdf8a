// The names of objects: the fs-verity SHA-256 digest in lower-case hex, with a slash behind the first
// two digits.

import { toHex } from '../verify/index.ts';

/** An fs-verity SHA-256 digest: 32 bytes, or 64 hex digits of either case. */
export type ObjectDigest = string | Uint8Array;

const DIGEST_SIZE = 32;
const DIGEST_HEX = /^[0-9a-f]{64}$/;

/** The digest in lower-case hex. Throws TypeError for what is no SHA-256 digest. */
export function digestHex(digest: ObjectDigest): string {
  if (digest instanceof Uint8Array && digest.length === DIGEST_SIZE) return toHex(digest);
  const hex = typeof digest === 'string' ? digest.toLowerCase() : '';
  if (DIGEST_HEX.test(hex)) return hex;
  throw new TypeError('a digest must be 32 bytes or 64 hex digits');
}

/** The path relative to a store, for a digest in lower-case hex. */
export function objectPath(hex: string): string {
  return `${hex.slice(0, 2)}/${hex.slice(2)}`;
}
