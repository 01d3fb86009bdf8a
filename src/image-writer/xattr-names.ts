// How attribute names are stored in an image: renamed for overlayfs where necessary, split into a
// prefix index and a rest, ranked in byte order, and hashed for the name filters.

import { XattrIndex, XATTR_PREFIXES } from '../image-reader/format.ts';
import { compareBytes } from './byte-heap.ts';
import { ESCAPED_PREFIX, OVERLAY_PREFIX } from './rewrite.ts';
import type { XattrTable } from './xattr-table.ts';
import { xxh32 } from './xxh32.ts';

/** EROFS_XATTR_FILTER_SEED; the prefix index is added to it. */
const FILTER_SEED = 0x25bbe08f;
const FILTER_BITS = 32;

/** Attributes that only the writer makes. Their numbers follow those of the tree's names. */
export const WRITER_NAMES = [
  'trusted.overlay.metacopy',
  'trusted.overlay.redirect',
  'trusted.overlay.opaque',
] as const;

/** Where a name of the tree stands relative to the names in WRITER_NAMES. */
export const NamePlace = { BEFORE_OVERLAY: 0, ESCAPED: 1, AFTER_OVERLAY: 2 } as const;

const encoder = new TextEncoder();
const OVERLAY_BYTES: Uint8Array = encoder.encode(OVERLAY_PREFIX);
/** Prefixes that the reference implementation shortens; it does not know `lustre.`. */
const INDEXES = [
  XattrIndex.USER,
  XattrIndex.POSIX_ACL_ACCESS,
  XattrIndex.POSIX_ACL_DEFAULT,
  XattrIndex.TRUSTED,
  XattrIndex.SECURITY,
].map((index) => ({ index, prefix: encoder.encode(XATTR_PREFIXES[index]) }));

/** One name, as it is stored. */
interface StoredName {
  readonly full: Uint8Array;
  readonly index: number;
  readonly rest: Uint8Array;
}

/** The names of a tree, by number, then the three of the writer. */
export class XattrNames {
  readonly #stored: StoredName[];
  /** Position among all names in byte order. */
  readonly ranks: Uint32Array;
  /** The bit of the name filter. */
  readonly filterBits: Uint32Array;
  /** One of NamePlace, for the tree's names. */
  readonly places: Uint8Array;
  /** Numbers of WRITER_NAMES. */
  readonly metacopy: number;
  readonly redirect: number;
  readonly opaque: number;

  constructor(xattrs: XattrTable) {
    const count = xattrs.names.count;
    const total = count + WRITER_NAMES.length;
    this.#stored = [];
    this.ranks = new Uint32Array(total);
    this.filterBits = new Uint32Array(total);
    this.places = new Uint8Array(count);
    for (let name = 0; name < count; name++) {
      const source = xattrs.names.bytesOf(name);
      this.places[name] = placeOf(source);
      this.#stored.push(split(this.places[name] === NamePlace.ESCAPED ? escape(source) : source));
    }
    for (const name of WRITER_NAMES) this.#stored.push(split(encoder.encode(name)));
    this.metacopy = count;
    this.redirect = count + 1;
    this.opaque = count + 2;
    const sorted = Array.from(this.#stored.keys()).sort((a, b) =>
      compareBytes(this.#of(a).full, this.#of(b).full),
    );
    for (const [rank, name] of sorted.entries()) this.ranks[name] = rank;
    for (const [name, { index, rest }] of this.#stored.entries()) {
      this.filterBits[name] = 1 << (xxh32(rest, FILTER_SEED + index) & (FILTER_BITS - 1));
    }
  }

  /** The name without what the index stands for. */
  restOf(name: number): Uint8Array {
    return this.#of(name).rest;
  }

  indexOf(name: number): number {
    return this.#of(name).index;
  }

  #of(name: number): StoredName {
    return this.#stored[name] as StoredName;
  }
}

function split(full: Uint8Array): StoredName {
  const known = INDEXES.find(({ prefix }) => startsWith(full, prefix));
  if (known === undefined) return { full, index: XattrIndex.NONE, rest: full };
  return { full, index: known.index, rest: full.subarray(known.prefix.length) };
}

/** Escaping keeps the order of names, so the place of the source name is that of the stored one. */
function placeOf(name: Uint8Array): number {
  if (startsWith(name, OVERLAY_BYTES)) return NamePlace.ESCAPED;
  return compareBytes(name, OVERLAY_BYTES) < 0 ? NamePlace.BEFORE_OVERLAY : NamePlace.AFTER_OVERLAY;
}

function escape(name: Uint8Array): Uint8Array {
  const growth = ESCAPED_PREFIX.length - OVERLAY_PREFIX.length;
  const result = new Uint8Array(name.length + growth);
  result.set(encoder.encode(ESCAPED_PREFIX));
  result.set(name.subarray(OVERLAY_PREFIX.length), ESCAPED_PREFIX.length);
  return result;
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return bytes.length >= prefix.length && prefix.every((byte, i) => bytes[i] === byte);
}
