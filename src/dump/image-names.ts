// Walks the names of an image depth first, in stored order. Ends on any image: every directory is
// entered once, and there are at most as many names as the image has room for.

import { ImageError } from '../errors.ts';
import {
  DirectoryCursor,
  FileType,
  fileTypeOfMode,
  type Image,
  Inode,
  isDots,
  readInode,
} from '../image-reader/index.ts';
import { DIRENT } from '../image-reader/format.ts';

/** What walkNames() tells of. The inode and the cursor are reused: valid during the call. */
export interface NameVisitor {
  /** A name of the directory that was entered last. For directories, enter() or skip follows. */
  name(inode: Inode, entry: DirectoryCursor): void;
  /** The directory of the last name() was left. */
  leave(): void;
}

/** Which names of the root are visited; all when undefined. */
export type RootFilter = ReadonlySet<string> | undefined;

/** The set of names for a walk, from names as text or bytes. */
export function rootFilter(names: readonly (string | Uint8Array)[] | undefined): RootFilter {
  if (names === undefined || names.length === 0) return undefined;
  return new Set(names.map((name) => keyOf(toBytes(name))));
}

/**
 * Visits every name but the root's. After name() of a directory come the names in it and a leave().
 * A generator, so that its user can take what was written so far: it yields after every name.
 * Throws ImageError at the first damage.
 */
export function* walkNames(
  image: Image,
  visitor: NameVisitor,
  filter: RootFilter,
): Generator<void, void, undefined> {
  const entered = new Uint8Array(Math.ceil(image.endNid / 8));
  let entriesLeft = Math.floor(image.sizeBytes / (DIRENT.SIZE + 1));
  const inode = new Inode();
  const open: { readonly nid: number; readonly cursor: DirectoryCursor }[] = [];
  const enter = (nid: number): void => {
    if (!setBit(entered, nid)) damaged(nid, 'a directory has a second name');
    const cursor = new DirectoryCursor();
    if (cursor.start(image, inode, 0) !== 0) damaged(nid, 'a directory is damaged');
    open.push({ nid, cursor });
  };
  readOrThrow(image, image.rootNid, inode);
  enter(image.rootNid);
  for (let directory = open.at(-1); directory !== undefined; directory = open.at(-1)) {
    const { cursor } = directory;
    const status = cursor.next();
    if (status < 0) damaged(directory.nid, 'a directory is damaged');
    if (status === 0) {
      open.pop();
      if (open.length > 0) visitor.leave();
      continue;
    }
    const { nameStart, nameLength, nid, fileType } = cursor;
    if (isDots(image.bytes, nameStart, nameLength)) continue;
    if (entriesLeft-- === 0) damaged(nid, 'directories share their bytes');
    if (open.length === 1 && filter !== undefined) {
      if (!filter.has(keyOf(image.bytes.subarray(nameStart, nameStart + nameLength)))) continue;
    }
    readOrThrow(image, nid, inode);
    if (fileType !== FileType.UNKNOWN && fileType !== fileTypeOfMode(inode.mode)) {
      damaged(nid, 'a directory entry is of another type than its inode');
    }
    visitor.name(inode, cursor);
    if (inode.isDirectory) enter(nid);
    yield;
  }
}

/** Sets a bit. False if it was set. */
export function setBit(bits: Uint8Array, index: number): boolean {
  const mask = 1 << (index & 7);
  const byte = bits[index >>> 3]!;
  if ((byte & mask) !== 0) return false;
  bits[index >>> 3] = byte | mask;
  return true;
}

export function damaged(nid: number, what: string): never {
  throw new ImageError(`damaged image: ${what} (nid ${nid})`, { nid });
}

function readOrThrow(image: Image, nid: number, inode: Inode): void {
  if (readInode(image, nid, inode) !== 0) damaged(nid, 'an inode is damaged');
}

/** One character per byte: names need not be UTF-8. */
function keyOf(name: Uint8Array): string {
  return String.fromCharCode(...name);
}

function toBytes(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? new TextEncoder().encode(text) : text;
}
