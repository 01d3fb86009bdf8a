// Inodes and statistics in the numbers that the package takes. It keeps times in milliseconds without
// a sign, sizes in doubles, and statistics in 32 bits; docs/transports.md says what that costs.

import type { FilesystemStatistics } from '../filesystem/composefs.ts';
import type { Inode } from '../image-reader/index.ts';
import type { PackageStat, PackageStatfs } from './package.ts';

const TWO_POW_32 = 2 ** 32;
const BLOCK_SIZE = 4096;
const SECTORS_PER_BLOCK = 8;
const MAX_NAME = 255;
const NSEC_PER_MS = 1_000_000;

export function statOf(inode: Inode): PackageStat {
  const time = millisecondsOf(inode);
  return {
    mode: inode.mode,
    ino: inode.nid,
    uid: inode.uid,
    gid: inode.gid,
    size: inode.size,
    nlink: inode.nlink,
    rdev: inode.rdev,
    blksize: BLOCK_SIZE,
    blocks: Math.ceil(inode.size / BLOCK_SIZE) * SECTORS_PER_BLOCK,
    atime: time,
    mtime: time,
    ctime: time,
  };
}

/** What comes before 1970 or after the year 287,396 becomes the nearest time that can be told. */
function millisecondsOf({ mtimeLow, mtimeHigh, mtimeNsec }: Inode): number {
  const seconds = (mtimeHigh | 0) * TWO_POW_32 + mtimeLow;
  const milliseconds = seconds * 1000 + Math.floor(mtimeNsec / NSEC_PER_MS);
  return Math.min(Math.max(milliseconds, 0), Number.MAX_SAFE_INTEGER);
}

/** Blocks are made larger until their number fits. */
export function statfsOf(statistics: FilesystemStatistics): PackageStatfs {
  let { blocks, bfree, bavail, bsize } = statistics;
  while (blocks >= TWO_POW_32) {
    blocks = Math.floor(blocks / 2);
    bfree = Math.floor(bfree / 2);
    bavail = Math.floor(bavail / 2);
    bsize *= 2;
  }
  const files = Math.min(statistics.files, TWO_POW_32 - 1);
  const ffree = Math.min(statistics.ffree, TWO_POW_32 - 1);
  return {
    bsize,
    frsize: bsize,
    blocks,
    bfree,
    bavail,
    files,
    ffree,
    favail: ffree,
    namemax: MAX_NAME,
  };
}
