// Walks an image with every function of the reader, as a server would for a client that asks for
// everything, and checks the invariants that hold for any bytes: statuses are of the allowed set,
// all ranges lie inside the image, and a name that a sound listing shows is found.

import { Errno } from '../../src/errors.ts';
import {
  DirectoryCursor,
  Extent,
  findChild,
  type Image,
  Inode,
  isExternal,
  locateData,
  ObjectRef,
  readInode,
  readObjectRef,
  XattrCursor,
} from '../../src/image-reader/index.ts';

export interface WalkResult {
  /** Entries, attributes and extents that were delivered. */
  steps: number;
  /** Of everything that was delivered, for comparing two walks. */
  transcript: number;
  /** Statuses below 0. */
  errors: number;
}

// Reused, so that a walk allocates little and thousands of them are cheap.
const directory = new Inode();
const child = new Inode();
const entries = new DirectoryCursor();
const xattrs = new XattrCursor();
const objectRef = new ObjectRef();
const extent = new Extent();

class Walk {
  readonly image: Image;
  steps = 0;
  transcript = 0x811c9dc5;
  errors = 0;
  readonly onRange: ((start: number, length: number) => void) | undefined;

  constructor(image: Image, onRange?: (start: number, length: number) => void) {
    this.image = image;
    this.onRange = onRange;
  }

  note(value: number): void {
    this.transcript = Math.imul(this.transcript ^ value, 16777619);
  }

  /** 0, 1, or one of the errors that a request may be answered with. */
  status(status: number): number {
    this.note(status);
    if (status >= 0) return status;
    this.errors++;
    switch (-status) {
      case Errno.EUCLEAN:
      case Errno.EBADMSG:
      case Errno.EIO:
      case Errno.EINVAL:
      case Errno.ENAMETOOLONG:
        return status;
      default:
        throw new Error(`status ${status}`);
    }
  }

  range(start: number, length: number): void {
    this.note(start);
    this.note(length);
    if (!(start >= 0 && length >= 0 && start + length <= this.image.sizeBytes)) {
      throw new Error(`range ${start}+${length} of ${this.image.sizeBytes}`);
    }
    this.onRange?.(start, length);
  }
}

/**
 * Walks everything. Names are looked up in one of `findEvery` directories' entries. Stops when more
 * entries were delivered than the image has bytes for, as a hostile image may make happen.
 */
export function walkImage(
  image: Image,
  options: { findEvery?: number; onRange?: (start: number, length: number) => void } = {},
): WalkResult {
  const walk = new Walk(image, options.onRange);
  const findEvery = options.findEvery ?? 1;
  const visited = new Uint8Array(image.endNid);
  const pending = [image.rootNid];
  let entriesLeft = Math.floor(image.sizeBytes / 13);
  for (let nid = pending.pop(); nid !== undefined && entriesLeft > 0; nid = pending.pop()) {
    if (walk.status(readInode(image, nid, directory)) < 0) continue;
    let missing = 0;
    let lastCookie = 0;
    walk.status(entries.start(image, directory, 0));
    for (;;) {
      const status = walk.status(entries.next());
      if (status < 0) break;
      if (status === 0) {
        if (missing > 0) throw new Error(`${missing} entries of directory ${nid} were not found`);
        break;
      }
      walk.steps++;
      if (entriesLeft-- === 0) break;
      walk.note(entries.nid);
      walk.note(entries.fileType);
      walk.range(entries.nameStart, entries.nameLength);
      if (entries.nameLength === 0 || entries.nameLength > 255) throw new Error('name length');
      if (entries.fileType > 7) throw new Error(`file type ${entries.fileType}`);
      if (!(entries.nextCookie > lastCookie)) throw new Error('cookie does not grow');
      lastCookie = entries.nextCookie;
      if (walk.steps % findEvery === 0 && !isFound(image)) missing++;
      if (entries.nid < image.endNid && visited[entries.nid] === 0) {
        visited[entries.nid] = 1;
        visitInode(walk, entries.nid, pending);
      } else if (entries.nid >= image.endNid) {
        if (readInode(image, entries.nid, child) !== -Errno.EUCLEAN) throw new Error('bad nid');
      }
    }
  }
  return walk;
}

/** The cursor's entry has a possible name and is found by it. */
function isFound(image: Image): boolean {
  const { nameStart, nameLength } = entries;
  for (let i = nameStart; i < nameStart + nameLength; i++) {
    if (image.bytes[i] === 0 || image.bytes[i] === 0x2f) throw new Error('bad byte in a name');
  }
  const found = findChild(image, directory, image.bytes, nameStart, nameLength);
  if (found >= 0) return found === entries.nid;
  if (found === -Errno.EUCLEAN) return entries.nid === Number.MAX_SAFE_INTEGER;
  if (found !== -Errno.ENOENT) throw new Error(`findChild: ${found}`);
  return false;
}

function visitInode(walk: Walk, nid: number, pending: number[]): void {
  const { image } = walk;
  if (walk.status(readInode(image, nid, child)) < 0) return;
  const { size, mtimeNsec, xattrStart, xattrEnd } = child;
  walk.note(child.mode);
  walk.note(child.sizeLow);
  walk.note(child.sizeHigh);
  walk.note(mtimeNsec);
  walk.note(child.mtimeHigh);
  walk.note(child.uid);
  walk.note(child.nlink);
  walk.note(child.rdev);
  if (mtimeNsec >= 1e9 || size < 0) throw new Error('field out of range');
  walk.range(image.metaStart + nid * 32, 32);
  walk.range(xattrStart, xattrEnd - xattrStart);

  let status = walk.status(xattrs.start(image, child));
  while (status >= 0 && (status = walk.status(xattrs.next())) > 0) {
    walk.steps++;
    walk.note(xattrs.nameIndex);
    walk.range(xattrs.nameStart, xattrs.nameLength);
    walk.range(xattrs.valueStart, xattrs.valueLength);
  }
  if (isExternal(child)) {
    if (walk.status(readObjectRef(image, child, objectRef)) < 0) return;
    walk.range(objectRef.pathStart, objectRef.pathLength);
    walk.range(objectRef.digestStart, objectRef.digestLength);
    return;
  }
  if (!child.isRegular && !child.isSymlink && !child.isDirectory) return;
  if (child.isDirectory) pending.push(nid);
  for (let offset = 0; offset < size; offset += extent.length) {
    if (walk.status(locateData(image, child, offset, extent)) < 0) return;
    if (extent.length === 0) throw new Error('no data before the end of the file');
    walk.steps++;
    walk.range(extent.start, extent.length);
  }
  if (walk.status(locateData(image, child, size, extent)) < 0) return;
  if (extent.length !== 0) throw new Error('data after the end of the file');
}
