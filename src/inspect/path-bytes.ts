// The path of where a walk is, in bytes.

const SLASH = 0x2f;

export class PathBytes {
  #bytes: Uint8Array = new Uint8Array(256);
  #length: number = 0;
  readonly #lengths: number[] = [];

  /** Appends a name. */
  enter(name: Uint8Array, start: number, end: number): void {
    this.#lengths.push(this.#length);
    const length = this.#length + 1 + end - start;
    if (length > this.#bytes.length) {
      const longer = new Uint8Array(length * 2);
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes[this.#length] = SLASH;
    this.#bytes.set(name.subarray(start, end), this.#length + 1);
    this.#length = length;
  }

  /** Removes the last name. At the root there is none. */
  leave(): void {
    this.#length = this.#lengths.pop() ?? 0;
  }

  /** A copy. */
  bytes(): Uint8Array {
    return this.#length === 0 ? Uint8Array.of(SLASH) : this.#bytes.slice(0, this.#length);
  }
}
