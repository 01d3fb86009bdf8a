// Directories as they are stored: which entries form a block, and the bytes of a block. The entries
// are in byte order with `.` and `..` in their places:
//
//   [dirent 0]...[dirent n-1][name 0]...[name n-1]      at most 4096 bytes

import { BLOCK_SIZE, DIRENT } from '../image-reader/format.ts';
import { copyBytes } from './byte-heap.ts';
import { NODE, NO_NODE, type NodeId, type NodeTable } from './nodes.ts';
import type { InodeOrder } from './order.ts';

/** Stand for `.` and `..` among node numbers, which stay below. */
const DOT = 0xffff_fffe;
const DOT_DOT = 0xffff_fffd;
const DOTS: Uint8Array = Uint8Array.of(0x2e, 0x2e);
/** A last group of entries up to this size is stored behind the inode, a larger one as a block. */
export const TAIL_MAX: number = BLOCK_SIZE / 2;

/** A reusable record of one directory: load() fills it. */
export class DirectoryBlocks {
  readonly #nodes: NodeTable;
  readonly #order: InodeOrder;
  /** Nodes, DOT or DOT_DOT. */
  #entries: Uint32Array = new Uint32Array(64);
  #length: number = 0;
  #directory: NodeId = 0;
  /** Entries in all groups that are closed blocks. */
  #groupedEntries: number = 0;
  /** Size of the entries behind the blocks: 0, or at most TAIL_MAX. */
  tailSize: number = 0;
  blockCount: number = 0;

  constructor(nodes: NodeTable, order: InodeOrder) {
    this.#nodes = nodes;
    this.#order = order;
  }

  /** Sorts the entries of a directory into blocks and a tail. */
  load(directory: NodeId): void {
    this.#directory = directory;
    this.#collect(directory);
    this.blockCount = 0;
    this.#groupedEntries = 0;
    let sum = 0;
    for (let i = 0; i < this.#length; i++) {
      const cost = DIRENT.SIZE + this.#nameLength(this.#entries[i]!);
      if (sum + cost > BLOCK_SIZE) {
        this.blockCount++;
        this.#groupedEntries = i;
        sum = 0;
      }
      sum += cost;
    }
    this.tailSize = sum > TAIL_MAX ? 0 : sum;
    if (sum > TAIL_MAX) {
      this.blockCount++;
      this.#groupedEntries = this.#length;
    }
  }

  /** Writes the tail. */
  writeTail(nids: NidSource, out: Uint8Array, view: DataView, at: number): void {
    this.#writeGroup(this.#groupedEntries, this.#length, nids, out, view, at);
  }

  /**
   * Writes the block that begins with the entry `first` and returns the entry behind its last. The
   * tail can be written as a block too.
   */
  writeBlock(first: number, nids: NidSource, out: Uint8Array, view: DataView, at: number): number {
    let end = first;
    let size = 0;
    while (end < this.#length) {
      size += DIRENT.SIZE + this.#nameLength(this.#entries[end]!);
      if (size > BLOCK_SIZE) break;
      end++;
    }
    this.#writeGroup(first, end, nids, out, view, at);
    return end;
  }

  #writeGroup(
    start: number,
    end: number,
    nids: NidSource,
    out: Uint8Array,
    view: DataView,
    at: number,
  ): void {
    let direntAt = at;
    let nameAt = at + (end - start) * DIRENT.SIZE;
    const { heap, words } = this.#nodes;
    for (let i = start; i < end; i++) {
      const entry = this.#entries[i]!;
      const node = this.#nodeOf(entry);
      view.setUint32(direntAt + DIRENT.NID, nids.nidOf(node), true);
      view.setUint16(direntAt + DIRENT.NAMEOFF, nameAt - at, true);
      out[direntAt + DIRENT.FILE_TYPE] = nids.fileTypeOf(node);
      direntAt += DIRENT.SIZE;
      const length = this.#nameLength(entry);
      if (entry >= DOT_DOT) {
        copyBytes(DOTS, 0, length, out, nameAt);
      } else {
        const ref = words[entry * NODE.WORDS + NODE.NAME]!;
        const from = heap.offsetOf(ref);
        copyBytes(heap.chunkOf(ref), from, from + length, out, nameAt);
      }
      nameAt += length;
    }
  }

  #nodeOf(entry: number): NodeId {
    if (entry === DOT) return this.#directory;
    if (entry !== DOT_DOT) return this.#nodes.resolve(entry);
    const parent = this.#nodes.parentOf(this.#directory);
    return parent === NO_NODE ? this.#directory : parent;
  }

  #nameLength(entry: number): number {
    if (entry === DOT) return 1;
    return entry === DOT_DOT ? 2 : this.#nodes.nameLength(entry);
  }

  /** The entries with the dots, which come behind names that begin with a smaller byte. */
  #collect(directory: NodeId): void {
    const { entries, starts, inodeOf } = this.#order;
    const inode = inodeOf[directory]!;
    const start = starts[inode]!;
    const end = starts[inode + 1]!;
    if (end - start + 2 > this.#entries.length) {
      this.#entries = new Uint32Array((end - start + 2) * 2);
    }
    let length = 0;
    let dots = 0;
    for (let at = start; at < end; at++) {
      const child = entries[at]!;
      while (dots < 2 && this.#isBehindDots(child, dots + 1)) {
        this.#entries[length++] = dots++ === 0 ? DOT : DOT_DOT;
      }
      this.#entries[length++] = child;
    }
    for (; dots < 2; dots++) this.#entries[length++] = dots === 0 ? DOT : DOT_DOT;
    this.#length = length;
  }

  /** Whether a name comes behind that of `count` dots. */
  #isBehindDots(node: NodeId, count: number): boolean {
    const name = this.#nodes.nameBytes(node);
    for (let i = 0; i < count; i++) {
      if (i === name.length) return false;
      if (name[i] !== DOTS[0]) return name[i]! > DOTS[0]!;
    }
    return true;
  }
}

/** What a directory entry says of a node. */
export interface NidSource {
  nidOf(node: NodeId): number;
  /** One of FileType. */
  fileTypeOf(node: NodeId): number;
}
