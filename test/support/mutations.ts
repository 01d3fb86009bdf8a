// Damaged variants of an image: single bytes changed, or the end cut off. Variant `index` of a seed
// is always the same, so that a failure names everything needed to see it again.

/** A small, good enough generator (mulberry32): numbers in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** What was done to the image. `value` is the byte's new value; none for a truncation. */
export interface Mutation {
  offset: number;
  value?: number;
}

/** Bytes that sit at the edges of fields: counts, sign bits, all ones. */
const EDGE_VALUES = [0, 1, 2, 3, 0x0c, 0x7f, 0x80, 0xff];
/** End of the superblock: the bytes whose damage reaches furthest get more than their share. */
const HEADERS_END = 1152;

/** The mutation with this number. One in twenty cuts the image off. */
export function mutationOf(seed: number, index: number, sizeBytes: number): Mutation {
  const random = seededRandom(seed * 1_000_003 + index);
  const below = (limit: number): number => Math.floor(random() * limit);
  if (below(20) === 0) return { offset: below(sizeBytes) };
  const offset = below(10) === 0 ? below(Math.min(HEADERS_END, sizeBytes)) : below(sizeBytes);
  const value = below(3) === 0 ? EDGE_VALUES[below(EDGE_VALUES.length)]! : below(256);
  return { offset, value };
}

/** Applies a mutation in place and returns the image to look at; `undo` puts the byte back. */
export function mutate(
  image: Uint8Array,
  { offset, value }: Mutation,
): { mutated: Uint8Array; undo: () => void } {
  if (value === undefined) return { mutated: image.subarray(0, offset), undo: () => {} };
  const before = image[offset]!;
  image[offset] = value;
  return { mutated: image, undo: () => (image[offset] = before) };
}

/** `offset 1036 = 0xff` or `cut off at 5000`. */
export function describeMutation({ offset, value }: Mutation): string {
  return value === undefined ? `cut off at ${offset}` : `offset ${offset} = ${value}`;
}
