// The attributes of an inode of an image as those of the source tree: what the writer added is taken
// out, and what it escaped is restored.

import {
  type Image,
  type Inode,
  XattrCursor,
  XATTR_PREFIXES,
  XattrIndex,
} from '../image-reader/index.ts';
import { EQUALS } from './fields.ts';
import { EscapeMode, type TextWriter } from './text-writer.ts';

const encoder = new TextEncoder();
const PREFIXES: readonly Uint8Array[] = XATTR_PREFIXES.map((prefix) => encoder.encode(prefix));
/** Names behind `trusted.` that overlayfs acts on, and those of the source tree among them. */
const OVERLAY: Uint8Array = encoder.encode('overlay.');
const ESCAPED: Uint8Array = encoder.encode('overlay.overlay.');
const METACOPY: Uint8Array = encoder.encode('overlay.metacopy');
const REDIRECT: Uint8Array = encoder.encode('overlay.redirect');
const ESCAPED_WHITEOUT: Uint8Array = encoder.encode('overlay.overlay.whiteout');
const ESCAPED_WHITEOUTS: Uint8Array = encoder.encode('overlay.overlay.whiteouts');
const USER_WHITEOUT: Uint8Array = encoder.encode('overlay.whiteout');
const USER_WHITEOUTS: Uint8Array = encoder.encode('overlay.whiteouts');

/** A reusable record of one inode's attributes: start() fills it, write() prints them. */
export class ImageXattrs {
  /** The inode is marked as a whiteout, if it is a regular file. */
  isWhiteout: boolean = false;
  /** Where the values of the two attributes of external files lie; length -1 without one. */
  redirectStart: number = 0;
  redirectLength: number = -1;
  metacopyStart: number = 0;
  metacopyLength: number = -1;
  readonly #image: Image;
  readonly #cursor: XattrCursor = new XattrCursor();
  #inode: Inode | undefined;

  constructor(image: Image) {
    this.#image = image;
  }

  /** Returns 0 or -EUCLEAN. */
  start(inode: Inode): number {
    this.#inode = inode;
    this.isWhiteout = false;
    this.redirectLength = -1;
    this.metacopyLength = -1;
    const cursor = this.#cursor;
    let status = cursor.start(this.#image, inode);
    while (status === 0 && (status = cursor.next()) > 0) {
      status = 0;
      if (cursor.nameIndex !== XattrIndex.TRUSTED) continue;
      if (this.#isNamed(METACOPY)) {
        this.metacopyStart = cursor.valueStart;
        this.metacopyLength = cursor.valueLength;
      } else if (this.#isNamed(REDIRECT)) {
        this.redirectStart = cursor.valueStart;
        this.redirectLength = cursor.valueLength;
      } else if (this.#isNamed(ESCAPED_WHITEOUT)) {
        this.isWhiteout = true;
      }
    }
    return status;
  }

  /** Writes the attributes of the source tree, each with a space in front. */
  write(out: TextWriter): void {
    if (this.#inode === undefined) return;
    const cursor = this.#cursor;
    const { bytes } = this.#image;
    // start() has seen all of them: none is damaged.
    cursor.start(this.#image, this.#inode);
    while (cursor.next() > 0) {
      if (this.#isOwn()) continue;
      out.space();
      const prefix = PREFIXES[cursor.nameIndex] as Uint8Array;
      out.text(prefix, 0, prefix.length, EscapeMode.EQUALS);
      const nameEnd = cursor.nameStart + cursor.nameLength;
      const isEscaped = cursor.nameIndex === XattrIndex.TRUSTED && this.#startsWith(ESCAPED);
      const nameStart = cursor.nameStart + (isEscaped ? OVERLAY.length : 0);
      out.text(bytes, nameStart, nameEnd, EscapeMode.EQUALS);
      out.byte(EQUALS);
      const valueEnd = cursor.valueStart + cursor.valueLength;
      out.text(bytes, cursor.valueStart, valueEnd, EscapeMode.EQUALS);
    }
  }

  /** Whether the attribute is one that only writers of images make. */
  #isOwn(): boolean {
    switch (this.#cursor.nameIndex) {
      case XattrIndex.TRUSTED:
        if (!this.#startsWith(OVERLAY)) return false;
        return (
          !this.#startsWith(ESCAPED) ||
          this.#isNamed(ESCAPED_WHITEOUT) ||
          this.#isNamed(ESCAPED_WHITEOUTS)
        );
      case XattrIndex.USER:
        return this.#isNamed(USER_WHITEOUT) || this.#isNamed(USER_WHITEOUTS);
      default:
        return false;
    }
  }

  #isNamed(name: Uint8Array): boolean {
    return this.#cursor.nameLength === name.length && this.#startsWith(name);
  }

  #startsWith(prefix: Uint8Array): boolean {
    const { nameStart, nameLength } = this.#cursor;
    if (nameLength < prefix.length) return false;
    for (let i = 0; i < prefix.length; i++) {
      if (this.#image.bytes[nameStart + i] !== prefix[i]) return false;
    }
    return true;
  }
}
