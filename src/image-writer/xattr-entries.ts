// The attributes that inodes of an image have, and the bytes of each: pairs of the tree's table, and
// three that only the writer makes. An attribute is a kind and a number.

import { SHA256_SIZE, XATTR_ENTRY } from '../image-reader/format.ts';
import { compareBytes, copyBytes } from './byte-heap.ts';
import { objectPathLength, writeObjectPath } from './object-path.ts';
import type { XattrNames } from './xattr-names.ts';
import type { XattrTable } from './xattr-table.ts';

/** What the number of an attribute is. */
export const XattrKind = {
  /** A pair of the table. */
  PAIR: 0,
  /** The word NODE.CONTENT of an external file: its digest. */
  METACOPY: 1,
  /** The word NODE.OBJECT of an external file: its object path. */
  REDIRECT: 2,
  /** Always 0. */
  ROOT_OPAQUE: 3,
} as const;

const SLASH = 0x2f;
/** First bytes of a metacopy value with a digest: version 0, length, no flags, SHA-256. */
const METACOPY_HEADER: Uint8Array = Uint8Array.of(0, SHA256_SIZE + 4, 0, 1);
const ROOT_OPAQUE_VALUE: Uint8Array = Uint8Array.of(0x79);
/** Bytes of a value that are compared as one number. */
const PREFIX_LENGTH = 6;

/** Reads and writes attributes; keeps nothing. */
export class XattrEntries {
  readonly #xattrs: XattrTable;
  readonly #names: XattrNames;

  constructor(xattrs: XattrTable, names: XattrNames) {
    this.#xattrs = xattrs;
    this.#names = names;
  }

  /** Number of the name. */
  nameOf(kind: number, number: number): number {
    switch (kind) {
      case XattrKind.PAIR:
        return this.#xattrs.nameOf(number);
      case XattrKind.METACOPY:
        return this.#names.metacopy;
      case XattrKind.REDIRECT:
        return this.#names.redirect;
      default:
        return this.#names.opaque;
    }
  }

  valueLength(kind: number, number: number): number {
    switch (kind) {
      case XattrKind.PAIR:
        return this.#xattrs.values.lengthOf(this.#xattrs.valueOf(number));
      case XattrKind.METACOPY:
        return number === 0 ? 0 : METACOPY_HEADER.length + SHA256_SIZE;
      case XattrKind.REDIRECT:
        return 1 + objectPathLength(this.#xattrs, number);
      default:
        return ROOT_OPAQUE_VALUE.length;
    }
  }

  /** Size of the stored entry, with its padding. */
  sizeOf(kind: number, number: number): number {
    const rest = this.#names.restOf(this.nameOf(kind, number));
    return align(XATTR_ENTRY.SIZE + rest.length + this.valueLength(kind, number));
  }

  /** Writes an entry. Returns the offset behind it; the padding is left as it is. */
  write(kind: number, number: number, out: Uint8Array, at: number): number {
    const name = this.nameOf(kind, number);
    const rest = this.#names.restOf(name);
    const valueLength = this.valueLength(kind, number);
    out[at + XATTR_ENTRY.NAME_LEN] = rest.length;
    out[at + XATTR_ENTRY.NAME_INDEX] = this.#names.indexOf(name);
    out[at + XATTR_ENTRY.VALUE_SIZE] = valueLength & 0xff;
    out[at + XATTR_ENTRY.VALUE_SIZE + 1] = valueLength >>> 8;
    const restAt = at + XATTR_ENTRY.SIZE;
    copyBytes(rest, 0, rest.length, out, restAt);
    const valueAt = restAt + rest.length;
    this.#writeValue(kind, number, out, valueAt);
    return at + align(valueAt + valueLength - at);
  }

  /** The first bytes in which values of one name and length differ, as a number for sorting. */
  valuePrefix(kind: number, number: number): number {
    const value = new Uint8Array(
      METACOPY_HEADER.length + PREFIX_LENGTH + this.valueLength(kind, number),
    );
    this.#writeValue(kind, number, value, 0);
    let at = 0;
    if (kind === XattrKind.METACOPY) at = METACOPY_HEADER.length;
    else if (kind === XattrKind.REDIRECT) at = 1;
    let prefix = 0;
    for (const end = at + PREFIX_LENGTH; at < end; at++) prefix = prefix * 256 + value[at]!;
    return prefix;
  }

  /** Byte order of the values of two attributes of one kind or name. */
  compareValues(aKind: number, aNumber: number, bKind: number, bNumber: number): number {
    const a = new Uint8Array(this.valueLength(aKind, aNumber));
    const b = new Uint8Array(this.valueLength(bKind, bNumber));
    this.#writeValue(aKind, aNumber, a, 0);
    this.#writeValue(bKind, bNumber, b, 0);
    return compareBytes(a, b);
  }

  #writeValue(kind: number, number: number, out: Uint8Array, at: number): void {
    switch (kind) {
      case XattrKind.PAIR:
        this.#copyValue(this.#xattrs.valueOf(number), out, at);
        break;
      case XattrKind.METACOPY:
        if (number === 0) return;
        copyBytes(METACOPY_HEADER, 0, METACOPY_HEADER.length, out, at);
        this.#copyValue(number - 1, out, at + METACOPY_HEADER.length);
        break;
      case XattrKind.REDIRECT:
        out[at] = SLASH;
        writeObjectPath(this.#xattrs, number, out, at + 1);
        break;
      default:
        copyBytes(ROOT_OPAQUE_VALUE, 0, ROOT_OPAQUE_VALUE.length, out, at);
    }
  }

  #copyValue(value: number, out: Uint8Array, at: number): void {
    const { values } = this.#xattrs;
    const start = values.offsetOf(value);
    copyBytes(values.chunkOf(value), start, start + values.lengthOf(value), out, at);
  }
}

function align(size: number): number {
  return (size + XATTR_ENTRY.ALIGN - 1) & -XATTR_ENTRY.ALIGN;
}
