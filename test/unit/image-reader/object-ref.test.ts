import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { DigestAlgorithm, ObjectRef, readObjectRef } from '../../../src/image-reader/index.ts';
import {
  type Bytes,
  directory,
  external,
  file,
  type TestNode,
  type TestXattr,
} from '../../support/image-nodes.ts';
import { EUCLEAN, open, text } from './helpers.ts';

const sha256 = '5a'.repeat(32);
const sha512 = 'c3'.repeat(64);

function read(node: TestNode): { status: number; path?: string; digest?: string; ref: ObjectRef } {
  // A second file with the same attributes, so that they are shared, must not change anything.
  const alone = open(directory({ node }));
  const ref = new ObjectRef();
  const status = readObjectRef(alone.image, alone.inode(node), ref);
  const pair = open(directory({ node, other: { ...node } }));
  const sharedRef = new ObjectRef();
  expect(readObjectRef(pair.image, pair.inode(node), sharedRef)).toBe(status);
  expect(sharedRef.pathLength).toBe(ref.pathLength);
  expect(sharedRef.digestAlgorithm).toBe(ref.digestAlgorithm);
  if (status < 0) return { status, ref };
  const digest = alone.bytes.slice(ref.digestStart, ref.digestStart + ref.digestLength);
  return {
    status,
    ref,
    path: text(alone.bytes, ref.pathStart, ref.pathLength),
    digest: Buffer.from(digest).toString('hex'),
  };
}

describe('readObjectRef', () => {
  it('reads path and sha256 digest', () => {
    const { status, path, digest, ref } = read(external(5000, { digest: sha256 }));
    expect(status).toBe(0);
    expect(path).toBe(`5a/${'5a'.repeat(31)}`);
    expect(digest).toBe(sha256);
    expect(ref.digestAlgorithm).toBe(DigestAlgorithm.SHA256);
  });

  it('reads a sha512 digest', () => {
    const { path, digest, ref } = read(external(5000, { digest: sha512 }));
    expect(path).toBe(`c3/${'c3'.repeat(63)}`);
    expect(digest).toBe(sha512);
    expect(ref.digestAlgorithm).toBe(DigestAlgorithm.SHA512);
  });

  it.each([true, false])('has no digest with an empty metacopy: %s', (emptyMetacopy) => {
    const { status, path, ref } = read(external(1, { redirect: '/x', emptyMetacopy }));
    expect([status, path, ref.digestAlgorithm, ref.digestLength]).toEqual([0, 'x', 0, 0]);
  });

  it('forgets what it read before', () => {
    const one = external(1, { digest: sha256 });
    const two = external(1, { redirect: '/y' });
    const { image, inode } = open(directory({ one, two }));
    const ref = new ObjectRef();
    readObjectRef(image, inode(one), ref);
    readObjectRef(image, inode(two), ref);
    expect([ref.digestAlgorithm, ref.digestLength, ref.pathLength]).toEqual([0, 0, 1]);
  });

  it('takes exactly the bytes of the value', () => {
    // Lengths that are a multiple of 4 have no padding; the reference reader takes what follows.
    for (const redirect of ['/a', '/ab', '/abc', '/abcd', '/abcde']) {
      expect(read(external(1, { redirect })).path).toBe(redirect.slice(1));
    }
  });

  it('finds the attributes among others, in any order', () => {
    const xattrs: TestXattr[] = [
      ['trusted.overlay.redirecu', 'x'],
      ['trusted.overlay.metacop', 'x'],
      ['user.overlay.redirect', '/wrong'],
      ['user.overlay.metacopy', 'wrong'],
      { index: 0, name: 'trusted.overlay.redirect', value: '/wrong' },
      ['trusted.overlay.overlay.redirect', '/wrong'],
    ];
    expect(read(external(1, { digest: sha256 }, { xattrs })).digest).toBe(sha256);
  });
});

describe('damaged metacopy, hazard 27', () => {
  const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
  const digest = new Array<number>(32).fill(1);
  it('missing', () => {
    expect(read(external(1, { redirect: '/x' }, { metacopy: undefined })).status).toBe(EUCLEAN);
  });

  it.each<[string, Uint8Array]>([
    ['1 byte', bytes(0)],
    ['3 bytes', bytes(0, 3, 0)],
    ['5 bytes', bytes(0, 5, 0, 0, 1)],
    ['version 1', bytes(1, 36, 0, 1, ...digest)],
    ['wrong length', bytes(0, 35, 0, 1, ...digest)],
    ['flags', bytes(0, 36, 1, 1, ...digest)],
    ['algorithm 0 with a digest', bytes(0, 36, 0, 0, ...digest)],
    ['algorithm 1 without a digest', bytes(0, 4, 0, 1)],
    ['algorithm 2 with 32 bytes', bytes(0, 36, 0, 2, ...digest)],
    ['algorithm 1 with 64 bytes', bytes(0, 68, 0, 1, ...digest, ...digest)],
    ['algorithm 3', bytes(0, 36, 0, 3, ...digest)],
    ['31 bytes of digest', bytes(0, 35, 0, 1, ...digest.slice(1))],
    ['33 bytes of digest', bytes(0, 37, 0, 1, ...digest, 1)],
    ['260 bytes, whose length byte wraps to 4', bytes(0, 4, 0, 0, ...new Array(256).fill(0))],
  ])('%s', (_, metacopy) => {
    expect(read(external(1, { redirect: '/x' }, { metacopy })).status).toBe(-Errno.EBADMSG);
  });

  it('3 bytes, whatever the padding is', () => {
    const node = external(1, { redirect: '/x' }, { metacopy: bytes(0, 3, 0) });
    const { image, inode } = open(directory({ node }), {}, (located) => {
      const at = located.locate(node).xattrStart + 12 + 4 + 'overlay.metacopy'.length;
      expect(located.bytes.slice(at, at + 4)).toEqual(bytes(0, 3, 0, 0));
      located.bytes[at + 3] = 9;
    });
    expect(readObjectRef(image, inode(node), new ObjectRef())).toBe(-Errno.EBADMSG);
  });
});

describe('redirects, hazard 28', () => {
  it.each<[Bytes, number]>([
    ['', -Errno.EINVAL],
    ['/', -Errno.EINVAL],
    ['x', -Errno.EIO],
    ['..', -Errno.EIO],
    ['xx/yy', -Errno.EINVAL],
    ['//x', -Errno.EINVAL],
    ['/x/', -Errno.EINVAL],
    ['/x//y', -Errno.EINVAL],
    ['/.', -Errno.EINVAL],
    ['/..', -Errno.EINVAL],
    ['/../x', -Errno.EINVAL],
    ['/x/..', -Errno.EINVAL],
    ['/x/../y', -Errno.EINVAL],
    ['/x/./y', -Errno.EINVAL],
    ['/x\0y', -Errno.EINVAL],
    ['/x\0', -Errno.EINVAL],
    ['/...', 0],
    ['/..x/.y/z.', 0],
    ['/with space/\u00e4', 0],
    [Uint8Array.of(0x2f, 0xff), 0],
    [`/${'x/'.repeat(2047)}y`, 0],
    [`/${'x/'.repeat(2048)}y`, -Errno.ENAMETOOLONG],
  ])('%j gives %i', (redirect, expected) => {
    expect(read(external(1, { redirect })).status).toBe(expected);
  });

  it('a missing redirect is EIO, as in the kernel', () => {
    expect(read(external(1, {})).status).toBe(-Errno.EIO);
    expect(read(external(1, { digest: sha256 }, { redirect: undefined })).status).toBe(-Errno.EIO);
  });
});

describe('other inodes', () => {
  it('are not external, whatever attributes they have', () => {
    const xattrs: TestXattr[] = [
      ['trusted.overlay.metacopy', ''],
      ['trusted.overlay.redirect', '/x'],
    ];
    expect(read(file('x', { xattrs })).status).toBe(-Errno.EINVAL);
    expect(read(directory({}, { xattrs })).status).toBe(-Errno.EINVAL);
  });

  it('damage behind both attributes is EUCLEAN', () => {
    // Shared entries come last.
    const bad: TestXattr[] = [{ index: 9, name: 'x', value: '' }];
    const node = external(1, { digest: sha256 }, { xattrs: bad });
    const { image, inode } = open(directory({ node, other: file('', { xattrs: bad }) }));
    expect(readObjectRef(image, inode(node), new ObjectRef())).toBe(EUCLEAN);
  });

  it('damaged attributes are EUCLEAN', () => {
    const node = external(1, { digest: sha256 });
    const { image, inode } = open(directory({ node }), {}, ({ view, locate }) => {
      view.setUint8(locate(node).xattrStart + 4, 255);
    });
    expect(readObjectRef(image, inode(node), new ObjectRef())).toBe(EUCLEAN);
  });
});
