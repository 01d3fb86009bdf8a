// The extended attributes of all nodes of a tree. Names and values are interned, a (name, value) pair
// has a number, and so has every distinct list of pairs: files with the same attributes share one
// list, whatever their number. Names are those of the source tree; what overlayfs must not see is
// renamed by the writer, not here.

import type { ByteHeap } from './byte-heap.ts';
import { Interner, mixHash } from './interner.ts';
import { U32List } from './u32-list.ts';

export const XATTR_NAME_MAX = 255;
/**
 * The size the reference implementation gives a node's attributes, and its limit: 12 bytes once and
 * 7 bytes for each, plus names and values.
 */
export const XATTR_COST = { AREA: 12, ENTRY: 7, MAX: 32767 } as const;

/** Words of a set before its pairs. Those but LENGTH belong to the writer, which works on a copy. */
export const SET = {
  LENGTH: 0,
  /** How many of the pairs are stored once for several inodes. */
  SHARED: 1,
  /** Size of the entries of the others. */
  INLINE_SIZE: 2,
  PAIRS: 3,
} as const;

/** Number of a list of pairs. */
export type XattrSet = number;
export const NO_XATTRS: XattrSet = 0;

const HASH_SEED = 0x3c6ef372;

/** Owned by a tree. Numbers of names, values, pairs and sets stay valid for its life. */
export class XattrTable {
  readonly names: Interner;
  /** Values of attributes, and also digests and object paths, which become values in the image. */
  readonly values: Interner;
  readonly #pairNames: U32List = new U32List();
  readonly #pairValues: U32List = new U32List();
  #pairSlots: Int32Array = new Int32Array(256);
  /** Every set, one behind the other; a set's number is its index here. Begins with the empty one. */
  readonly #sets: U32List = new U32List();
  #setCount: number = 0;
  #setSlots: Int32Array = new Int32Array(256);

  /** The set that is being put together: pairs, and for every name the draft it was last in. */
  readonly #draft: U32List = new U32List();
  #draftNumber: number = 0;
  #draftCost: number = 0;
  readonly #lastDraft: U32List = new U32List();
  readonly #indexInDraft: U32List = new U32List();

  constructor(heap: ByteHeap) {
    this.names = new Interner(heap);
    this.values = new Interner(heap);
    this.#pushSetHeader(0);
  }

  get pairCount(): number {
    return this.#pairNames.length;
  }

  nameOf(pair: number): number {
    return this.#pairNames.items[pair]!;
  }

  valueOf(pair: number): number {
    return this.#pairValues.items[pair]!;
  }

  /** How many attributes a set has. Pair i of it is at(set + SET.PAIRS + i). */
  lengthOf(set: XattrSet): number {
    return this.#sets.items[set]!;
  }

  at(index: number): number {
    return this.#sets.items[index]!;
  }

  /** Copy of the storage of all sets, for a writer that sorts the pairs of each. */
  copySets(): Uint32Array<ArrayBuffer> {
    return this.#sets.items.slice(0, this.#sets.length);
  }

  /** Begins a set without attributes. There is one draft at a time. */
  beginSet(): void {
    this.#draft.length = 0;
    this.#draftNumber++;
    this.#draftCost = XATTR_COST.AREA;
  }

  /** Adds all attributes of a finished set to the draft. */
  addSet(set: XattrSet): void {
    const start = set + SET.PAIRS;
    for (let i = start; i < start + this.lengthOf(set); i++) {
      const pair = this.at(i);
      this.addToSet(this.nameOf(pair), this.valueOf(pair));
    }
  }

  /** Sets an attribute in the draft. False if the node would have more than the limit. */
  addToSet(name: number, value: number): boolean {
    while (this.#lastDraft.length <= name) {
      this.#lastDraft.push(0);
      this.#indexInDraft.push(0);
    }
    const pair = this.#pairOf(name, value);
    const valueLength = this.values.lengthOf(value);
    if (this.#lastDraft.items[name] === this.#draftNumber) {
      const index = this.#indexInDraft.items[name]!;
      const previous = this.valueOf(this.#draft.items[index]!);
      this.#draftCost += valueLength - this.values.lengthOf(previous);
      this.#draft.items[index] = pair;
    } else {
      this.#lastDraft.items[name] = this.#draftNumber;
      this.#indexInDraft.items[name] = this.#draft.length;
      this.#draftCost += XATTR_COST.ENTRY + this.names.lengthOf(name) + valueLength;
      this.#draft.push(pair);
    }
    return this.#draftCost <= XATTR_COST.MAX;
  }

  /** The number of the drafted set. */
  endSet(): XattrSet {
    const draft = this.#draft;
    if (draft.length === 0) return NO_XATTRS;
    const mask = this.#setSlots.length - 1;
    let slot = hashWords(draft.items, 0, draft.length) & mask;
    for (;;) {
      const set = this.#setSlots[slot]!;
      if (set === NO_XATTRS) break;
      if (this.#isDraft(set)) return set;
      slot = (slot + 1) & mask;
    }
    const set = this.#sets.length;
    this.#setSlots[slot] = set;
    this.#pushSetHeader(draft.length);
    for (let i = 0; i < draft.length; i++) this.#sets.push(draft.items[i]!);
    this.#setCount++;
    if (this.#setCount * 2 > this.#setSlots.length) this.#growSets();
    return set;
  }

  #pushSetHeader(length: number): void {
    this.#sets.push(length);
    for (let i: number = SET.LENGTH + 1; i < SET.PAIRS; i++) this.#sets.push(0);
  }

  #isDraft(set: XattrSet): boolean {
    const length = this.#draft.length;
    const words = this.#sets.items;
    if (words[set] !== length) return false;
    for (let i = 0; i < length; i++) {
      if (words[set + SET.PAIRS + i] !== this.#draft.items[i]) return false;
    }
    return true;
  }

  #growSets(): void {
    const slots = new Int32Array(this.#setSlots.length * 4);
    const mask = slots.length - 1;
    const words = this.#sets.items;
    for (let set = SET.PAIRS; set < this.#sets.length; set += SET.PAIRS + words[set]!) {
      const start = set + SET.PAIRS;
      let slot = hashWords(words, start, start + words[set]!) & mask;
      while (slots[slot] !== NO_XATTRS) slot = (slot + 1) & mask;
      slots[slot] = set;
    }
    this.#setSlots = slots;
  }

  #pairOf(name: number, value: number): number {
    const mask = this.#pairSlots.length - 1;
    let slot = hashPair(name, value) & mask;
    for (;;) {
      const pair = this.#pairSlots[slot]! - 1;
      if (pair < 0) break;
      if (this.nameOf(pair) === name && this.valueOf(pair) === value) return pair;
      slot = (slot + 1) & mask;
    }
    const pair = this.pairCount;
    this.#pairSlots[slot] = pair + 1;
    this.#pairNames.push(name);
    this.#pairValues.push(value);
    if (this.pairCount * 2 > this.#pairSlots.length) this.#growPairs();
    return pair;
  }

  #growPairs(): void {
    const slots = new Int32Array(this.#pairSlots.length * 4);
    const mask = slots.length - 1;
    for (let pair = 0; pair < this.pairCount; pair++) {
      let slot = hashPair(this.nameOf(pair), this.valueOf(pair)) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = pair + 1;
    }
    this.#pairSlots = slots;
  }
}

function hashPair(name: number, value: number): number {
  return mixHash(Math.imul(name, 0x9e3779b1) ^ Math.imul(value, 0x85ebca6b));
}

function hashWords(words: Uint32Array, start: number, end: number): number {
  let hash = HASH_SEED;
  for (let i = start; i < end; i++) hash = mixHash(Math.imul(hash, 31) ^ words[i]!);
  return hash;
}
