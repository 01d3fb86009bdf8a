// The fixed fields of a line of a dump: their names, their order, and where each lies in the line.

/** Position in the line. */
export const Field = {
  PATH: 0,
  SIZE: 1,
  MODE: 2,
  NLINK: 3,
  UID: 4,
  GID: 5,
  RDEV: 6,
  MTIME: 7,
  PAYLOAD: 8,
  CONTENT: 9,
  DIGEST: 10,
  /** Everything behind the digest. */
  XATTRS: 11,
} as const;

export const FIELD_NAMES: readonly string[] = [
  'path',
  'size',
  'mode',
  'nlink',
  'uid',
  'gid',
  'rdev',
  'mtime',
  'payload',
  'content',
  'digest',
  'xattrs',
];

export const SPACE = 0x20;
export const NEWLINE = 0x0a;
export const BACKSLASH = 0x5c;
export const SLASH = 0x2f;
export const DASH = 0x2d;
export const EQUALS = 0x3d;
export const DOT = 0x2e;
export const AT = 0x40;

/** A reusable record of where the fields of one line are. */
export class LineFields {
  bytes: Uint8Array = new Uint8Array(0);
  readonly starts: Int32Array = new Int32Array(Field.XATTRS + 1);
  readonly ends: Int32Array = new Int32Array(Field.XATTRS + 1);
  /** Bit n: field n contains a backslash. */
  #escapes: number = 0;

  /**
   * Finds the fields of the line at `start`, which a newline must end. Returns where that is. Fields
   * that the line does not have are empty, at its end.
   */
  split(bytes: Uint8Array, start: number): number {
    this.bytes = bytes;
    const { starts, ends } = this;
    let escapes = 0;
    let field = 0;
    let at = start;
    starts[0] = start;
    while (field < Field.XATTRS) {
      let byte = bytes[at]!;
      // Nearly all bytes end here: two comparisons, no bounds of ours.
      while (byte > SPACE && byte !== BACKSLASH) byte = bytes[++at]!;
      if (byte === SPACE) {
        ends[field] = at;
        starts[++field] = at + 1;
      } else if (byte === BACKSLASH) {
        escapes |= 1 << field;
      } else if (byte === NEWLINE) {
        break;
      }
      at++;
    }
    while (bytes[at] !== NEWLINE) at++;
    ends[field] = at;
    while (field < Field.XATTRS) {
      starts[++field] = at;
      ends[field] = at;
    }
    this.#escapes = escapes;
    return at;
  }

  isEscaped(field: number): boolean {
    return (this.#escapes & (1 << field)) !== 0;
  }

  lengthOf(field: number): number {
    return this.ends[field]! - this.starts[field]!;
  }

  /** Whether an optional field says that there is nothing. */
  isNone(field: number): boolean {
    return this.lengthOf(field) === 1 && this.bytes[this.starts[field]!] === DASH;
  }
}
