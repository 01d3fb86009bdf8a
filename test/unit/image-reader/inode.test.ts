import { describe, expect, it } from 'vitest';
import { BLOCK_SIZE, INODE_COMPACT, INODE_EXTENDED } from '../../../src/image-reader/format.ts';
import {
  fileTypeOfMode,
  Image,
  Inode,
  Layout,
  readInode,
} from '../../../src/image-reader/index.ts';
import { buildImage } from '../../support/image-builder.ts';
import {
  directory,
  external,
  file,
  special,
  symlink,
  type TestNode,
  whiteout,
} from '../../support/image-nodes.ts';
import { type Damage, EUCLEAN, open } from './helpers.ts';

const digest = '5a'.repeat(32);

describe('readInode', () => {
  it('reads a compact inode, whose mtime is the build time', () => {
    const node = file('abc', { uid: 65_535, gid: 7, permissions: 0o4711, form: 'compact' });
    const options = { buildTime: -5n, buildTimeNsec: 3 };
    const { inode, locate } = open(directory({ node }), options);
    const at = locate(node);
    expect({ ...inode(node) }).toEqual({
      nid: at.nid,
      mode: 0o104711,
      layout: Layout.FLAT_INLINE,
      nlink: 1,
      uid: 65_535,
      gid: 7,
      rdev: 0,
      size: 3,
      sizeLow: 3,
      sizeHigh: 0,
      mtimeLow: 0xffff_fffb,
      mtimeHigh: 0xffff_ffff,
      mtimeNsec: 3,
      startBlock: 0,
      xattrStart: at.offset + 32,
      xattrEnd: at.offset + 32,
      body: at.offset + 32,
    });
  });

  it('reads an extended inode', () => {
    const node = file(new Uint8Array(BLOCK_SIZE + 5), {
      uid: 0xffff_fffe,
      gid: 0x1_0000,
      nlink: 0x1_0001,
      mtime: 2n ** 40n + 1n,
      mtimeNsec: 999_999_999,
      xattrs: [['user.a', 'b']],
    });
    const { inode, locate } = open(directory({ node }));
    const at = locate(node);
    expect({ ...inode(node) }).toEqual({
      nid: at.nid,
      mode: 0o100644,
      layout: Layout.FLAT_INLINE,
      nlink: 0x1_0001,
      uid: 0xffff_fffe,
      gid: 0x1_0000,
      rdev: 0,
      size: BLOCK_SIZE + 5,
      sizeLow: BLOCK_SIZE + 5,
      sizeHigh: 0,
      mtimeLow: 1,
      mtimeHigh: 256,
      mtimeNsec: 999_999_999,
      startBlock: at.blocks / BLOCK_SIZE,
      xattrStart: at.offset + 64,
      xattrEnd: at.offset + 64 + 12 + 8,
      body: at.offset + 64 + 12 + 8,
    });
  });

  it('reads the same from an image whose metadata starts in a later block', () => {
    const node = file('abc', { mtime: 3 });
    const { inode, locate } = open(directory({ node }), { metaBlock: 9 });
    expect(locate(node).offset).toBe(9 * BLOCK_SIZE + locate(node).nid * 32);
    expect(inode(node)).toMatchObject({ size: 3, mtimeLow: 3, nid: locate(node).nid });
  });

  it.each<[string, TestNode, number, number]>([
    ['a file', file('x'), 0o100000, 1],
    ['a directory', directory(), 0o040000, 2],
    ['a char device', special('char-device', 1, 3), 0o020000, 3],
    ['a block device', special('block-device', 8, 1), 0o060000, 4],
    ['a fifo', special('fifo'), 0o010000, 5],
    ['a socket', special('socket'), 0o140000, 6],
    ['a symlink', symlink('x'), 0o120000, 7],
  ])('knows %s', (_, node, type, fileType) => {
    const inode = open(directory({ node })).inode(node);
    expect(inode.mode & 0o170000).toBe(type);
    expect(fileTypeOfMode(inode.mode)).toBe(fileType);
    expect(inode.isDirectory).toBe(type === 0o040000);
    expect(inode.isRegular).toBe(type === 0o100000);
    expect(inode.isSymlink).toBe(type === 0o120000);
    expect(inode.isDevice).toBe(type === 0o020000 || type === 0o060000);
  });

  it('gives device numbers in the kernel encoding, and none to other kinds', () => {
    const big = special('block-device', 0xfff, 0xfffff);
    const disk = special('char-device', 8, 0x101);
    const content = file(new Uint8Array(BLOCK_SIZE));
    const { inode } = open(directory({ big, disk, content }));
    expect(inode(big).rdev).toBe(0xffff_ffff);
    expect(inode(disk).rdev).toBe(0x0010_0801);
    expect(inode(content).rdev).toBe(0);
  });

  it('calls only a char device 0:0 a whiteout', () => {
    const nodes = { a: whiteout(), b: special('block-device'), c: special('fifo') };
    const { inode } = open(directory(nodes));
    expect(inode(nodes.a).isWhiteout).toBe(true);
    expect(inode(nodes.b).isWhiteout).toBe(false);
    expect(inode(nodes.c).isWhiteout).toBe(false);
  });

  it('keeps both words of sizes up to 2^63 - 1 of external files, hazard 11', () => {
    const node = external(2n ** 63n - 1n, { digest });
    const inode = open(directory({ node })).inode(node);
    expect([inode.sizeHigh, inode.sizeLow]).toEqual([0x7fff_ffff, 0xffff_ffff]);
    const exact = external(2n ** 53n - 1n, { digest });
    expect(open(directory({ exact })).inode(exact).size).toBe(2 ** 53 - 1);
  });

  it('accepts in-image files of any size', () => {
    const node = file(new Uint8Array(100_001).fill(1));
    expect(open(directory({ node })).inode(node).size).toBe(100_001);
  });

  it('clamps nanoseconds, hazard 12', () => {
    const node = file('', { form: 'extended', override: { mtimeNsec: 1_000_000_000 } });
    expect(open(directory({ node })).inode(node).mtimeNsec).toBe(999_999_999);
  });

  it('accepts a link count of 0, hazard 13', () => {
    const node = file('', { nlink: 0 });
    expect(open(directory({ node })).inode(node).nlink).toBe(0);
  });

  it('accepts chunk sizes with bits above 16 set and broken chunk arrays', () => {
    const node = external(10, { digest }, { override: { iU: 0xabcd_001f } });
    const opened = open(directory({ node }), {}, ({ view, locate }) => {
      view.setUint32(locate(node).body, 7, true);
    });
    expect(opened.status(node)).toBe(0);
  });

  it('accepts an inode that crosses a block boundary', () => {
    // One of the two fillers moves the inodes by 32 bytes against the boundary.
    const crossing = ['x', 'x'.repeat(33)].flatMap((target) => {
      const files = Array.from({ length: 80 }, () => file('', { form: 'extended' }));
      const { locate, status } = open(
        directory([
          ['filler', symlink(target)],
          ...files.map((node, i) => [`f${i}`, node] as const),
        ]),
      );
      for (const node of files) expect(status(node)).toBe(0);
      return files.filter((node) => locate(node).offset % BLOCK_SIZE === BLOCK_SIZE - 32);
    });
    expect(crossing).toHaveLength(1);
  });
});

describe('nids, hazard 4', () => {
  const image = Image.open(buildImage(directory()));
  it.each([
    -1,
    0,
    35,
    128,
    2 ** 27,
    2 ** 32,
    2 ** 48,
    2 ** 53 - 1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ])('%d is outside', (nid) => {
    expect(readInode(image, nid, new Inode())).toBe(EUCLEAN);
  });

  it('an extended inode in the last slot does not fit', () => {
    const bytes = buildImage(directory());
    const last = Image.open(bytes);
    expect(readInode(last, 127, new Inode()), 'zeros are no inode').toBe(EUCLEAN);
    const view = last.view;
    view.setUint16(127 * 32 + INODE_COMPACT.MODE, 0o100644, true);
    expect(readInode(last, 127, new Inode())).toBe(0);
    view.setUint16(127 * 32, 1, true);
    expect(readInode(last, 127, new Inode())).toBe(EUCLEAN);
  });
});

describe('damaged inodes', () => {
  const setFormat =
    (format: number): Damage =>
    (view, at) =>
      view.setUint16(at.offset, format, true);
  const setSize =
    (size: number): Damage =>
    (view, at) =>
      view.setUint32(at.offset + INODE_COMPACT.SIZE_FIELD, size, true);
  const setBlock =
    (block: number): Damage =>
    (view, at) =>
      view.setUint32(at.offset + INODE_COMPACT.I_U, block, true);
  const setMode =
    (mode: number): Damage =>
    (view, at) =>
      view.setUint16(at.offset + INODE_COMPACT.MODE, mode, true);
  const setIcount =
    (icount: number): Damage =>
    (view, at) =>
      view.setUint16(at.offset + INODE_COMPACT.XATTR_ICOUNT, icount, true);
  const setHighSize =
    (high: number): Damage =>
    (view, at) =>
      view.setUint32(at.offset + INODE_EXTENDED.SIZE_FIELD + 4, high, true);

  const tail = file('tail');
  const blocks = file(new Uint8Array(2 * BLOCK_SIZE));
  const both = file(new Uint8Array(BLOCK_SIZE + 1));
  const link = symlink('target');
  const extended = file('x', { form: 'extended' });
  const object = external(5000, { digest }, { form: 'extended' });
  const dir = directory();

  it.each<[string, TestNode, Damage]>([
    ['5: compressed layout 1', tail, setFormat(1 << 1)],
    ['5: compressed layout 3', tail, setFormat(3 << 1)],
    ['5: reserved layout 5', tail, setFormat(5 << 1)],
    ['5: reserved layout 7', tail, setFormat(7 << 1)],
    ['5: reserved format bit', tail, setFormat(4 | 0x10)],
    ['5: top format bit', tail, setFormat(4 | 0x8000)],
    ['5: no type', tail, setMode(0o644)],
    ['5: unknown type', tail, setMode(0o150644)],
    ['6: chunk based directory', dir, setFormat(8)],
    ['6: chunk based symlink', link, setFormat(8)],
    ['6: inline device', special('char-device', 1, 3), setFormat(4)],
    ['6: chunk based fifo', special('fifo'), setFormat(8)],
    ['6: device with a size', special('block-device', 1, 3), setSize(1)],
    ['6: reserved chunk format', object, setBlock(0x40)],
    ['7: xattr area beyond the end', tail, setIcount(0xffff)],
    ['8: tail beyond the end', link, setSize(4095)],
    ['8: tail across a block boundary', tail, setSize(4000)],
    ['8: inline layout without a tail', both, setSize(BLOCK_SIZE)],
    ['8: inline layout without anything', tail, setSize(0)],
    ['9: blocks beyond the end', blocks, setBlock(1000)],
    ['9: last block beyond the end', blocks, setSize(100 * BLOCK_SIZE)],
    ['9: block address 2^32 - 1', blocks, setBlock(0xffff_ffff)],
    ['9: block address that wraps in 32 bits', blocks, setBlock(0x10_0000)],
    ['9: block of a file with a tail beyond the end', both, setBlock(0xffff_fff0)],
    ['9: size far above the image', blocks, setSize(0xffff_f000)],
    ['9: 64-bit size', extended, setHighSize(1)],
    ['9: 64-bit size whose low word is right', extended, setHighSize(0x20_0000)],
    ['9: huge directory', dir, setSize(0xffff_ffff)],
    ['10: symlink of size 0', symlink('abc', { tail: 'block' }), setSize(0)],
    ['10: symlink of size 4096', symlink('abc', { tail: 'block' }), setSize(4096)],
    ['11: negative size', object, setHighSize(0x8000_0000)],
    ['14: directory of size 0', directory({}, { tail: 'block' }), setSize(0)],
    ['14: directory of size 12', dir, setSize(12)],
  ])('hazard %s', (_, node, damage) => {
    const tree = directory({ node, filler: file(new Uint8Array(BLOCK_SIZE)) });
    expect(open(tree).status(node)).toBe(0);
    const opened = open(tree, {}, ({ view, locate }) => damage(view, locate(node)));
    expect(opened.status(node)).toBe(EUCLEAN);
  });

  it('hazard 9: data may end exactly at the end of the image, and not one byte later', () => {
    const tree = directory({ node: blocks });
    const { image, inode, status, view, locate } = open(tree);
    expect(inode(blocks).startBlock * BLOCK_SIZE + 2 * BLOCK_SIZE).toBe(image.sizeBytes);
    setSize(2 * BLOCK_SIZE + 1)(view, locate(blocks));
    expect(status(blocks)).toBe(EUCLEAN);
  });

  it('hazard 8: a tail behind the last byte of the image', () => {
    // An inode in the last slot: its body is the end of the image, so the tail crosses no boundary.
    const { image, view } = open(directory());
    const at = image.sizeBytes - INODE_COMPACT.SIZE;
    view.setUint16(at, Layout.FLAT_INLINE << 1, true);
    view.setUint16(at + INODE_COMPACT.MODE, 0o120777, true);
    view.setUint32(at + INODE_COMPACT.SIZE_FIELD, 5, true);
    expect(readInode(image, at / 32, new Inode())).toBe(EUCLEAN);
  });

  it('hazard 7: an xattr area may end exactly at the end of the image', () => {
    const last = file('');
    const { status, view, image, locate } = open(directory({ last }));
    const room = image.sizeBytes - locate(last).body;
    setIcount((room - 12) / 4 + 1)(view, locate(last));
    expect(status(last)).toBe(0);
    setIcount((room - 12) / 4 + 2)(view, locate(last));
    expect(status(last)).toBe(EUCLEAN);
  });
});
