// The images made by the reference C tools, whose content golden/README.md describes.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { hasAcl, type ImageEntry, openImage } from '../../../src/image-reader/index.ts';
import { pattern } from '../../support/builder-zoo.ts';
import { describeWith, goldenFolder, needsGoldens } from '../../support/requirements.ts';

const goldens = ['zoo.cfs', 'overlay-markers.cfs'];

for (const name of goldens) {
  describeWith([needsGoldens], name, () => {
    const path = resolve(goldenFolder, name);
    const read = (): ReturnType<typeof openImage> => openImage(readFileSync(path));

    it('has the header of a C image', () => {
      const { header, image } = read();
      expect(header).toMatchObject({
        composefsVersion: name === 'zoo.cfs' ? 0 : 1,
        hasAclFlag: true,
        rootNid: 36,
      });
      expect(hasAcl(image)).toBe(true);
    });

    it('has as many inodes as its superblock says', () => {
      const golden = read();
      expect(new Set(Array.from(golden.walk(), ({ nid }) => nid)).size).toBe(
        golden.header.inodeCount,
      );
    });

    it('has every kind of file', () => {
      const counts = new Map<string, number>();
      for (const { kind } of read().walk()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
      const isZoo = name === 'zoo.cfs';
      expect(Object.fromEntries(counts)).toEqual({
        file: isZoo ? 3105 : 3107,
        directory: isZoo ? 377 : 378,
        symlink: 7,
        'char-device': 257,
        'block-device': 1,
        fifo: 1,
        socket: 1,
      });
    });

    it('has a directory of 3,000 entries', () => {
      const sizes = Array.from(read().walk(), (entry) => [...entry.children()].length);
      expect(Math.max(...sizes)).toBe(3000);
    });

    it('has root whiteouts for all object directories', () => {
      const whiteouts = [...read().root.children()].filter((entry) => entry.isWhiteout);
      expect(whiteouts).toHaveLength(256);
      expect(whiteouts[0]).toMatchObject({ name: '00', mode: 0o020644, nlink: 1 });
    });

    it('leads to objects that are there, of the right size', () => {
      let count = 0;
      for (const entry of read().walk()) {
        const object = entry.object();
        if (object === undefined) continue;
        count++;
        expect(object.digest?.hex).toBe(object.path.replace('/', ''));
        const bytes = readFileSync(resolve(goldenFolder, 'objects', object.path));
        expect(BigInt(bytes.length), entry.path).toBe(entry.size);
      }
      expect(count).toBeGreaterThan(80);
    });

    it('has content in the image and outside', () => {
      const entries = [...(read().lookup('/sizes')?.children() ?? [])];
      expect(entries.length).toBeGreaterThan(10);
      expect(entries.some((entry) => entry.object() !== undefined)).toBe(true);
      expect(entries.some((entry) => (entry.content()?.length ?? 0) > 0)).toBe(true);
      for (const entry of entries) {
        // Not toEqual, which takes seconds for these arrays.
        const expected = pattern(Number(entry.size));
        expect(Buffer.compare(contentOf(entry), expected), entry.path).toBe(0);
      }
    });

    function contentOf(entry: ImageEntry): Uint8Array {
      const inline = entry.content();
      if (inline !== undefined) return inline;
      return new Uint8Array(
        readFileSync(resolve(goldenFolder, 'objects', entry.object()?.path ?? '')),
      );
    }
  });
}

describeWith([needsGoldens], 'the markers of overlay-markers.cfs', () => {
  const path = resolve(goldenFolder, 'overlay-markers.cfs');
  it('has an escaped whiteout and an opaque directory', () => {
    const marks = new Map<string, number>();
    for (const entry of openImage(readFileSync(path)).walk()) {
      for (const name of entry.xattrs().keys()) {
        if (name.includes('.overlay.')) marks.set(name, (marks.get(name) ?? 0) + 1);
      }
    }
    expect([...marks.keys()].sort()).toEqual([
      'trusted.overlay.metacopy',
      'trusted.overlay.opaque',
      'trusted.overlay.overlay.opaque',
      'trusted.overlay.overlay.redirect',
      'trusted.overlay.overlay.whiteout',
      'trusted.overlay.overlay.whiteouts',
      'trusted.overlay.redirect',
      'user.overlay.opaque',
      'user.overlay.whiteout',
      'user.overlay.whiteouts',
    ]);
  });
});
