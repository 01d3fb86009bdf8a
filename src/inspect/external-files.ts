// The external files of an image, kept as numbers: 56 bytes each, so that a million of them are no
// burden. Paths and digests stay in the image's bytes.

import { DigestAlgorithm, type Image, type Inode, type ObjectRef } from '../image-reader/index.ts';

/** What the image says of an object, for one inode or several. */
export interface Expectation {
  readonly index: number;
  readonly nid: number;
  readonly pathStart: number;
  readonly pathLength: number;
  /** One of DigestAlgorithm. */
  readonly algorithm: number;
  readonly digestStart: number;
  readonly digestLength: number;
  readonly sizeLow: number;
  readonly sizeHigh: number;
}

const WORDS = 8;

export class ExternalFiles {
  readonly #image: Image;
  #words: Float64Array = new Float64Array(64 * WORDS);
  count: number = 0;
  /** Some file is to be verified with SHA-512, which few images use. */
  hasSha512: boolean = false;

  constructor(image: Image) {
    this.#image = image;
  }

  add(inode: Inode, ref: ObjectRef): void {
    if (ref.digestAlgorithm === DigestAlgorithm.SHA512) this.hasSha512 = true;
    const base = this.count++ * WORDS;
    if (base + WORDS > this.#words.length) {
      const longer = new Float64Array(this.#words.length * 2);
      longer.set(this.#words);
      this.#words = longer;
    }
    this.#words.set(
      [
        inode.nid,
        ref.pathStart,
        ref.pathLength,
        ref.digestAlgorithm,
        ref.digestStart,
        ref.digestLength,
        inode.sizeLow,
        inode.sizeHigh,
      ],
      base,
    );
  }

  at(index: number): Expectation {
    const words = this.#words;
    const base = index * WORDS;
    return {
      index,
      nid: words[base]!,
      pathStart: words[base + 1]!,
      pathLength: words[base + 2]!,
      algorithm: words[base + 3]!,
      digestStart: words[base + 4]!,
      digestLength: words[base + 5]!,
      sizeLow: words[base + 6]!,
      sizeHigh: words[base + 7]!,
    };
  }

  /** The indexes of all files, those with the same object, digest and size in one run. */
  sorted(): Uint32Array {
    const order = new Uint32Array(this.count);
    for (let i = 0; i < order.length; i++) order[i] = i;
    return order.sort((a, b) => this.#compare(a, b));
  }

  /** Whether two files expect the same of the same object. */
  isSame(a: number, b: number): boolean {
    return this.#compare(a, b) === 0;
  }

  #compare(a: number, b: number): number {
    const words = this.#words;
    const at = a * WORDS;
    const bt = b * WORDS;
    return (
      this.#compareBytes(words[at + 1]!, words[at + 2]!, words[bt + 1]!, words[bt + 2]!) ||
      words[at + 3]! - words[bt + 3]! ||
      this.#compareBytes(words[at + 4]!, words[at + 5]!, words[bt + 4]!, words[bt + 5]!) ||
      words[at + 7]! - words[bt + 7]! ||
      words[at + 6]! - words[bt + 6]!
    );
  }

  #compareBytes(a: number, aLength: number, b: number, bLength: number): number {
    const { bytes } = this.#image;
    const common = Math.min(aLength, bLength);
    for (let i = 0; i < common; i++) {
      const difference = bytes[a + i]! - bytes[b + i]!;
      if (difference !== 0) return difference;
    }
    return aLength - bLength;
  }
}
