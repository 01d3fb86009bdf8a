// The escapes of the dump format: `\\`, `\n`, `\r`, `\t` and `\xHH`.

import { BACKSLASH } from './fields.ts';

const LOWER_X = 0x78;
/** What each character after a backslash stands for; 0 for none. */
const SIMPLE: Uint8Array = new Uint8Array(256);
SIMPLE[BACKSLASH] = BACKSLASH;
SIMPLE[0x6e] = 0x0a;
SIMPLE[0x72] = 0x0d;
SIMPLE[0x74] = 0x09;

const NOT_HEX = 0xff;
const HEX_VALUES: Uint8Array = new Uint8Array(256).fill(NOT_HEX);
for (let value = 0; value < 16; value++) {
  HEX_VALUES['0123456789abcdef'.charCodeAt(value)] = value;
  HEX_VALUES['0123456789ABCDEF'.charCodeAt(value)] = value;
}

/** Results of unescape() for text that is wrong. */
export const EscapeProblem = {
  NOTHING: -1,
  TOO_SHORT: -2,
  NOT_HEX: -3,
  UNKNOWN: -4,
} as const;

/**
 * Writes what the text from `start` to `end` stands for to `out`, from `at` on, which needs room for
 * as many bytes. Returns the offset behind it, or one of EscapeProblem.
 */
export function unescape(
  bytes: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  at: number,
): number {
  let to = at;
  for (let from = start; from < end; from++) {
    const byte = bytes[from]!;
    if (byte !== BACKSLASH) {
      out[to++] = byte;
      continue;
    }
    if (++from === end) return EscapeProblem.NOTHING;
    const character = bytes[from]!;
    if (character === LOWER_X) {
      if (from + 2 >= end) return EscapeProblem.TOO_SHORT;
      const high = HEX_VALUES[bytes[from + 1]!]!;
      const low = HEX_VALUES[bytes[from + 2]!]!;
      if (high === NOT_HEX || low === NOT_HEX) return EscapeProblem.NOT_HEX;
      out[to++] = (high << 4) | low;
      from += 2;
    } else {
      const meaning = SIMPLE[character]!;
      if (meaning === 0) return EscapeProblem.UNKNOWN;
      out[to++] = meaning;
    }
  }
  return to;
}

/** What a result of unescape() below 0 means. */
export function describeEscapeProblem(result: number): string {
  switch (result) {
    case EscapeProblem.NOTHING:
      return 'has a backslash with nothing after it';
    case EscapeProblem.TOO_SHORT:
      return 'has a \\x without two hex digits';
    case EscapeProblem.NOT_HEX:
      return 'has a \\x with characters that are not hex digits';
    default:
      return 'has a backslash before a character that is not one of \\ n r t x';
  }
}
