// The builder is the foundation of other tests, so it is held against erofs-utils here.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openImage } from '../../../src/image-reader/index.ts';
import { builderZoo } from '../../support/builder-zoo.ts';
import { type BuildOptions, buildImage } from '../../support/image-builder.ts';
import { xxh32 } from '../../support/image-builder-xattrs.ts';
import { directory, file } from '../../support/image-nodes.ts';

const hasFsck = spawnSync('fsck.erofs', ['-V']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'image-builder-'));
afterAll(() => rmSync(folder, { recursive: true }));

const variants: [string, BuildOptions][] = [
  ['like mkcomposefs', {}],
  ['like composefs-rs', { composefsVersion: 2, form: 'extended', xattrBlockZero: true }],
  ['with metadata after the data', { metaBlock: 60 }],
  ['with nothing shared', { metaBlock: 1, sharedXattrs: false, nameFilters: false }],
];

describe.each(variants)('an image %s', (_, options) => {
  it.skipIf(!hasFsck)('is accepted by fsck.erofs', () => {
    const path = join(folder, 'zoo.cfs');
    writeFileSync(path, buildImage(builderZoo({ hugeFiles: false }), options));
    const { status, stdout, stderr } = spawnSync('fsck.erofs', [path], { encoding: 'utf8' });
    expect(stderr + stdout).toBe('');
    expect(status).toBe(0);
  });

  it('is read back completely', () => {
    const plain = [...openImage(buildImage(builderZoo())).walk()];
    const entries = [...openImage(buildImage(builderZoo(), options)).walk()];
    const describeEntry = (entry: (typeof plain)[number]): unknown => [
      entry.path,
      entry.mode,
      entry.nlink,
      entry.uid,
      entry.gid,
      entry.size,
      entry.mtime,
      entry.rdev,
      entry.target,
      entry.content(),
      new Map([...entry.xattrs()].sort(([a], [b]) => (a < b ? -1 : 1))),
    ];
    expect(entries.map(describeEntry)).toEqual(plain.map(describeEntry));
    expect(entries.length).toBeGreaterThan(900);
  });
});

describe('the builder', () => {
  it('makes large directories fast', () => {
    const leaf = file('');
    const begin = performance.now();
    const bytes = buildImage(directory(Array.from({ length: 50_000 }, (_, i) => [`f${i}`, leaf])));
    expect(performance.now() - begin).toBeLessThan(5000);
    expect([...openImage(bytes).root.children()]).toHaveLength(50_000);
  });

  it.each([
    ['', 0, 0x02cc5d05],
    ['a', 0, 0x550d7456],
    ['abc', 0, 0x32d153ff],
    ['abcdefghijklmnop', 0, 0x9d2d8b62],
    ['abcdefghijklmnopq', 0x25bbe08f, 0x056b60db],
    ['overlay.metacopy', 0x25bbe093, 0xdbe5e05f],
  ])('computes xxh32 of %j with seed %i', (text, seed, expected) => {
    expect(xxh32(new TextEncoder().encode(text), seed)).toBe(expected);
  });
});
