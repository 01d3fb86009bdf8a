// A growing column of unsigned 32-bit integers.

/** Read and written through `items`, which push() may replace by a longer array. */
export class U32List {
  items: Uint32Array<ArrayBuffer>;
  length: number = 0;

  constructor(capacity: number = 64) {
    this.items = new Uint32Array(capacity);
  }

  push(value: number): void {
    if (this.length === this.items.length) this.items = grown(this.items, this.length + 1);
    this.items[this.length++] = value;
  }
}

/** A copy of at least `length` items, doubled so that growth is linear in all. */
export function grown(items: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  const result = new Uint32Array(Math.max(length, items.length * 2));
  result.set(items);
  return result;
}
