// Remembers what the attribute texts of recent lines became: few texts are on most lines, and
// comparing one costs less than reading it.

import { copyBytes } from '../image-writer/byte-heap.ts';
import { hashBytes } from '../image-writer/interner.ts';
import type { XattrSet } from '../image-writer/xattr-table.ts';

/** A power of two. */
const ENTRIES = 512;
/** Longer texts are rarely repeated. */
const TEXT_MAX = 256;
/** Bytes at the end of the text that choose the entry; texts usually differ in them. */
const HASHED_BYTES = 24;

/** Direct mapped: a text displaces the one that was in its entry. */
export class XattrCache {
  readonly #texts: Uint8Array = new Uint8Array(ENTRIES * TEXT_MAX);
  readonly #lengths: Uint16Array = new Uint16Array(ENTRIES);
  readonly #sets: Uint32Array = new Uint32Array(ENTRIES);
  #entry: number = 0;

  /** The set that a text became, or -1. */
  find(bytes: Uint8Array, start: number, end: number): XattrSet | -1 {
    const length = end - start;
    if (length > TEXT_MAX) return -1;
    const hashStart = length > HASHED_BYTES ? end - HASHED_BYTES : start;
    const entry = hashBytes(length, bytes, hashStart, end) & (ENTRIES - 1);
    this.#entry = entry;
    if (this.#lengths[entry] !== length) return -1;
    const texts = this.#texts;
    const shift = entry * TEXT_MAX - start;
    for (let at = start; at < end; at++) {
      if (texts[at + shift] !== bytes[at]) return -1;
    }
    return this.#sets[entry]!;
  }

  /** Remembers the text of the last find(). */
  remember(bytes: Uint8Array, start: number, end: number, set: XattrSet): void {
    if (end - start > TEXT_MAX) return;
    const entry = this.#entry;
    copyBytes(bytes, start, end, this.#texts, entry * TEXT_MAX);
    this.#lengths[entry] = end - start;
    this.#sets[entry] = set;
  }
}
