// What fsck finds: one test row for each kind of damage, with what it says and the exit code.

import { describe, expect, test } from 'vitest';
import { ComposefsError } from '../../../src/errors.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { imageEntries } from '../../../src/inspect/entries.ts';
import { refuseSharedBytes } from '../../../src/inspect/shared-bytes.ts';
import { readStatistics } from '../../../src/inspect/statistics.ts';
import { buildImage, type LocatedImage, locateImage } from '../../support/image-builder.ts';
import {
  directory,
  escapedWhiteout,
  external,
  file,
  special,
  symlink,
  type TestDirectory,
} from '../../support/image-nodes.ts';
import { fsck } from './run-fsck.ts';
import { imageOf, ROOT, structureOf } from './samples.ts';

const open = (root: TestDirectory): Image => Image.open(buildImage(root));

/** Builds an image with /d/f and /d/g, and writes into it. */
function damaged(
  change: (image: LocatedImage, at: Record<'d' | 'f' | 'g', number>) => void,
): Image {
  const f = file('content');
  const g = symlink('target', { xattrs: [['user.x', 'y']] });
  const d = directory({ f, g });
  const located = locateImage(directory({ d }));
  const at = (node: Parameters<LocatedImage['locate']>[0]): number => located.locate(node).offset;
  change(located, { d: at(d), f: at(f), g: at(g) });
  return Image.open(located.bytes);
}

describe('the structure of an image', () => {
  test('without fault gives no word', () => {
    const root = directory({
      a: file('x', { xattrs: [['user.x', 'y']] }),
      b: symlink('a'),
      c: directory({ d: special('fifo'), e: external(9, { digest: 'ab'.repeat(32) }) }),
    });
    expect(structureOf(open(root))).toEqual([]);
    expect(structureOf(imageOf(`${ROOT}\n/f 0 100644 1 0 0 0 0.0 - - -\n`))).toEqual([]);
  });

  const other = file('other');
  const rows: [what: string, image: () => Image, lines: (string | RegExp)[]][] = [
    [
      'an inode outside the image',
      () => open(directory([['f', file(''), { nid: 99_999n }]])),
      [/^\/f: inode number: expected \d+ to \d+, found 99999$/, /inode count/],
    ],
    [
      'unknown bits in i_format',
      () => damaged(({ view }, { f }) => view.setUint16(f, 0xf004, true)),
      ['/d/f: i_format has unknown bits: found 0xf000', /inode count/],
    ],
    [
      'a mode without type',
      () => open(directory({ f: file('', { override: { mode: 0o644 } }) })),
      ['/f: mode has no valid file type: found 644', /inode count/],
    ],
    [
      'an impossible layout',
      () => damaged(({ view }, { g }) => view.setUint16(g, 8, true)),
      ['/d/g: layout for this kind of file: expected 0 or 2, found 4', /inode count/],
    ],
    [
      'an attribute area that leaves the image',
      () => open(directory({ f: file('', { override: { icount: 0xffff } }) })),
      [
        /^\/f: the attribute area leaves the image: expected an end at byte 4096 at most, found/,
        /./,
      ],
    ],
    [
      'data that leaves the image',
      () => open(directory({ f: file('x'.repeat(5000), { override: { iU: 900 } }) })),
      [/^\/f: the data blocks leave the image: expected an end at byte \d+ at most/, /./],
    ],
    [
      'a symlink that is too long',
      () => open(directory({ l: symlink('x', { override: { size: 5000n } }) })),
      ['/l: symlink size: expected 1 to 4095, found 5000', /inode count/],
    ],
    [
      'a symlink with a NUL',
      () => open(directory({ l: symlink('a\0b') })),
      ['/l: a symlink target with a NUL'],
    ],
    [
      'a directory that is too small',
      () => open(directory({ d: directory({}, { override: { size: 5n } }) })),
      ['/d: directory size: expected over 12, found 5', /inode count/],
    ],
    [
      'too much content for an image',
      () => open(directory({ f: file('x'.repeat(5001)) })),
      ['/f: content in the image: expected 5000 bytes at most, found 5001'],
    ],
    [
      'a wrong type in a directory entry',
      () =>
        open(
          directory([
            ['f', other, { fileType: 2 }],
            ['g', file(''), { fileType: 0 }],
          ]),
        ),
      [
        '/f: type in the directory entry: expected file, found directory',
        '/g: type in the directory entry: expected file, found none',
      ],
    ],
    [
      'names out of order',
      () => open(directory({ d: directory({ b: file(''), a: file('') }, { sorted: false }) })),
      [
        /^\/d: directory data at byte \d+: names are not in ascending order: expected a name behind 'b', found 'a'$/,
        /./,
      ],
    ],
    [
      'a name twice',
      () =>
        open(
          directory({
            d: directory([
              ['a', other],
              ['a', other],
            ]),
          }),
        ),
      [/^\/d: .* expected a name behind 'a', found 'a'$/, /./],
    ],
    [
      'a name with a slash',
      () => open(directory({ d: directory([['a/b', other]]) })),
      [/^\/d: .*: a name with a slash or NUL: found 'a\/b'$/, /./],
    ],
    [
      'a bad offset of names',
      () => damaged(({ view }, { d }) => view.setUint16(d + 32 + 8, 13, true)),
      [
        /^\/d: directory data at byte \d+: offset of the first name: expected a multiple of 12 below \d+, found 13$/,
        /./,
      ],
    ],
    [
      'a wrong dot',
      () => {
        const d = directory({}, {});
        d.dot = other;
        return open(directory({ d, other }));
      },
      [
        /^\/d: where \. leads: expected inode \d+, found inode \d+$/,
        '/d: type of .: expected directory, found file',
      ],
    ],
    [
      'missing dots',
      () => open(directory({ d: directory({ x: other }, { dot: null, dotDot: null }) })),
      ['/d: the directory has no entry .', '/d: the directory has no entry ..'],
    ],
    [
      'a directory with two names',
      () => {
        const d = directory({});
        return open(directory({ a: d, b: d }));
      },
      ['/b: a directory with a second name, or inside itself'],
    ],
    [
      'a directory in itself',
      () => {
        const d = directory({});
        d.children.push(['again', d]);
        return open(directory({ d }));
      },
      ['/d/again: a directory with a second name, or inside itself'],
    ],
    [
      'an attribute twice',
      () =>
        open(
          directory({
            f: file('', {
              xattrs: [
                ['user.a', '1'],
                ['user.a', '2'],
              ],
            }),
          }),
        ),
      ['/f: an attribute is there twice: found user.a'],
    ],
    [
      'an attribute of unknown kind',
      () => open(directory({ f: file('', { xattrs: [{ index: 7, name: 'x', value: '' }] }) })),
      ['/f: attributes are damaged: found an inline attribute that is not sound, behind 0 others'],
    ],
    [
      'an attribute area that is too small',
      () => damaged(({ view }, { g }) => view.setUint8(g + 32 + 4, 200)),
      [/^\/d\/g: attributes are damaged: expected an area for 200 shared ones, found \d+ bytes$/],
    ],
    [
      'a shared attribute outside the image',
      () => {
        const a = file('a', { xattrs: [['user.s', 'v']] });
        const located = locateImage(directory({ a, b: file('b', { xattrs: [['user.s', 'v']] }) }));
        located.view.setUint32(located.locate(a).xattrStart + 12, 0xff_ffff, true);
        return Image.open(located.bytes);
      },
      [
        '/a: attributes are damaged: expected a shared attribute inside the image, found shared id 16777215',
      ],
    ],
    [
      'an external file without redirect',
      () => open(directory({ f: external(5) })),
      ['/f: an external file names no object (its redirect is missing or not absolute)'],
    ],
    [
      'a redirect that leads out',
      () => open(directory({ f: external(5, { redirect: '/../etc' }) })),
      ['/f: the path of the object (redirect) is not a plain one'],
    ],
    [
      'a redirect that is too long',
      () => open(directory({ f: external(5, { redirect: `/${'x'.repeat(5000)}` }) })),
      ['/f: the path of the object (redirect) is too long'],
    ],
    [
      'a metacopy of no known form',
      () => {
        const f = external(5, { redirect: '/o' });
        f.metacopy = Uint8Array.of(0, 9, 0, 1, 5);
        return open(directory({ f }));
      },
      ['/f: the metacopy attribute of an external file is not valid'],
    ],
  ];
  test.each(rows)('with %s', async (_what, image, lines) => {
    const found = structureOf(image());
    expect(found).toHaveLength(lines.length);
    for (const [i, line] of lines.entries()) {
      if (typeof line === 'string') expect(found[i]).toBe(line);
      else expect(found[i]).toMatch(line);
    }
    expect((await fsck(image(), undefined)).summary.exitCode).toBe(2);
  });

  const warnings: [what: string, image: () => Image, lines: RegExp[]][] = [
    [
      'link counts',
      () => imageOf(`${ROOT}\n/f 0 100644 7 0 0 0 0.0 - - -\n`),
      [/^image: warning: link counts of 1 files .* first: inode \d+ has link count 7 and 1 names$/],
    ],
    [
      'nanoseconds',
      () => imageOf(`${ROOT}\n/f 0 100644 1 0 0 0 5.2000000000 - - -\n`),
      [/^\/f: warning: nanoseconds of mtime: expected below 1000000000, found 2000000000$/],
    ],
    [
      'an ACL that the header denies',
      () => {
        const acl = directory({ f: file('', { xattrs: [['system.posix_acl_access', 'x']] }) });
        return Image.open(buildImage(acl, { hasAclFlag: false }));
      },
      [/^\/f: warning: an ACL in an image/],
    ],
    [
      'a whiteout that is none',
      () => open(directory({ w: { ...escapedWhiteout(), content: 'x' } })),
      [/^\/w: warning: the mark of a whiteout/],
    ],
    [
      'bytes behind the last block',
      () => Image.open(Buffer.concat([buildImage(directory({})), Buffer.alloc(7)])),
      [/^image: warning: image size: expected a multiple of 4096, found 4103$/],
    ],
  ];
  test.each(warnings)('warns of %s and stays clean', async (_what, image, lines) => {
    const found = structureOf(image());
    expect(found).toHaveLength(lines.length);
    for (const [i, line] of lines.entries()) expect(found[i]).toMatch(line);
    expect((await fsck(image(), undefined)).summary).toMatchObject({ exitCode: 0, warnings: 1 });
  });
});

test('attribute areas that overlap are given up, not read for ever', () => {
  // 1000 inodes, each of which claims the rest of the image as its attributes.
  const children = Array.from({ length: 1000 }, (_, i) => {
    const xattrs = [['user.x', 'y'.repeat(16)]] as const;
    return [`f${i}`, file('', { xattrs })] as const;
  });
  const located = locateImage(directory([...children]), { sharedXattrs: false });
  for (const [, node] of children) {
    const { offset, xattrStart } = located.locate(node);
    const words = Math.min(0xffff, Math.floor((located.bytes.length - xattrStart - 12) / 4) + 1);
    located.view.setUint16(offset + 2, words, true);
  }
  const image = Image.open(located.bytes);
  expect(structureOf(image).join('\n')).toContain(
    'attributes or contents of inodes share their bytes',
  );
  expect(() => readStatistics(image)).toThrow(ComposefsError);
  expect(() => refuseSharedBytes(image)).toThrow(ComposefsError);
});

test('any byte of an image may be wrong: an error or a report, never anything else', async () => {
  const tree = directory({
    a: file('x', { xattrs: [['user.x', 'y']] }),
    b: symlink('a'),
    c: directory({ d: special('fifo'), e: external(9, { digest: 'ab'.repeat(32) }) }),
    f: file('z'.repeat(100), { xattrs: [['user.x', 'y']] }),
  });
  const original = buildImage(tree);
  let opened = 0;
  for (let at = 0; at < original.length; at++) {
    if (at >= 32 && original[at] === 0 && at % 101 !== 0) continue;
    for (const flip of [0x01, 0x80, 0xff]) {
      const bytes = Uint8Array.from(original);
      bytes[at]! ^= flip;
      try {
        const image = Image.open(bytes);
        opened++;
        structureOf(image);
        readStatistics(image);
        for (const entry of imageEntries(image)) expect(entry.path).toMatch(/^\//);
      } catch (error) {
        if (!(error instanceof ComposefsError)) throw error;
      }
    }
  }
  expect(opened).toBeGreaterThan(200);
});
