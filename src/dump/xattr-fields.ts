// The attributes at the end of a line: KEY=VALUE, separated by single spaces.

import {
  NO_XATTRS,
  XATTR_COST,
  XATTR_NAME_MAX,
  type XattrSet,
  type XattrTable,
} from '../image-writer/xattr-table.ts';
import { BACKSLASH, EQUALS, Field, SPACE } from './fields.ts';
import type { LineReader } from './line-reader.ts';
import { XattrCache } from './xattr-cache.ts';

/** Most bytes behind the digest field. */
const TEXT_MAX = 65535;

/** One per reader of dumps. */
export class XattrFields {
  readonly #reader: LineReader;
  readonly #xattrs: XattrTable;
  readonly #cache: XattrCache = new XattrCache();

  constructor(reader: LineReader, xattrs: XattrTable) {
    this.#reader = reader;
    this.#xattrs = xattrs;
  }

  /** The attributes of the current line. Of several values of a name the last counts. */
  read(): XattrSet {
    const { bytes, starts, ends } = this.#reader.fields;
    const start = starts[Field.XATTRS]!;
    const end = ends[Field.XATTRS]!;
    if (start === end) return NO_XATTRS;
    const known = this.#cache.find(bytes, start, end);
    if (known >= 0) return known;
    if (end - start > TEXT_MAX) {
      this.#reader.fail(Field.XATTRS, `more than ${TEXT_MAX} bytes of attributes`);
    }
    this.#xattrs.beginSet();
    let field: number = Field.XATTRS;
    // One space at the end of a line does no harm.
    for (let at = start; at < end; field++) at = this.#readOne(field, bytes, at, end) + 1;
    const set = this.#xattrs.endSet();
    this.#cache.remember(bytes, start, end, set);
    return set;
  }

  /** Reads the attribute at `start` into the drafted set. Returns where it ends. */
  #readOne(field: number, bytes: Uint8Array, start: number, lineEnd: number): number {
    const reader = this.#reader;
    const xattrs = this.#xattrs;
    let equals = -1;
    let isNameEscaped = false;
    let isValueEscaped = false;
    let end = start;
    for (; end < lineEnd; end++) {
      const byte = bytes[end]!;
      if (byte === SPACE) break;
      if (byte === EQUALS) {
        if (equals < 0) equals = end;
      } else if (byte === BACKSLASH) {
        if (equals < 0) isNameEscaped = true;
        else isValueEscaped = true;
      }
    }
    if (equals < 0) reader.fail(field, 'an attribute needs a = between name and value');
    const name = this.#readName(field, bytes, start, equals, isNameEscaped);
    reader.readRange(field, bytes, equals + 1, end, isValueEscaped);
    const { textBytes, textStart, textEnd } = reader;
    if (
      textEnd - textStart > XATTR_COST.MAX ||
      !xattrs.addToSet(name, xattrs.values.intern(textBytes, textStart, textEnd))
    ) {
      reader.fail(field, `the attributes of a file exceed ${XATTR_COST.MAX} bytes`);
    }
    return end;
  }

  #readName(
    field: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    isEscaped: boolean,
  ): number {
    const reader = this.#reader;
    reader.readRange(field, bytes, start, end, isEscaped);
    reader.refuseNul(field);
    const length = reader.textEnd - reader.textStart;
    if (length === 0 || length > XATTR_NAME_MAX) {
      reader.fail(field, `an attribute name has 1 to ${XATTR_NAME_MAX} bytes, not ${length}`);
    }
    return this.#xattrs.names.intern(reader.textBytes, reader.textStart, reader.textEnd);
  }
}
