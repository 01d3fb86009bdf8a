// The path of an object below the object directory. Nearly all of them are the digest in hex with a
// slash behind the first two digits; those are kept as 32 bytes, so that a path and its digest are
// one value. What is stored is canonical: equal paths have equal words.

import { SHA256_SIZE } from '../image-reader/format.ts';
import { copyBytes } from './byte-heap.ts';
import type { XattrTable } from './xattr-table.ts';

/** Length of `xx/yyyy...` for 32 bytes. */
export const DIGEST_PATH_LENGTH: number = SHA256_SIZE * 2 + 1;
const SLASH = 0x2f;
const HEX_DIGITS: Uint8Array = new TextEncoder().encode('0123456789abcdef');
const NOT_HEX = 0xff;
/** Value of each lower-case digit, and of each digit of either case. */
const LOWER_HEX: Uint8Array = new Uint8Array(256).fill(NOT_HEX);
const ANY_HEX: Uint8Array = new Uint8Array(256).fill(NOT_HEX);
for (let value = 0; value < 16; value++) {
  LOWER_HEX[HEX_DIGITS[value]!] = value;
  ANY_HEX[HEX_DIGITS[value]!] = value;
  ANY_HEX['0123456789ABCDEF'.charCodeAt(value)] = value;
}

const scratch = new Uint8Array(SHA256_SIZE);

/** Words of NODE.OBJECT. */
const IS_DIGEST_PATH = 1;

/** The word for a path, which must not be empty; values are interned in `xattrs`. */
export function objectPathWord(
  xattrs: XattrTable,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  if (end - start === DIGEST_PATH_LENGTH && readDigestPath(bytes, start, scratch)) {
    return ((xattrs.values.intern(scratch, 0, SHA256_SIZE) << 1) | IS_DIGEST_PATH) + 1;
  }
  return (xattrs.values.intern(bytes, start, end) << 1) + 1;
}

/** Whether the path of a word that is not 0 is kept as 32 bytes. */
export function isDigestPath(word: number): boolean {
  return ((word - 1) & IS_DIGEST_PATH) !== 0;
}

/** The interned value of a word that is not 0: the path, or the 32 bytes it is made of. */
export function objectPathValue(word: number): number {
  return (word - 1) >>> 1;
}

export function objectPathLength(xattrs: XattrTable, word: number): number {
  return isDigestPath(word) ? DIGEST_PATH_LENGTH : xattrs.values.lengthOf(objectPathValue(word));
}

/** Writes the path of a word that is not 0 to `out`. Returns the offset behind it. */
export function writeObjectPath(
  xattrs: XattrTable,
  word: number,
  out: Uint8Array,
  at: number,
): number {
  const { values } = xattrs;
  const value = objectPathValue(word);
  const bytes = values.chunkOf(value);
  const start = values.offsetOf(value);
  if (!isDigestPath(word)) {
    copyBytes(bytes, start, start + values.lengthOf(value), out, at);
    return at + values.lengthOf(value);
  }
  const slashAt = writeHex(bytes, start, start + 1, out, at);
  out[slashAt] = SLASH;
  return writeHex(bytes, start + 1, start + SHA256_SIZE, out, slashAt + 1);
}

/** Writes two lower-case digits for each byte. Returns the offset behind them. */
export function writeHex(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  at: number,
): number {
  let to = at;
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!;
    out[to++] = HEX_DIGITS[byte >>> 4]!;
    out[to++] = HEX_DIGITS[byte & 0xf]!;
  }
  return to;
}

/** Reads 64 hex digits of either case. False if they are not. */
export function readDigest(bytes: Uint8Array, start: number, out: Uint8Array): boolean {
  return readHex(ANY_HEX, bytes, start, out, 0, SHA256_SIZE);
}

function readDigestPath(bytes: Uint8Array, start: number, out: Uint8Array): boolean {
  return (
    bytes[start + 2] === SLASH &&
    readHex(LOWER_HEX, bytes, start, out, 0, 1) &&
    readHex(LOWER_HEX, bytes, start + 3, out, 1, SHA256_SIZE)
  );
}

function readHex(
  table: Uint8Array,
  bytes: Uint8Array,
  start: number,
  out: Uint8Array,
  from: number,
  to: number,
): boolean {
  let at = start;
  let seen = 0;
  for (let i = from; i < to; i++) {
    const high = table[bytes[at++]!]!;
    const low = table[bytes[at++]!]!;
    seen |= high | low;
    out[i] = (high << 4) | low;
  }
  return (seen & 0xf0) === 0;
}
