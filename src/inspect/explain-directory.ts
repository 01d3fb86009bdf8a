// Why the reader refuses a directory: the first piece of it that is wrong, and how.

import { BLOCK_SIZE, DIRENT, NAME_LENGTH_MAX } from '../image-reader/format.ts';
import { Extent, type Image, type Inode, locateData } from '../image-reader/index.ts';
import type { Damage } from './explain-inode.ts';
import { toEscaped } from './texts.ts';

const SLASH = 0x2f;

export function explainDirectory(image: Image, inode: Inode): Damage {
  const extent = new Extent();
  let previous: Uint8Array | undefined;
  for (let offset = 0; offset < inode.size; offset += BLOCK_SIZE) {
    if (locateData(image, inode, offset, extent) < 0) break;
    const length = Math.min(BLOCK_SIZE, inode.size - offset);
    const piece = image.bytes.subarray(extent.start, extent.start + length);
    const result = explainPiece(piece, previous);
    if (!(result instanceof Uint8Array)) {
      const what = `directory data at byte ${extent.start}: ${result.what}`;
      return { ...result, what };
    }
    previous = result;
  }
  return { what: 'directory data is damaged' };
}

/** The last name of a sound piece, else what is wrong. `previous` is the last name before it. */
function explainPiece(piece: Uint8Array, previous: Uint8Array | undefined): Uint8Array | Damage {
  if (piece.length < DIRENT.SIZE) {
    return { what: 'too short for an entry', found: `${piece.length} bytes` };
  }
  const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
  const first = view.getUint16(DIRENT.NAMEOFF, true);
  if (first === 0 || first >= piece.length || first % DIRENT.SIZE !== 0) {
    const expected = `a multiple of ${DIRENT.SIZE} below ${piece.length}`;
    return { what: 'offset of the first name', expected, found: String(first) };
  }
  const count = first / DIRENT.SIZE;
  let last = previous;
  for (let index = 0; index < count; index++) {
    const name = nameAt(piece, view, index, count);
    if (!(name instanceof Uint8Array)) return name;
    if (last !== undefined && Buffer.compare(last, name) >= 0) {
      const expected = `a name behind ${quoted(last)}`;
      return { what: 'names are not in ascending order', expected, found: quoted(name) };
    }
    last = name;
  }
  return last!;
}

function nameAt(
  piece: Uint8Array,
  view: DataView,
  index: number,
  count: number,
): Uint8Array | Damage {
  const at = index * DIRENT.SIZE + DIRENT.NAMEOFF;
  const start = view.getUint16(at, true);
  const isLast = index + 1 === count;
  let end = isLast ? piece.length : view.getUint16(at + DIRENT.SIZE, true);
  if (start < count * DIRENT.SIZE || end > piece.length || end <= start) {
    const expected = `a name from byte ${count * DIRENT.SIZE} to ${piece.length}`;
    return { what: `place of name ${index + 1}`, expected, found: `${start} to ${end}` };
  }
  if (isLast) {
    const nul = piece.indexOf(0, start);
    if (nul >= 0) end = nul;
  }
  const name = piece.subarray(start, end);
  if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
    const expected = `1 to ${NAME_LENGTH_MAX} bytes`;
    return { what: `length of name ${index + 1}`, expected, found: String(name.length) };
  }
  if (name.includes(SLASH) || name.includes(0)) {
    return { what: 'a name with a slash or NUL', found: quoted(name) };
  }
  return name;
}

function quoted(name: Uint8Array): string {
  return `'${toEscaped(name)}'`;
}
