// The nodes of a tree as records of 32-bit words in one array: 64 bytes each, without an object per
// node, so that a million files cost what their bytes cost. ImageTree is the comfortable interface
// to it; the reader of dumps and the writer work on the records.

import { S_IFCHR, S_IFDIR, S_IFMT, S_IFREG } from '../image-reader/format.ts';
import { ByteHeap } from './byte-heap.ts';
import { hashBytes } from './interner.ts';
import { grown } from './u32-list.ts';
import { XattrTable } from './xattr-table.ts';

/** A node of a tree: 0 is the root, the others count up in the order they were added. */
export type NodeId = number;
export const ROOT_NODE: NodeId = 0;
/** The parent of the root and of nodes that belong to no directory. */
export const NO_NODE = 0xffff_ffff;

/** Words of a node's record. */
export const NODE = {
  /** st_mode in the low half, then a byte with the length of the name and a byte of NodeFlag. */
  MODE: 0,
  NLINK: 1,
  UID: 2,
  GID: 3,
  SIZE_LOW: 4,
  SIZE_HIGH: 5,
  /** Seconds as the two words of an i64. */
  MTIME_LOW: 6,
  MTIME_HIGH: 7,
  MTIME_NSEC: 8,
  PARENT: 9,
  /** HeapRef of the name. */
  NAME: 10,
  /** An XattrSet. */
  XATTRS: 11,
  /**
   * Hard link: the node it names. Directory: how many subdirectories it has. Device: rdev. Symlink:
   * HeapRef of the target. Regular file with NodeFlag.INLINE: HeapRef of the content. Other regular
   * file: digest value + 1, or 0 for none.
   */
  CONTENT: 12,
  /**
   * External file: the object path as made by objectPathWord(), or 0 for none. Directory: the node
   * added last, or 0 for none.
   */
  OBJECT: 13,
  /** The node added next to the same directory; that of the last is the first. */
  NEXT: 14,
  /** Hash of parent and name. */
  HASH: 15,
  WORDS: 16,
} as const;

/** Parts of NODE.MODE. */
export const MODE_WORD = { MODE_MASK: 0xffff, NAME_LENGTH_SHIFT: 16, FLAGS_SHIFT: 24 } as const;

export const NodeFlag = {
  /** The content of a regular file lies in the image. */
  INLINE: 1,
  /** Only one more name of the node in CONTENT; the other words but MODE, PARENT, NAME are unused. */
  HARD_LINK: 2,
} as const;

const EMPTY = new Uint8Array(0);

/** Grows by doubling; `words` is replaced then, so it must be read again after append(). */
export class NodeTable {
  words: Uint32Array<ArrayBuffer> = new Uint32Array(64 * NODE.WORDS);
  count: number = 0;
  readonly heap: ByteHeap = new ByteHeap();
  readonly xattrs: XattrTable = new XattrTable(this.heap);
  /** Open addressing over (parent, name): node + 1, or 0 for a free slot. At most half full. */
  #slots: Int32Array = new Int32Array(1024);
  /** Names in directories: all nodes but the root and the writer's own. */
  namedCount: number = 0;
  /** First of the nodes that writeImage() adds below NO_NODE, or NO_NODE. See root-whiteouts.ts. */
  rootWhiteouts: NodeId = NO_NODE;

  /**
   * Adds a node with this name, which must be legal; every other word is 0. Returns -1 and adds
   * nothing if the directory has the name. A node below NO_NODE is not found by findChild().
   */
  append(
    parent: NodeId,
    bytes: Uint8Array,
    start: number,
    end: number,
    mode: number,
    flags: number,
  ): NodeId | -1 {
    const hash = hashBytes(parent, bytes, start, end) >>> 0;
    const slot = parent === NO_NODE ? -1 : this.#findSlot(hash, parent, bytes, start, end);
    if (slot >= 0 && this.#slots[slot] !== 0) return -1;
    const node = this.count++;
    const base = node * NODE.WORDS;
    if (base + NODE.WORDS > this.words.length) this.words = grown(this.words, base + NODE.WORDS);
    const words = this.words;
    words[base + NODE.MODE] =
      (mode & MODE_WORD.MODE_MASK) |
      ((end - start) << MODE_WORD.NAME_LENGTH_SHIFT) |
      (flags << MODE_WORD.FLAGS_SHIFT);
    words[base + NODE.PARENT] = parent;
    words[base + NODE.NAME] = this.heap.add(bytes, start, end);
    words[base + NODE.HASH] = hash;
    if (parent === NO_NODE) return node;
    const parentBase = parent * NODE.WORDS;
    if ((mode & S_IFMT) === S_IFDIR) words[parentBase + NODE.CONTENT]!++;
    const last = words[parentBase + NODE.OBJECT]!;
    words[parentBase + NODE.OBJECT] = node;
    if (last === 0) {
      words[base + NODE.NEXT] = node;
    } else {
      words[base + NODE.NEXT] = words[last * NODE.WORDS + NODE.NEXT]!;
      words[last * NODE.WORDS + NODE.NEXT] = node;
    }
    this.#slots[slot] = node + 1;
    this.namedCount++;
    if (this.namedCount * 2 > this.#slots.length) this.#grow();
    return node;
  }

  /** The node of that name in a directory, or -1. */
  findChild(parent: NodeId, bytes: Uint8Array, start: number, end: number): NodeId | -1 {
    const hash = hashBytes(parent, bytes, start, end) >>> 0;
    return this.#slots[this.#findSlot(hash, parent, bytes, start, end)]! - 1;
  }

  nameLength(node: NodeId): number {
    return nameLengthOf(this.words[node * NODE.WORDS + NODE.MODE]!);
  }

  /** A view, not a copy. Empty for the root. */
  nameBytes(node: NodeId): Uint8Array {
    const length = this.nameLength(node);
    if (length === 0) return EMPTY;
    return this.heap.view(this.words[node * NODE.WORDS + NODE.NAME]!, length);
  }

  mode(node: NodeId): number {
    return this.words[node * NODE.WORDS + NODE.MODE]! & MODE_WORD.MODE_MASK;
  }

  flags(node: NodeId): number {
    return this.words[node * NODE.WORDS + NODE.MODE]! >>> MODE_WORD.FLAGS_SHIFT;
  }

  isHardLink(node: NodeId): boolean {
    return (this.flags(node) & NodeFlag.HARD_LINK) !== 0;
  }

  parentOf(node: NodeId): NodeId {
    return this.words[node * NODE.WORDS + NODE.PARENT]!;
  }

  /** Exact up to 2^53, rounded above. */
  size(node: NodeId): number {
    const base = node * NODE.WORDS;
    return this.words[base + NODE.SIZE_HIGH]! * 0x1_0000_0000 + this.words[base + NODE.SIZE_LOW]!;
  }

  /** The node that the names of a chain of hard links stand for. */
  resolve(node: NodeId): NodeId {
    let target = node;
    // Links are made to nodes that exist, or were checked by the reader: no chain is a loop.
    while (this.isHardLink(target)) target = this.words[target * NODE.WORDS + NODE.CONTENT]!;
    return target;
  }

  /** For messages: with U+FFFD for bytes that are not UTF-8. */
  pathOf(node: NodeId): string {
    const names: string[] = [];
    const decoder = new TextDecoder();
    for (let at = node; this.parentOf(at) !== NO_NODE; at = this.parentOf(at)) {
      names.push(decoder.decode(this.nameBytes(at)));
    }
    return `/${names.reverse().join('/')}`;
  }

  /** The slot that holds the node of that name, or the free one where it belongs. */
  #findSlot(hash: number, parent: NodeId, bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    const { words, heap } = this;
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const node = slots[slot]! - 1;
      if (node < 0) return slot;
      const base = node * NODE.WORDS;
      if (
        words[base + NODE.HASH] === hash &&
        words[base + NODE.PARENT] === parent &&
        nameLengthOf(words[base + NODE.MODE]!) === length &&
        heap.isEqual(words[base + NODE.NAME]!, bytes, start, length)
      ) {
        return slot;
      }
      slot = (slot + 1) & mask;
    }
  }

  #grow(): void {
    const { words } = this;
    const old = this.#slots;
    const slots = new Int32Array(old.length * 4);
    const mask = slots.length - 1;
    for (let i = 0; i < old.length; i++) {
      const entry = old[i]!;
      if (entry === 0) continue;
      let slot = words[(entry - 1) * NODE.WORDS + NODE.HASH]! & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = entry;
    }
    this.#slots = slots;
  }
}

/** A char device 0:0 of the source tree; not the ones that the writer adds to the root. */
export function isSourceWhiteout(words: Uint32Array, node: NodeId): boolean {
  const base = node * NODE.WORDS;
  const modeWord = words[base + NODE.MODE]!;
  return (
    (modeWord & S_IFMT) === S_IFCHR &&
    words[base + NODE.CONTENT] === 0 &&
    ((modeWord >>> MODE_WORD.FLAGS_SHIFT) & NodeFlag.HARD_LINK) === 0 &&
    words[base + NODE.PARENT] !== NO_NODE
  );
}

/** Whether a regular file's bytes are an object's: not empty and not in the image. */
export function isExternalNode(nodes: NodeTable, node: NodeId): boolean {
  const { words } = nodes;
  const base = node * NODE.WORDS;
  const modeWord = words[base + NODE.MODE]!;
  return (
    (modeWord & S_IFMT) === S_IFREG &&
    ((modeWord >>> MODE_WORD.FLAGS_SHIFT) & (NodeFlag.INLINE | NodeFlag.HARD_LINK)) === 0 &&
    (words[base + NODE.SIZE_LOW] !== 0 || words[base + NODE.SIZE_HIGH] !== 0)
  );
}

function nameLengthOf(modeWord: number): number {
  return (modeWord >>> MODE_WORD.NAME_LENGTH_SHIFT) & 0xff;
}
