// Writes one reply into the session's reply buffer: a body at `bodyStart`, then the header. It turns
// numbers into bytes and knows nothing of images or policies.

import type { Inode } from '../image-reader/inode.ts';
import {
  ATTR,
  ATTR_OUT,
  DIRENT,
  ENTRY_OUT,
  GETXATTR_OUT,
  KSTATFS,
  LSEEK_OUT,
  OPEN_OUT,
  OUT_HEADER,
} from './abi.ts';
import type { Request } from './request.ts';

const TWO_POW_32 = 0x1_0000_0000;
/** Both words of a timeout that never ends: the image cannot change. */
const FOREVER = 0xffff_ffff;
/** Shown as st_blksize, as erofs and overlayfs do. */
const BLOCK_SIZE = 4096;
/**
 * st_blocks counts 512 bytes. The size rounded up to whole blocks is what overlayfs reports for a
 * composefs file; an object is never reported as sparse, so that cp and tar do not look for holes.
 */
const SECTORS_PER_BLOCK = 8;

export class Reply {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly bodyStart: number = OUT_HEADER.SIZE;
  /** The largest body that fits, in bytes. */
  readonly bodyCapacity: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.bodyCapacity = bytes.byteLength - OUT_HEADER.SIZE;
  }

  /** Writes the header of a reply to `request`: `result` is the body's length, or a -errno. */
  finish(request: Request, result: number): number {
    const length = OUT_HEADER.SIZE + (result > 0 ? result : 0);
    this.view.setUint32(OUT_HEADER.LEN, length, true);
    this.view.setInt32(OUT_HEADER.ERROR, result < 0 ? result : 0, true);
    this.view.setUint32(OUT_HEADER.UNIQUE, request.uniqueLow, true);
    this.view.setUint32(OUT_HEADER.UNIQUE + 4, request.uniqueHigh, true);
    return length;
  }

  /** struct fuse_entry_out that the kernel may keep forever. Returns its size. */
  entry(at: number, nodeid: number, inode: Inode): number {
    this.#u64(at + ENTRY_OUT.NODEID, nodeid);
    this.#zeros(at + ENTRY_OUT.GENERATION, 8);
    this.#forever(at + ENTRY_OUT.ENTRY_VALID);
    this.#forever(at + ENTRY_OUT.ATTR_VALID);
    this.#zeros(at + ENTRY_OUT.ENTRY_VALID_NSEC, 8);
    this.#attributes(at + ENTRY_OUT.ATTR, inode);
    return ENTRY_OUT.SIZE;
  }

  /** An entry that says "there is no such name", cached forever like the ones that exist. */
  negativeEntry(at: number): number {
    this.#zeros(at, ENTRY_OUT.SIZE);
    this.#forever(at + ENTRY_OUT.ENTRY_VALID);
    return ENTRY_OUT.SIZE;
  }

  /** struct fuse_attr_out, kept forever. */
  attributes(at: number, inode: Inode): number {
    this.#forever(at + ATTR_OUT.ATTR_VALID);
    this.#zeros(at + ATTR_OUT.ATTR_VALID_NSEC, 8);
    this.#attributes(at + ATTR_OUT.ATTR, inode);
    return ATTR_OUT.SIZE;
  }

  open(fh: number, openFlags: number, backingId: number): number {
    const at = this.bodyStart;
    this.#u64(at + OPEN_OUT.FH, fh);
    this.view.setUint32(at + OPEN_OUT.OPEN_FLAGS, openFlags, true);
    this.view.setInt32(at + OPEN_OUT.BACKING_ID, backingId, true);
    return OPEN_OUT.SIZE;
  }

  xattrSize(size: number): number {
    this.view.setUint32(this.bodyStart + GETXATTR_OUT.SIZE_FIELD, size, true);
    this.view.setUint32(this.bodyStart + GETXATTR_OUT.PADDING, 0, true);
    return GETXATTR_OUT.SIZE;
  }

  seekOffset(offset: number): number {
    this.#u64(this.bodyStart + LSEEK_OUT.OFFSET, offset);
    return LSEEK_OUT.SIZE;
  }

  statfs(statistics: {
    blocks: number;
    bfree: number;
    bavail: number;
    files: number;
    ffree: number;
    bsize: number;
  }): number {
    const at = this.bodyStart;
    this.#zeros(at, KSTATFS.SIZE);
    this.#u64(at + KSTATFS.BLOCKS, statistics.blocks);
    this.#u64(at + KSTATFS.BFREE, statistics.bfree);
    this.#u64(at + KSTATFS.BAVAIL, statistics.bavail);
    this.#u64(at + KSTATFS.FILES, statistics.files);
    this.#u64(at + KSTATFS.FFREE, statistics.ffree);
    this.view.setUint32(at + KSTATFS.BSIZE, statistics.bsize, true);
    this.view.setUint32(at + KSTATFS.FRSIZE, statistics.bsize, true);
    this.view.setUint32(at + KSTATFS.NAMELEN, 255, true);
    return KSTATFS.SIZE;
  }

  /**
   * struct fuse_dirent with its name, copied from `names`, and padding; the caller has checked that
   * it fits. Returns its size.
   */
  dirent(
    at: number,
    ino: number,
    nextCookie: number,
    type: number,
    names: Uint8Array,
    nameStart: number,
    nameLength: number,
  ): number {
    this.#u64(at + DIRENT.INO, ino);
    this.#u64(at + DIRENT.OFF, nextCookie);
    this.view.setUint32(at + DIRENT.NAMELEN, nameLength, true);
    this.view.setUint32(at + DIRENT.TYPE, type, true);
    const nameAt = at + DIRENT.SIZE;
    const padded = (nameLength + 7) & ~7;
    for (let i = 0; i < nameLength; i++) this.bytes[nameAt + i] = names[nameStart + i]!;
    for (let i = nameLength; i < padded; i++) this.bytes[nameAt + i] = 0;
    return DIRENT.SIZE + padded;
  }

  /** The entry part of a direntplus that only names: nothing is cached or counted for it. */
  namelessEntry(at: number): number {
    this.#zeros(at, ENTRY_OUT.SIZE);
    return ENTRY_OUT.SIZE;
  }

  #attributes(at: number, inode: Inode): void {
    const view = this.view;
    this.#u64(at + ATTR.INO, inode.nid);
    view.setUint32(at + ATTR.SIZE_FIELD, inode.sizeLow, true);
    view.setUint32(at + ATTR.SIZE_FIELD + 4, inode.sizeHigh, true);
    this.#u64(at + ATTR.BLOCKS, Math.ceil(inode.size / BLOCK_SIZE) * SECTORS_PER_BLOCK);
    for (let field: number = ATTR.ATIME; field <= ATTR.CTIME; field += 8) {
      view.setUint32(at + field, inode.mtimeLow, true);
      view.setUint32(at + field + 4, inode.mtimeHigh, true);
    }
    view.setUint32(at + ATTR.ATIMENSEC, inode.mtimeNsec, true);
    view.setUint32(at + ATTR.MTIMENSEC, inode.mtimeNsec, true);
    view.setUint32(at + ATTR.CTIMENSEC, inode.mtimeNsec, true);
    view.setUint32(at + ATTR.MODE, inode.mode, true);
    view.setUint32(at + ATTR.NLINK, inode.nlink, true);
    view.setUint32(at + ATTR.UID, inode.uid, true);
    view.setUint32(at + ATTR.GID, inode.gid, true);
    view.setUint32(at + ATTR.RDEV, inode.rdev, true);
    view.setUint32(at + ATTR.BLKSIZE, BLOCK_SIZE, true);
    view.setUint32(at + ATTR.FLAGS, 0, true);
  }

  #u64(at: number, value: number): void {
    this.view.setUint32(at, value >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(value / TWO_POW_32), true);
  }

  #forever(at: number): void {
    this.view.setUint32(at, FOREVER, true);
    this.view.setUint32(at + 4, FOREVER, true);
  }

  /** `length` is a multiple of 4. */
  #zeros(at: number, length: number): void {
    for (let end = at + length; at < end; at += 4) this.view.setUint32(at, 0, true);
  }
}
