import { describe, expect, it } from 'vitest';
import { findXattr, type Image, type Inode, XattrCursor } from '../../../src/image-reader/index.ts';
import {
  directory,
  file,
  type TestNode,
  type TestXattr,
  toBytes,
} from '../../support/image-nodes.ts';
import { type Damage, EUCLEAN, open, text } from './helpers.ts';

type Found = [index: number, name: string, value: string];

function all(image: Image, inode: Inode): { status: number; found: Found[] } {
  const cursor = new XattrCursor();
  const found: Found[] = [];
  let status = cursor.start(image, inode);
  if (status < 0) return { status, found };
  while ((status = cursor.next()) > 0) {
    found.push([
      cursor.nameIndex,
      text(image.bytes, cursor.nameStart, cursor.nameLength),
      text(image.bytes, cursor.valueStart, cursor.valueLength),
    ]);
  }
  if (status < 0) expect(cursor.next(), 'the error is repeated').toBe(status);
  return { status, found };
}

function find(image: Image, inode: Inode, index: number, suffix: string): number | string {
  const bytes = toBytes(`..${suffix}`);
  const cursor = new XattrCursor();
  const status = findXattr(image, inode, cursor, index, bytes, 2, bytes.length - 2);
  return status === 1 ? text(image.bytes, cursor.valueStart, cursor.valueLength) : status;
}

const every: TestXattr[] = [
  ['user.a', 'one'],
  ['system.posix_acl_access', 'acl'],
  ['system.posix_acl_default', ''],
  ['trusted.t', 'v'.repeat(1000)],
  ['lustre.l', 'five'],
  ['security.selinux', 'label\0'],
  { index: 0, name: 'whole.name', value: 'zero' },
  { index: 0, name: '', value: '' },
  ['user.', 'only a prefix'],
];
const everyFound: Found[] = [
  [1, 'a', 'one'],
  [2, '', 'acl'],
  [3, '', ''],
  [4, 't', 'v'.repeat(1000)],
  [5, 'l', 'five'],
  [6, 'selinux', 'label\0'],
  [0, 'whole.name', 'zero'],
  [0, '', ''],
  [1, '', 'only a prefix'],
];

describe('XattrCursor', () => {
  it('gives nothing for an inode without attributes', () => {
    const node = file('');
    const { image, inode } = open(directory({ node }));
    expect(all(image, inode(node))).toEqual({ status: 0, found: [] });
  });

  it('gives inline attributes of every index, an empty last entry included', () => {
    const node = file('body', { xattrs: every });
    const { image, inode } = open(directory({ node }));
    expect(all(image, inode(node))).toEqual({ status: 0, found: everyFound });
    const last = file('', { xattrs: every.slice(7, 8) });
    const opened = open(directory({ last }));
    expect(all(opened.image, opened.inode(last)).found).toEqual([[0, '', '']]);
  });

  it.each([
    ['', {}],
    ['counted from the start of the image', { xattrBlockZero: true }],
    ['with metadata elsewhere', { metaBlock: 5 }],
  ])('gives shared attributes after inline ones %s', (_, options) => {
    const one = file('', { xattrs: [...every, ['user.own', 'x']] });
    const two = file('', { xattrs: every });
    const { image, inode } = open(directory({ one, two }), options);
    expect(inode(two).xattrEnd - inode(two).xattrStart).toBe(12 + 4 * every.length);
    expect(all(image, inode(two))).toEqual({ status: 0, found: everyFound });
    expect(all(image, inode(one)).found).toEqual([[1, 'own', 'x'], ...everyFound]);
  });

  it('gives more shared attributes than one byte can count, the rest inline', () => {
    const xattrs = Array.from({ length: 300 }, (_, i) => [`user.x${i}`, String(i)] as const);
    const one = file('', { xattrs });
    const { image, inode } = open(directory({ one, two: file('', { xattrs }) }));
    const { found, status } = all(image, inode(one));
    expect(status).toBe(0);
    expect(new Set(found.map(([, name]) => name)).size).toBe(300);
  });

  it('gives the largest names and values', () => {
    const xattrs: TestXattr[] = [
      [`user.${'n'.repeat(250)}`, 'v'.repeat(65_535)],
      { index: 0, name: 'n'.repeat(255), value: '' },
    ];
    const node = file('', { xattrs });
    const { image, inode } = open(directory({ node }));
    expect(all(image, inode(node)).found.map(([i, n, v]) => [i, n.length, v.length])).toEqual([
      [1, 250, 65_535],
      [0, 255, 0],
    ]);
  });
});

describe('findXattr', () => {
  const node = file('', { xattrs: every });
  const { image, inode } = open(directory({ node, other: file('', { xattrs: [every[0]!] }) }));

  it('finds inline and shared attributes by index and suffix', () => {
    expect(find(image, inode(node), 1, 'a')).toBe('one');
    expect(find(image, inode(node), 6, 'selinux')).toBe('label\0');
    expect(find(image, inode(node), 2, '')).toBe('acl');
    expect(find(image, inode(node), 1, '')).toBe('only a prefix');
  });

  it('finds nothing else', () => {
    expect(find(image, inode(node), 1, 'b')).toBe(0);
    expect(find(image, inode(node), 1, 'aa')).toBe(0);
    expect(find(image, inode(node), 4, 'a')).toBe(0);
    expect(find(image, inode(node), 6, 'selinuy')).toBe(0);
    expect(find(image, inode(node), 0, 'user.a')).toBe(0);
  });

  it('gives the first of several attributes of one name, hazard 26', () => {
    const twice = file('', {
      xattrs: [
        ['user.x', '1'],
        ['user.x', '2'],
      ],
    });
    const opened = open(directory({ twice }));
    expect(find(opened.image, opened.inode(twice), 1, 'x')).toBe('1');
  });

  it('does not trust the name filter', () => {
    const opened = open(directory({ node }), {}, ({ view, locate }) => {
      view.setUint32(locate(node).xattrStart, 0xffff_ffff, true);
    });
    expect(find(opened.image, opened.inode(node), 1, 'a')).toBe('one');
  });
});

describe('damaged attributes', () => {
  const inline = file('', { xattrs: [['user.name', 'value']], form: 'compact' });
  const shared = file('', { xattrs: [['user.shared', 'v']], form: 'compact' });
  const tree = directory({
    inline,
    shared,
    again: file('', { xattrs: [['user.shared', 'v']] }),
  });
  /** Offsets in the area of `inline`: header 12, entry 4, name 4, value 5, 3 bytes of padding. */
  const entry = 12;

  it.each<[string, TestNode, Damage]>([
    ['22: icount 1', inline, (view, at) => view.setUint16(at.offset + 2, 1, true)],
    ['22: shared ids beyond the area', inline, (view, at) => view.setUint8(at.xattrStart + 4, 5)],
    [
      '22: one shared id more than the area has, with a right id behind it',
      shared,
      (view, at) => {
        view.setUint8(at.xattrStart + 4, 2);
        view.setUint32(at.xattrStart + 16, view.getUint32(at.xattrStart + 12, true), true);
      },
    ],
    ['22: shared count 255', inline, (view, at) => view.setUint8(at.xattrStart + 4, 255)],
    [
      '23: value beyond the area',
      inline,
      (view, at) => view.setUint16(at.xattrStart + entry + 2, 9, true),
    ],
    [
      '23: value of 65535 bytes',
      inline,
      (view, at) => view.setUint16(at.xattrStart + entry + 2, 65_535, true),
    ],
    ['23: name beyond the area', inline, (view, at) => view.setUint8(at.xattrStart + entry, 200)],
    [
      '24: leftover bytes',
      // The rest is read as an entry, and does not fit.
      inline,
      (view, at) => {
        view.setUint16(at.xattrStart + entry + 2, 1, true);
        view.setUint32(at.xattrStart + entry + 12, 0x0000_01ff, true);
      },
    ],
    [
      '25: shared id far outside',
      shared,
      (view, at) => view.setUint32(at.xattrStart + 12, 0xffff_ffff, true),
    ],
    [
      '25: shared id at the end of the image',
      shared,
      (view, at) => view.setUint32(at.xattrStart + 12, 1024, true),
    ],
    [
      '25: shared entry that leaves the image',
      shared,
      (view, at) => {
        view.setUint32(at.xattrStart + 12, 1023, true);
        view.setUint32(4092, 0x0001_0101, true);
      },
    ],
    ['26: name index 7', inline, (view, at) => view.setUint8(at.xattrStart + entry + 1, 7)],
    ['26: long prefix', inline, (view, at) => view.setUint8(at.xattrStart + entry + 1, 0x80)],
    ['26: NUL in a name', inline, (view, at) => view.setUint8(at.xattrStart + entry + 5, 0)],
  ])('hazard %s', (_, node, damage) => {
    const sound = open(tree);
    expect(sound.bytes.length).toBe(4096);
    expect(all(sound.image, sound.inode(node)).status).toBe(0);
    const { image, inode } = open(tree, {}, ({ view, locate }) => damage(view, locate(node)));
    expect(all(image, inode(node)).status).toBe(EUCLEAN);
    expect(find(image, inode(node), 6, 'none')).toBe(EUCLEAN);
  });

  it.each([
    ['user.', 1, 250],
    ['trusted.', 4, 247],
    ['security.', 6, 246],
    ['', 0, 255],
  ])('hazard 26: %s names have at most 255 bytes in all', (_, index, longest) => {
    const fits = file('', { xattrs: [{ index, name: 'n'.repeat(longest), value: '' }] });
    const length = Math.min(longest + 1, 255);
    const tooLong = file('', { xattrs: [{ index, name: 'n'.repeat(length), value: '' }] });
    const { image, inode } = open(directory({ fits, tooLong }));
    expect(all(image, inode(fits)).status).toBe(0);
    expect(all(image, inode(tooLong)).status).toBe(index === 0 ? 0 : EUCLEAN);
  });

  it('hazard 25: a shared entry may end exactly at the end of the image', () => {
    const { image, inode } = open(tree, {}, ({ view, locate }) => {
      view.setUint32(locate(shared).xattrStart + 12, 1023, true);
      view.setUint32(4092, 0x0000_0100, true);
    });
    expect(all(image, inode(shared))).toEqual({ status: 0, found: [[1, '', '']] });
  });
});
