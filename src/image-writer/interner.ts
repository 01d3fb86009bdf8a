// Gives every distinct byte string a small number, so that equal attribute names, values, digests
// and object paths are stored once and compared as integers.

import type { ByteHeap, HeapRef } from './byte-heap.ts';
import { U32List } from './u32-list.ts';

const FNV_OFFSET: number = 0x811c9dc5 | 0;
const FNV_PRIME = 0x01000193;

/** Byte strings by number, in the order of their first appearance. */
export class Interner {
  readonly #heap: ByteHeap;
  readonly #refs: U32List = new U32List();
  readonly #lengths: U32List = new U32List();
  /** Open addressing with linear probing: id + 1, or 0 for a free slot. At most half full. */
  #slots: Int32Array = new Int32Array(256);

  constructor(heap: ByteHeap) {
    this.#heap = heap;
  }

  get count(): number {
    return this.#refs.length;
  }

  refOf(id: number): HeapRef {
    return this.#refs.items[id]!;
  }

  lengthOf(id: number): number {
    return this.#lengths.items[id]!;
  }

  /** A view, not a copy. */
  bytesOf(id: number): Uint8Array {
    return this.#heap.view(this.refOf(id), this.lengthOf(id));
  }

  /** The number of the bytes from `start` to `end`. */
  intern(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    const mask = this.#slots.length - 1;
    let slot = hashBytes(FNV_OFFSET, bytes, start, end) & mask;
    for (;;) {
      const id = this.#slots[slot]! - 1;
      if (id < 0) break;
      if (
        this.#lengths.items[id] === length &&
        this.#heap.isEqual(this.#refs.items[id]!, bytes, start, length)
      ) {
        return id;
      }
      slot = (slot + 1) & mask;
    }
    const id = this.count;
    this.#slots[slot] = id + 1;
    this.#refs.push(this.#heap.add(bytes, start, end));
    this.#lengths.push(length);
    if (this.count * 2 > this.#slots.length) this.#grow();
    return id;
  }

  #grow(): void {
    const slots = new Int32Array(this.#slots.length * 2);
    const mask = slots.length - 1;
    for (let id = 0; id < this.count; id++) {
      const ref = this.#refs.items[id]!;
      const at = this.#heap.offsetOf(ref);
      const end = at + this.#lengths.items[id]!;
      let slot = hashBytes(FNV_OFFSET, this.#heap.chunkOf(ref), at, end) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = id + 1;
    }
    this.#slots = slots;
  }
}

/** FNV-1a with its bits mixed once more, because only low bits of it select a slot. */
export function hashBytes(
  seed: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  let hash = seed;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, FNV_PRIME);
  return mixHash(hash);
}

/** Spreads the bits of a 32-bit number. */
export function mixHash(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return mixed ^ (mixed >>> 12);
}
