// Computes the place of everything in an image, in the order of inodes:
//
//   0 header   1024 superblock   1152 inodes, each with attributes and tail   shared attributes
//   then, from a block boundary on, the data blocks
//
// No byte is written here. Section numbers are those of the specification of the C writer.

import {
  BLOCK_BITS,
  BLOCK_SIZE,
  EROFS_SUPER_OFFSET,
  INODE_COMPACT,
  INODE_EXTENDED,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SLOT_SIZE,
  SUPER_BLOCK,
} from '../image-reader/format.ts';
import { DirectoryBlocks, TAIL_MAX } from './directory-blocks.ts';
import {
  isSourceWhiteout,
  MODE_WORD,
  NODE,
  NodeFlag,
  type NodeId,
  type NodeTable,
} from './nodes.ts';
import { type InodeOrder, type MinimumTime, orderInodes } from './order.ts';
import { checkSize, chooseVersion, markWhiteouts, type VersionRange } from './rewrite.ts';
import { rootWhiteouts } from './root-whiteouts.ts';
import { XattrPlan } from './xattr-plan.ts';

/** Bits of the largest chunk. */
const CHUNK_BITS_MAX = 43;
const CHUNK_SIZE_MAX: number = 2 ** CHUNK_BITS_MAX;
export const CHUNK_POINTER_SIZE = 4;
const U16_MAX = 0xffff;
const U32_MAX = 0xffff_ffff;

/** What lies behind an inode or in its blocks. */
export const InodeKind = {
  /** No data: empty files, devices, fifos, sockets, converted whiteouts. */
  EMPTY: 0,
  DIRECTORY: 1,
  SYMLINK: 2,
  /** A regular file whose content is in the image. */
  INLINE: 3,
  /** A regular file whose content is an object. */
  EXTERNAL: 4,
} as const;

/** The plan of an image. Columns are indexed by inode. */
export interface ImageLayout {
  readonly nodes: NodeTable;
  readonly version: number;
  readonly order: InodeOrder;
  readonly xattrs: XattrPlan;
  readonly hasAcl: boolean;
  /** The inodes that have data blocks, in order. */
  readonly inodesWithBlocks: readonly number[];
  readonly nids: Uint32Array;
  /** 1 for an extended inode. */
  readonly forms: Uint8Array;
  /** Bytes behind the inode and its attributes. */
  readonly tails: Uint16Array;
  /** Whole data blocks. */
  readonly blockCounts: Uint32Array;
  /** Start of the shared attributes. */
  readonly inodesEnd: number;
  /** Start of the data blocks. */
  readonly dataStart: number;
  readonly sizeBytes: number;
}

/** Lays out a tree whose root exists. Throws TreeError for what no image can hold. */
export function layOut(nodes: NodeTable, versions: VersionRange): ImageLayout {
  const order = orderInodes(nodes, rootWhiteouts(nodes));
  const { mtime, whiteouts } = order;
  const version = chooseVersion(versions, whiteouts.length > 0);
  const marked = markWhiteouts(nodes, version, whiteouts);
  const xattrs = new XattrPlan(nodes, marked, order.nodeOf);
  const count = order.nodeOf.length;
  const places = {
    nids: new Uint32Array(count),
    forms: new Uint8Array(count),
    tails: new Uint16Array(count),
    blockCounts: new Uint32Array(count),
  };
  const inodesWithBlocks: number[] = [];
  const directories = new DirectoryBlocks(nodes, order);
  let position: number = EROFS_SUPER_OFFSET + SUPER_BLOCK.SIZE;
  let blocks = 0;
  const extent = new Extent();
  for (let inode = 0; inode < count; inode++) {
    const node = order.nodeOf[inode]!;
    const kind = kindOf(nodes, node);
    measureData(nodes, node, kind, directories, extent);
    const isExtended = !fitsCompact(nodes, node, kind, extent, mtime);
    const headSize =
      (isExtended ? INODE_EXTENDED.SIZE : INODE_COMPACT.SIZE) + xattrs.areaSize(node);
    const start =
      kind === InodeKind.SYMLINK
        ? placeSymlink(roundUp(position, SLOT_SIZE), headSize, extent)
        : placeTail(roundUp(position, SLOT_SIZE), headSize, extent);
    places.nids[inode] = start / SLOT_SIZE;
    places.forms[inode] = isExtended ? 1 : 0;
    places.tails[inode] = extent.tail;
    places.blockCounts[inode] = extent.blocks;
    if (extent.blocks > 0) inodesWithBlocks.push(inode);
    blocks += extent.blocks;
    position = start + headSize + extent.tail;
  }
  const inodesEnd = roundUp(position, SLOT_SIZE);
  const dataStart = roundUp(inodesEnd + xattrs.sharedSize, BLOCK_SIZE);
  const hasAcl =
    xattrs.isUsed('system.posix_acl_access') || xattrs.isUsed('system.posix_acl_default');
  const sizeBytes = dataStart + blocks * BLOCK_SIZE;
  const facts = { inodesEnd, dataStart, sizeBytes, hasAcl, version };
  return { nodes, order, xattrs, inodesWithBlocks, ...places, ...facts };
}

/** What data an inode has. */
export function kindOf(nodes: NodeTable, node: NodeId): number {
  const modeWord = nodes.words[node * NODE.WORDS + NODE.MODE]!;
  switch (modeWord & S_IFMT) {
    case S_IFDIR:
      return InodeKind.DIRECTORY;
    case S_IFLNK:
      return InodeKind.SYMLINK;
    case S_IFREG:
      if (((modeWord >>> MODE_WORD.FLAGS_SHIFT) & NodeFlag.INLINE) !== 0) return InodeKind.INLINE;
      return nodes.size(node) > 0 ? InodeKind.EXTERNAL : InodeKind.EMPTY;
    default:
      return InodeKind.EMPTY;
  }
}

/** 8.1: the bits of a chunk of an external file. */
export function chunkBits(size: number): number {
  // The number of bits of size - 1, from its high word if it has one.
  const last = size - 1;
  const bits = last > U32_MAX ? 64 - Math.clz32(last / (U32_MAX + 1)) : 32 - Math.clz32(last);
  return Math.min(Math.max(bits, BLOCK_BITS), CHUNK_BITS_MAX);
}

/** Data of an inode: whole blocks, and bytes behind the inode. */
class Extent {
  blocks = 0;
  tail = 0;
}

/** 8.1. */
function measureData(
  nodes: NodeTable,
  node: NodeId,
  kind: number,
  directories: DirectoryBlocks,
  out: Extent,
): void {
  out.blocks = 0;
  out.tail = 0;
  switch (kind) {
    case InodeKind.DIRECTORY:
      directories.load(node);
      out.blocks = directories.blockCount;
      out.tail = directories.tailSize;
      break;
    case InodeKind.SYMLINK:
      out.tail = nodes.size(node);
      break;
    case InodeKind.INLINE: {
      const size = nodes.size(node);
      const rest = size % BLOCK_SIZE;
      out.blocks = Math.floor(size / BLOCK_SIZE) + (rest > TAIL_MAX ? 1 : 0);
      out.tail = rest > TAIL_MAX ? 0 : rest;
      break;
    }
    case InodeKind.EXTERNAL: {
      checkSize(nodes, node);
      const size = nodes.size(node);
      // All but enormous files are one chunk.
      out.tail = CHUNK_POINTER_SIZE * Math.ceil(size / CHUNK_SIZE_MAX);
      break;
    }
    default:
  }
}

/** 8.2. Devices and the like are extended for a large size too, although none is stored. */
function fitsCompact(
  nodes: NodeTable,
  node: NodeId,
  kind: number,
  extent: Extent,
  mtime: MinimumTime,
): boolean {
  const { words } = nodes;
  const base = node * NODE.WORDS;
  if (
    words[base + NODE.MTIME_NSEC] !== mtime.nsec ||
    words[base + NODE.MTIME_LOW] !== mtime.low ||
    words[base + NODE.MTIME_HIGH] !== mtime.high ||
    words[base + NODE.UID]! > U16_MAX ||
    words[base + NODE.GID]! > U16_MAX ||
    linkCount(nodes, node, kind) > U16_MAX
  ) {
    return false;
  }
  if (kind === InodeKind.DIRECTORY) return extent.blocks * BLOCK_SIZE + extent.tail <= U32_MAX;
  return nodes.size(node) <= U32_MAX || isSourceWhiteout(words, node);
}

/** 5.3. */
export function linkCount(nodes: NodeTable, node: NodeId, kind: number): number {
  const base = node * NODE.WORDS;
  return kind === InodeKind.DIRECTORY
    ? nodes.words[base + NODE.CONTENT]! + 2
    : nodes.words[base + NODE.NLINK]!;
}

/** 8.4: a tail must not cross a block boundary. Returns where the inode begins. */
function placeTail(position: number, headSize: number, extent: Extent): number {
  const room = roomInBlock(position + headSize);
  if (extent.tail <= room) return position;
  const padding = roundUp(room, SLOT_SIZE);
  if (extent.tail <= roomInBlock(position + headSize + padding)) return position + padding;
  extent.blocks++;
  extent.tail = 0;
  return roundUp(position, BLOCK_SIZE);
}

/** 8.5: inode, attributes and target are in one block, or the target has its own. */
function placeSymlink(position: number, headSize: number, extent: Extent): number {
  const total = headSize + extent.tail;
  if (total >= BLOCK_SIZE) {
    extent.blocks = 1;
    extent.tail = 0;
  }
  const isSplit =
    Math.floor(position / BLOCK_SIZE) !== Math.floor((position + total - 1) / BLOCK_SIZE);
  return isSplit ? roundUp(position, BLOCK_SIZE) : position;
}

/** From 1 to 4096 bytes. */
function roomInBlock(position: number): number {
  return BLOCK_SIZE - (position % BLOCK_SIZE);
}

function roundUp(position: number, unit: number): number {
  return Math.ceil(position / unit) * unit;
}
