// Why the reader refuses an inode or its attributes. The reader itself only says that it does: it
// answers requests. The checks come in the reader's order.

import {
  BLOCK_SIZE,
  CHUNK_FORMAT,
  DIRENT,
  I_FORMAT,
  INODE_COMPACT,
  INODE_EXTENDED,
  Layout,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SLOT_SIZE,
  SYMLINK_SIZE_MAX,
  U32,
  XATTR_ENTRY,
  XATTR_IBODY_HEADER,
  XATTR_PREFIXES,
} from '../image-reader/format.ts';
import { fileTypeOfMode, type Image, type Inode, XattrCursor } from '../image-reader/index.ts';

export interface Damage {
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
}

/** For an inode that readInode() refuses. */
export function explainInode(image: Image, nid: number): Damage {
  const { view, firstNid, endNid, sizeBytes } = image;
  if (!(nid >= firstNid && nid < endNid)) {
    const found = nid === Number.MAX_SAFE_INTEGER ? '2^53 or more' : String(nid);
    return { what: 'inode number', expected: `${firstNid} to ${endNid - 1}`, found };
  }
  const at = image.metaStart + nid * SLOT_SIZE;
  const format = view.getUint16(at + INODE_COMPACT.FORMAT, true);
  if ((format & I_FORMAT.RESERVED) !== 0) {
    return { what: 'i_format has unknown bits', found: hex(format & I_FORMAT.RESERVED) };
  }
  const isExtended = (format & I_FORMAT.VERSION_EXTENDED) !== 0;
  const headerSize = isExtended ? INODE_EXTENDED.SIZE : INODE_COMPACT.SIZE;
  if (at + headerSize > sizeBytes) {
    return { what: 'the inode leaves the image', ...ends(sizeBytes, at + headerSize) };
  }
  const sizeAt = at + INODE_EXTENDED.SIZE_FIELD;
  const sizeHigh = isExtended ? view.getUint32(sizeAt + 4, true) : 0;
  if (sizeHigh >= 0x8000_0000) {
    return { what: 'file size', expected: 'below 2^63', found: hex(sizeHigh * U32) };
  }
  const size = sizeHigh * U32 + view.getUint32(sizeAt, true);
  const icount = view.getUint16(at + INODE_COMPACT.XATTR_ICOUNT, true);
  const areaSize = icount === 0 ? 0 : XATTR_IBODY_HEADER.SIZE + (icount - 1) * XATTR_ENTRY.ALIGN;
  const body = at + headerSize + areaSize;
  if (body > sizeBytes) {
    return { what: 'the attribute area leaves the image', ...ends(sizeBytes, body) };
  }
  const mode = view.getUint16(at + INODE_COMPACT.MODE, true);
  const layout = (format >> I_FORMAT.LAYOUT_SHIFT) & I_FORMAT.LAYOUT_MASK;
  const iU = view.getUint32(at + INODE_COMPACT.I_U, true);
  return explainData(image, { mode, layout, size, body, iU });
}

interface RawInode {
  mode: number;
  layout: number;
  size: number;
  body: number;
  iU: number;
}

function explainData(image: Image, { mode, layout, size, body, iU }: RawInode): Damage {
  const type = mode & S_IFMT;
  if (fileTypeOfMode(mode) === 0) {
    return { what: 'mode has no valid file type', found: mode.toString(8) };
  }
  if (type === S_IFREG && layout === Layout.CHUNK_BASED) {
    return { what: 'chunk format has unknown bits', found: hex(iU & CHUNK_FORMAT.RESERVED) };
  }
  if (type !== S_IFREG && type !== S_IFDIR && type !== S_IFLNK) {
    const expected = 'layout 0 and size 0';
    return { what: 'a special file with data', expected, found: `layout ${layout}, size ${size}` };
  }
  if (type === S_IFDIR && size <= DIRENT.SIZE) {
    return { what: 'directory size', expected: `over ${DIRENT.SIZE}`, found: String(size) };
  }
  if (type === S_IFLNK && (size === 0 || size > SYMLINK_SIZE_MAX)) {
    return { what: 'symlink size', expected: `1 to ${SYMLINK_SIZE_MAX}`, found: String(size) };
  }
  const isPlain = layout === Layout.FLAT_PLAIN;
  if (!isPlain && layout !== Layout.FLAT_INLINE) {
    return { what: 'layout for this kind of file', expected: '0 or 2', found: String(layout) };
  }
  const rest = size % BLOCK_SIZE;
  if (!isPlain && rest === 0) {
    return { what: 'data behind the inode, but nothing remains behind whole blocks' };
  }
  const inBlocks = isPlain ? size : size - rest;
  const dataEnd = iU * BLOCK_SIZE + inBlocks;
  if (inBlocks > 0 && dataEnd > image.sizeBytes) {
    return { what: 'the data blocks leave the image', ...ends(image.sizeBytes, dataEnd) };
  }
  if (body + rest > image.sizeBytes) {
    return { what: 'the data leaves the image', ...ends(image.sizeBytes, body + rest) };
  }
  return { what: 'the data behind the inode crosses a block boundary', found: `byte ${body}` };
}

/** For an inode whose attributes the reader refuses. */
export function explainXattrs(image: Image, inode: Inode): Damage {
  const { xattrStart, xattrEnd } = inode;
  const what = 'attributes are damaged';
  const idsStart = xattrStart + XATTR_IBODY_HEADER.SIZE;
  if (idsStart >= xattrEnd) return { what, found: 'an area without attributes' };
  const sharedCount = image.view.getUint8(xattrStart + XATTR_IBODY_HEADER.SHARED_COUNT);
  const idsEnd = idsStart + sharedCount * XATTR_ENTRY.ALIGN;
  if (idsEnd > xattrEnd) {
    return {
      what,
      expected: `an area for ${sharedCount} shared ones`,
      found: `${xattrEnd - xattrStart} bytes`,
    };
  }
  const cursor = new XattrCursor();
  cursor.start(image, inode);
  let count = 0;
  while (cursor.next() > 0) count++;
  // What follows the last good one: an inline entry, or else a shared one.
  const inline = countInline(image, inode, idsEnd);
  if (count >= inline.sound && inline.isSound) {
    const idAt = idsStart + (count - inline.sound) * XATTR_ENTRY.ALIGN;
    const id = image.view.getUint32(idAt, true);
    return { what, expected: 'a shared attribute inside the image', found: `shared id ${id}` };
  }
  return { what, found: `an inline attribute that is not sound, behind ${count} others` };
}

function countInline(
  image: Image,
  { xattrEnd }: Inode,
  start: number,
): { sound: number; isSound: boolean } {
  const { view } = image;
  let sound = 0;
  for (let at = start; at < xattrEnd; sound++) {
    if (at + XATTR_ENTRY.SIZE > xattrEnd) return { sound, isSound: false };
    const nameLength = view.getUint8(at + XATTR_ENTRY.NAME_LEN);
    const valueSize = view.getUint16(at + XATTR_ENTRY.VALUE_SIZE, true);
    const end = at + XATTR_ENTRY.SIZE + nameLength + valueSize;
    const isKnown = view.getUint8(at + XATTR_ENTRY.NAME_INDEX) < XATTR_PREFIXES.length;
    if (end > xattrEnd || !isKnown) return { sound, isSound: false };
    at = Math.ceil(end / XATTR_ENTRY.ALIGN) * XATTR_ENTRY.ALIGN;
  }
  return { sound, isSound: true };
}

function ends(sizeBytes: number, end: number): { expected: string; found: string } {
  return { expected: `an end at byte ${sizeBytes} at most`, found: `byte ${end}` };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
