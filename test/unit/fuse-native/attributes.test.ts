// Numbers of the image in those that the package can carry.

import { describe, expect, it } from 'vitest';
import { statfsOf, statOf } from '../../../src/fuse-native/attributes.ts';
import { Inode } from '../../../src/image-reader/index.ts';

const TWO_POW_32 = 2 ** 32;

function inodeAt(seconds: bigint, nsec = 0): Inode {
  const inode = new Inode();
  const words = BigInt.asUintN(64, seconds);
  inode.mtimeLow = Number(words & 0xffff_ffffn);
  inode.mtimeHigh = Number(words >> 32n);
  inode.mtimeNsec = nsec;
  return inode;
}

describe('times', () => {
  it.each([
    ['are cut to milliseconds', 1_700_000_000n, 123_999_999, 1_700_000_000_123],
    ['may lie beyond 32 bits', 2n ** 32n + 5n, 0, (TWO_POW_32 + 5) * 1000],
    ['before 1970 become 1970', -1n, 999_999_999, 0],
    ['long before, too', -(2n ** 63n), 0, 0],
    ['that no number holds become the last that one does', 2n ** 62n, 0, Number.MAX_SAFE_INTEGER],
  ])('%s', (_what, seconds, nsec, expected) => {
    const { atime, mtime, ctime } = statOf(inodeAt(seconds, nsec));
    expect([atime, mtime, ctime]).toEqual([expected, expected, expected]);
  });
});

describe('sizes', () => {
  it('come with their blocks', () => {
    const inode = new Inode();
    inode.size = 4097;
    expect(statOf(inode)).toMatchObject({ size: 4097, blksize: 4096, blocks: 16 });
  });
});

describe('statistics', () => {
  const small = { blocks: 100, bfree: 50, bavail: 40, files: 10, ffree: 5, bsize: 4096 };

  it('are passed on where they fit', () => {
    expect(statfsOf(small)).toMatchObject({ ...small, frsize: 4096, favail: 5, namemax: 255 });
  });

  it('count larger blocks where they do not', () => {
    const found = statfsOf({ ...small, blocks: 5 * TWO_POW_32, bfree: 4 * TWO_POW_32, bavail: 3 });
    expect(found.blocks).toBeLessThan(TWO_POW_32);
    expect(found.bsize).toBe(8 * 4096);
    expect(found).toMatchObject({ blocks: (5 * TWO_POW_32) / 8, bfree: TWO_POW_32 / 2, bavail: 0 });
  });

  it('stop at the largest number of files', () => {
    const found = statfsOf({ ...small, files: 2 ** 40, ffree: 2 ** 40 });
    expect(found).toMatchObject({ files: TWO_POW_32 - 1, ffree: TWO_POW_32 - 1 });
  });
});
