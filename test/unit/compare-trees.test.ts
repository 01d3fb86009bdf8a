// The oracle of the differential tests must see every kind of difference: an oracle that cannot
// fail proves nothing. Two plain directories, one thing changed at a time.

import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { compareTrees, walkTree } from '../support/compare-trees.ts';
import type { Difference } from '../support/compare-trees.ts';
import { describeWith, needsPython, needsUserXattrs } from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';

// Not `dirent`, `stat.ino` or times of change, which differ between any two copies on a disk.
const volatile = new Set(['ino', 'd_ino', 'atime', 'ctime', 'dots..', 'dots...']);

function setAttribute(path: string, value: string): void {
  const script = 'import os, sys; os.setxattr(sys.argv[1], "user.name", sys.argv[2].encode())';
  spawnSync('python3', ['-c', script, path, value]);
}

describeWith([needsPython], 'comparing two trees', () => {
  const scope = scopeOfEachTest();
  let left: string;
  let right: string;

  beforeEach(() => {
    [left, right] = [join(scope.directory(), 'tree'), join(scope.directory(), 'tree')];
    mkdirSync(join(left, 'sub'), { recursive: true });
    writeFileSync(join(left, 'file'), 'content');
    writeFileSync(join(left, 'sub/inner'), 'x'.repeat(5000));
    symlinkSync('file', join(left, 'link'));
    cpSync(left, right, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    for (const root of [left, right])
      for (const name of ['', 'file', 'sub', 'sub/inner']) utimesSync(join(root, name), 1, 1);
    spawnSync('touch', ['-h', '-d', '@1', join(left, 'link'), join(right, 'link')]);
  });

  async function differences(): Promise<Difference[]> {
    const found = await compareTrees(left, right, {
      parts: ['stat', 'xattr', 'link', 'read', 'seek'],
    });
    return found.differences.filter((entry) => !volatile.has(entry.field));
  }
  const fieldsOf = (found: Difference[]): string[] => found.map((d) => `${d.path}:${d.field}`);

  test('finds none between equal trees', async () => {
    expect(await differences()).toEqual([]);
  });

  test.each<[string, () => void, string]>([
    ['permissions', () => chmodSync(join(right, 'file'), 0o4755), 'file:mode'],
    ['a modification time', () => utimesSync(join(right, 'file'), 1, 1.5), 'file:mtime'],
    ['a link count', () => linkSync(join(right, 'file'), `${right}-2`), 'file:nlink'],
    ['content of equal length', () => writeFileSync(join(right, 'file'), 'cOntent'), 'file:read'],
    ['a size', () => truncateSync(join(right, 'file'), 3), 'file:size'],
    ['a hole', () => truncateSync(join(right, 'file'), 1 << 20), 'file:seek'],
    [
      'a link target',
      () => {
        rmSync(join(right, 'link'));
        symlinkSync('elsewhere', join(right, 'link'));
      },
      'link:target',
    ],
    ['a missing entry', () => rmSync(join(right, 'sub/inner')), 'sub/inner:entry'],
    ['an entry too many', () => writeFileSync(join(right, 'more'), ''), 'more:entry'],
  ])('sees %s', async (_what, change, expected) => {
    change();
    expect(fieldsOf(await differences())).toContain(expected);
  });

  test('shows names that are not UTF-8 reversibly', async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${left}/`), Buffer.from([0xff, 0x5c, 0x0a])]), '');
    expect([...(await walkTree(left)).keys()]).toContain('\\xff\\x5c\\x0a');
  });

  test('reports a walk that is not done in time instead of waiting for it', async () => {
    await expect(compareTrees(left, right, { timeoutMs: 1 })).rejects.toThrow(
      'not done after 1 ms',
    );
  });

  test('reports a tree that cannot be walked', async () => {
    const found = await compareTrees(left, join(right, 'absent'));
    expect(found.differences).toContainEqual(expect.objectContaining({ path: '', field: 'lstat' }));
  });

  describeWith([needsUserXattrs], 'with extended attributes', () => {
    test.each([
      ['a value', 'user.name', 'other'],
      ['an absent one', 'user.name', undefined],
    ])('sees %s', async (_what, name, value) => {
      setAttribute(join(left, 'file'), 'value');
      if (value !== undefined) setAttribute(join(right, 'file'), value);
      expect(fieldsOf(await differences())).toEqual([`file:xattrs.${name}`]);
    });
  });
});
