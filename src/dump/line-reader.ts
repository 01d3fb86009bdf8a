// The values of the fields of one line, and the errors that name line and field.

import { DumpError } from '../errors.ts';
import { describeEscapeProblem, unescape } from './escapes.ts';
import { DOT, Field, FIELD_NAMES, LineFields } from './fields.ts';
import { readDigits, readInteger } from './numbers.ts';

/** Longest text that a message quotes. */
const QUOTE_MAX = 60;

/** One per reader of dumps. Methods throw DumpError. */
export class LineReader {
  /** Counts from 1. */
  line: number = 0;
  readonly fields: LineFields = new LineFields();
  /** The last text read: bytes from textStart to textEnd, valid until the next. */
  textBytes: Uint8Array = this.fields.bytes;
  textStart: number = 0;
  textEnd: number = 0;
  /** The last number of 64 bits read, as two words. */
  low: number = 0;
  high: number = 0;
  #scratch: Uint8Array = new Uint8Array(1024);

  /** Begins a line. Returns where its newline is. */
  start(bytes: Uint8Array, start: number): number {
    this.line++;
    return this.fields.split(bytes, start);
  }

  /** Reads a field as text, its escapes resolved. */
  readText(field: number): void {
    const { bytes, starts, ends } = this.fields;
    this.readRange(field, bytes, starts[field]!, ends[field]!, this.fields.isEscaped(field));
  }

  /** Reads a part of a field as text. */
  readRange(
    field: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    isEscaped: boolean,
  ): void {
    if (!isEscaped) {
      this.textBytes = bytes;
      this.textStart = start;
      this.textEnd = end;
      return;
    }
    if (end - start > this.#scratch.length) this.#scratch = new Uint8Array((end - start) * 2);
    const result = unescape(bytes, start, end, this.#scratch, 0);
    if (result < 0) this.fail(field, describeEscapeProblem(result));
    this.textBytes = this.#scratch;
    this.textStart = 0;
    this.textEnd = result;
  }

  /** The reference cuts names and paths at an escaped NUL; that is never meant. */
  refuseNul(field: number): void {
    // Raw ones were refused with the line.
    if (this.textBytes !== this.#scratch) return;
    const at = this.#scratch.indexOf(0, this.textStart);
    if (at >= 0 && at < this.textEnd) this.fail(field, 'contains a NUL');
  }

  /** A field as a decimal number modulo 2^32. */
  readU32(field: number): number {
    const { bytes, starts, ends } = this.fields;
    const value = readDigits(bytes, starts[field]!, ends[field]!, 10);
    if (value >= 0) return value >>> 0;
    this.#readSlowly(field, starts[field]!, ends[field]!, 10);
    return this.low;
  }

  /** A field as a decimal number in two words, `low` and `high`. */
  readU64(field: number): void {
    const { starts, ends } = this.fields;
    this.#readWords(field, starts[field]!, ends[field]!);
  }

  /** A mode from `start` on, modulo 2^32. */
  readMode(start: number): number {
    const end = this.fields.ends[Field.MODE]!;
    const value = readDigits(this.fields.bytes, start, end, 8);
    if (value >= 0) return value >>> 0;
    this.#readSlowly(Field.MODE, start, end, 8);
    return this.low;
  }

  /** The mtime: seconds in `low` and `high`, nanoseconds returned. */
  readTime(): number {
    const { bytes, starts, ends } = this.fields;
    const start = starts[Field.MTIME]!;
    const end = ends[Field.MTIME]!;
    let dot = start;
    while (dot < end && bytes[dot] !== DOT) dot++;
    if (dot === end) this.#failQuoting(Field.MTIME, 'is not SECONDS.NANOSECONDS');
    let nanoseconds = readDigits(bytes, dot + 1, end, 10);
    if (nanoseconds < 0) {
      this.#readSlowly(Field.MTIME, dot + 1, end, 10);
      nanoseconds = this.low;
    }
    this.#readWords(Field.MTIME, start, dot);
    return nanoseconds >>> 0;
  }

  /** Refuses a field: "line 3: field 5 (uid): " and then `what`. */
  fail(field: number, what: string): never {
    const name = FIELD_NAMES[field] ?? 'xattrs';
    throw new DumpError(`field ${field + 1} (${name}): ${what}`, { line: this.line, field: name });
  }

  /** Refuses the line as a whole. */
  failLine(what: string): never {
    throw new DumpError(what, { line: this.line });
  }

  #readWords(field: number, start: number, end: number): void {
    const value = readDigits(this.fields.bytes, start, end, 10);
    if (value < 0) {
      this.#readSlowly(field, start, end, 10);
      return;
    }
    this.low = value >>> 0;
    this.high = (value - this.low) / 0x1_0000_0000;
  }

  #readSlowly(field: number, start: number, end: number, base: number): void {
    const value = readInteger(this.fields.bytes, start, end, base);
    if (value === undefined) {
      this.#failQuoting(field, `is not ${base === 8 ? 'an octal' : 'a decimal'} number`);
    }
    this.low = Number(value & 0xffff_ffffn);
    this.high = Number(value >> 32n);
  }

  #failQuoting(field: number, what: string): never {
    const { bytes, starts, ends } = this.fields;
    this.fail(field, `${quote(bytes.subarray(starts[field], ends[field]))} ${what}`);
  }
}

/** Bytes in double quotes, printable on a terminal, long ones cut. */
export function quote(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes.subarray(0, QUOTE_MAX)) {
    const isPrintable = byte >= 0x20 && byte < 0x7f && byte !== 0x22;
    text += isPrintable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return `"${text}${bytes.length > QUOTE_MAX ? '...' : ''}"`;
}
