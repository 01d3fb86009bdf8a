// The package's callbacks without the package: what they answer, that they answer once, and that a bug
// behind them is an answer too.

import { afterAll, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { ObjectMeasuring } from '../../../src/filesystem/object-measuring.ts';
import { StatisticsSource } from '../../../src/filesystem/statistics.ts';
import { Operations } from '../../../src/fuse-native/operations.ts';
import { PathResolver } from '../../../src/fuse-native/path-resolver.ts';
import { prepareFilesystem } from '../../../src/fuse/serving.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { loadNative } from '../../../src/native.ts';
import { Measurements } from '../../../src/objects/measurements.ts';
import { createFileTable } from '../../../src/objects/open-files.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, file, symlink, type TestDirectory } from '../../support/image-nodes.ts';
import { filesystemSetup } from '../../support/verification.ts';

const native = loadNative();
const fileTable = createFileTable(native, 16);
afterAll(() => void native.destroyFileTable(fileTable));

function filesystemOf(root: TestDirectory) {
  const image = Image.open(buildImage(root));
  return prepareFilesystem(native, image, filesystemSetup(native, [], { fileTable }), () => {});
}

const deep = (depth: number): TestDirectory =>
  directory(depth === 0 ? { end: file('end') } : { d: deep(depth - 1) });
const many = Object.fromEntries(
  Array.from({ length: 6000 }, (_, i) => [`d${i}`, directory({ f: file(`${i}`) })]),
);
const tree = directory({
  many: directory(many),
  deep: deep(300),
  hello: file('hello'),
  link: symlink('hello'),
  '\u{fffd}': file('replacement'),
  'x\u{fffd}y': directory({ in: file('in') }),
});

describe('paths', () => {
  const filesystem = filesystemOf(tree);
  const paths = new PathResolver(filesystem);
  const contentOf = (path: string): string | number => {
    const nid = paths.resolve(path);
    if (nid < 0) return nid;
    const bytes = new Uint8Array(64);
    const target = { bytes, readObject: () => -Errno.EIO };
    const length = filesystem.read(nid, 0, 0, bytes.length, target, 0);
    return length < 0 ? length : Buffer.from(bytes.subarray(0, length)).toString();
  };

  it('lead to files, more of them than are remembered, again and again', () => {
    for (let round = 0; round < 2; round++)
      for (let i = 0; i < 6000; i++) expect(contentOf(`/many/d${i}/f`)).toBe(`${i}`);
  });

  it.each([
    ['the root', '/', filesystem.image.rootNid],
    ['a name that is not there', '/nothing', -Errno.ENOENT],
    ['a name in a directory that is not there', '/nothing/at/all', -Errno.ENOENT],
    ['a name below a file', '/hello/x', -Errno.ENOTDIR],
    ['a name that is too long', `/${'x'.repeat(256)}`, -Errno.ENAMETOOLONG],
    ['a name that is far too long', `/${'x'.repeat(5000)}`, -Errno.ENAMETOOLONG],
    ['a name that was not UTF-8', '/a\u{fffd}', -Errno.EILSEQ],
    ['a long one', `/${'\u{fffd}'.repeat(200)}`, -Errno.EILSEQ],
    ['a directory that was not UTF-8', '/a\u{fffd}/x', -Errno.EILSEQ],
    ['a name below one with U+FFFD in it', '/x\u{fffd}y/out', -Errno.ENOENT],
  ])('to %s', (_what, path, expected) => {
    for (let round = 0; round < 2; round++) expect(paths.resolve(path)).toBe(expected);
  });

  it('may be deep, and have U+FFFD in them', () => {
    expect(contentOf(`/deep${'/d'.repeat(300)}/end`)).toBe('end');
    expect(contentOf('/\u{fffd}')).toBe('replacement');
    expect(contentOf('/x\u{fffd}y/in')).toBe('in');
  });
});

describe('callbacks', () => {
  const bugs: string[] = [];
  const filesystem = filesystemOf(tree);
  const operations = new Operations({
    filesystem,
    statistics: new StatisticsSource('/', 4096, 1),
    target: { bytes: new Uint8Array(8192), readObject: () => -Errno.EIO },
    measuring: new ObjectMeasuring(filesystem, new Measurements(native, () => {})),
    reportBug: (_error, operation) => void bugs.push(operation),
  });
  const { table } = operations;
  const answer = (call: (done: (...results: unknown[]) => void) => void): unknown[] => {
    const answers: unknown[][] = [];
    call((...results) => void answers.push(results));
    expect(answers).toHaveLength(1);
    return answers[0]!;
  };

  it('open, read and release', () => {
    const [status, fd] = answer((done) => table.open('/hello', 0, done)) as [number, number];
    expect(status).toBe(0);
    expect(fd).toBeGreaterThan(0);
    const buffer = new Uint8Array(10);
    expect(answer((done) => table.read('/hello', fd, buffer, 10, 1, done))).toEqual([4]);
    expect(Buffer.from(buffer).toString()).toBe('ello\0\0\0\0\0\0');
    expect(answer((done) => table.read('/hello', fd, buffer, 10, 5, done))).toEqual([0]);
    expect(answer((done) => table.release('/hello', fd, done))).toEqual([0]);
    expect(answer((done) => table.read('/hello', fd, buffer, 10, 0, done))).toEqual([-Errno.EBADF]);
    expect(answer((done) => table.open('/hello', 1, done))).toEqual([-Errno.EROFS]);
    expect(answer((done) => table.open('/link', 0, done))).toEqual([-Errno.ENXIO]);
  });

  it('refuse every change', () => {
    const refuse = table['rename'] as unknown as (...args: unknown[]) => void;
    expect(answer((done) => refuse('/hello', '/other', done))).toEqual([-Errno.EROFS]);
  });

  it('answer EIO for a bug, and say so', () => {
    const read = filesystem.attributes.bind(filesystem);
    filesystem.attributes = () => {
      throw new Error('a bug');
    };
    expect(answer((done) => table.getattr('/', done))).toEqual([-Errno.EIO]);
    filesystem.attributes = read;
    expect(bugs).toEqual(['getattr']);
    expect(answer((done) => table.getattr('/', done))[0]).toBe(0);
  });

  it('answer EIO after the end', () => {
    operations.end();
    expect(answer((done) => table.getattr('/', done))).toEqual([-Errno.EIO]);
    expect(answer((done) => table.readdir('/', done))).toEqual([-Errno.EIO]);
    expect(operations.getXattr('/hello', 'user.x', new Uint8Array(1))).toBe(-Errno.EIO);
  });
});
