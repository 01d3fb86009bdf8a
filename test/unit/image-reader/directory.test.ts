import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { BLOCK_SIZE, DIRENT, FileType } from '../../../src/image-reader/format.ts';
import { DirectoryCursor, Inode, readInode } from '../../../src/image-reader/index.ts';
import {
  directory,
  file,
  special,
  type TestChild,
  type TestDirectory,
  whiteout,
} from '../../support/image-nodes.ts';
import { EUCLEAN, find, list, names, open } from './helpers.ts';

const leaf = file('leaf');
const ENOENT = -Errno.ENOENT;

function numbered(count: number, width = 4): TestChild[] {
  return Array.from({ length: count }, (_, i) => [`e${String(i).padStart(width, '0')}`, leaf]);
}

describe.each<[string, TestDirectory]>([
  ['empty', directory()],
  ['of one tail', directory({ a: leaf, b: directory(), c: whiteout() })],
  ['of one block', directory(numbered(100), { tail: 'block' })],
  ['of a block that is not full', directory(numbered(20), { tail: 'short-block' })],
  ['of a block and a tail', directory(numbered(260), { tail: 'inline' })],
  ['of many blocks', directory(numbered(1000))],
  ['of blocks that are exactly full', directory(numbered(600, 243), { tail: 'block' })],
  ['of the longest names', directory(numbered(100, 254))],
  ['of the shortest names', directory([...'abcdefgh'].map((name) => [name, leaf]))],
  ['with names before the dots', directory({ '!': leaf, '+': leaf, '-x': leaf, '.a': leaf })],
  ['with any bytes', directory([0x01, 0x7f, 0x80, 0xff].map((b) => [Uint8Array.of(b), leaf]))],
])('a directory %s', (_, tree) => {
  const { image, inode, locate } = open(directory({ tree }));
  const dir = inode(tree);
  const listed = list(image, dir);

  it('is listed completely and in order', () => {
    const expected = ['.', '..', ...tree.children.map(([name]) => Buffer.from(name as string))]
      .map((name) => Buffer.from(name).toString('latin1'))
      .sort((a, b) => Buffer.compare(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1')));
    expect(listed.status).toBe(0);
    expect(listed.entries.map(({ name }) => name)).toEqual(expected);
  });

  it('finds every entry, and nothing beside them', () => {
    expect(locate(tree).pieces.length).toBe(Math.ceil(dir.size / BLOCK_SIZE));
    for (const { name, nid } of listed.entries) {
      const bytes = Buffer.from(name, 'latin1');
      expect(find(image, dir, bytes)).toBe(nid);
      expect(find(image, dir, Buffer.concat([bytes, Buffer.of(1)]))).toBe(ENOENT);
      // A proper prefix of a name, unless it is a name itself.
      const prefix = bytes.subarray(0, -1);
      const isName = listed.entries.some((entry) => entry.name === prefix.toString('latin1'));
      if (!isName) expect(find(image, dir, prefix)).toBe(ENOENT);
    }
    expect(find(image, dir, '')).toBe(ENOENT);
    expect(find(image, dir, Uint8Array.of(0xff, 0xff, 0xff))).toBe(ENOENT);
    // Sorts before everything: the reference FUSE server loops for ever on such names.
    expect(find(image, dir, Uint8Array.of(0x01, 0x01))).toBe(ENOENT);
    expect(find(image, dir, ' ')).toBe(ENOENT);
  });

  it('continues after every cookie', () => {
    let last = 0;
    listed.entries.forEach(({ cookie }, i) => {
      expect(cookie).toBeGreaterThan(last);
      last = cookie;
      if (i % 17 !== 0 && i < listed.entries.length - 3) return;
      const rest = list(image, dir, cookie);
      expect(rest).toEqual({ status: 0, entries: listed.entries.slice(i + 1) });
    });
  });
});

describe('entries', () => {
  it('find . and .. as what they lead to', () => {
    const inner = directory();
    const outer = directory({ inner });
    const root = directory({ outer });
    const { image, inode, locate } = open(root);
    expect(find(image, inode(inner), '.')).toBe(locate(inner).nid);
    expect(find(image, inode(inner), '..')).toBe(locate(outer).nid);
    expect(find(image, inode(root), '..')).toBe(locate(root).nid);
  });

  it('have the file type that is stored, or none for one that does not exist', () => {
    const tree = directory([
      ['a', special('fifo')],
      ['b', leaf, { fileType: 0 }],
      ['c', leaf, { fileType: 8 }],
      ['d', leaf, { fileType: FileType.SYMLINK }],
    ]);
    const { image, inode } = open(tree);
    const types = list(image, inode(tree)).entries.map(({ fileType }) => fileType);
    expect(types).toEqual([2, 2, 5, 0, 0, 7]);
  });

  it('may have the same nid', () => {
    const tree = directory({ a: leaf, b: directory({ c: leaf }) });
    const { image, inode, locate } = open(tree);
    expect(find(image, inode(tree), 'a')).toBe(locate(leaf).nid);
  });

  it('a nid that no number holds damages only its own entry, hazard 4', () => {
    const tree = directory([
      ['a', leaf],
      ['b', leaf, { nid: 2n ** 53n }],
      ['c', leaf, { nid: 2n ** 64n - 1n }],
      ['d', leaf, { nid: 2n ** 59n + 36n }],
      ['e', leaf, { nid: 2n ** 53n - 1n }],
      ['f', leaf],
    ]);
    const { image, inode } = open(tree);
    const dir = inode(tree);
    expect(names(image, dir)).toEqual(['.', '..', 'a', 'b', 'c', 'd', 'e', 'f']);
    for (const name of 'bcd') expect(find(image, dir, name)).toBe(EUCLEAN);
    expect(find(image, dir, 'e')).toBe(2 ** 53 - 1);
    for (const { nid, name } of list(image, dir).entries) {
      const expected = 'bcde'.includes(name) ? EUCLEAN : 0;
      expect(readInode(image, nid, new Inode())).toBe(expected);
    }
  });

  it('of something that is not a directory: ENOTDIR', () => {
    const { image, inode } = open(directory({ leaf }));
    expect(find(image, inode(leaf), 'x')).toBe(-Errno.ENOTDIR);
    expect(new DirectoryCursor().start(image, inode(leaf), 0)).toBe(-Errno.ENOTDIR);
  });
});

describe('cookies', () => {
  const tree = directory(numbered(400));
  const { image, inode } = open(tree);

  it.each([-1, 511, 2 * 512, 1e9, 2 ** 53 - 1, Number.NaN, Number.POSITIVE_INFINITY])(
    '%d, which no entry has, is the end',
    (cookie) => {
      expect(list(image, inode(tree), cookie)).toEqual({ entries: [], status: 0 });
    },
  );

  it('work in a cursor that listed another directory before', () => {
    const other = directory({ only: leaf });
    const opened = open(directory({ other, tree }));
    const cursor = new DirectoryCursor();
    cursor.start(opened.image, opened.inode(tree), 0);
    for (let i = 0; i < 300; i++) cursor.next();
    const cookie = cursor.nextCookie;
    cursor.start(opened.image, opened.inode(other), 0);
    expect([cursor.next(), cursor.next(), cursor.next(), cursor.next()]).toEqual([1, 1, 1, 0]);
    cursor.start(opened.image, opened.inode(tree), cookie);
    cursor.next();
    const all = list(opened.image, opened.inode(tree)).entries;
    expect(cursor.nextCookie).toBe(all[300]?.cookie);
  });
});

describe('damaged pieces', () => {
  // Two blocks and a tail.
  const tree = directory(numbered(600), { tail: 'inline' });
  const root = directory({ tree });
  const nameOff = (piece: number, index: number): number =>
    piece + index * DIRENT.SIZE + DIRENT.NAMEOFF;

  it.each<[string, (view: DataView, piece: number, length: number) => void]>([
    ['14: first nameoff 0', (view, at) => view.setUint16(nameOff(at, 0), 0, true)],
    ['14: first nameoff no multiple of 12', (view, at) => view.setUint16(nameOff(at, 0), 13, true)],
    [
      '14: first nameoff beyond the piece',
      (view, at) => view.setUint16(nameOff(at, 0), 4104, true),
    ],
    ['14: first nameoff 65532', (view, at) => view.setUint16(nameOff(at, 0), 65_532, true)],
    ['15: nameoff among the dirents', (view, at) => view.setUint16(nameOff(at, 1), 12, true)],
    ['15: nameoff beyond the piece', (view, at) => view.setUint16(nameOff(at, 1), 0xffff, true)],
    [
      '15: empty name',
      (view, at) => view.setUint16(nameOff(at, 1), view.getUint16(nameOff(at, 0), true), true),
    ],
    [
      '15: name of 256 bytes',
      (view, at) =>
        view.setUint16(nameOff(at, 1), view.getUint16(nameOff(at, 0), true) + 256, true),
    ],
    [
      '15: name with a slash',
      (view, at) => view.setUint8(at + view.getUint16(nameOff(at, 5), true) + 1, 0x2f),
    ],
    [
      '15: name with a NUL',
      (view, at) => view.setUint8(at + view.getUint16(nameOff(at, 5), true) + 1, 0),
    ],
    [
      '15: empty last name',
      (view, at) => {
        const count = view.getUint16(nameOff(at, 0), true) / DIRENT.SIZE;
        view.setUint8(at + view.getUint16(nameOff(at, count - 1), true), 0);
      },
    ],
    [
      '16: descending names',
      (view, at) => view.setUint8(at + view.getUint16(nameOff(at, 5), true), 0x7e),
    ],
    [
      '16: equal names',
      (view, at) => {
        const [a, b] = [7, 8].map((i) => at + view.getUint16(nameOff(at, i), true));
        for (let i = 0; i < 5; i++) view.setUint8(b! + i, view.getUint8(a! + i));
      },
    ],
  ])('hazard %s', (_, damage) => {
    for (const piece of [0, 1, 2]) {
      const { image, inode } = open(root, {}, ({ view, locate }) => {
        const { start, length } = locate(tree).pieces[piece]!;
        damage(view, start, length);
      });
      const sound = open(root);
      const all = list(sound.image, sound.inode(tree)).entries;
      const before = all.filter(({ cookie }) => Math.floor(cookie / 512) < piece);
      const listed = list(image, inode(tree));
      expect(listed, `piece ${piece}`).toEqual({ status: EUCLEAN, entries: before });
      expect(list(image, inode(tree), piece * 512 + 3).status).toBe(EUCLEAN);
      // A lookup may or may not meet the damage, but its answers are never wrong.
      for (const { name, nid } of all) {
        expect([nid, ENOENT, EUCLEAN]).toContain(find(image, inode(tree), name));
      }
    }
  });

  it('hazard 16: pieces in the wrong order', () => {
    const { image, inode } = open(root, {}, ({ bytes, locate }) => {
      const [first, second] = locate(tree).pieces;
      bytes.copyWithin(second!.start, first!.start, first!.start + BLOCK_SIZE);
    });
    const listed = list(image, inode(tree));
    expect(listed.status).toBe(EUCLEAN);
    expect(listed.entries.every(({ cookie }) => cookie < 512)).toBe(true);
    // Also when the listing begins with the second piece.
    expect(list(image, inode(tree), 512)).toEqual({ status: EUCLEAN, entries: [] });
  });

  it('hazard 15: the last name of a tail ends at the end of the tail', () => {
    const small = directory({ a: leaf });
    const { image, inode, view, locate } = open(directory({ small }));
    // What follows the tail is not part of the name.
    view.setUint8(locate(small).body + locate(small).tailLength, 0x41);
    expect(names(image, inode(small))).toEqual(['.', '..', 'a']);
    expect(find(image, inode(small), 'a')).toBe(locate(leaf).nid);
  });

  it('hazard 14: a tail too short for one dirent', () => {
    // 4097 bytes: one whole block, and one byte behind the inode.
    const one = directory(numbered(230), { tail: 'inline' });
    const { image, inode } = open(directory({ one }), {}, ({ view, locate }) => {
      view.setUint32(locate(one).offset + 8, BLOCK_SIZE + 1, true);
    });
    expect(list(image, inode(one)).status).toBe(EUCLEAN);
    expect(find(image, inode(one), 'zzz')).toBe(EUCLEAN);
    expect(find(image, inode(one), 'e0001')).toBe(EUCLEAN);
  });

  it('hazard 14: a tail too short for one dirent at the end of the image', () => {
    const one = directory(numbered(230), { tail: 'inline' });
    const { image, inode, view, bytes, locate } = open(directory({ one }), { metaBlock: 3 });
    // A copy of the inode 64 bytes before the end, whose body has 4 bytes.
    const { offset } = locate(one);
    const at = image.sizeBytes - 64;
    bytes.copyWithin(at, offset, offset + 32);
    view.setUint16(at + 2, 5, true);
    view.setUint32(at + 8, BLOCK_SIZE + 4, true);
    const copy = new Inode();
    expect(readInode(image, (at - image.metaStart) / 32, copy)).toBe(0);
    expect(copy.body).toBe(image.sizeBytes - 4);
    expect(list(image, copy).status).toBe(EUCLEAN);
    expect(list(image, copy, 512).status).toBe(EUCLEAN);
    expect(find(image, copy, 'zzz')).toBe(EUCLEAN);
    expect(find(image, inode(one), 'e0001')).toBe(locate(leaf).nid);
  });

  it('hazard 14: more dirents than the piece has room for, at the end of the image', () => {
    const last = directory(numbered(400), { tail: 'block' });
    const { image, inode, view, locate } = open(directory({ last }));
    const { pieces } = locate(last);
    expect(pieces.at(-1)!.start + BLOCK_SIZE).toBe(image.sizeBytes);
    for (const piece of pieces) {
      view.setUint16(nameOff(piece.start, 0), 65_532, true);
      // Listing from the next piece on looks at the last name of this one.
      expect(list(image, inode(last), 512)).toEqual({ status: EUCLEAN, entries: [] });
      expect(find(image, inode(last), 'zzz')).toBe(EUCLEAN);
    }
  });

  it('hazard 15: an empty last name is met from the next piece too', () => {
    const { image, inode } = open(root, {}, ({ view, locate }) => {
      const { start } = locate(tree).pieces[0]!;
      const count = view.getUint16(nameOff(start, 0), true) / DIRENT.SIZE;
      view.setUint8(start + view.getUint16(nameOff(start, count - 1), true), 0);
    });
    expect(list(image, inode(tree), 512)).toEqual({ status: EUCLEAN, entries: [] });
  });

  it('hazard 14: a first nameoff between two dirents, names shifted with it', () => {
    const empty = directory();
    const { image, inode } = open(directory({ empty }), {}, ({ view, locate }) => {
      const { body } = locate(empty);
      view.setUint16(nameOff(body, 0), 25, true);
      view.setUint16(nameOff(body, 1), 26, true);
    });
    expect(find(image, inode(empty), '.')).toBe(EUCLEAN);
    expect(list(image, inode(empty)).status).toBe(EUCLEAN);
  });

  it('hazard 15: a lookup meets a name that begins among the dirents', () => {
    // Five dirents, 60 bytes. Entry 2 is the first that the search in the piece compares; its name
    // then begins with the last dirent, whose nid makes it sort behind the dots.
    const small = directory([
      ['a', leaf],
      ['b', leaf],
      ['c', leaf, { nid: 0x7fn }],
    ]);
    const { image, inode, bytes, locate } = open(directory({ small }), {}, (located) => {
      located.view.setUint16(nameOff(located.locate(small).body, 2), 48, true);
    });
    const { body } = locate(small);
    expect(find(image, inode(small), bytes.slice(body + 48, body + 64))).toBe(EUCLEAN);
  });

  it('hazard 15: a lookup meets a name that ends behind the piece', () => {
    const small = directory({ a: leaf });
    const { image, inode, bytes, locate } = open(directory({ small }), {}, (located) => {
      const { body, tailLength } = located.locate(small);
      expect(tailLength).toBe(40);
      located.view.setUint16(nameOff(body, 2), 45, true);
      // Something that can be a name behind the tail.
      located.bytes.fill(0x62, body + 40, body + 50);
    });
    const { body } = locate(small);
    expect(find(image, inode(small), bytes.slice(body + 37, body + 45))).toBe(EUCLEAN);
  });

  it('hazards 15 and 16, made by a writer', () => {
    const trees = [
      directory([['', leaf]]),
      directory([['a/b', leaf]]),
      // As the last name it would be an `a` with padding.
      directory([
        ['a\0b', leaf],
        ['c', leaf],
      ]),
      directory([['x'.repeat(256), leaf]]),
      directory([
        ['a', leaf],
        ['a', leaf],
      ]),
      directory(
        [
          ['b', leaf],
          ['a', leaf],
        ],
        { sorted: false },
      ),
    ];
    for (const damaged of trees) {
      const { image, inode } = open(directory({ damaged }));
      expect(list(image, inode(damaged)).status).toBe(EUCLEAN);
    }
  });
});

describe('work', () => {
  it('listing 20,000 entries one cookie at a time is not quadratic', () => {
    const tree = directory(numbered(20_000, 5));
    const { image, inode } = open(tree);
    const dir = inode(tree);
    const cursor = new DirectoryCursor();
    let cookie = 0;
    let count = 0;
    const begin = performance.now();
    for (;;) {
      cursor.start(image, dir, cookie);
      if (cursor.next() !== 1) break;
      cookie = cursor.nextCookie;
      count++;
    }
    expect(count).toBe(20_002);
    // About 0.5 s. Without repositioning by cookie it would be 200 million steps.
    expect(performance.now() - begin).toBeLessThan(10_000);
  });
});
