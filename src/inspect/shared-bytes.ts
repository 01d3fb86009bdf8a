// A hostile image can have many inodes whose attributes and contents are the same bytes, so that
// reading all of them takes time quadratic in its size, and a dump becomes endless. In a sound one
// every inode has bytes of its own.

import { damaged, setBit, walkNames } from '../dump/image-names.ts';
import { type Image, type Inode, isExternal } from '../image-reader/index.ts';

/** One per walk. */
export class SharedBytes {
  readonly #seen: Uint8Array;
  #bytesLeft: number;

  constructor(image: Image) {
    this.#seen = new Uint8Array(Math.ceil(image.endNid / 8));
    this.#bytesLeft = image.sizeBytes;
  }

  /** False for further names of an inode, whose attributes need not be read again. */
  isNew(inode: Inode): boolean {
    return setBit(this.#seen, inode.nid);
  }

  /** Takes account of an inode; false if it was seen. Throws ImageError when areas overlap. */
  add(inode: Inode): boolean {
    if (!this.isNew(inode)) return false;
    if (!this.takesPart(inode))
      damaged(inode.nid, 'attributes or contents of inodes share their bytes');
    return true;
  }

  /** Whether the image has room for what is behind one more inode. */
  takesPart(inode: Inode): boolean {
    this.#bytesLeft -= inode.xattrEnd - inode.xattrStart;
    if (!isExternal(inode)) this.#bytesLeft -= inode.size;
    return this.#bytesLeft >= 0;
  }
}

/** Throws ImageError if inodes share their bytes, or for damage of names and inodes. */
export function refuseSharedBytes(image: Image): void {
  const bytes = new SharedBytes(image);
  const visitor = { name: (inode: Inode) => void bytes.add(inode), leave: () => undefined };
  const walk = walkNames(image, visitor, undefined);
  while (walk.next().done !== true) continue;
}
