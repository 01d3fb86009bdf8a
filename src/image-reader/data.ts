// Where the bytes of in-image data lie: inline file contents, symlink targets, directory pieces.
// External content is not here; see object-ref.ts. Relies on readInode() having checked the ranges.

import { Errno } from '../errors.ts';
import { BLOCK_SIZE, Layout, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './format.ts';
import type { Image } from './image.ts';
import type { Inode } from './inode.ts';

/** A reusable record of a byte range of the image. */
export class Extent {
  start = 0;
  length = 0;
}

/** Whether the content of a regular file is in an object and not in the image. */
export function isExternal(inode: Inode): boolean {
  return inode.layout === Layout.CHUNK_BASED && (inode.mode & S_IFMT) === S_IFREG;
}

/**
 * Sets `out` to the longest run of image bytes that holds the data from `offset` on: the whole
 * blocks, or the tail behind the inode, so a file has at most two runs. Length 0 at and after the
 * end. A symlink target is always one run.
 *
 * Returns 0, or -EINVAL for a negative offset, external and special files, or -EUCLEAN for a symlink
 * target that contains a NUL, which no user program would see as a whole.
 */
export function locateData(image: Image, inode: Inode, offset: number, out: Extent): number {
  out.start = 0;
  out.length = 0;
  const type = inode.mode & S_IFMT;
  if (type !== S_IFREG && type !== S_IFLNK && type !== S_IFDIR) return -Errno.EINVAL;
  if (inode.layout === Layout.CHUNK_BASED || !(offset >= 0)) return -Errno.EINVAL;
  const size = inode.size;
  if (offset >= size) return 0;
  const inBlocks = inode.layout === Layout.FLAT_PLAIN ? size : size - (size % BLOCK_SIZE);
  if (offset < inBlocks) {
    out.start = inode.startBlock * BLOCK_SIZE + offset;
    out.length = inBlocks - offset;
  } else {
    out.start = inode.body + (offset - inBlocks);
    out.length = size - offset;
  }
  if (type !== S_IFLNK) return 0;
  const bytes = image.bytes;
  const end = out.start + out.length;
  for (let i = out.start; i < end; i++) {
    if (bytes[i] === 0) return -Errno.EUCLEAN;
  }
  return 0;
}
