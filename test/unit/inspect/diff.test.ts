// What diff says of images, and of dumps and directories by way of the images they become.

import {
  chmodSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Image } from '../../../src/image-reader/index.ts';
import {
  compareSources,
  describeDiff,
  describeDifference,
  differenceToJson,
  type DiffSummary,
  diffToJson,
} from '../../../src/inspect/diff.ts';
import { openSources, type Source } from '../../../src/inspect/diff-sources.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, file, whiteout } from '../../support/image-nodes.ts';
import { EXAMPLE_SOURCE, imageBytes, imageOf, ROOT } from './samples.ts';

const folder = mkdtempSync(join(tmpdir(), 'composefs-test-diff-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function compare(a: Image, b: Image): { lines: string[]; summary: DiffSummary } {
  let text = '';
  const toSource = (image: Image): Source => ({ path: '', kind: 'image', image });
  const summary = compareSources(toSource(a), toSource(b), (difference) => {
    text += describeDifference(difference);
    expect(JSON.parse(JSON.stringify(differenceToJson(difference)))).toHaveProperty('path');
  });
  expect(JSON.parse(JSON.stringify(diffToJson(summary)))).toHaveProperty('isEqual');
  return { lines: text.split('\n').slice(0, -1), summary };
}
const ofDumps = (a: string, b: string) =>
  compare(imageOf(`${ROOT}\n${a}\n`), imageOf(`${ROOT}\n${b}\n`));

describe('two images', () => {
  test('with the same bytes are equal', () => {
    const { lines, summary } = compare(imageOf(EXAMPLE_SOURCE), imageOf(EXAMPLE_SOURCE));
    expect(lines).toEqual([]);
    expect(summary.isEqual).toBe(true);
    expect(describeDiff(summary)).toBe('');
  });

  const hex = (digit: string): string => digit.repeat(64);
  const rows: [what: string, a: string, b: string, lines: string[]][] = [
    [
      'mtime',
      '/f 0 100644 1 0 0 0 1700000000.0 - - -',
      '/f 0 100644 1 0 0 0 1700000001.0 - - -',
      ['/f: mtime 1700000000.0 != 1700000001.0'],
    ],
    [
      'mode, owner and size',
      '/f 9 100644 1 0 0 0 0.0 x - -',
      '/f 8 104755 1 1 2 0 0.0 x - -',
      ['/f: mode 100644 != 104755', '/f: size 9 != 8', '/f: uid 0 != 1', '/f: gid 0 != 2'],
    ],
    [
      'type',
      '/f 1 120777 1 0 0 0 0.0 x - -',
      '/f 0 20777 1 0 0 5 0.0 - - -',
      [
        '/f: type symlink != char-device',
        '/f: mode 120777 != 20777',
        '/f: size 1 != 0',
        '/f: rdev 0 != 5',
        '/f: symlink target x != none',
      ],
    ],
    [
      'where the content is',
      '/f 1 100644 1 0 0 0 0.0 - x -',
      '/f 1 100644 1 0 0 0 0.0 o/p - -',
      [
        '/f: stored in the image != in an object',
        '/f: object none != o/p',
        '/f: content x != none',
      ],
    ],
    [
      'object and digest',
      `/f 9 100644 1 0 0 0 0.0 a/b - ${hex('a')}`,
      `/f 9 100644 1 0 0 0 0.0 a/c - ${hex('b')}`,
      ['/f: object a/b != a/c', `/f: digest sha256:${hex('a')} != sha256:${hex('b')}`],
    ],
    [
      'attributes',
      '/f 0 100644 1 0 0 0 0.0 - - - user.a=1 user.b=2',
      '/f 0 100644 1 0 0 0 0.0 - - - user.b=3 user.c=',
      [
        '/f: xattr user.a "1" != none',
        '/f: xattr user.b "2" != "3"',
        '/f: xattr user.c none != ""',
      ],
    ],
    [
      'names',
      '/a 0 40755 2 0 0 0 0.0 - - -\n/a/x 0 10644 1 0 0 0 0.0 - - -\n/a! 0 100644 1 0 0 0 0.0 - - -',
      '/a\\x20b 0 100644 1 0 0 0 0.0 - - -\n/a! 0 100644 1 0 0 0 0.0 - - -',
      [
        '/: nlink 3 != 2',
        '/a: only in A (directory)',
        '/a/x: only in A (fifo)',
        '/a b: only in B (file)',
      ],
    ],
    [
      'hard links',
      '/f 0 100644 2 0 0 0 0.0 - - -\n/g 0 @100644 2 0 0 0 0.0 /f - -',
      '/f 0 100644 1 0 0 0 0.0 - - -\n/g 0 100644 1 0 0 0 0.0 - - -',
      ['/f: nlink 2 != 1', '/g: nlink 2 != 1', '/g: hard link to /f != none'],
    ],
  ];
  test.each(rows)('that differ in %s', (_what, a, b, lines) => {
    const result = ofDumps(a, b);
    expect(result.lines).toEqual(lines);
    expect(result.summary.isEqual).toBe(false);
    expect(result.summary.firstPath).toBe(lines[0]!.split(': ')[0]);
    expect(describeDiff(result.summary)).toContain(`the first is ${lines[0]!.split(': ')[0]}`);
  });

  test('are explained: hard links, inline files and attributes', () => {
    const text = (a: string, b: string) => describeDiff(ofDumps(a, b).summary);
    expect(text(rows[7]![1], rows[7]![2])).toContain('hard links: 1 names');
    expect(text(rows[3]![1], rows[3]![2])).toContain('inline: 1 files');
    expect(text(rows[5]![1], rows[5]![2])).toContain('attributes: the sets differ in user.a (1)');
  });

  test('with the same tree and another version or layout say so', () => {
    const dump = `${ROOT}\n/f 0 100644 1 0 0 0 0.0 - - -\n`;
    const versions = compare(imageOf(dump), Image.open(imageBytes(dump, { minVersion: 1 })));
    expect(versions.lines).toEqual([]);
    expect(versions.summary.isEqual).toBe(false);
    expect(describeDiff(versions.summary)).toContain('image: format version 0 != 1');
    const tree = directory({ f: file('') });
    const layout = compare(
      Image.open(buildImage(tree, { composefsVersion: 0 })),
      Image.open(buildImage(tree, { composefsVersion: 0, form: 'extended' })),
    );
    expect(layout.lines).toEqual([]);
    expect(describeDiff(layout.summary)).toContain('their bytes differ from byte');
  });

  test('of which one is of composefs-rs: raw whiteouts are no entries, SHA-512 digests count', () => {
    const build = (digest: string): Image =>
      Image.open(
        buildImage(directory({ f: external(9, { digest, redirect: '/o' }), w: whiteout() }), {
          composefsVersion: 2,
        }),
      );
    const { lines } = compare(build('ab'.repeat(64)), build('cd'.repeat(64)));
    expect(lines).toEqual([`/f: digest sha512:${'ab'.repeat(64)} != sha512:${'cd'.repeat(64)}`]);
  });

  test('long values are shown where they differ', () => {
    const long = 'y'.repeat(500);
    const { lines } = ofDumps(
      `/f 501 100644 1 0 0 0 0.0 - ${long}a -`,
      `/f 501 100644 1 0 0 0 0.0 - ${long}b -`,
    );
    expect(lines).toEqual([`/f: content ...${'y'.repeat(16)}a != ...${'y'.repeat(16)}b`]);
  });
});

describe('files of other kinds', () => {
  const tree = join(folder, 'tree');
  const dump = join(folder, 'dump');
  const image = join(folder, 'image');
  beforeAll(() => {
    mkdirSync(tree);
    writeFileSync(join(tree, 'small'), 'hello');
    chmodSync(join(tree, 'small'), 0o644);
    utimesSync(join(tree, 'small'), 5, 5);
    utimesSync(tree, 7, 7);
    lutimesSync(tree, 7, 7);
    chmodSync(tree, 0o755);
    const { uid, gid } = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const text =
      `/ 0 40755 2 ${uid} ${gid} 0 7.0 - - -\n` +
      `/small 5 100644 1 ${uid} ${gid} 0 5.0 - hello -\n`;
    writeFileSync(dump, text);
    writeFileSync(image, imageBytes(text, { minVersion: 1 }));
  });

  const compareFiles = async (a: string, b: string): Promise<DiffSummary> => {
    const [x, y] = await openSources([a, b], {});
    return compareSources(x, y, () => undefined);
  };

  test('are recognised by their content', async () => {
    const sources = await openSources([tree, dump], {});
    expect(sources.map(({ kind }) => kind)).toEqual(['directory', 'dump']);
    expect((await openSources([image, dump], {}))[0].kind).toBe('image');
  });

  test('are equal when they describe the same tree; an image decides the version', async () => {
    for (const [a, b] of [
      [tree, dump],
      [dump, image],
      [image, tree],
    ] as const) {
      expect(await compareFiles(a, b)).toMatchObject({ isEqual: true });
    }
  });

  test('that cannot be read are named', async () => {
    const empty = join(folder, 'empty');
    writeFileSync(empty, '');
    const cut = join(folder, 'cut');
    writeFileSync(cut, imageBytes(`${ROOT}\n`).subarray(0, 2000));
    const rows = [
      [join(folder, 'absent'), /^Failed to open '.*absent': No such file or directory$/],
      [empty, /empty: neither an image nor a dump: line 1/],
      [cut, /^Failed to load '.*cut': Invalid argument \(truncated image/],
    ] as const;
    for (const [path, message] of rows)
      await expect(compareFiles(path, dump)).rejects.toThrow(message);
  });
});
