// The dumps and images made by the reference C tools, whose content golden/README.md describes.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { dumpImage, readDump, writeDump } from '../../../src/dump/index.ts';
import { DumpError } from '../../../src/errors.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { planImage, type VersionRange, writeImage } from '../../../src/image-writer/index.ts';
import { normalDump } from '../../support/writer-normal.ts';
import { sha256 } from '../../support/writer-pins.ts';

const folder = resolve(import.meta.dirname, '../../../../shared/golden');
const dumps = resolve(folder, 'dumps');
const needs = existsSync(dumps) ? '' : ' [skipped: needs ../shared/golden]';
const describeGolden = needs === '' ? describe : describe.skip;

interface Golden {
  name: string;
  text: Buffer;
  sha256: string;
  sizeBytes: number;
  versions: VersionRange;
}

function readText(file: string): Buffer {
  const bytes = readFileSync(resolve(dumps, file));
  return file.endsWith('.gz') ? gunzipSync(bytes) : bytes;
}

function goldens(): Golden[] {
  const lines = readFileSync(resolve(dumps, 'expected.txt'), 'utf8').trim().split('\n');
  return lines.map((line) => {
    const [digest = '', , size, file = '', ...options] = line.trim().split(/\s+/);
    const value = (name: string): number | undefined => {
      const option = options.find((text) => text.startsWith(`--${name}=`));
      return option === undefined ? undefined : Number(option.split('=')[1]);
    };
    const versions = { minVersion: value('min-version'), maxVersion: value('max-version') };
    const name = [file, ...options].join(' ');
    return { name, text: readText(file), sha256: digest, sizeBytes: Number(size), versions };
  });
}

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const versionOf = ({ composefsVersion }: Image): VersionRange => ({
  minVersion: composefsVersion,
  maxVersion: composefsVersion,
});

describeGolden(`the reference's dumps${needs}`, () => {
  const rows = needs === '' ? goldens() : [];

  it.each(rows)('$name gives the same image', ({ text, sha256: expected, sizeBytes, versions }) => {
    const image = writeImage(readDump(text), versions);
    expect(image.length).toBe(sizeBytes);
    expect(sha256(image)).toBe(expected);
  });

  it.each(rows)('$name is stable through image and dump', ({ text, versions }) => {
    const tree = readDump(text);
    const image = writeImage(tree, versions);
    const opened = Image.open(image);
    const dumped = dumpImage(opened);
    const again = writeImage(readDump(dumped), versionOf(opened));
    expect(isEqual(dumpImage(Image.open(again)), dumped)).toBe(true);
    // What was moved by the first round (hard link sets, bogus sizes) stays where it is then.
    const third = writeImage(readDump(dumpImage(Image.open(again))), versionOf(opened));
    expect(isEqual(third, again)).toBe(true);
    const hasLinks = / @[0-7]+ /.test(dumped.toString());
    const ofDump = writeImage(readDump(writeDump(tree)), versions);
    expect(hasLinks || isEqual(ofDump, image)).toBe(true);
  });

  it.each(rows)('$name is dumped in the normal form', ({ text, versions }) => {
    const image = Image.open(writeImage(readDump(text), versions));
    const dumped = Buffer.from(dumpImage(image)).toString('latin1').split('\n');
    const expected = normalDump(text, image.composefsVersion).split('\n');
    // Not toEqual of everything, which takes seconds.
    const at = expected.findIndex((line, i) => line !== dumped[i]);
    expect(dumped[at]).toBe(expected[at]);
    expect(dumped.length).toBe(expected.length);
  });

  const refused = needs === '' ? readdirSync(dumps).filter((file) => /should-fail/.test(file)) : [];
  it.each(refused)('%s is refused with its line', (file) => {
    expect(() => planImage(readDump(readText(file)))).toThrow(DumpError);
    expect(() => readDump(readText(file))).toThrow(/^line 2: field \d+ \([a-z]+\): /);
  });
});

describeGolden(`the reference's images${needs}`, () => {
  it.each(['zoo.cfs', 'overlay-markers.cfs'])('%s is made again from its dump', (name) => {
    const bytes = readFileSync(resolve(folder, name));
    const image = Image.open(bytes);
    const again = writeImage(readDump(dumpImage(image)), versionOf(image));
    expect(isEqual(again, bytes)).toBe(true);
  });
});
