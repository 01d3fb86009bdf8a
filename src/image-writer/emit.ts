// Writes the bytes of a planned image, front to back, into chunks that are handed out as they are
// filled. Everything that is not written is zero: the chunks are made of zeros.

import {
  BLOCK_BITS,
  BLOCK_SIZE,
  COMPOSEFS_HEADER,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  FeatureCompat,
  I_FORMAT,
  INODE_COMPACT,
  INODE_EXTENDED,
  Layout,
  LCFS_EROFS_FLAGS_HAS_ACL,
  LCFS_EROFS_MAGIC,
  LCFS_EROFS_VERSION,
  S_IFBLK,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  SLOT_SIZE,
  SUPER_BLOCK,
  XATTR_ENTRY,
  XATTR_IBODY_HEADER,
} from '../image-reader/format.ts';
import { fileTypeOfMode } from '../image-reader/inode.ts';
import { copyBytes } from './byte-heap.ts';
import { DirectoryBlocks, type NidSource } from './directory-blocks.ts';
import { chunkBits, type ImageLayout, InodeKind, kindOf, linkCount } from './layout.ts';
import { isSourceWhiteout, MODE_WORD, NODE, type NodeId } from './nodes.ts';

/** A chunk pointer to nothing, byte by byte. */
const NULL_POINTER_BYTE = 0xff;
/** Mtime seconds, sizes and counts are stored as two words. */
const HIGH_WORD = 4;

/** Writes one image. Not reusable. */
export class ImageEmitter implements NidSource {
  readonly #layout: ImageLayout;
  readonly #directories: DirectoryBlocks;
  readonly #chunkSize: number;
  /** The chunk being filled, and the offset in the image of its first byte. */
  #out: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #view: DataView = new DataView(this.#out.buffer);
  #base: number = 0;
  #nextBlock: number;

  /** `chunkSize` holds any inode with its attributes: 256 KiB at least, or the whole image. */
  constructor(layout: ImageLayout, chunkSize: number) {
    this.#layout = layout;
    this.#directories = new DirectoryBlocks(layout.nodes, layout.order);
    this.#chunkSize = chunkSize;
    this.#nextBlock = layout.dataStart / BLOCK_SIZE;
  }

  /** The image in order. Every chunk is a new array. */
  *chunks(): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
    const { sizeBytes } = this.#layout;
    for (const end of this.#pieces()) {
      // The piece just announced is the first that does not fit into the chunk.
      yield this.#out.subarray(0, end - this.#base);
      this.#open(end);
    }
    yield this.#out.subarray(0, sizeBytes - this.#base);
  }

  /** Writes everything; stops where a chunk must end, and says where in the image that is. */
  *#pieces(): Generator<number, void, undefined> {
    const { order, nids, dataStart, inodesEnd, xattrs, blockCounts, inodesWithBlocks, sizeBytes } =
      this.#layout;
    this.#open(0);
    this.#writeSuperBlock();
    let written: number = EROFS_SUPER_OFFSET + SUPER_BLOCK.SIZE;
    for (let inode = 0; inode < nids.length; inode++) {
      const areaSize = xattrs.areaSize(order.nodeOf[inode]!);
      const end = this.#inodeEnd(inode, areaSize);
      if (!this.#fits(end)) yield written;
      this.#writeInode(inode, areaSize);
      written = end;
    }
    let at = inodesEnd;
    for (let entry = 0; entry < xattrs.sharedEntryCount; entry++) {
      const end = at + xattrs.sharedEntrySize(entry);
      if (!this.#fits(end)) yield at;
      xattrs.writeSharedEntry(entry, this.#out, at - this.#base);
      at = end;
    }
    at = dataStart;
    if (!this.#fits(at)) yield Math.min(at, this.#base + this.#out.length);
    for (const inode of inodesWithBlocks) {
      const blocks = blockCounts[inode]!;
      let entry = 0;
      for (let block = 0; block < blocks; block++, at += BLOCK_SIZE) {
        if (!this.#fits(at + BLOCK_SIZE)) yield at;
        entry = this.#writeBlock(order.nodeOf[inode]!, block, entry, at - this.#base);
      }
    }
    if (!this.#fits(sizeBytes)) yield at;
  }

  #open(base: number): void {
    this.#base = base;
    this.#out = new Uint8Array(Math.min(this.#chunkSize, this.#layout.sizeBytes - base));
    this.#view = new DataView(this.#out.buffer);
  }

  #fits(end: number): boolean {
    return end - this.#base <= this.#out.length;
  }

  nidOf(node: NodeId): number {
    return this.#layout.nids[this.#layout.order.inodeOf[node]!]!;
  }

  fileTypeOf(node: NodeId): number {
    return fileTypeOfMode(this.#modeOf(node));
  }

  /** A whiteout of the source becomes a regular file. */
  #modeOf(node: NodeId): number {
    const { words } = this.#layout.nodes;
    const mode = words[node * NODE.WORDS + NODE.MODE]! & MODE_WORD.MODE_MASK;
    return isSourceWhiteout(words, node) ? (mode & ~S_IFMT) | S_IFREG : mode;
  }

  #writeSuperBlock(): void {
    const { version, hasAcl, nids, order, inodesEnd, sizeBytes } = this.#layout;
    const { mtime } = order;
    const view = this.#view;
    view.setUint32(COMPOSEFS_HEADER.MAGIC, LCFS_EROFS_MAGIC, true);
    view.setUint32(COMPOSEFS_HEADER.VERSION, LCFS_EROFS_VERSION, true);
    view.setUint32(COMPOSEFS_HEADER.FLAGS, hasAcl ? LCFS_EROFS_FLAGS_HAS_ACL : 0, true);
    view.setUint32(COMPOSEFS_HEADER.COMPOSEFS_VERSION, version, true);
    const at = EROFS_SUPER_OFFSET;
    const features = FeatureCompat.MTIME | FeatureCompat.XATTR_FILTER;
    view.setUint32(at + SUPER_BLOCK.MAGIC, EROFS_SUPER_MAGIC_V1, true);
    view.setUint32(at + SUPER_BLOCK.FEATURE_COMPAT, features, true);
    view.setUint8(at + SUPER_BLOCK.BLKSZBITS, BLOCK_BITS);
    view.setUint16(at + SUPER_BLOCK.ROOT_NID, nids[0]!, true);
    view.setUint32(at + SUPER_BLOCK.INOS, nids.length, true);
    view.setUint32(at + SUPER_BLOCK.BUILD_TIME, mtime.low, true);
    view.setUint32(at + SUPER_BLOCK.BUILD_TIME + HIGH_WORD, mtime.high, true);
    view.setUint32(at + SUPER_BLOCK.BUILD_TIME_NSEC, mtime.nsec, true);
    view.setUint32(at + SUPER_BLOCK.BLOCKS, sizeBytes / BLOCK_SIZE, true);
    view.setUint32(at + SUPER_BLOCK.XATTR_BLKADDR, Math.floor(inodesEnd / BLOCK_SIZE), true);
  }

  /** First byte behind an inode, its attributes and its tail. */
  #inodeEnd(inode: number, areaSize: number): number {
    const { nids, tails } = this.#layout;
    return nids[inode]! * SLOT_SIZE + this.#headSize(inode) + areaSize + tails[inode]!;
  }

  #headSize(inode: number): number {
    return this.#layout.forms[inode] === 1 ? INODE_EXTENDED.SIZE : INODE_COMPACT.SIZE;
  }

  #writeInode(inode: number, areaSize: number): void {
    const { nodes, order, nids, tails, blockCounts, inodesEnd, xattrs } = this.#layout;
    const node = order.nodeOf[inode]!;
    const kind = kindOf(nodes, node);
    const at = nids[inode]! * SLOT_SIZE - this.#base;
    const headSize = this.#headSize(inode);
    const isExtended = headSize === INODE_EXTENDED.SIZE;
    const layout =
      kind === InodeKind.EXTERNAL
        ? Layout.CHUNK_BASED
        : tails[inode]! > 0
          ? Layout.FLAT_INLINE
          : Layout.FLAT_PLAIN;
    const format = (layout << I_FORMAT.LAYOUT_SHIFT) | (isExtended ? I_FORMAT.VERSION_EXTENDED : 0);
    const view = this.#view;
    // The fields up to i_ino are at the same places in both forms.
    view.setUint16(at + INODE_COMPACT.FORMAT, format, true);
    view.setUint16(at + INODE_COMPACT.XATTR_ICOUNT, icountOf(areaSize), true);
    view.setUint16(at + INODE_COMPACT.MODE, this.#modeOf(node), true);
    this.#writeSize(inode, node, kind, at);
    view.setUint32(at + INODE_COMPACT.I_U, this.#unionOf(node, kind, blockCounts[inode]!), true);
    view.setUint32(at + INODE_COMPACT.INO, inode, true);
    const owner = node * NODE.WORDS;
    const uid = nodes.words[owner + NODE.UID]!;
    const gid = nodes.words[owner + NODE.GID]!;
    const nlink = linkCount(nodes, node, kind);
    if (isExtended) {
      view.setUint32(at + INODE_EXTENDED.UID, uid, true);
      view.setUint32(at + INODE_EXTENDED.GID, gid, true);
      view.setUint32(at + INODE_EXTENDED.NLINK, nlink, true);
      const mtimeAt = at + INODE_EXTENDED.MTIME;
      view.setUint32(mtimeAt, nodes.words[owner + NODE.MTIME_LOW]!, true);
      view.setUint32(mtimeAt + HIGH_WORD, nodes.words[owner + NODE.MTIME_HIGH]!, true);
      view.setUint32(at + INODE_EXTENDED.MTIME_NSEC, nodes.words[owner + NODE.MTIME_NSEC]!, true);
    } else {
      view.setUint16(at + INODE_COMPACT.UID, uid, true);
      view.setUint16(at + INODE_COMPACT.GID, gid, true);
      view.setUint16(at + INODE_COMPACT.NLINK, nlink, true);
    }
    if (areaSize > 0) {
      xattrs.writeArea(node, this.#out, view, at + headSize, inodesEnd % BLOCK_SIZE);
    }
    const tail = tails[inode]!;
    if (tail > 0) this.#writeTail(node, kind, tail, at + headSize + areaSize);
    this.#nextBlock += blockCounts[inode]!;
  }

  #writeSize(inode: number, node: NodeId, kind: number, at: number): void {
    const { nodes, tails, blockCounts, forms } = this.#layout;
    let low = 0;
    let high = 0;
    if (kind === InodeKind.DIRECTORY) {
      const size = blockCounts[inode]! * BLOCK_SIZE + tails[inode]!;
      low = size >>> 0;
      high = Math.floor(size / 0x1_0000_0000);
    } else if (kind !== InodeKind.EMPTY) {
      low = nodes.words[node * NODE.WORDS + NODE.SIZE_LOW]!;
      high = nodes.words[node * NODE.WORDS + NODE.SIZE_HIGH]!;
    }
    this.#view.setUint32(at + INODE_COMPACT.SIZE_FIELD, low, true);
    if (forms[inode] === 1) {
      this.#view.setUint32(at + INODE_EXTENDED.SIZE_FIELD + HIGH_WORD, high, true);
    }
  }

  /** i_u: the first block, a device number, or the size of chunks. */
  #unionOf(node: NodeId, kind: number, blocks: number): number {
    const start = blocks > 0 ? this.#nextBlock : 0;
    const { nodes } = this.#layout;
    if (kind === InodeKind.EXTERNAL) {
      // The high half of a start block stays, as in the reference.
      return ((start & 0xffff_0000) | (chunkBits(nodes.size(node)) - BLOCK_BITS)) >>> 0;
    }
    if (kind !== InodeKind.EMPTY) return start;
    const type = this.#modeOf(node) & S_IFMT;
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    return isDevice ? nodes.words[node * NODE.WORDS + NODE.CONTENT]! : 0;
  }

  #writeTail(node: NodeId, kind: number, length: number, at: number): void {
    switch (kind) {
      case InodeKind.DIRECTORY:
        this.#directories.load(node);
        this.#directories.writeTail(this, this.#out, this.#view, at);
        break;
      case InodeKind.EXTERNAL:
        this.#out.fill(NULL_POINTER_BYTE, at, at + length);
        break;
      default: {
        const size = this.#layout.nodes.size(node);
        this.#copyContent(node, size - length, size, at);
      }
    }
  }

  /** Writes block number `block` of a node. `entry` and the result count entries of directories. */
  #writeBlock(node: NodeId, block: number, entry: number, at: number): number {
    const { nodes } = this.#layout;
    switch (kindOf(nodes, node)) {
      case InodeKind.DIRECTORY:
        if (block === 0) this.#directories.load(node);
        return this.#directories.writeBlock(entry, this, this.#out, this.#view, at);
      case InodeKind.EXTERNAL:
        this.#out.fill(NULL_POINTER_BYTE, at, at + BLOCK_SIZE);
        return 0;
      default: {
        const start = block * BLOCK_SIZE;
        const end = Math.min(start + BLOCK_SIZE, nodes.size(node));
        this.#copyContent(node, start, end, at);
        return 0;
      }
    }
  }

  /** Bytes of a content or target. */
  #copyContent(node: NodeId, start: number, end: number, at: number): void {
    const { heap, words } = this.#layout.nodes;
    const ref = words[node * NODE.WORDS + NODE.CONTENT]!;
    const from = heap.offsetOf(ref);
    copyBytes(heap.chunkOf(ref), from + start, from + end, this.#out, at);
  }
}

/** i_xattr_icount of an area of this size. */
function icountOf(areaSize: number): number {
  return areaSize === 0 ? 0 : (areaSize - XATTR_IBODY_HEADER.SIZE) / XATTR_ENTRY.ALIGN + 1;
}
