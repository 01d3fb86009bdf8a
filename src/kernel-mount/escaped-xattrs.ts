// Whether an image has overlay attributes of the source tree's own, escaped as trusted.overlay.overlay.*:
// an overlayfs that does not know the escape shows another tree than the one that the image was made of.

import {
  type Image,
  Inode,
  readInode,
  walkEntries,
  XattrCursor,
  XattrIndex,
} from '../image-reader/index.ts';

const ESCAPED = Buffer.from('overlay.overlay.');

/** Looks at every inode, up to the first one that has any; damaged ones are skipped. */
export function hasEscapedXattrs(image: Image): boolean {
  const xattrs = new XattrCursor();
  const isEscaped = (inode: Inode): boolean => {
    if (xattrs.start(image, inode) !== 0) return false;
    while (xattrs.next() > 0) {
      const { nameIndex, nameStart, nameLength } = xattrs;
      if (nameIndex !== XattrIndex.TRUSTED || nameLength < ESCAPED.length) continue;
      if (ESCAPED.every((byte, i) => image.bytes[nameStart + i] === byte)) return true;
    }
    return false;
  };
  const root = new Inode();
  if (readInode(image, image.rootNid, root) === 0 && isEscaped(root)) return true;
  return walkEntries(image, isEscaped);
}
