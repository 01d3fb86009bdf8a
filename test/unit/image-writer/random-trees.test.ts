// Random trees from seeds: what is written is what the reader finds, field by field, the dump of an
// image makes the image again, and Debian's fsck.erofs accepts it.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dumpImage, readDump, writeDump } from '../../../src/dump/index.ts';
import { type ImageEntry, openImage } from '../../../src/image-reader/index.ts';
import { planImage, writeImage } from '../../../src/image-writer/index.ts';
import {
  type GeneratorOptions,
  type ModelNode,
  randomTree,
  toDumpText,
  toImageTree,
  visitModel,
} from '../../support/writer-generator.ts';

const firstSeed = Number(process.env['SEED'] ?? 1);
const options: GeneratorOptions[] = [
  { entries: 30 },
  { entries: 400, hardLinks: true },
  { entries: 400, whiteouts: true, extremes: true, hardLinks: true },
  { entries: 2500, extremes: true },
];
const cases = Array.from({ length: 24 }, (_, i) => ({
  seed: firstSeed + i,
  options: options[i % options.length] as GeneratorOptions,
}));

/** Buffers compare in C, and toEqual() does not. */
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const hasFsck = spawnSync('fsck.erofs', ['--version']).error === undefined;

describe.each(cases)('the tree of seed $seed, $options.entries entries', ({ seed, options }) => {
  const model = randomTree(seed, options);

  it('gives one image through the interface and as a dump', () => {
    const image = writeImage(toImageTree(model));
    expect(same(writeImage(readDump(toDumpText(model))), image)).toBe(true);
    expect(same(writeImage(readDump(writeDump(toImageTree(model)))), image)).toBe(true);
  });

  it('is the same in pieces', () => {
    const plan = planImage(toImageTree(model));
    expect(same(Buffer.concat([...plan.chunks()]), plan.bytes())).toBe(true);
  });

  it.each([0, 1])('is found again by the reader, version %i', (version) => {
    const versions = { minVersion: version, maxVersion: version };
    expectTree(model, writeImage(toImageTree(model), versions), version);
  });

  it.each([0, 1])('is stable through its dump, version %i', (version) => {
    const versions = { minVersion: version, maxVersion: version };
    const image = writeImage(toImageTree(model), versions);
    const dump = dumpImage(openImage(image).image);
    const again = writeImage(readDump(dump), versions);
    expect(same(dumpImage(openImage(again).image), dump)).toBe(true);
    if (options.hardLinks !== true) expect(same(again, image)).toBe(true);
  });

  it.skipIf(!hasFsck)('is accepted by fsck.erofs', () => {
    expect(runFsck(writeImage(toImageTree(model)))).toEqual({ status: 0, complaints: '' });
  });
});

it.skipIf(!hasFsck)('fsck.erofs sees damage', () => {
  const image = writeImage(toImageTree(randomTree(firstSeed, { entries: 30 })));
  const rootBlock = new DataView(image.buffer).getUint32(36 * 32 + 16, true) * 4096;
  image[rootBlock + 12 * 2 + 8] = 0xff;
  expect(runFsck(image).complaints).not.toBe('');
});

function runFsck(image: Uint8Array): { status: number | null; complaints: string } {
  const folder = mkdtempSync(join(tmpdir(), 'composefs-test-'));
  try {
    const path = join(folder, 'image.cfs');
    writeFileSync(path, image);
    const { status, stderr } = spawnSync('fsck.erofs', [path], { encoding: 'utf8' });
    return { status, complaints: stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const isWhiteout = (node: ModelNode): boolean =>
  (node.mode & 0o170000) === 0o020000 && node.rdev === 0 && node.linkTo === undefined;

/** Compares everything that the model says with what the reader says. */
function expectTree(root: ModelNode, bytes: Uint8Array, version: number): void {
  const image = openImage(bytes);
  expect(image.header.composefsVersion).toBe(version);
  const entries = new Map<string, ImageEntry>();
  for (const entry of image.walk()) {
    if (entry.isWhiteout) continue;
    entries.set(pathOf(entry), entry);
  }
  let names = 0;
  visitModel(root, (name, path) => {
    names++;
    const node = name.linkTo ?? name;
    const entry = entries.get(path.toString('latin1')) as ImageEntry;
    const shown = path.toString('latin1');
    expect(entry, shown).toBeDefined();
    const permissions = node.mode & 0o7777;
    expect(entry.mode, shown).toBe(isWhiteout(node) ? 0o100000 | permissions : node.mode);
    expect([entry.uid, entry.gid], shown).toEqual([node.uid, node.gid]);
    expect(entry.mtime, shown).toEqual({ seconds: node.seconds, nanoseconds: node.nanoseconds });
    expectContent(node, entry, shown);
    expectXattrs(node, entry, shown, version);
  });
  expect(entries.size).toBe(names);
  expectOrder(image.root);
}

function expectContent(node: ModelNode, entry: ImageEntry, shown: string): void {
  if (entry.kind === 'directory') {
    const subdirectories = node.children.filter(({ mode }) => (mode & 0o170000) === 0o040000);
    expect(entry.nlink, shown).toBe(2 + subdirectories.length);
    return;
  }
  expect(entry.nlink, shown).toBe(node.nlink);
  expect(entry.size, shown).toBe(node.size);
  expect(entry.rdev, shown).toEqual({
    major: (node.rdev >>> 8) & 0xfff,
    minor: (node.rdev & 0xff) | ((node.rdev >>> 12) & 0xfff00),
  });
  if (node.target !== undefined) {
    expect(same(entry.targetBytes() as Uint8Array, node.target), shown).toBe(true);
  }
  if (node.content !== undefined) {
    expect(same(entry.content() as Uint8Array, node.content), shown).toBe(true);
  } else if (entry.kind === 'file' && node.size > 0n && node.objectPath !== undefined) {
    expect(entry.object(), shown).toEqual({
      path: node.objectPath,
      digest:
        node.digest === undefined
          ? undefined
          : { algorithm: 'sha256', hex: node.digest.toString('hex') },
    });
  }
}

/** The attributes by the rules of the format, put together anew. */
function expectXattrs(node: ModelNode, entry: ImageEntry, shown: string, version: number): void {
  const expected = new Map<string, Buffer>();
  for (const [name, value] of node.xattrs) {
    expected.set(name.replace(/^trusted\.overlay\./, 'trusted.overlay.overlay.'), value);
  }
  const empty = Buffer.alloc(0);
  if (node.children.some(isWhiteout)) {
    for (const prefix of ['trusted.overlay.overlay', 'user.overlay']) {
      expected.set(`${prefix}.whiteouts`, empty);
      if (version === 1) expected.set(`${prefix}.opaque`, Buffer.from('x'));
    }
  }
  if (isWhiteout(node)) {
    expected.set('trusted.overlay.overlay.whiteout', empty);
    expected.set('user.overlay.whiteout', empty);
  }
  if (entry.parent === undefined) expected.set('trusted.overlay.opaque', Buffer.from('y'));
  if (entry.kind === 'file' && node.size > 0n && node.content === undefined) {
    const header = Buffer.of(0, 36, 0, 1);
    expected.set(
      'trusted.overlay.metacopy',
      node.digest === undefined ? empty : Buffer.concat([header, node.digest]),
    );
    if (node.objectPath !== undefined) {
      expected.set('trusted.overlay.redirect', Buffer.from(`/${node.objectPath}`));
    }
  }
  const actual = [...entry.xattrs()].map(([name, value]) => [name, Buffer.from(value)] as const);
  const text = (map: Iterable<readonly [string, Buffer]>): string[] =>
    [...map].map(([name, value]) => `${name}=${value.toString('latin1')}`).toSorted();
  expect(text(actual), shown).toEqual(text(expected));
}

/** Siblings are in byte order, and names can be looked up. */
function expectOrder(directory: ImageEntry): void {
  let previous: Uint8Array | undefined;
  for (const child of directory.children()) {
    if (previous !== undefined) expect(Buffer.compare(previous, child.nameBytes)).toBe(-1);
    previous = child.nameBytes;
    expect(directory.child(child.nameBytes)?.nid).toBe(child.nid);
    if (child.kind === 'directory') expectOrder(child);
  }
}

function pathOf(entry: ImageEntry): string {
  if (entry.parent === undefined) return '';
  return `${pathOf(entry.parent)}/${Buffer.from(entry.nameBytes).toString('latin1')}`;
}
