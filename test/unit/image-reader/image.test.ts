import { describe, expect, it } from 'vitest';
import { ImageError, UnsupportedFeatureError } from '../../../src/errors.ts';
import {
  BLOCK_SIZE,
  EROFS_SUPER_OFFSET,
  FeatureIncompat,
  SUPER_BLOCK,
} from '../../../src/image-reader/format.ts';
import { Image } from '../../../src/image-reader/index.ts';
import { buildImage, locateImage } from '../../support/image-builder.ts';
import { directory, file } from '../../support/image-nodes.ts';

const root = directory({ a: file('a'), b: file('b', { mtime: 5 }) });

function failure(bytes: Uint8Array): ImageError | UnsupportedFeatureError {
  try {
    Image.open(bytes);
  } catch (error) {
    if (error instanceof ImageError || error instanceof UnsupportedFeatureError) return error;
    throw error;
  }
  throw new Error('the image was opened');
}

function damaged(patch: (view: DataView) => void, source = buildImage(root)): Uint8Array {
  const bytes = source.slice();
  patch(new DataView(bytes.buffer));
  return bytes;
}

function superBlock(field: number): number {
  return EROFS_SUPER_OFFSET + field;
}

describe('Image.open', () => {
  it('reports the facts of the headers', () => {
    const options = { composefsVersion: 0, buildTime: -2n, buildTimeNsec: 7, hasAclFlag: true };
    const image = Image.open(buildImage(root, options));
    expect(image.composefsVersion).toBe(0);
    expect(image.hasAclFlag).toBe(true);
    expect(image.inodeCount).toBe(3);
    expect(image.rootNid).toBe(36);
    expect(image.metaStart).toBe(0);
    expect(image.sizeBytes).toBe(BLOCK_SIZE);
    expect(image.buildTimeLow).toBe(0xffff_fffe);
    expect(image.buildTimeHigh).toBe(0xffff_ffff);
    expect(image.buildTimeNsec).toBe(7);
  });

  it.each([0, 1, 2, 3])('accepts composefs version %i', (composefsVersion) => {
    const image = Image.open(buildImage(root, { composefsVersion }));
    expect(image.composefsVersion).toBe(composefsVersion);
  });

  it('accepts a view into a larger buffer and shared memory', () => {
    const bytes = buildImage(root);
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length + 300), 100, bytes.length);
    shared.set(bytes);
    expect(Image.open(shared).inodeCount).toBe(3);
  });

  it('accepts metadata and shared xattrs anywhere', () => {
    expect(Image.open(buildImage(root, { metaBlock: 3 })).rootNid).toBe(0);
    expect(Image.open(buildImage(root, { xattrBlockZero: true })).xattrStart).toBe(0);
  });

  it('accepts the feature bit for chunked files and unknown compatible features', () => {
    Image.open(buildImage(root, { chunkFeature: true }));
    Image.open(
      damaged((view) => view.setUint32(superBlock(SUPER_BLOCK.FEATURE_COMPAT), 0xffff_fff6, true)),
    );
  });

  it('accepts an image that is not a multiple of a block, hazard 1', () => {
    const bytes = new Uint8Array(BLOCK_SIZE + 5);
    bytes.set(buildImage(root));
    expect(Image.open(bytes).sizeBytes).toBe(BLOCK_SIZE + 5);
  });

  it('clamps nanoseconds of the build time, hazard 12', () => {
    const image = Image.open(buildImage(root, { buildTimeNsec: 4_000_000_000 }));
    expect(image.buildTimeNsec).toBe(999_999_999);
  });
});

describe('what is not a composefs image, hazards 1 and 2', () => {
  it.each([
    ['an empty file', new Uint8Array(0), /^not a composefs image: only 0 bytes long$/],
    ['a short file', new Uint8Array(31), /^not a composefs image: only 31 bytes long$/],
    ['zeros', new Uint8Array(8192), /^not a composefs image: it does not begin with/],
    [
      'plain EROFS',
      damaged((view) => view.setUint32(0, 0)),
      /^not a composefs image: a plain EROFS image without the composefs header$/,
    ],
    [
      'a header without EROFS',
      damaged((view) => view.setUint32(EROFS_SUPER_OFFSET, 0x12345678)),
      /^damaged image: no EROFS superblock at byte 1024 \(magic 0x78563412\)$/,
    ],
  ])('%s', (_, bytes, message) => {
    const error = failure(bytes);
    expect(error).toBeInstanceOf(ImageError);
    expect(error.message).toMatch(message);
  });
});

describe('truncated images, hazard 1', () => {
  it('says how much is there and how much is promised', () => {
    const bytes = buildImage(directory({ big: file(new Uint8Array(8192)) }));
    expect(bytes.length).toBe(3 * BLOCK_SIZE);
    const error = failure(bytes.subarray(0, 2 * BLOCK_SIZE));
    expect(error.message).toBe(
      'truncated image: 8192 bytes are there, the superblock promises 12288',
    );
  });

  it('names the smallest size below one block', () => {
    expect(failure(buildImage(root).subarray(0, 4095)).message).toBe(
      'truncated image: 4095 bytes are there, the smallest image has 4096',
    );
  });

  it('every shorter length fails in an orderly way', () => {
    const bytes = buildImage(root);
    for (let length = 0; length < bytes.length; length++) failure(bytes.subarray(0, length));
  });
});

describe('unsupported features, hazard 2', () => {
  it.each([
    ['header version', 4, 4, 2, 2],
    ['header flags', 8, 4, 3, 2],
    ['blkszbits', superBlock(SUPER_BLOCK.BLKSZBITS), 1, 13, 13],
    ['feature_incompat', superBlock(SUPER_BLOCK.FEATURE_INCOMPAT), 4, 0x84, 0x80],
    ['feature_incompat', superBlock(SUPER_BLOCK.FEATURE_INCOMPAT), 4, 0x8000_0000, 0x8000_0000],
    ['compression algorithms', superBlock(SUPER_BLOCK.AVAILABLE_COMPR_ALGS), 2, 1, 1],
    ['extra_devices', superBlock(SUPER_BLOCK.EXTRA_DEVICES), 2, 1, 1],
    ['dirblkbits', superBlock(SUPER_BLOCK.DIRBLKBITS), 1, 1, 1],
    ['xattr_prefix_count', superBlock(SUPER_BLOCK.XATTR_PREFIX_COUNT), 1, 1, 1],
    ['packed_nid', superBlock(SUPER_BLOCK.PACKED_NID) + 4, 4, 1, 2 ** 32],
  ])('%s', (feature, offset, size, value, reported) => {
    const error = failure(
      damaged((view) => {
        if (size === 1) view.setUint8(offset, value);
        else if (size === 2) view.setUint16(offset, value, true);
        else view.setUint32(offset, value, true);
      }),
    );
    expect(error).toBeInstanceOf(UnsupportedFeatureError);
    expect(error).toMatchObject({ feature, value: reported, code: 'CFS_UNSUPPORTED' });
    expect(error.message).not.toMatch(/[\n.]$/);
  });

  it('names the incompatible features', () => {
    const bits = FeatureIncompat.FRAGMENTS | FeatureIncompat.XATTR_PREFIXES;
    const error = failure(
      damaged((view) => view.setUint32(superBlock(SUPER_BLOCK.FEATURE_INCOMPAT), bits, true)),
    );
    expect(error.message).toBe(
      'unsupported EROFS feature_incompat 0x60 (FRAGMENTS, XATTR_PREFIXES)',
    );
  });
});

describe('damaged superblocks, hazard 3', () => {
  it.each([
    ['metadata beyond the end', SUPER_BLOCK.META_BLKADDR, 1, /metadata starts at byte 4096/],
    // 0xfffff * 4096 is 2^32 - 4096: nothing may wrap.
    ['metadata at 2^44', SUPER_BLOCK.META_BLKADDR, 0xffff_ffff, /starts at byte 17592186040320/],
    ['metadata at 2^32', SUPER_BLOCK.META_BLKADDR, 0x10_0000, /starts at byte 4294967296/],
    ['xattrs beyond the end', SUPER_BLOCK.XATTR_BLKADDR, 2, /shared xattrs start at byte 8192/],
  ])('%s', (_, field, value, message) => {
    const error = failure(damaged((view) => view.setUint32(superBlock(field), value, true)));
    expect(error).toBeInstanceOf(ImageError);
    expect(error.message).toMatch(message);
  });

  it('accepts an empty shared area directly behind the last block', () => {
    Image.open(damaged((view) => view.setUint32(superBlock(SUPER_BLOCK.XATTR_BLKADDR), 1, true)));
  });

  it('checks the checksum only if the feature says that there is one', () => {
    const withFeature = damaged((view) => {
      view.setUint32(superBlock(SUPER_BLOCK.FEATURE_COMPAT), 7, true);
    });
    const error = failure(withFeature);
    expect(error.message).toMatch(
      /^damaged image: superblock checksum is 0x[0-9a-f]+, stored is 0x0/,
    );
    const right = Number.parseInt(/is (0x[0-9a-f]+),/.exec(error.message)?.[1] ?? '', 16);
    new DataView(withFeature.buffer).setUint32(superBlock(SUPER_BLOCK.CHECKSUM), right, true);
    expect(Image.open(withFeature).rootNid).toBe(36);
  });

  it('refuses a superblock that does not fit into its block', () => {
    const bytes = damaged((view) => view.setUint8(superBlock(SUPER_BLOCK.SB_EXTSLOTS), 185));
    expect(failure(bytes).message).toMatch(/185 extension slots/);
  });
});

describe('the root', () => {
  it.each([
    ['beyond the end', 128, /root inode \(nid 128\) is damaged/],
    ['inside the superblock', 35, /root inode \(nid 35\) is damaged/],
    ['in the composefs header', 0, /root inode \(nid 0\) is damaged/],
  ])('%s', (_, nid, message) => {
    const bytes = damaged((view) => view.setUint16(superBlock(SUPER_BLOCK.ROOT_NID), nid, true));
    expect(failure(bytes)).toMatchObject({ nid, offset: nid * 32 });
    expect(failure(bytes).message).toMatch(message);
  });

  it('that is not a directory', () => {
    const leaf = file('');
    const { bytes, view, locate } = locateImage(directory({ leaf }));
    view.setUint16(superBlock(SUPER_BLOCK.ROOT_NID), locate(leaf).nid, true);
    expect(failure(bytes).message).toMatch(/is not a directory$/);
  });

  it('with damaged entries', () => {
    const tree = directory({ a: file('') });
    const { bytes, view, locate } = locateImage(tree);
    view.setUint16(locate(tree).body + 8, 13, true);
    expect(failure(bytes).message).toBe('damaged image: the root directory (nid 36) is damaged');
  });

  it('may not alias superblock extension slots', () => {
    const bytes = damaged((view) => view.setUint8(superBlock(SUPER_BLOCK.SB_EXTSLOTS), 1));
    expect(failure(bytes).message).toMatch(/root inode \(nid 36\) is damaged/);
  });
});
