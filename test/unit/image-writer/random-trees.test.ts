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

import { normalDump } from '../../support/writer-normal.ts';

const firstSeed = Number(process.env['SEED'] ?? 1);
const options: GeneratorOptions[] = [
  { entries: 30 },
  { entries: 400, hardLinks: true },
  { entries: 400, whiteouts: true, extremes: true, hardLinks: true },
  { entries: 1500, extremes: true },
];
const cases = Array.from({ length: 12 }, (_, i) => ({
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
    const text = Buffer.from(dump).toString('latin1');
    expect(text === normalDump(toDumpText(model), version)).toBe(true);
    const again = writeImage(readDump(dump), versions);
    expect(same(dumpImage(openImage(again).image), dump)).toBe(true);
    if (options.hardLinks !== true) expect(same(again, image)).toBe(true);
  });

  it.skipIf(!hasFsck)('is accepted by fsck.erofs', () => {
    expect(runFsck(writeImage(toImageTree(model)))).toEqual({ status: 0, isClean: true });
  });
});

it.skipIf(!hasFsck)('fsck.erofs sees damage', () => {
  const image = writeImage(toImageTree(randomTree(firstSeed, { entries: 30 })));
  // An unknown layout of the root.
  image[36 * 32] = 0x0e;
  expect(runFsck(image)).toEqual({ status: 1, isClean: false });
});

function runFsck(image: Uint8Array): { status: number | null; isClean: boolean } {
  const folder = mkdtempSync(join(tmpdir(), 'composefs-test-'));
  try {
    const path = join(folder, 'image.cfs');
    writeFileSync(path, image);
    const { status, stdout, stderr } = spawnSync('fsck.erofs', ['-d3', path], { encoding: 'utf8' });
    return { status, isClean: `${stdout}${stderr}`.includes('No errors found') };
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
    if (!entry.isWhiteout) entries.set(pathOf(entry), entry);
  }
  // Collected, because a call of expect() for each costs more than all the rest.
  const differences: unknown[] = [];
  let names = 0;
  visitModel(root, (name, path) => {
    names++;
    const node = name.linkTo ?? name;
    const shown = path.toString('latin1');
    const entry = entries.get(shown);
    if (entry === undefined) {
      differences.push(`${shown} is missing`);
      return;
    }
    const actual = JSON.stringify(factsOf(entry));
    const expected = JSON.stringify(expectedFacts(node, entry, version));
    if (actual !== expected) differences.push({ shown, actual, expected });
  });
  expect(differences).toEqual([]);
  expect(entries.size).toBe(names);
  expectOrder(image.root);
}

const latin1 = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString('latin1');

/** The object is not asked for where the reader refuses to name one. */
const hasObject = (node: ModelNode): boolean => isExternal(node) && node.objectPath !== undefined;
const isExternal = (node: ModelNode): boolean =>
  (node.mode & 0o170000) === 0o100000 && node.size > 0n && node.content === undefined;

function factsOf(entry: ImageEntry): Record<string, unknown> {
  const xattrs = entry.xattrs();
  const isDirectory = entry.kind === 'directory';
  return {
    mode: entry.mode,
    nlink: entry.nlink,
    owner: [entry.uid, entry.gid],
    mtime: `${entry.mtime.seconds}.${entry.mtime.nanoseconds}`,
    size: isDirectory ? undefined : `${entry.size}`,
    rdev: entry.rdev,
    target: latin1(entry.targetBytes()),
    content: latin1(entry.content()),
    object: xattrs.has('trusted.overlay.redirect') ? entry.object() : undefined,
    xattrs: [...xattrs].map(([name, value]) => `${name}=${latin1(value)}`).toSorted(),
  };
}

function expectedFacts(
  node: ModelNode,
  entry: ImageEntry,
  version: number,
): Record<string, unknown> {
  const isDirectory = (node.mode & 0o170000) === 0o040000;
  const subdirectories = node.children.filter(({ mode }) => (mode & 0o170000) === 0o040000);
  const digest = node.digest && { algorithm: 'sha256', hex: node.digest.toString('hex') };
  const xattrs = expectedXattrs(node, entry, version);
  const isFile = (node.mode & 0o170000) === 0o100000 || isWhiteout(node);
  return {
    mode: isWhiteout(node) ? 0o100000 | (node.mode & 0o7777) : node.mode,
    nlink: isDirectory ? 2 + subdirectories.length : node.nlink,
    owner: [node.uid, node.gid],
    mtime: `${node.seconds}.${node.nanoseconds}`,
    size: isDirectory ? undefined : `${node.size}`,
    rdev: {
      major: (node.rdev >>> 8) & 0xfff,
      minor: (node.rdev & 0xff) | ((node.rdev >>> 12) & 0xfff00),
    },
    target: latin1(node.target),
    content: isFile && !isExternal(node) ? (latin1(node.content) ?? '') : undefined,
    object: hasObject(node) ? { path: node.objectPath, digest } : undefined,
    xattrs: [...xattrs].map(([name, value]) => `${name}=${latin1(value)}`).toSorted(),
  };
}

/** The attributes by the rules of the format, put together anew. */
function expectedXattrs(node: ModelNode, entry: ImageEntry, version: number): Map<string, Buffer> {
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
  if (!isExternal(node)) return expected;
  const { digest } = node;
  const metacopy = digest === undefined ? empty : Buffer.concat([Buffer.of(0, 36, 0, 1), digest]);
  expected.set('trusted.overlay.metacopy', metacopy);
  if (node.objectPath !== undefined) {
    expected.set('trusted.overlay.redirect', Buffer.from(`/${node.objectPath}`));
  }
  return expected;
}

/** Siblings are in byte order, and names can be looked up. */
function expectOrder(directory: ImageEntry): void {
  let previous: Uint8Array | undefined;
  for (const child of directory.children()) {
    const isInOrder = previous === undefined || Buffer.compare(previous, child.nameBytes) < 0;
    if (!isInOrder || directory.child(child.nameBytes)?.nid !== child.nid) {
      throw new Error(`${child.path} is not in order, or not found`);
    }
    previous = child.nameBytes;
    if (child.kind === 'directory') expectOrder(child);
  }
}

function pathOf(entry: ImageEntry): string {
  if (entry.parent === undefined) return '';
  return `${pathOf(entry.parent)}/${latin1(entry.nameBytes)}`;
}
