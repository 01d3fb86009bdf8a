// What fsck says of objects: missing, of another kind, size or content, in one base directory or two.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Image } from '../../../src/image-reader/index.ts';
import { loadNative } from '../../../src/native.ts';
import { measureBytes } from '../../../src/verify/index.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, type TestDirectory } from '../../support/image-nodes.ts';
import { fsck } from './run-fsck.ts';
import { imageBytes, ROOT } from './samples.ts';

const folder = mkdtempSync(join(tmpdir(), 'composefs-test-fsck-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = (root: TestDirectory): Image => Image.open(buildImage(root));

describe('the objects of an image', () => {
  let count = 0;
  function store(objects: Record<string, string>): string {
    const path = join(folder, `store-${count++}`);
    mkdirSync(path);
    for (const [name, content] of Object.entries(objects)) {
      mkdirSync(dirname(join(path, name)), { recursive: true });
      writeFileSync(join(path, name), content);
    }
    return path;
  }
  const digestOf = (content: string, algorithm: 'sha256' | 'sha512' = 'sha256'): string =>
    measureBytes(Buffer.from(content), { algorithm }).hex;
  const contentA = 'a'.repeat(5000);
  const contentB = 'b'.repeat(100);
  const a = external(5000, { digest: digestOf(contentA), redirect: '/a' });
  const b = external(100, { digest: digestOf(contentB, 'sha512'), redirect: '/x/b' });
  const plain = external(3, { redirect: '/plain' });
  const image = open(directory({ a, again: a, d: directory({ b, plain }) }));
  const good = { a: contentA, 'x/b': contentB, plain: 'abc' };

  test('are clean when all are there, in any of the base directories', async () => {
    const { plain: third, ...others } = good;
    for (const basedirs of [[store(good)], [store(others), store({ plain: third })]]) {
      const { lines, summary } = await fsck(image, basedirs);
      expect(lines).toEqual([]);
      expect(summary).toMatchObject({ exitCode: 0, names: 6, inodes: 5 });
      expect(summary.objects).toMatchObject({ objects: 3, bytes: 5103n, unverified: 1 });
    }
  });

  test('are found missing, wrong in size and wrong in content; every name is told', async () => {
    const wrong = `${contentA.slice(1)}x`;
    const { lines, summary } = await fsck(image, [store({ a: wrong, plain: 'abcd' })]);
    expect(lines).toEqual([
      `/a: fs-verity digest (object a): expected ${digestOf(contentA)}, found ${digestOf(wrong)}`,
      `/again: fs-verity digest (object a): expected ${digestOf(contentA)}, found ${digestOf(wrong)}`,
      '/d/b: the object is missing (object x/b)',
      '/d/plain: size of the object (object plain): expected 3 bytes, found 4',
    ]);
    const counts = { filesWithoutObject: 1, filesWithWrongObject: 3, imageProblems: 0 };
    expect(summary).toMatchObject({ exitCode: 4 | 8, ...counts });
  });

  test('must be regular files, and the first base directory decides', async () => {
    const first = store({});
    mkdirSync(join(first, 'a'));
    symlinkSync('/etc/passwd', join(first, 'plain'));
    const { lines, summary } = await fsck(image, [first, store(good)]);
    expect(lines).toEqual([
      '/a: object (object a): expected a regular file, found a directory',
      '/again: object (object a): expected a regular file, found a directory',
      '/d/plain: object (object plain): expected a regular file, found a symlink',
    ]);
    expect(summary.exitCode).toBe(8);
  });

  test('with a wrong SHA-512 digest are told', async () => {
    const { lines } = await fsck(image, [store({ ...good, 'x/b': 'c'.repeat(100) })]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(`expected ${digestOf(contentB, 'sha512')}, found `);
  });

  test('of which two files expect different things are checked for both', async () => {
    const twice = open(
      directory({ a, other: external(5000, { digest: 'cd'.repeat(32), redirect: '/a' }) }),
    );
    const { lines } = await fsck(twice, [store({ a: contentA })]);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^\/other: fs-verity digest/);
  });

  test('of several hundred are checked without leaving a descriptor open', async () => {
    const contents = Array.from({ length: 700 }, (_, i) => `content ${i}`.padEnd(70 + i * 20, 'x'));
    const lines = contents.map((content, i) => {
      const size = content.length;
      return `/f${i} ${size} 100644 1 0 0 0 0.0 o/${i} - ${digestOf(content)}`;
    });
    const many = Image.open(imageBytes([ROOT, ...lines, ''].join('\n')));
    const all = Object.fromEntries(contents.map((content, i) => [`o/${i}`, content]));
    const basedir = store({ ...all, 'o/600': `X${contents[600]!.slice(1)}` });
    const result = await fsck(many, [basedir]);
    expect(result.lines).toHaveLength(1);
    expect(result.lines[0]).toMatch(/^\/f600: fs-verity digest/);
    const native = loadNative();
    const probe = native.openBasedir(basedir);
    expect(probe).toBeLessThan(100);
    native.closeDescriptor(probe);
  });

  test('in a base directory that is not there are an error', async () => {
    await expect(fsck(image, [join(folder, 'absent')])).rejects.toThrow(/Can't open basedir/);
  });
});
