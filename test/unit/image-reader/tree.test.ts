import { describe, expect, it } from 'vitest';
import { ImageError, UnsupportedFeatureError } from '../../../src/errors.ts';
import { type ImageEntry, openImage } from '../../../src/image-reader/index.ts';
import { builderZoo } from '../../support/builder-zoo.ts';
import { buildImage, type LocatedImage, locateImage } from '../../support/image-builder.ts';
import {
  directory,
  escapedWhiteout,
  external,
  file,
  special,
  symlink,
  type TestDirectory,
  whiteout,
} from '../../support/image-nodes.ts';

function openTree(root: TestDirectory): ReturnType<typeof openImage> {
  return openImage(buildImage(root));
}

function walkFailure(root: TestDirectory, damage?: (image: LocatedImage) => void): string {
  const located = locateImage(root);
  damage?.(located);
  const image = openImage(located.bytes);
  const read = (entry: ImageEntry): unknown => [
    entry.xattrs(),
    entry.object(),
    entry.content(),
    entry.target,
  ];
  try {
    for (const entry of image.walk()) read(entry);
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    return (error as ImageError).message;
  }
  throw new Error('no damage was found');
}

describe('openImage', () => {
  it('gives the facts of the headers', () => {
    const bytes = buildImage(directory({ a: file('') }), {
      composefsVersion: 2,
      buildTime: -1n,
      buildTimeNsec: 5,
    });
    expect(openImage(bytes).header).toEqual({
      sizeBytes: 4096,
      composefsVersion: 2,
      hasAclFlag: false,
      inodeCount: 2,
      rootNid: 36,
      buildTime: { seconds: -1n, nanoseconds: 5 },
    });
  });

  it('throws for what is no image', () => {
    expect(() => openImage(new Uint8Array(5000))).toThrow(ImageError);
    const bytes = buildImage(directory());
    bytes[4] = 9;
    expect(() => openImage(bytes)).toThrow(UnsupportedFeatureError);
  });

  it('reads from shared memory', () => {
    const bytes = buildImage(builderZoo());
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
    shared.set(bytes);
    const paths = (image: Uint8Array): string[] =>
      Array.from(openImage(image).walk(), (entry) => {
        return `${entry.path} ${[...entry.xattrs().keys()].join()} ${entry.target ?? ''}`;
      });
    expect(paths(shared)).toEqual(paths(bytes));
  });
});

describe('an entry', () => {
  const linked = file('same', { mtime: -2, mtimeNsec: 500, uid: 1, gid: 2, permissions: 0o640 });
  const { root, lookup } = ((): { root: ImageEntry; lookup(path: string): ImageEntry } => {
    const image = openTree(
      directory({
        linked,
        café: directory({ again: linked }),
        link: symlink('to/where'),
        object: external(2n ** 60n, { digest: '5a'.repeat(32) }),
        object512: external(5, { digest: 'c3'.repeat(64) }),
        plain: external(5, { redirect: '/some/path' }),
        null: special('char-device', 1, 300),
        disk: special('block-device', 259, 0),
        pipe: special('fifo'),
        sock: special('socket'),
        raw: whiteout(),
        escaped: escapedWhiteout(),
      }),
    );
    return {
      root: image.root,
      lookup: (path) => {
        const entry = image.lookup(path);
        if (entry === undefined) throw new Error(`no ${path}`);
        return entry;
      },
    };
  })();

  it('has the fields of stat', () => {
    const entry = lookup('linked');
    expect(entry).toMatchObject({
      kind: 'file',
      name: 'linked',
      path: '/linked',
      mode: 0o100640,
      nlink: 2,
      uid: 1,
      gid: 2,
      size: 4n,
      mtime: { seconds: -2n, nanoseconds: 500 },
      rdev: { major: 0, minor: 0 },
      isWhiteout: false,
    });
    expect(entry.ino).toBe(entry.nid);
    expect(lookup('caf\u00e9/again').nid).toBe(entry.nid);
    expect(lookup('caf\u00e9/again').path).toBe('/caf\u00e9/again');
    expect(root).toMatchObject({ path: '/', name: '', kind: 'directory', parent: undefined });
  });

  it('has a kind', () => {
    const kinds = [...root.children()].map(({ name, kind }) => [name, kind]);
    expect(Object.fromEntries(kinds)).toEqual({
      linked: 'file',
      café: 'directory',
      link: 'symlink',
      object: 'file',
      object512: 'file',
      plain: 'file',
      null: 'char-device',
      disk: 'block-device',
      pipe: 'fifo',
      sock: 'socket',
      raw: 'char-device',
      escaped: 'file',
    });
  });

  it('has a device number', () => {
    expect(lookup('null').rdev).toEqual({ major: 1, minor: 300 });
    expect(lookup('disk').rdev).toEqual({ major: 259, minor: 0 });
  });

  it('has content, an object or a target', () => {
    expect(Buffer.from(lookup('linked').content() ?? '').toString()).toBe('same');
    expect(lookup('linked').object()).toBeUndefined();
    expect(lookup('link').target).toBe('to/where');
    expect(lookup('linked').target).toBeUndefined();
    expect(lookup('escaped').content()).toEqual(new Uint8Array(0));
    const object = lookup('object');
    expect(object.content()).toBeUndefined();
    expect(object.size).toBe(2n ** 60n);
    expect(object.object()).toEqual({
      path: `5a/${'5a'.repeat(31)}`,
      digest: { algorithm: 'sha256', hex: '5a'.repeat(32) },
    });
    expect(lookup('object512').object()?.digest).toEqual({
      algorithm: 'sha512',
      hex: 'c3'.repeat(64),
    });
    expect(lookup('plain').object()).toEqual({ path: 'some/path', digest: undefined });
  });

  it('has attributes with full names as stored', () => {
    expect([...lookup('escaped').xattrs()]).toEqual([
      ['trusted.overlay.overlay.whiteout', new Uint8Array(0)],
      ['user.overlay.whiteout', new Uint8Array(0)],
    ]);
    expect([...lookup('plain').xattrs().keys()]).toEqual([
      'trusted.overlay.metacopy',
      'trusted.overlay.redirect',
    ]);
  });

  it('is a whiteout or not', () => {
    expect(lookup('raw').isWhiteout).toBe(true);
    expect(lookup('escaped').isWhiteout).toBe(false);
  });

  it('finds children', () => {
    expect(root.child('link')?.path).toBe('/link');
    expect(root.child('none')).toBeUndefined();
    expect(lookup('linked').child('x')).toBeUndefined();
    expect([...lookup('linked').children()]).toEqual([]);
  });
});

describe('lookup', () => {
  const image = openTree(
    directory([
      ['a', directory({ b: directory({ c: file('c') }) })],
      [Uint8Array.of(0xff), file('not UTF-8')],
    ]),
  );

  it.each([
    ['/', '/'],
    ['', '/'],
    ['a', '/a'],
    ['/a/b/c', '/a/b/c'],
    ['a//b/', '/a/b'],
    ['a/./b/../b', '/a/b'],
    ['../..', '/'],
    ['a/b/c/d', undefined],
    ['a/x/c', undefined],
    ['b', undefined],
  ])('of %j gives %j', (path, expected) => {
    expect(image.lookup(path)?.path).toBe(expected);
  });

  it('takes bytes', () => {
    const entry = image.lookup(Uint8Array.of(0x2f, 0xff));
    expect(entry?.nameBytes).toEqual(Uint8Array.of(0xff));
    expect(entry?.path).toBe('/\ufffd');
  });
});

describe('walk', () => {
  it('visits everything once for every name, directories before their children', () => {
    const linked = file('');
    const image = openTree(
      directory({ b: directory({ z: linked, a: linked }), '!': file(''), c: whiteout() }),
    );
    expect([...image.walk()].map(({ path }) => path)).toEqual([
      '/',
      '/!',
      '/b',
      '/b/a',
      '/b/z',
      '/c',
    ]);
  });

  it('is not recursive', () => {
    let deep = directory();
    for (let i = 0; i < 20_000; i++) deep = directory({ d: deep });
    expect([...openTree(deep).walk()]).toHaveLength(20_001);
  });

  it('can be left early', () => {
    for (const entry of openTree(builderZoo()).walk()) {
      if (entry.kind === 'symlink') break;
    }
  });
});

describe('damage in a tree', () => {
  const leaf = file('leaf');

  it.each<[string, TestDirectory, RegExp]>([
    ['17: no .', directory({ d: directory({}, { dot: null }) }), /^damaged image: \/d: .* \. is/],
    ['17: no ..', directory({ d: directory({}, { dotDot: null }) }), /\.\. is missing or wrong$/],
    ['17: wrong .', directory({ leaf, d: directory({}, { dot: leaf }) }), /\. is missing or wrong/],
    [
      '17: wrong ..',
      directory({ a: directory({ b: directory({}, { dotDot: leaf }) }), leaf }),
      /^damaged image: \/a\/b: the directory's \.\. is missing or wrong$/,
    ],
    ['17: wrong .. of the root', directory({ leaf }, { dotDot: leaf }), /^damaged image: \/: /],
    [
      '18: type',
      directory([['x', leaf, { fileType: 2 }]]),
      /^damaged image: \/x: .* another type$/,
    ],
    ['4: nid', directory([['x', leaf, { nid: 2n ** 40n }]]), /^damaged image: \/x: the inode/],
    ['5: mode', directory({ x: file('', { override: { mode: 0 } }) }), /^damaged image: \/x: the/],
    ['10: target', directory({ l: symlink('a\0') }), /^damaged image: \/l: .* contains a NUL$/],
    [
      '26: duplicate attribute',
      directory({
        x: file('', {
          xattrs: [
            ['user.a', '1'],
            ['user.a', '2'],
          ],
        }),
      }),
      /^damaged image: \/x: extended attribute user\.a is there twice$/,
    ],
    ['27: metacopy', directory({ x: external(1, {}, { metacopy: undefined }) }), /metacopy/],
    ['28: redirect', directory({ x: external(1, { redirect: '/../x' }) }), /not a plain path$/],
    ['28: no redirect', directory({ x: external(1, {}) }), /has no absolute redirect$/],
    ['28: long', directory({ x: external(1, { redirect: `/${'x'.repeat(5000)}` }) }), /too long$/],
    ['15: names', directory({ d: directory([['a/b', leaf]]) }), /\/d: the directory is damaged$/],
    ['22: attributes', directory({ x: file('', { override: { icount: 1 } }) }), /attributes are/],
  ])('hazard %s', (_, tree, message) => {
    expect(walkFailure(tree)).toMatch(message);
  });

  it('hazard 19: a directory with two names', () => {
    const twice = directory();
    expect(walkFailure(directory({ a: twice, b: twice }))).toBe(
      'damaged image: directory /b has a second name',
    );
  });

  it('hazard 19: a directory in itself', () => {
    const loop = directory();
    loop.children.push(['loop', loop]);
    expect(walkFailure(directory({ loop }))).toMatch(/\/loop\/loop has a second name$/);
    const root = directory();
    root.children.push(['root', root]);
    expect(walkFailure(root)).toMatch(/\/root has a second name$/);
  });

  it('hazard 18: type 0 says nothing and is accepted', () => {
    const image = openTree(directory([['x', leaf, { fileType: 0 }]]));
    expect([...image.walk()]).toHaveLength(2);
  });

  it('hazard 20: directories that share their bytes', () => {
    // Names that sort before the dots fill the blocks, so that each directory has its own . and ..
    // behind its inode while all claim the blocks of the first.
    const many = Array.from({ length: 500 }, (_, i) => [`!${1000 + i}`, leaf] as const);
    const one = directory([...many], { tail: 'inline' });
    const others = Array.from({ length: 100 }, () => directory([...many], { tail: 'inline' }));
    const tree = directory([['one', one], ...others.map((node, i) => [`o${i}`, node] as const)]);
    const { bytes, view, locate } = locateImage(tree);
    const { blocks } = locate(one);
    for (const other of others) view.setUint32(locate(other).offset + 16, blocks / 4096, true);
    // Cut off the blocks that nobody claims, and the promise that they are there.
    view.setUint32(1024 + 36, 0, true);
    const small = bytes.slice(0, locate(others[0]!).blocks);
    expect(() => [...openImage(small).walk()]).toThrow(
      /^damaged image: directories share their bytes$/,
    );
  });
});
