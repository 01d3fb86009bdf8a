// An image is served only if the bytes in memory have the digest it is pinned by. The kernel's word
// counts if it was given before those bytes were read.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageDigestError } from '../../../src/errors.ts';
import { ImageFile } from '../../../src/filesystem/image-file.ts';
import { imageDigestCheck } from '../../../src/fuse/image-digest.ts';
import { loadNative, type NativeAddon } from '../../../src/native.ts';
import { digestOf } from '../../support/guarded-objects.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, file } from '../../support/image-nodes.ts';
import { scopeOfAllTests } from '../../support/scope.ts';

const native = loadNative();
const scope = scopeOfAllTests();
const folder = scope.directory();
const path = join(folder, 'image');
const image = buildImage(directory({ hello: file('hello') }));
writeFileSync(path, image);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sha256 = hex(digestOf(image));
const sha512 = hex(digestOf(image, 'sha512'));

/** An addon whose kernel has fs-verity for every file, or says an errno; and whom it was asked for. */
function kernelSaying(algorithm: number, digest: string | number): NativeAddon & { asked: number } {
  const measureVerity = (_fd: number, out: Uint8Array): number => {
    addon.asked++;
    if (typeof digest === 'number') return digest;
    const bytes = Buffer.from(digest, 'hex');
    out.set(bytes);
    return algorithm * 65_536 + bytes.length;
  };
  const addon = Object.assign(Object.create(native, { measureVerity: { value: measureVerity } }), {
    asked: 0,
  }) as NativeAddon & { asked: number };
  return addon;
}

function check(addon: NativeAddon, expected: string, bytes: Uint8Array = image): unknown {
  try {
    imageDigestCheck(addon, '/an/image', 3, expected)(bytes);
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('without fs-verity in the kernel', () => {
  it.each([-61, -95, -25, -22, -9])('(errno %i) the bytes are hashed', (errno) => {
    const addon = kernelSaying(0, errno);
    expect(check(addon, sha256)).toBeUndefined();
    expect(check(addon, sha512)).toBeUndefined();
    const error = check(addon, 'ab'.repeat(32)) as ImageDigestError;
    expect(error).toBeInstanceOf(ImageDigestError);
    expect(error.path).toBe('/an/image');
    expect(error.expected).toBe(`sha256:${'ab'.repeat(32)}`);
    expect(error.actual).toBe(`sha256:${sha256}`);
    expect(error.code).toBe('CFS_IMAGE_DIGEST');
  });

  it('128 digits are of SHA-512', () => {
    const error = check(kernelSaying(0, -61), 'ab'.repeat(64)) as ImageDigestError;
    expect(error.expected).toBe(`sha512:${'ab'.repeat(64)}`);
    expect(error.actual).toBe(`sha512:${sha512}`);
  });

  it('one byte more, less or other is refused', () => {
    const addon = kernelSaying(0, -61);
    const flipped = image.slice();
    flipped[flipped.length - 1]! ^= 1;
    for (const bytes of [flipped, image.subarray(1), image.subarray(0, -1), new Uint8Array(0)]) {
      expect(check(addon, sha256, bytes)).toBeInstanceOf(ImageDigestError);
    }
  });

  it('shared memory is hashed as well', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(image.length));
    shared.set(image);
    expect(check(kernelSaying(0, -61), sha256, shared)).toBeUndefined();
  });
});

describe('the kernel', () => {
  it('is believed when it has the digest: nothing is hashed', () => {
    expect(check(kernelSaying(1, sha256), sha256, new Uint8Array(5))).toBeUndefined();
    expect(check(kernelSaying(2, sha512), sha512, new Uint8Array(5))).toBeUndefined();
  });

  it('is believed when it has another digest of that algorithm', () => {
    const error = check(kernelSaying(1, 'cd'.repeat(32)), sha256) as ImageDigestError;
    expect(error).toBeInstanceOf(ImageDigestError);
    expect(error.actual).toBe(`sha256:${'cd'.repeat(32)}`);
  });

  it('says nothing of a digest of another algorithm: the bytes are hashed', () => {
    const addon = kernelSaying(2, sha512);
    expect(check(addon, sha256)).toBeUndefined();
    expect(check(addon, sha256, new Uint8Array(5))).toBeInstanceOf(ImageDigestError);
    const error = check(addon, 'ab'.repeat(32)) as ImageDigestError;
    expect(error.actual).toBe(`sha256:${sha256}`);
    expect(check(kernelSaying(1, sha256), sha512)).toBeUndefined();
  });

  it('is not taken for one that knows SHA-512 because the digits begin alike', () => {
    const addon = kernelSaying(1, sha512.slice(0, 64));
    expect(check(addon, sha512)).toBeUndefined();
    expect(check(addon, sha512, new Uint8Array(5))).toBeInstanceOf(ImageDigestError);
  });

  it('is asked before anything is read: afterwards it may speak of other bytes', () => {
    const addon = kernelSaying(1, sha256);
    const file = new ImageFile(path);
    let read: Uint8Array | undefined;
    file.load((fd) => {
      const buffer = new Uint8Array(file.buffer);
      expect(hex(buffer)).toBe('00'.repeat(image.length));
      const verify = imageDigestCheck(addon, path, fd, sha256);
      expect(addon.asked).toBe(1);
      return (bytes) => {
        read = bytes.slice();
        verify(bytes);
        expect(addon.asked).toBe(1);
      };
    });
    expect(hex(read!)).toBe(hex(image));
  });
});

describe('an image file', () => {
  it('is loaded with the right digest and refused with another', () => {
    for (const expected of [sha256, sha512]) {
      const loaded = new ImageFile(path).load((fd) => imageDigestCheck(native, path, fd, expected));
      expect(loaded.sizeBytes).toBe(image.length);
    }
    const wrong = 'ab'.repeat(32);
    const load = () => new ImageFile(path).load((fd) => imageDigestCheck(native, path, fd, wrong));
    expect(load).toThrow(ImageDigestError);
    expect(load).toThrow(
      `image ${path} has the fs-verity digest sha256:${sha256}, but sha256:${wrong} is asked for`,
    );
  });

  it('is refused for its digest before it is parsed', () => {
    const damaged = readFileSync(path);
    // The superblock's checksum no longer fits.
    damaged[1024 + 40]! ^= 1;
    const other = join(folder, 'damaged');
    writeFileSync(other, damaged);
    expect(() => new ImageFile(other).load()).not.toThrow(ImageDigestError);
    const load = () =>
      new ImageFile(other).load((fd) => imageDigestCheck(native, other, fd, sha256));
    expect(load).toThrow(ImageDigestError);
  });

  it('closes its file when it is refused', () => {
    let opened = -1;
    const refuse = (): never => {
      throw new ImageDigestError(path, 'a', 'b');
    };
    for (const prepare of [
      (fd: number) => {
        opened = fd;
        return refuse;
      },
      (fd: number) => {
        opened = fd;
        return refuse();
      },
    ]) {
      expect(() => new ImageFile(path).load(prepare)).toThrow(ImageDigestError);
      expect(() => readFileSync(`/proc/self/fdinfo/${opened}`)).toThrow(/ENOENT/);
    }
  });
});
