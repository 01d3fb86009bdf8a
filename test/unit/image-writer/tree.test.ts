// What the interface to a tree accepts and refuses, and what of it no image can hold.

import { describe, expect, it } from 'vitest';
import { readDump } from '../../../src/dump/index.ts';
import { Errno, TreeError } from '../../../src/errors.ts';
import { openImage } from '../../../src/image-reader/index.ts';
import {
  ImageTree,
  type NodeAttributes,
  planImage,
  type VersionRange,
  writeImage,
} from '../../../src/image-writer/index.ts';

const directory: NodeAttributes = { mode: 0o40755 };
const file: NodeAttributes = { mode: 0o100644 };

/** The error that a function throws; fails the test when it throws none or another. */
function treeError(action: () => void): { path: string; errno: number } {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(TreeError);
    const { path, errno, message } = error as TreeError;
    expect(message).toContain(path);
    return { path, errno };
  }
  throw new Error('nothing was thrown');
}

describe('a tree refuses', () => {
  const tree = new ImageTree(directory);
  const folder = tree.add(tree.root, 'folder', directory);
  const plain = tree.add(folder, 'plain', file);
  const link = tree.addHardLink(folder, 'link', plain);

  const names: [title: string, name: string | Uint8Array, path: string][] = [
    ['a name that is there', 'plain', '/folder/plain'],
    ['an empty name', '', '/folder/'],
    ['.', '.', '/folder/.'],
    ['..', '..', '/folder/..'],
    ['a slash', 'a/b', '/folder/a/b'],
    ['a NUL', 'a\0b', '/folder/a\0b'],
    ['256 bytes', 'n'.repeat(256), `/folder/${'n'.repeat(256)}`],
    ['256 bytes of UTF-8', 'é'.repeat(128), `/folder/${'é'.repeat(128)}`],
  ];
  it.each(names)('%s as a name', (_, name, path) => {
    expect(treeError(() => tree.add(folder, name, file))).toEqual({ path, errno: Errno.EINVAL });
  });

  it('entries of what is not a directory', () => {
    expect(treeError(() => tree.add(plain, 'x', file)).path).toBe('/folder/plain');
    expect(treeError(() => tree.add(link, 'x', file)).path).toBe('/folder/link');
  });

  it('a second name for a directory', () => {
    expect(treeError(() => tree.addHardLink(tree.root, 'x', folder)).path).toBe('/x');
  });

  const attributes: [title: string, NodeAttributes, errno?: number][] = [
    ['a mode without a type', { mode: 0o644 }],
    ['a type that does not exist', { mode: 0o150644 }],
    ['a symlink without a target', { mode: 0o120777 }],
    ['a target of 4096 bytes', { mode: 0o120777, target: 'x'.repeat(4096) }],
    ['5001 bytes of content', { ...file, content: new Uint8Array(5001) }],
    ['an object path of 4096 bytes', { ...file, size: 1, objectPath: 'x'.repeat(4096) }],
    ['a digest of 31 bytes', { ...file, size: 1, digest: new Uint8Array(31) }],
    ['an empty attribute name', { ...file, xattrs: [['', new Uint8Array(1)]] }],
    ['an attribute name of 256 bytes', { ...file, xattrs: [['x'.repeat(256), new Uint8Array(1)]] }],
    [
      'a value too long by one',
      { ...file, xattrs: [['user.a', new Uint8Array(32743)]] },
      Errno.ERANGE,
    ],
    ['a value of 64 KiB', { ...file, xattrs: [['user.a', new Uint8Array(65536)]] }, Errno.ERANGE],
  ];
  it.each(attributes)('%s', (title, bad, errno = Errno.EINVAL) => {
    expect(treeError(() => tree.add(folder, title, bad))).toEqual({
      path: `/folder/${title}`,
      errno,
    });
  });

  it('a root that is not a directory', () => {
    expect(treeError(() => new ImageTree(file)).path).toBe('/');
  });
});

describe('a tree holds', () => {
  it('the largest attribute', () => {
    const tree = new ImageTree(directory);
    const value = new Uint8Array(32742).fill(7);
    tree.add(tree.root, 'f', { ...file, xattrs: [['user.a', value]] });
    const entry = openImage(writeImage(tree)).lookup('/f');
    expect(Buffer.compare(entry?.xattrs().get('user.a') as Uint8Array, value)).toBe(0);
  });

  it('only the last of several values of an attribute', () => {
    const tree = new ImageTree(directory);
    const xattrs = ['one', 'two', 'three'].map((text) => ['user.a', Buffer.from(text)] as const);
    tree.add(tree.root, 'f', { ...file, xattrs });
    expect(openImage(writeImage(tree)).lookup('/f')?.xattrs()).toEqual(
      new Map([['user.a', new Uint8Array(Buffer.from('three'))]]),
    );
  });

  it('what was added, by name', () => {
    const tree = new ImageTree(directory);
    const folder = tree.add(tree.root, 'é', directory);
    const digest = Buffer.alloc(32, 0xab);
    const objectPath = `ab/${'ab'.repeat(31)}`;
    const object = tree.add(folder, 'x', { ...file, size: 5, objectPath, digest });
    expect(tree.size).toBe(3);
    expect(tree.child(tree.root, Buffer.from('é'))).toBe(folder);
    expect(tree.child(folder, 'x')).toBe(object);
    expect(tree.child(folder, 'y')).toBeUndefined();
    expect(Buffer.from(tree.objectPath(object) as Uint8Array).toString()).toBe(objectPath);
    expect(tree.objectPath(folder)).toBeUndefined();
    writeImage(tree);
    expect(tree.size).toBe(3);
  });

  it('a directory of 3,000 names added in no order', () => {
    const tree = new ImageTree(directory);
    const names = Array.from({ length: 3000 }, (_, i) => `n${(i * 7919) % 3000}`);
    for (const name of names) tree.add(tree.root, name, file);
    const { root } = openImage(writeImage(tree));
    const found = [...root.children()].filter((entry) => !entry.isWhiteout);
    expect(found.map(({ name }) => name)).toEqual(names.toSorted());
  });
});

describe('the same tree', () => {
  it('can be written again, changed or not', () => {
    const tree = new ImageTree({ ...directory, uid: 7 });
    const first = writeImage(tree);
    expect(Buffer.compare(writeImage(tree), first)).toBe(0);
    tree.add(tree.root, 'ff', file);
    const { root } = openImage(writeImage(tree));
    expect(root.child('ff')?.kind).toBe('file');
    expect(root.child('fe')).toMatchObject({ isWhiteout: true, uid: 7 });
  });
});

describe('versions', () => {
  const whiteout = Buffer.from('/ 0 40755 2 0 0 0 0.0 - - -\n/w 0 20644 1 0 0 0 0.0 - - -\n');
  const plain = Buffer.from('/ 0 40755 2 0 0 0 0.0 - - -\n');
  const rows: [VersionRange, plain: number, whiteout: number][] = [
    [{}, 0, 1],
    [{ minVersion: 0 }, 0, 0],
    [{ maxVersion: 0 }, 0, 0],
    [{ maxVersion: 1 }, 0, 1],
    [{ minVersion: 1 }, 1, 1],
    [{ minVersion: 1, maxVersion: 0 }, 1, 1],
    [{ minVersion: 0, maxVersion: 0 }, 0, 0],
  ];
  it.each(rows)('%j: %i without whiteouts, %i with', (versions, expected, withWhiteout) => {
    expect(planImage(readDump(plain), versions).version).toBe(expected);
    expect(planImage(readDump(whiteout), versions).version).toBe(withWhiteout);
  });

  it.each([{ minVersion: 2 }, { maxVersion: 2 }, { minVersion: -1 }, { maxVersion: 0.5 }])(
    '%j is refused',
    (versions) => {
      expect(() => planImage(readDump(plain), versions)).toThrow(RangeError);
    },
  );
});

describe('no image can hold', () => {
  it('a tree without a root', () => {
    expect(treeError(() => writeImage(new ImageTree()))).toEqual({
      path: '/',
      errno: Errno.ENOTDIR,
    });
  });

  it.each([2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n])('an external file of %i bytes', (size) => {
    const tree = new ImageTree(directory);
    tree.add(tree.root, 'huge', { ...file, size });
    expect(treeError(() => writeImage(tree))).toEqual({ path: '/huge', errno: Errno.EFBIG });
  });

  it('but one of 2^53 bytes, and devices with any size field', () => {
    const tree = new ImageTree(directory);
    tree.add(tree.root, 'huge', { ...file, size: 2n ** 53n });
    tree.add(tree.root, 'device', { mode: 0o20644, rdev: 1, size: 2n ** 64n - 1n });
    const image = openImage(writeImage(tree));
    expect(image.lookup('/huge')?.size).toBe(2n ** 53n);
    expect(image.lookup('/device')?.size).toBe(0n);
  });

  // The reference counts the size of attributes anew while it marks whiteouts.
  const marks: [title: string, line: string, isFine: boolean][] = [
    ['an empty marker that is replaced', 'user.overlay.whiteout=', true],
    ['a marker of 39 bytes', `user.overlay.whiteout=${'v'.repeat(39)}`, true],
    ['a marker of 40 bytes', `user.overlay.whiteout=${'v'.repeat(40)} user.a=`, false],
    ['the first marker of any length', `trusted.overlay.whiteout=v user.a=`, false],
    ['the first marker alone', `trusted.overlay.whiteout=${'v'.repeat(9000)}`, true],
  ];
  it.each(marks)('whiteouts with %s: %s', (_, xattrs, isFine) => {
    const tree = readDump(
      Buffer.from(`/ 0 40755 2 0 0 0 0.0 - - -\n/w 0 20644 1 0 0 0 0.0 - - - ${xattrs}\n`),
    );
    if (isFine) expect(writeImage(tree).length).toBeGreaterThan(4096);
    else expect(treeError(() => writeImage(tree))).toEqual({ path: '/w', errno: Errno.ERANGE });
  });
});

describe('the facts of an image', () => {
  it('are counted', () => {
    const tree = new ImageTree(directory);
    const xattrs = [['user.a', Buffer.from('1')]] as const;
    tree.add(tree.root, 'inline', { ...file, content: Buffer.from('x'), xattrs });
    tree.add(tree.root, 'external', { ...file, size: 100, xattrs });
    tree.add(tree.root, 'symlink', { mode: 0o120777, target: 'inline' });
    tree.add(tree.root, 'empty', file);
    tree.addHardLink(tree.root, 'again', 1);
    const plan = planImage(tree);
    expect(plan.facts()).toEqual({
      version: 0,
      sizeBytes: plan.bytes().length,
      inodes: 5 + 256,
      directories: 1,
      inlineFiles: 1,
      externalFiles: 1,
      symlinks: 1,
      sharedXattrs: 1,
      hasAcl: false,
    });
  });
});
