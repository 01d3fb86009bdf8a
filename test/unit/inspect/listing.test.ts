// What ls, dump, objects, missing-objects and stat show of images.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { dumpImage } from '../../../src/dump/index.ts';
import { ImageError } from '../../../src/errors.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { entryToJson, imageEntries, lsLine } from '../../../src/inspect/entries.ts';
import {
  checkBasedirs,
  collectObjects,
  isMissing,
  sortKeys,
} from '../../../src/inspect/object-list.ts';
import { readStatistics, statisticsToJson } from '../../../src/inspect/statistics.ts';
import { fromEscaped, toEscaped, toJsonBytes } from '../../../src/inspect/texts.ts';
import { buildImage, locateImage } from '../../support/image-builder.ts';
import { directory, external, file, symlink } from '../../support/image-nodes.ts';
import {
  EXAMPLE_DIGEST,
  EXAMPLE_DUMP,
  EXAMPLE_FILTERED,
  EXAMPLE_LS,
  EXAMPLE_OBJECT,
  EXAMPLE_SOURCE,
  imageOf,
  ROOT,
} from './samples.ts';

const folder = mkdtempSync(join(tmpdir(), 'composefs-test-inspect-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const example = imageOf(EXAMPLE_SOURCE);
const ls = (image: Image, filter: string[] = []): string =>
  [...imageEntries(image, filter)]
    .slice(1)
    .map((entry) => lsLine(entry))
    .join('');
function objects(image: Image, filter: string[] = []): string[] {
  const keys = new Set<string>();
  collectObjects(image, filter, keys);
  return sortKeys(keys);
}

describe("the specification's example", () => {
  test('is dumped as the reference dumps it', () => {
    expect(Buffer.from(dumpImage(example)).toString()).toBe(EXAMPLE_DUMP);
    const filtered = dumpImage(example, { filter: ['bin', 'zero'] });
    expect(Buffer.from(filtered).toString()).toBe(EXAMPLE_FILTERED);
  });

  test('is listed as the reference lists it', () => {
    expect(ls(example)).toBe(EXAMPLE_LS);
    expect(ls(example, ['bin', 'zero', 'absent'])).toBe(
      `/bin/\t\n/bin/tool\t@ ${EXAMPLE_OBJECT}\n/zero\n`,
    );
  });

  test('has two objects, one of them missing from a directory with the other', () => {
    expect(objects(example)).toEqual([EXAMPLE_OBJECT, 'some/where']);
    expect(objects(example, ['nodigest'])).toEqual(['some/where']);
    mkdirSync(join(folder, 'some'));
    writeFileSync(join(folder, 'some/where'), '');
    const missing = objects(example).filter((key) => isMissing(key, ['/nowhere', folder]));
    expect(missing).toEqual([EXAMPLE_OBJECT]);
  });

  test('is counted', () => {
    const facts = readStatistics(example);
    expect(facts).toMatchObject({
      formatVersion: 1,
      aclFlag: false,
      imageBytes: 16_384,
      entries: { file: 6, directory: 3, symlink: 1, 'char-device': 1, whiteout: 1, fifo: 0 },
      hardLinks: 1,
      hiddenWhiteouts: 256,
      inlineFiles: 2,
      inlineBytes: 4,
      externalFiles: 3,
      referencedBytes: 270n,
      objects: 2,
      objectBytes: 170n,
      digestAlgorithms: { sha256: 1, sha512: 0, none: 2 },
    });
    expect(facts.digests.sha256).toBe(EXAMPLE_DIGEST);
    expect(facts.digests.sha512).toMatch(/^[0-9a-f]{128}$/);
    expect(JSON.parse(JSON.stringify(statisticsToJson(facts)))).toMatchObject({ objectBytes: 170 });
  });
});

describe('--json shows an entry', () => {
  const entries = [...imageEntries(example)].map((entry) => entryToJson(entry));
  const at = (path: string): Record<string, unknown> =>
    entries.find((entry) => entry['path'] === path) ?? {};

  test('with all its fields', () => {
    expect(at('/bin/tool')).toEqual({
      path: '/bin/tool',
      type: 'file',
      mode: '100755',
      size: 70,
      nlink: 2,
      uid: 0,
      gid: 0,
      rdev: 0,
      mtime: { seconds: 1_700_000_001, nanoseconds: 0 },
      hardLinkTo: null,
      target: null,
      object: EXAMPLE_OBJECT,
      digest: { algorithm: 'sha256', hex: EXAMPLE_OBJECT.replace('/', '') },
      content: null,
      xattrs: [
        ['security.capability', '\u0001\0\0\u0002'],
        ['user.k=1', 'v=2'],
      ],
    });
    expect(at('/tool2')).toMatchObject({ hardLinkTo: '/bin/tool', object: null, size: 70 });
    expect(at('/link')).toMatchObject({ type: 'symlink', target: 'a dir' });
    expect(at('/dash')).toMatchObject({ content: '-' });
    expect(at('/gone')).toMatchObject({ type: 'char-device', rdev: 0 });
    expect(at('/a dir/sp ace\ttab=eq\\bs\u007fé')).toMatchObject({ content: 'a=b' });
  });

  test('with names that are not UTF-8 as base64, and large numbers as strings', () => {
    const image = imageOf(
      `${ROOT}\n/\\xff\\x00b\\n 0 100644 1 0 0 0 -9223372036854775808.0 - - -\n`.replace(
        '\\x00',
        '\\x01',
      ),
    );
    const entry = entryToJson([...imageEntries(image)][1]!);
    expect(entry['path']).toEqual({
      base64: Buffer.from('/\xff\x01b\n', 'latin1').toString('base64'),
    });
    expect(entry['mtime']).toEqual({ seconds: '-9223372036854775808', nanoseconds: 0 });
  });

  test('with a SHA-512 digest, which a dump cannot show', () => {
    const image = Image.open(
      buildImage(directory({ f: external(9, { digest: 'ab'.repeat(64) }) })),
    );
    const digest = { algorithm: 'sha512', hex: 'ab'.repeat(64) };
    expect([...imageEntries(image)][1]?.digest).toEqual(digest);
    expect(readStatistics(image).digestAlgorithms).toEqual({ sha256: 0, sha512: 1, none: 0 });
  });
});

test('a dash is escaped in a dump only, and a backslash before x20 is one', () => {
  const image = imageOf(
    `${ROOT}\n/a\\\\x20 1 120777 1 0 0 0 0.0 \\x2d - -\n/b\\x20c 9 100644 1 0 0 0 0.0 d\\x20e - -\n`,
  );
  expect(ls(image)).toBe('/a\\\\x20\t-> -\n/b c\t@ d\\x20e\n');
  expect(objects(image)).toEqual(['d e']);
});

test('names of any bytes survive the way to text or JSON and back', () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  expect(Buffer.from(fromEscaped(toEscaped(all))).equals(all)).toBe(true);
  expect(toJsonBytes(all)).toEqual({ base64: Buffer.from(all).toString('base64') });
  expect(toJsonBytes(Buffer.from('\ufeffé'))).toBe('\ufeffé');
});

test('an object path whose length plus one is a multiple of four has no garbage behind it', () => {
  const image = imageOf(`${ROOT}\n/f 9 100644 1 0 0 0 0.0 abc - -\n`);
  expect(objects(image)).toEqual(['abc']);
  expect(ls(image)).toBe('/f\t@ abc\n');
});

test('a path that leads out of the object directory is missing', () => {
  writeFileSync(join(folder, 'outside'), '');
  mkdirSync(join(folder, 'in'));
  for (const key of ['../outside', '/etc/passwd', 'a/../../outside', './in', '', 'a\0b']) {
    expect(isMissing(key, [join(folder, 'in')])).toBe(true);
  }
  expect(isMissing('outside', [folder])).toBe(false);
  expect(isMissing('outside', [])).toBe(true);
  expect(() => checkBasedirs([join(folder, 'outside')])).toThrow(/Can't open basedir/);
});

test('damage is an ImageError in every listing', () => {
  const broken = file('x');
  const located = locateImage(directory({ a: symlink('b'), broken }));
  located.view.setUint16(located.locate(broken).offset, 0xfff0, true);
  const image = Image.open(located.bytes);
  expect(() => ls(image)).toThrow(ImageError);
  expect(() => objects(image)).toThrow(ImageError);
  expect(() => readStatistics(image)).toThrow(ImageError);
});
