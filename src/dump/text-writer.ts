// Builds dump text in bytes: numbers, escaped strings and separators into a growing buffer.

import { BACKSLASH, DASH, EQUALS, NEWLINE, SPACE } from './fields.ts';

/** Characters of the longest form of a byte, `\xHH`. */
const ESCAPED_MAX = 4;
/** Digits of the largest 64-bit number, and a sign. */
const NUMBER_MAX = 21;
const ZERO = 0x30;
const LOWER_X = 0x78;
const HEX_DIGITS: Uint8Array = new TextEncoder().encode('0123456789abcdef');
/** First byte that is written as it is, and the first above those. */
const PRINTABLE = { FIRST: 0x21, END: 0x7f } as const;
/** What follows the backslash for bytes with a short escape; 0 for others. */
const SHORT_ESCAPES: Uint8Array = new Uint8Array(256);
SHORT_ESCAPES[BACKSLASH] = BACKSLASH;
SHORT_ESCAPES[0x0a] = 0x6e;
SHORT_ESCAPES[0x0d] = 0x72;
SHORT_ESCAPES[0x09] = 0x74;

/** Which bytes are escaped beyond the unprintable ones. */
export const EscapeMode = {
  PLAIN: 0,
  /** `=` too: in names and values of attributes. */
  EQUALS: 1,
  /** The whole text `-`: in optional fields. */
  LONE_DASH: 2,
  /** Nothing: for text that is escaped already. */
  NONE: 3,
} as const;

/** The text is bytes[0..length). */
export class TextWriter {
  bytes: Uint8Array<ArrayBuffer>;
  length: number = 0;

  constructor(capacity: number = 4096) {
    this.bytes = new Uint8Array(capacity);
  }

  /** A copy of the text; the writer begins again. */
  take(): Uint8Array<ArrayBuffer> {
    const result = this.bytes.slice(0, this.length);
    this.length = 0;
    return result;
  }

  space(): void {
    this.byte(SPACE);
  }

  newline(): void {
    this.byte(NEWLINE);
  }

  /** A field that says that there is nothing. */
  none(): void {
    this.byte(DASH);
  }

  byte(value: number): void {
    this.#reserve(1);
    this.bytes[this.length++] = value;
  }

  /** Bytes from `start` to `end`, by one of EscapeMode. */
  text(bytes: Uint8Array, start: number, end: number, mode: number): void {
    this.#reserve((end - start) * ESCAPED_MAX);
    if (mode === EscapeMode.NONE) {
      this.bytes.set(bytes.subarray(start, end), this.length);
      this.length += end - start;
      return;
    }
    if (mode === EscapeMode.LONE_DASH && end - start === 1 && bytes[start] === DASH) {
      this.#hexEscape(DASH);
      return;
    }
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      const short = SHORT_ESCAPES[byte]!;
      if (short !== 0) {
        this.bytes[this.length++] = BACKSLASH;
        this.bytes[this.length++] = short;
      } else if (
        byte < PRINTABLE.FIRST ||
        byte >= PRINTABLE.END ||
        (byte === EQUALS && mode === EscapeMode.EQUALS)
      ) {
        this.#hexEscape(byte);
      } else {
        this.bytes[this.length++] = byte;
      }
    }
  }

  /** Two lower-case digits for each byte. */
  hex(bytes: Uint8Array, start: number, end: number): void {
    this.#reserve((end - start) * 2);
    for (let i = start; i < end; i++) {
      this.bytes[this.length++] = HEX_DIGITS[bytes[i]! >>> 4]!;
      this.bytes[this.length++] = HEX_DIGITS[bytes[i]! & 0xf]!;
    }
  }

  /** A whole number from 0 to 2^53 in the base 8 or 10. */
  number(value: number, base: number = 10): void {
    this.#reserve(NUMBER_MAX);
    let digits = 1;
    for (let rest = value; rest >= base; rest = Math.floor(rest / base)) digits++;
    let rest = value;
    for (let at = this.length + digits - 1; at >= this.length; at--) {
      const next = Math.floor(rest / base);
      this.bytes[at] = ZERO + (rest - next * base);
      rest = next;
    }
    this.length += digits;
  }

  /** An unsigned number of two words. */
  u64(low: number, high: number): void {
    if (high < 0x20_0000) this.number(high * 0x1_0000_0000 + low);
    else this.#ascii(((BigInt(high) << 32n) | BigInt(low)).toString());
  }

  /** A signed number of two words. */
  i64(low: number, high: number): void {
    if (high < 0x20_0000) this.number(high * 0x1_0000_0000 + low);
    else this.#ascii(BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)).toString());
  }

  #ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.byte(text.charCodeAt(i));
  }

  #hexEscape(byte: number): void {
    this.#reserve(ESCAPED_MAX);
    this.bytes[this.length++] = BACKSLASH;
    this.bytes[this.length++] = LOWER_X;
    this.bytes[this.length++] = HEX_DIGITS[byte >>> 4]!;
    this.bytes[this.length++] = HEX_DIGITS[byte & 0xf]!;
  }

  #reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const longer = new Uint8Array((this.length + count) * 2);
    longer.set(this.bytes.subarray(0, this.length));
    this.bytes = longer;
  }
}
