// Decides which attributes are stored once for many inodes and where, tells the size of an inode's
// attribute area, and writes the areas and the shared entries.

import { XATTR_ENTRY, XATTR_IBODY_HEADER } from '../image-reader/format.ts';
import { isExternalNode, NODE, type NodeId, type NodeTable, ROOT_NODE } from './nodes.ts';
import { XattrEntries, XattrKind } from './xattr-entries.ts';
import { NamePlace, XattrNames } from './xattr-names.ts';
import { SET, type XattrSet, type XattrTable } from './xattr-table.ts';

/** References to shared entries in one inode; further ones are stored inline. */
const SHARED_MAX = 128;
const SHARED_ID_SIZE = 4;
/** A use of 2 and more is shared; placing makes it the entry's offset / 4 + FIRST_SHARED. */
const FIRST_SHARED = 2;

/** An entry of the shared area, with what it is sorted by. */
interface SharedEntry {
  readonly kind: number;
  readonly number: number;
  readonly rank: number;
  readonly length: number;
  readonly prefix: number;
}

/** Made for one tree, the attribute sets that were changed for the image, and its inodes. */
export class XattrPlan {
  readonly #nodes: NodeTable;
  readonly #xattrs: XattrTable;
  readonly #names: XattrNames;
  readonly #entries: XattrEntries;
  /** Attribute sets that nodes have instead of their own. */
  readonly #changed: ReadonlyMap<NodeId, XattrSet>;
  /** The sets, with their pairs in the order of names. */
  readonly #sets: Uint32Array<ArrayBuffer>;
  /** How often each attribute is used, by kind and number. */
  readonly #pairUses: Uint32Array;
  readonly #metacopyUses: Uint32Array;
  readonly #redirectUses: Uint32Array;
  readonly #opaqueUses: Uint32Array = new Uint32Array(1);
  /** The shared entries in their order. */
  readonly #shared: readonly SharedEntry[];
  /** Size of the shared area. */
  readonly sharedSize: number;

  /** The attributes of one inode, collected by #collect(). */
  #kinds: Uint8Array = new Uint8Array(64);
  #numbers: Uint32Array = new Uint32Array(64);
  #length: number = 0;

  constructor(nodes: NodeTable, changed: ReadonlyMap<NodeId, XattrSet>, nodeOf: Uint32Array) {
    this.#nodes = nodes;
    this.#xattrs = nodes.xattrs;
    this.#names = new XattrNames(nodes.xattrs);
    this.#entries = new XattrEntries(nodes.xattrs, this.#names);
    this.#changed = changed;
    this.#sets = nodes.xattrs.copySets();
    this.#pairUses = new Uint32Array(nodes.xattrs.pairCount);
    // Words are value + 1, and (value << 1 | flag) + 1.
    this.#metacopyUses = new Uint32Array(nodes.xattrs.values.count + 1);
    this.#redirectUses = new Uint32Array(nodes.xattrs.values.count * 2 + 1);
    this.#sortSets();
    this.#countUses(nodeOf);
    this.#shared = this.#listShared();
    this.sharedSize = this.#placeShared();
    this.#measureSets();
  }

  /** Whether some inode has an attribute of this name of the source tree. */
  isUsed(name: string): boolean {
    const bytes = new TextEncoder().encode(name);
    const wanted = this.#xattrs.names.intern(bytes, 0, bytes.length);
    return this.#pairUses.some((use, pair) => use > 0 && this.#xattrs.nameOf(pair) === wanted);
  }

  /** Size of the attribute area of a node, 0 for one without attributes. */
  areaSize(node: NodeId): number {
    const set = this.#setOf(node);
    let shared = this.#sets[set + SET.SHARED]!;
    let inlineSize = this.#sets[set + SET.INLINE_SIZE]!;
    if (isExternalNode(this.#nodes, node)) {
      const base = node * NODE.WORDS;
      const metacopy = this.#nodes.words[base + NODE.CONTENT]!;
      if (this.#metacopyUses[metacopy]! >= FIRST_SHARED) shared++;
      else inlineSize += this.#entries.sizeOf(XattrKind.METACOPY, metacopy);
      const redirect = this.#nodes.words[base + NODE.OBJECT]!;
      if (this.#redirectUses[redirect]! >= FIRST_SHARED) shared++;
      else if (redirect !== 0) inlineSize += this.#entries.sizeOf(XattrKind.REDIRECT, redirect);
    } else if (node === ROOT_NODE) {
      inlineSize += this.#entries.sizeOf(XattrKind.ROOT_OPAQUE, 0);
    }
    if (shared > SHARED_MAX) return this.#longAreaSize(node);
    if (shared === 0 && inlineSize === 0) return 0;
    return XATTR_IBODY_HEADER.SIZE + shared * SHARED_ID_SIZE + inlineSize;
  }

  /** Writes the area of a node that has one. `sharedBase` is added to offsets in the shared area. */
  writeArea(node: NodeId, out: Uint8Array, view: DataView, at: number, sharedBase: number): void {
    this.#collect(node);
    const sharedCount = this.#countShared();
    let filter = 0xffff_ffff;
    let idAt = at + XATTR_IBODY_HEADER.SIZE;
    const idsEnd = idAt + sharedCount * SHARED_ID_SIZE;
    let entryAt = idsEnd;
    for (let i = 0; i < this.#length; i++) {
      const kind = this.#kinds[i]!;
      const number = this.#numbers[i]!;
      filter &= ~this.#names.filterBits[this.#entries.nameOf(kind, number)]!;
      const use = this.#usesOf(kind)[number]!;
      if (use >= FIRST_SHARED && idAt < idsEnd) {
        view.setUint32(idAt, sharedBase / XATTR_ENTRY.ALIGN + (use - FIRST_SHARED), true);
        idAt += SHARED_ID_SIZE;
      } else {
        entryAt = this.#entries.write(kind, number, out, entryAt);
      }
    }
    view.setUint32(at + XATTR_IBODY_HEADER.NAME_FILTER, filter, true);
    view.setUint8(at + XATTR_IBODY_HEADER.SHARED_COUNT, sharedCount);
  }

  get sharedEntryCount(): number {
    return this.#shared.length;
  }

  sharedEntrySize(index: number): number {
    const { kind, number } = this.#shared[index] as SharedEntry;
    return this.#entries.sizeOf(kind, number);
  }

  writeSharedEntry(index: number, out: Uint8Array, at: number): void {
    const { kind, number } = this.#shared[index] as SharedEntry;
    this.#entries.write(kind, number, out, at);
  }

  #setOf(node: NodeId): XattrSet {
    const own = this.#nodes.words[node * NODE.WORDS + NODE.XATTRS]!;
    return this.#changed.size === 0 ? own : (this.#changed.get(node) ?? own);
  }

  /** Sorts the pairs of each set by name. */
  #sortSets(): void {
    const sets = this.#sets;
    const { ranks } = this.#names;
    const xattrs = this.#xattrs;
    const compare = (a: number, b: number): number =>
      ranks[xattrs.nameOf(a)]! - ranks[xattrs.nameOf(b)]!;
    for (let set = 0; set < sets.length; set += SET.PAIRS + sets[set]!) {
      const start = set + SET.PAIRS;
      if (sets[set]! > 1) sets.subarray(start, start + sets[set]!).sort(compare);
    }
  }

  #countUses(nodeOf: Uint32Array): void {
    const sets = this.#sets;
    const { words } = this.#nodes;
    // SHARED counts the inodes of each set for now.
    for (let i = 0; i < nodeOf.length; i++) {
      const node = nodeOf[i]!;
      sets[this.#setOf(node) + SET.SHARED]!++;
      if (!isExternalNode(this.#nodes, node)) continue;
      this.#metacopyUses[words[node * NODE.WORDS + NODE.CONTENT]!]!++;
      this.#redirectUses[words[node * NODE.WORDS + NODE.OBJECT]!]!++;
    }
    // No object path, which is no attribute.
    this.#redirectUses[0] = 0;
    for (let set = 0; set < sets.length; set += SET.PAIRS + sets[set]!) {
      const start = set + SET.PAIRS;
      for (let i = start; i < start + sets[set]!; i++) {
        this.#pairUses[sets[i]!]! += sets[set + SET.SHARED]!;
      }
    }
  }

  #usesOf(kind: number): Uint32Array {
    switch (kind) {
      case XattrKind.PAIR:
        return this.#pairUses;
      case XattrKind.METACOPY:
        return this.#metacopyUses;
      case XattrKind.REDIRECT:
        return this.#redirectUses;
      default:
        return this.#opaqueUses;
    }
  }

  /** Descending by name, then longer values first, then larger ones. */
  #listShared(): SharedEntry[] {
    const shared: SharedEntry[] = [];
    for (const kind of [XattrKind.PAIR, XattrKind.METACOPY, XattrKind.REDIRECT]) {
      const uses = this.#usesOf(kind);
      for (let number = 0; number < uses.length; number++) {
        if (uses[number]! < FIRST_SHARED) continue;
        const rank = this.#names.ranks[this.#entries.nameOf(kind, number)]!;
        const length = this.#entries.valueLength(kind, number);
        const prefix = this.#entries.valuePrefix(kind, number);
        shared.push({ kind, number, rank, length, prefix });
      }
    }
    return shared.sort(
      (a, b) =>
        b.rank - a.rank ||
        b.length - a.length ||
        b.prefix - a.prefix ||
        this.#entries.compareValues(b.kind, b.number, a.kind, a.number),
    );
  }

  /** Gives every shared entry its place. Returns the size of all. */
  #placeShared(): number {
    let offset = 0;
    for (const { kind, number } of this.#shared) {
      this.#usesOf(kind)[number] = FIRST_SHARED + offset / XATTR_ENTRY.ALIGN;
      offset += this.#entries.sizeOf(kind, number);
    }
    return offset;
  }

  #measureSets(): void {
    const sets = this.#sets;
    for (let set = 0; set < sets.length; set += SET.PAIRS + sets[set]!) {
      let shared = 0;
      let inlineSize = 0;
      const start = set + SET.PAIRS;
      for (let i = start; i < start + sets[set]!; i++) {
        const pair = sets[i]!;
        if (this.#pairUses[pair]! >= FIRST_SHARED) shared++;
        else inlineSize += this.#entries.sizeOf(XattrKind.PAIR, pair);
      }
      sets[set + SET.SHARED] = shared;
      sets[set + SET.INLINE_SIZE] = inlineSize;
    }
  }

  /** With more shared attributes than can be referenced. */
  #longAreaSize(node: NodeId): number {
    this.#collect(node);
    let sharedLeft = this.#countShared();
    let size: number = XATTR_IBODY_HEADER.SIZE + sharedLeft * SHARED_ID_SIZE;
    for (let i = 0; i < this.#length; i++) {
      const kind = this.#kinds[i]!;
      const number = this.#numbers[i]!;
      if (this.#usesOf(kind)[number]! >= FIRST_SHARED && sharedLeft > 0) sharedLeft--;
      else size += this.#entries.sizeOf(kind, number);
    }
    return size;
  }

  /** How many of the collected attributes are referenced as shared. */
  #countShared(): number {
    let count = 0;
    for (let i = 0; i < this.#length && count < SHARED_MAX; i++) {
      if (this.#usesOf(this.#kinds[i]!)[this.#numbers[i]!]! >= FIRST_SHARED) count++;
    }
    return count;
  }

  /** The attributes of a node in the order of their names. */
  #collect(node: NodeId): void {
    const set = this.#setOf(node);
    const end = set + SET.PAIRS + this.#sets[set]!;
    this.#length = 0;
    if (isExternalNode(this.#nodes, node) || node === ROOT_NODE) {
      this.#collectWithOwn(node, set, end);
      return;
    }
    for (let i = set + SET.PAIRS; i < end; i++) this.#push(XattrKind.PAIR, this.#sets[i]!);
  }

  #collectWithOwn(node: NodeId, set: XattrSet, end: number): void {
    const base = node * NODE.WORDS;
    const { words } = this.#nodes;
    let at = this.#pushWhile(set + SET.PAIRS, end, NamePlace.BEFORE_OVERLAY);
    if (node === ROOT_NODE) {
      this.#push(XattrKind.ROOT_OPAQUE, 0);
      this.#pushWhile(at, end, NamePlace.AFTER_OVERLAY);
      return;
    }
    this.#push(XattrKind.METACOPY, words[base + NODE.CONTENT]!);
    at = this.#pushWhile(at, end, NamePlace.ESCAPED);
    const redirect = words[base + NODE.OBJECT]!;
    if (redirect !== 0) this.#push(XattrKind.REDIRECT, redirect);
    this.#pushWhile(at, end, NamePlace.AFTER_OVERLAY);
  }

  /** Adds the pairs up to this place. Returns where the next begins. */
  #pushWhile(start: number, end: number, place: number): number {
    const { places } = this.#names;
    let at = start;
    for (; at < end; at++) {
      const pair = this.#sets[at]!;
      if (places[this.#xattrs.nameOf(pair)]! > place) break;
      this.#push(XattrKind.PAIR, pair);
    }
    return at;
  }

  #push(kind: number, number: number): void {
    const at = this.#length++;
    if (at === this.#kinds.length) {
      const kinds = new Uint8Array(at * 2);
      const numbers = new Uint32Array(at * 2);
      kinds.set(this.#kinds);
      numbers.set(this.#numbers);
      this.#kinds = kinds;
      this.#numbers = numbers;
    }
    this.#kinds[at] = kind;
    this.#numbers[at] = number;
  }
}
