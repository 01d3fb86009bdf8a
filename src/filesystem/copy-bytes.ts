// Copies between byte arrays without allocating for the short ones.

/**
 * Below this length a loop is faster than making the view that `set` needs, and allocates nothing;
 * the images of mkcomposefs have no longer content than 64 bytes unless told otherwise.
 */
const COPY_LOOP_MAX = 256;

/** Copies `length` bytes. The ranges have been checked. */
export function copyBytes(
  from: Uint8Array,
  start: number,
  to: Uint8Array,
  at: number,
  length: number,
): void {
  if (length > COPY_LOOP_MAX) {
    to.set(from.subarray(start, start + length), at);
    return;
  }
  for (let i = 0; i < length; i++) to[at + i] = from[start + i]!;
}
