// Numbers as the reference reads them: strtoull() over the whole field. Plain digits are read
// without an object; blanks, signs and overflow take the slow path.

const ZERO = 0x30;
/** Digits of a decimal number that is exact in any case. */
const SAFE_DIGITS = 15;
const U64_MAX = 2n ** 64n - 1n;
const DECIMAL = /^[\t\v\f\r]*([+-]?)([0-9]+)$/;
const OCTAL = /^[\t\v\f\r]*([+-]?)([0-7]+)$/;

/** The value of 1 to 15 plain digits of the base (8 or 10), else -1: readInteger() decides. */
export function readDigits(bytes: Uint8Array, start: number, end: number, base: number): number {
  if (start === end || end - start > SAFE_DIGITS) return -1;
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - ZERO;
    if (digit < 0 || digit >= base) return -1;
    value = value * base + digit;
  }
  return value;
}

/** The value modulo 2^64, the largest for any above it; undefined if the text is not a number. */
export function readInteger(
  bytes: Uint8Array,
  start: number,
  end: number,
  base: number,
): bigint | undefined {
  let text = '';
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at]!);
  const match = (base === 8 ? OCTAL : DECIMAL).exec(text);
  if (match === null) return undefined;
  const [, sign, digits = ''] = match;
  const value = BigInt(base === 8 ? `0o${digits}` : digits);
  if (value > U64_MAX) return U64_MAX;
  return sign === '-' ? BigInt.asUintN(64, -value) : value;
}
