// Gives every distinct byte string a small number, so that equal attribute names, values, digests
// and object paths are stored once and compared as integers.

import type { ByteHeap, HeapRef } from './byte-heap.ts';
import { U32List } from './u32-list.ts';

const HASH_SEED: number = 0x811c9dc5 | 0;
const HASH_FACTOR: number = 0x9e3779b1 | 0;

/** Byte strings by number, in the order of their first appearance. */
export class Interner {
  readonly #heap: ByteHeap;
  readonly #refs: U32List = new U32List();
  readonly #lengths: U32List = new U32List();
  /** Kept, so that growing does not read all strings again. */
  readonly #hashes: U32List = new U32List();
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

  /** The array that holds a string from offsetOf(id) on. */
  chunkOf(id: number): Uint8Array {
    return this.#heap.chunkOf(this.refOf(id));
  }

  offsetOf(id: number): number {
    return this.#heap.offsetOf(this.refOf(id));
  }

  /** A view, not a copy. */
  bytesOf(id: number): Uint8Array {
    return this.#heap.view(this.refOf(id), this.lengthOf(id));
  }

  /** The number of the bytes from `start` to `end`. */
  intern(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    const hash = hashBytes(HASH_SEED, bytes, start, end) >>> 0;
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const id = slots[slot]! - 1;
      if (id < 0) break;
      if (
        this.#hashes.items[id] === hash &&
        this.#lengths.items[id] === length &&
        this.#heap.isEqual(this.#refs.items[id]!, bytes, start, length)
      ) {
        return id;
      }
      slot = (slot + 1) & mask;
    }
    const id = this.count;
    slots[slot] = id + 1;
    this.#refs.push(this.#heap.add(bytes, start, end));
    this.#lengths.push(length);
    this.#hashes.push(hash);
    if (this.count * 2 > slots.length) this.#grow();
    return id;
  }

  /** Whether a string has these bytes, as many as it is long. */
  isEqual(id: number, bytes: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    return this.lengthOf(id) === length && this.#heap.isEqual(this.refOf(id), bytes, start, length);
  }

  #grow(): void {
    const slots = new Int32Array(this.#slots.length * 4);
    const mask = slots.length - 1;
    const hashes = this.#hashes.items;
    for (let id = 0; id < this.count; id++) {
      let slot = hashes[id]! & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = id + 1;
    }
    this.#slots = slots;
  }
}

/** Four bytes a step; names and values have some 20. The bits are mixed once more at the end. */
export function hashBytes(seed: number, bytes: Uint8Array, start: number, end: number): number {
  let hash = seed ^ (end - start);
  let at = start;
  for (; at + 4 <= end; at += 4) {
    const word =
      bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    hash = Math.imul(((hash << 5) | (hash >>> 27)) ^ word, HASH_FACTOR);
  }
  for (; at < end; at++) {
    hash = Math.imul(((hash << 5) | (hash >>> 27)) ^ bytes[at]!, HASH_FACTOR);
  }
  return mixHash(hash);
}

/** Spreads the bits of a 32-bit number. */
export function mixHash(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return mixed ^ (mixed >>> 12);
}
