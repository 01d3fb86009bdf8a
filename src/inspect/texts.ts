// Names, targets and values are bytes. Here they become text for a terminal, as in the dump format,
// and values for JSON; both can be turned back into the bytes.

import { EscapeMode, TextWriter } from '../dump/text-writer.ts';
import { unescape } from '../dump/escapes.ts';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A string where the bytes are UTF-8, else their base64. */
export type JsonBytes = string | { readonly base64: string };

/** Bytes as JSON holds them. */
export function toJsonBytes(bytes: Uint8Array): JsonBytes {
  // A copy: TextDecoder reads no shared memory.
  const own = Buffer.from(bytes);
  try {
    return decoder.decode(own);
  } catch {
    return { base64: own.toString('base64') };
  }
}

/** A number of a dump line; a string where a JSON reader would round it. */
export function toJsonNumber(text: string | bigint): number | string {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : String(text);
}

/** The bytes that an escaped text of a dump stands for. */
export function fromEscaped(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'latin1');
  if (!text.includes('\\')) return bytes;
  const out = new Uint8Array(bytes.length);
  const end = unescape(bytes, 0, bytes.length, out, 0);
  if (end < 0) throw new TypeError('not an escaped text');
  return out.subarray(0, end);
}

/** Printable ASCII for any bytes: what a dump writes, with spaces as they are. */
export function toEscaped(bytes: Uint8Array): string {
  const writer = new TextWriter(bytes.length * 4 + 1);
  writer.text(bytes, 0, bytes.length, EscapeMode.PLAIN);
  return withSpaces(Buffer.from(writer.take()).toString('latin1'));
}

/** An escaped text with its spaces raw. */
export function withSpaces(escaped: string): string {
  if (!escaped.includes('\\x20')) return escaped;
  // Pairs of backslashes are matched so that the second of one begins no escape.
  return escaped.replace(/\\\\|\\x20/g, (match) => (match === '\\x20' ? ' ' : match));
}

/** Bytes as a string of one character each: a key that compares like the bytes. */
export function toKey(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1');
}

/** The bytes of a key. */
export function fromKey(key: string): Buffer {
  return Buffer.from(key, 'latin1');
}
