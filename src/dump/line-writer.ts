// One line of dump text. Trees and images give the values; the order and form of the fields is here.

import { SLASH } from './fields.ts';
import { EscapeMode, TextWriter } from './text-writer.ts';

/** Text is handed on when there is this much of it. */
const CHUNK_SIZE: number = 1 << 16;

/** A reusable record of the numbers in a line. */
export class LineNumbers {
  sizeLow = 0;
  sizeHigh = 0;
  mode = 0;
  nlink = 0;
  uid = 0;
  gid = 0;
  rdev = 0;
  mtimeLow = 0;
  mtimeHigh = 0;
  mtimeNsec = 0;
}

/** Writes lines and keeps the path of the directory it is in. */
export class LineWriter {
  readonly out: TextWriter = new TextWriter(CHUNK_SIZE * 2);
  /** The escaped path of the current directory without its last slash, then that of the entry. */
  readonly #path: TextWriter = new TextWriter(256);
  readonly #lengths: number[] = [];

  get isFull(): boolean {
    return this.out.length >= CHUNK_SIZE;
  }

  /** Appends a name to the path. */
  enter(bytes: Uint8Array, start: number, end: number): void {
    this.#lengths.push(this.#path.length);
    this.#path.byte(SLASH);
    this.#path.text(bytes, start, end, EscapeMode.PLAIN);
  }

  /** Removes the last name from the path. */
  leave(): void {
    this.#path.length = this.#lengths.pop() ?? 0;
  }

  /** A copy of the path of the last name. */
  pathText(): Uint8Array<ArrayBuffer> {
    return this.#path.bytes.slice(0, this.#path.length);
  }

  /** The line up to the space before the payload; an empty path stands for the root. */
  begin(numbers: LineNumbers, isHardLink: boolean): void {
    const { out } = this;
    if (this.#path.length === 0) out.byte(SLASH);
    else out.text(this.#path.bytes, 0, this.#path.length, EscapeMode.NONE);
    out.space();
    out.u64(numbers.sizeLow, numbers.sizeHigh);
    out.space();
    if (isHardLink) out.byte(0x40);
    out.number(numbers.mode, 8);
    for (const number of [numbers.nlink, numbers.uid, numbers.gid, numbers.rdev]) {
      out.space();
      out.number(number);
    }
    out.space();
    out.i64(numbers.mtimeLow, numbers.mtimeHigh);
    out.byte(0x2e);
    out.number(numbers.mtimeNsec);
    out.space();
  }

  /** An optional field: `-` for no bytes. */
  optional(bytes: Uint8Array, start: number, end: number): void {
    if (start === end) this.out.none();
    else this.out.text(bytes, start, end, EscapeMode.LONE_DASH);
  }
}
