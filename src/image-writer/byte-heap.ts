// Append-only storage for the byte strings of a tree: names, symlink targets, contents, attribute
// values. Chunks are never moved or copied, so a heap of n bytes costs n bytes. A reference is one
// u32, counted in units of four bytes, which a column of a typed array can hold.

const CHUNK_BITS = 20;
const CHUNK_SIZE: number = 1 << CHUNK_BITS;
const UNIT_BITS = 2;
/** Bits of a reference that select the unit inside a chunk. */
const OFFSET_BITS: number = CHUNK_BITS - UNIT_BITS;
const OFFSET_MASK: number = (1 << OFFSET_BITS) - 1;
const CHUNKS_MAX: number = 2 ** (32 - OFFSET_BITS);
/** Below this many bytes a loop is faster than the call of TypedArray.set(). */
const LOOP_MAX = 48;

/** Where a byte string of the tree lies: see ByteHeap. */
export type HeapRef = number;

/** Up to 16 GiB of byte strings. Their lengths are kept by the owner of the references. */
export class ByteHeap {
  readonly #chunks: Uint8Array[] = [];
  #current: Uint8Array = new Uint8Array(0);
  #used: number = 0;

  /** Copies the bytes from `start` to `end`, which are at most 64 KiB. */
  add(bytes: Uint8Array, start: number, end: number): HeapRef {
    const length = end - start;
    if (this.#used + length > this.#current.length) this.#addChunk();
    const at = this.#used;
    copyBytes(bytes, start, end, this.#current, at);
    this.#used = (at + length + 3) & ~3;
    return (((this.#chunks.length - 1) << OFFSET_BITS) | (at >>> UNIT_BITS)) >>> 0;
  }

  /** The array that holds a byte string from offsetOf(ref) on. */
  chunkOf(ref: HeapRef): Uint8Array {
    return this.#chunks[ref >>> OFFSET_BITS] as Uint8Array;
  }

  offsetOf(ref: HeapRef): number {
    return (ref & OFFSET_MASK) << UNIT_BITS;
  }

  /** A view, not a copy. */
  view(ref: HeapRef, length: number): Uint8Array {
    const at = this.offsetOf(ref);
    return this.chunkOf(ref).subarray(at, at + length);
  }

  isEqual(ref: HeapRef, bytes: Uint8Array, start: number, length: number): boolean {
    const chunk = this.chunkOf(ref);
    const at = this.offsetOf(ref);
    for (let i = 0; i < length; i++) {
      if (chunk[at + i] !== bytes[start + i]) return false;
    }
    return true;
  }

  /** Byte order, a proper prefix first: negative, 0 or positive. */
  compare(a: HeapRef, aLength: number, b: HeapRef, bLength: number): number {
    const aChunk = this.chunkOf(a);
    const bChunk = this.chunkOf(b);
    const aAt = this.offsetOf(a);
    const bAt = this.offsetOf(b);
    const length = aLength < bLength ? aLength : bLength;
    for (let i = 0; i < length; i++) {
      const difference = aChunk[aAt + i]! - bChunk[bAt + i]!;
      if (difference !== 0) return difference;
    }
    return aLength - bLength;
  }

  #addChunk(): void {
    if (this.#chunks.length === CHUNKS_MAX) {
      throw new RangeError('the names and contents of the tree exceed 16 GiB');
    }
    this.#current = new Uint8Array(CHUNK_SIZE);
    this.#chunks.push(this.#current);
    this.#used = 0;
  }
}

/** Copies the bytes from `start` to `end` of `source` to `target`, from `at` on. */
export function copyBytes(
  source: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
  at: number,
): void {
  if (end - start > LOOP_MAX) {
    target.set(source.subarray(start, end), at);
    return;
  }
  const shift = at - start;
  for (let i = start; i < end; i++) target[i + shift] = source[i]!;
}

/** Byte order of two whole arrays, a proper prefix first: negative, 0 or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
