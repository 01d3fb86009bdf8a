// Iterates the extended attributes of an inode: inline entries first, then shared ones. Names are
// given as stored, an index into XATTR_PREFIXES and the rest of the name. Which of them a user may
// see is the filesystem's decision, not made here. The name filter of the area is not used: finding
// an absent name among the few entries of a real inode costs less than hashing the wanted name.

import { Errno } from '../errors.ts';
import { NAME_LENGTH_MAX, XATTR_ENTRY, XATTR_IBODY_HEADER, XATTR_PREFIXES } from './format.ts';
import type { Image } from './image.ts';
import type { Inode } from './inode.ts';

export { XATTR_PREFIXES };

const SHARED_ID_SIZE = 4;
const EMPTY_BYTES = new Uint8Array(0);
const EMPTY_VIEW = new DataView(EMPTY_BYTES.buffer);
const PREFIX_LENGTHS = Uint8Array.from(XATTR_PREFIXES, (prefix) => prefix.length);

/** A reusable cursor over the xattrs of an inode. After an error next() repeats the error. */
export class XattrCursor {
  /** Index into XATTR_PREFIXES. */
  nameIndex = 0;
  /** The stored name is image.bytes from nameStart, nameLength bytes; 0 bytes are possible. */
  nameStart = 0;
  nameLength = 0;
  /** The value is image.bytes from valueStart, valueLength bytes. */
  valueStart = 0;
  valueLength = 0;

  #bytes: Uint8Array = EMPTY_BYTES;
  #view: DataView = EMPTY_VIEW;
  #imageSize = 0;
  #sharedBase = 0;
  /** Next inline entry, and the end of the area. */
  #inlineAt = 0;
  #inlineEnd = 0;
  /** Next shared id, and the end of the ids. */
  #sharedAt = 0;
  #sharedEnd = 0;

  /** Returns 0 or -EUCLEAN. */
  start(image: Image, inode: Inode): number {
    const areaStart = inode.xattrStart;
    const areaEnd = inode.xattrEnd;
    this.#bytes = image.bytes;
    this.#view = image.view;
    this.#imageSize = image.sizeBytes;
    this.#sharedBase = image.xattrStart;
    this.#inlineAt = areaEnd;
    this.#inlineEnd = areaEnd;
    this.#sharedAt = 0;
    this.#sharedEnd = 0;
    if (areaStart === areaEnd) return 0;
    const idsStart = areaStart + XATTR_IBODY_HEADER.SIZE;
    // A header alone (i_xattr_icount 1) has no meaning, and the kernel refuses it too.
    if (idsStart >= areaEnd) return -Errno.EUCLEAN;
    const sharedCount = image.view.getUint8(areaStart + XATTR_IBODY_HEADER.SHARED_COUNT);
    const idsEnd = idsStart + sharedCount * SHARED_ID_SIZE;
    if (idsEnd > areaEnd) return -Errno.EUCLEAN;
    this.#inlineAt = idsEnd;
    this.#sharedAt = idsStart;
    this.#sharedEnd = idsEnd;
    return 0;
  }

  /** Moves to the next attribute: 1, or 0 at the end, or -EUCLEAN. */
  next(): number {
    if (this.#inlineAt < this.#inlineEnd) {
      const size = this.#readEntry(this.#inlineAt, this.#inlineEnd);
      if (size < 0) return size;
      // The area's size is a multiple of 4, so the rounded size cannot pass its end.
      this.#inlineAt += size;
      return 1;
    }
    if (this.#sharedAt < this.#sharedEnd) {
      // Below 2^44 + 2^34: exact.
      const id = this.#view.getUint32(this.#sharedAt, true);
      const at = this.#sharedBase + id * XATTR_ENTRY.ALIGN;
      const size = this.#readEntry(at, this.#imageSize);
      if (size < 0) return size;
      this.#sharedAt += SHARED_ID_SIZE;
      return 1;
    }
    return 0;
  }

  /** Reads the entry at `at`, all of which must lie before `end`. Returns its size or -EUCLEAN. */
  #readEntry(at: number, end: number): number {
    const nameStart = at + XATTR_ENTRY.SIZE;
    if (nameStart > end) return -Errno.EUCLEAN;
    const view = this.#view;
    const nameLength = view.getUint8(at + XATTR_ENTRY.NAME_LEN);
    const nameIndex = view.getUint8(at + XATTR_ENTRY.NAME_INDEX);
    const valueLength = view.getUint16(at + XATTR_ENTRY.VALUE_SIZE, true);
    const valueStart = nameStart + nameLength;
    const valueEnd = valueStart + valueLength;
    if (valueEnd > end || nameIndex >= PREFIX_LENGTHS.length) return -Errno.EUCLEAN;
    if (PREFIX_LENGTHS[nameIndex]! + nameLength > NAME_LENGTH_MAX) return -Errno.EUCLEAN;
    // listxattr separates names with NUL: one inside a name would forge a second name.
    const bytes = this.#bytes;
    for (let i = nameStart; i < valueStart; i++) {
      if (bytes[i] === 0) return -Errno.EUCLEAN;
    }
    this.nameIndex = nameIndex;
    this.nameStart = nameStart;
    this.nameLength = nameLength;
    this.valueStart = valueStart;
    this.valueLength = valueLength;
    const unaligned = valueEnd - at;
    return unaligned + (-unaligned & (XATTR_ENTRY.ALIGN - 1));
  }
}

/**
 * Puts the cursor on the attribute XATTR_PREFIXES[nameIndex] + suffix. Returns 1, or 0 if there is
 * none, or -EUCLEAN for damage before it. Of several with the same name the first counts.
 */
export function findXattr(
  image: Image,
  inode: Inode,
  cursor: XattrCursor,
  nameIndex: number,
  suffix: Uint8Array,
  suffixStart: number,
  suffixLength: number,
): number {
  let result = cursor.start(image, inode);
  if (result < 0) return result;
  for (;;) {
    result = cursor.next();
    if (result <= 0) return result;
    if (
      cursor.nameIndex === nameIndex &&
      cursor.nameLength === suffixLength &&
      isEqual(image.bytes, cursor.nameStart, suffix, suffixStart, suffixLength)
    ) {
      return 1;
    }
  }
}

/** Whether `length` bytes are the same in both arrays. */
export function isEqual(
  a: Uint8Array,
  aStart: number,
  b: Uint8Array,
  bStart: number,
  length: number,
): boolean {
  for (let i = 0; i < length; i++) {
    if (a[aStart + i] !== b[bStart + i]) return false;
  }
  return true;
}
