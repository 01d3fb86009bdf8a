import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { Extent, isExternal, locateData } from '../../../src/image-reader/index.ts';
import { pattern } from '../../support/builder-zoo.ts';
import { directory, external, file, special, symlink, toBytes } from '../../support/image-nodes.ts';
import { EUCLEAN, open } from './helpers.ts';

describe('locateData', () => {
  it.each([
    [0, 'inline'],
    [1, 'inline'],
    [4000, 'inline'],
    [4000, 'block'],
    [4095, 'block'],
    [4096, 'inline'],
    [4097, 'inline'],
    [8191, 'block'],
    [8192, 'inline'],
    [20_000, 'inline'],
  ] as const)('finds every byte of %i bytes, %s', (size, tail) => {
    const content = pattern(size);
    const node = file(content, { tail });
    const { image, inode, bytes } = open(directory({ node }));
    const extent = new Extent();
    for (const offset of [0, 1, 2, 4095, 4096, 4097, 8191, 8192, size - 1, size, size + 1, 1e15]) {
      if (offset < 0) continue;
      expect(locateData(image, inode(node), offset, extent)).toBe(0);
      expect(extent.length > 0).toBe(offset < size);
      const run = bytes.slice(extent.start, extent.start + extent.length);
      expect(Buffer.compare(run, content.subarray(offset, offset + extent.length))).toBe(0);
      // The longest run: what is left is the other kind of place.
      const after = offset + extent.length;
      if (offset < size && after < size) expect(after % 4096).toBe(0);
    }
    let runs = 0;
    for (let offset = 0; offset < size; offset += extent.length, runs++) {
      locateData(image, inode(node), offset, extent);
    }
    expect(runs).toBeLessThanOrEqual(2);
  });

  it.each(['inline', 'block'] as const)('finds a symlink target, %s', (tail) => {
    const target = 'x'.repeat(2000);
    const node = symlink(target, { tail });
    const { image, inode, bytes } = open(directory({ node }));
    const extent = new Extent();
    expect(locateData(image, inode(node), 0, extent)).toBe(0);
    expect(bytes.slice(extent.start, extent.start + extent.length)).toEqual(toBytes(target));
  });

  it('a symlink target with a NUL is damage, hazard 10', () => {
    const node = symlink('a\0b');
    const { image, inode } = open(directory({ node }));
    expect(locateData(image, inode(node), 0, new Extent())).toBe(EUCLEAN);
  });

  it('finds directory pieces', () => {
    const node = directory({ a: file('') });
    const { image, inode, locate } = open(directory({ node }));
    const extent = new Extent();
    expect(locateData(image, inode(node), 0, extent)).toBe(0);
    expect(extent.start).toBe(locate(node).body);
  });

  it.each([-1, Number.NaN])('refuses offset %d', (offset) => {
    const node = file('x');
    const { image, inode } = open(directory({ node }));
    expect(locateData(image, inode(node), offset, new Extent())).toBe(-Errno.EINVAL);
  });

  it('refuses external and special files', () => {
    const nodes = { a: external(1, { redirect: '/x' }), b: special('fifo') };
    const { image, inode } = open(directory(nodes));
    for (const node of Object.values(nodes)) {
      expect(locateData(image, inode(node), 0, new Extent())).toBe(-Errno.EINVAL);
    }
  });
});

describe('isExternal', () => {
  it('is true for chunk based files only', () => {
    const nodes = { a: external(1, { redirect: '/x' }), b: file('x'), c: file('') };
    const { inode } = open(directory(nodes));
    expect(Object.values(nodes).map((node) => isExternal(inode(node)))).toEqual([
      true,
      false,
      false,
    ]);
  });
});
