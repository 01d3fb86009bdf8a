import { describe, expect, it } from 'vitest';
import * as format from '../../../src/image-reader/format.ts';

describe('the layout objects', () => {
  it.each([
    ['composefs header', format.COMPOSEFS_HEADER.SIZE, 32],
    ['superblock', format.SUPER_BLOCK.SIZE, 128],
    ['compact inode', format.INODE_COMPACT.SIZE, 32],
    ['extended inode', format.INODE_EXTENDED.SIZE, 64],
    ['dirent', format.DIRENT.SIZE, 12],
    ['xattr area header', format.XATTR_IBODY_HEADER.SIZE, 12],
    ['xattr entry', format.XATTR_ENTRY.SIZE, 4],
  ])('%s has the size of its C structure', (_, size, expected) => {
    expect(size).toBe(expected);
  });

  it('has the fields that both inode forms share at the same places', () => {
    for (const field of ['FORMAT', 'XATTR_ICOUNT', 'MODE', 'SIZE_FIELD', 'I_U', 'INO'] as const) {
      expect(format.INODE_COMPACT[field]).toBe(format.INODE_EXTENDED[field]);
    }
  });
});
