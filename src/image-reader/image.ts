// Opens an image: checks the two headers, the features and the root directory, and keeps the facts
// that every other function needs. Throws; nothing after it does. Owns no parsed inode or name: all
// state is in the bytes, which must not change while the Image is in use.

import { ImageError, UnsupportedFeatureError } from '../errors.ts';
import { checkFirstPiece } from './directory.ts';
import {
  BLOCK_BITS,
  BLOCK_SIZE,
  COMPOSEFS_HEADER,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  FeatureCompat,
  FeatureIncompat,
  LCFS_EROFS_FLAGS_HAS_ACL,
  LCFS_EROFS_MAGIC,
  LCFS_EROFS_VERSION,
  SLOT_SIZE,
  SUPER_BLOCK,
  U32,
} from './format.ts';
import { clampNsec, Inode, readInode } from './inode.ts';

/** An open image. Immutable; safe to use from several threads over a SharedArrayBuffer. */
export class Image {
  /** The image as it was passed in; every offset in this module counts from its first byte. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly sizeBytes: number;
  readonly rootNid: number;
  /** Which writer's rules made the image: 0 and 1 mkcomposefs, 2 composefs-rs. */
  readonly composefsVersion: number;
  /** The header's hint that ACLs exist. Writers of version 2 never set it; see hasAcl(). */
  readonly hasAclFlag: boolean;
  /** Number of inodes according to the superblock. Informative: nothing may depend on it. */
  readonly inodeCount: number;
  /** Where nid 0 lies. */
  readonly metaStart: number;
  /** Where shared xattr 0 lies. */
  readonly xattrStart: number;
  /** The mtime of compact inodes: the words of an i64, and nanoseconds below 10^9. */
  readonly buildTimeLow: number;
  readonly buildTimeHigh: number;
  readonly buildTimeNsec: number;
  /** Nids from firstNid up to, not including, endNid have room for a compact inode. */
  readonly firstNid: number;
  readonly endNid: number;

  private constructor(bytes: Uint8Array, view: DataView, superBlockEnd: number) {
    const at = EROFS_SUPER_OFFSET;
    const flags = view.getUint32(COMPOSEFS_HEADER.FLAGS, true);
    const inosAt = at + SUPER_BLOCK.INOS;
    this.bytes = bytes;
    this.view = view;
    this.sizeBytes = bytes.byteLength;
    this.rootNid = view.getUint16(at + SUPER_BLOCK.ROOT_NID, true);
    this.composefsVersion = view.getUint32(COMPOSEFS_HEADER.COMPOSEFS_VERSION, true);
    this.hasAclFlag = (flags & LCFS_EROFS_FLAGS_HAS_ACL) !== 0;
    this.inodeCount = view.getUint32(inosAt, true) + view.getUint32(inosAt + 4, true) * U32;
    this.metaStart = view.getUint32(at + SUPER_BLOCK.META_BLKADDR, true) * BLOCK_SIZE;
    this.xattrStart = view.getUint32(at + SUPER_BLOCK.XATTR_BLKADDR, true) * BLOCK_SIZE;
    this.buildTimeLow = view.getUint32(at + SUPER_BLOCK.BUILD_TIME, true);
    this.buildTimeHigh = view.getUint32(at + SUPER_BLOCK.BUILD_TIME + 4, true);
    this.buildTimeNsec = clampNsec(view.getUint32(at + SUPER_BLOCK.BUILD_TIME_NSEC, true));
    this.firstNid = Math.max(0, Math.ceil((superBlockEnd - this.metaStart) / SLOT_SIZE));
    this.endNid = Math.max(0, Math.floor((this.sizeBytes - this.metaStart) / SLOT_SIZE));
  }

  /**
   * Opens the image in `bytes`, which may be a view of an ArrayBuffer or a SharedArrayBuffer and is
   * not copied. Throws ImageError or UnsupportedFeatureError.
   */
  static open(bytes: Uint8Array): Image {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    checkComposefsHeader(view);
    const superBlockEnd = checkSuperBlock(view);
    const image = new Image(bytes, view, superBlockEnd);
    checkStarts(image);
    checkRoot(image);
    return image;
  }
}

/** Whether bytes begin as a composefs image does: a glance before all of them are read. */
export function hasComposefsMagic(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.byteLength >= 4 && view.getUint32(COMPOSEFS_HEADER.MAGIC, true) === LCFS_EROFS_MAGIC;
}

function checkComposefsHeader(view: DataView): void {
  const size = view.byteLength;
  if (size < COMPOSEFS_HEADER.SIZE) {
    throw new ImageError(`not a composefs image: only ${size} bytes long`, { offset: 0 });
  }
  if (view.getUint32(COMPOSEFS_HEADER.MAGIC, true) !== LCFS_EROFS_MAGIC) {
    const superMagicAt = EROFS_SUPER_OFFSET + SUPER_BLOCK.MAGIC;
    const isErofs =
      size >= superMagicAt + 4 && view.getUint32(superMagicAt, true) === EROFS_SUPER_MAGIC_V1;
    throw new ImageError(
      isErofs
        ? 'not a composefs image: a plain EROFS image without the composefs header'
        : 'not a composefs image: it does not begin with the composefs magic number',
      { offset: COMPOSEFS_HEADER.MAGIC },
    );
  }
  const version = view.getUint32(COMPOSEFS_HEADER.VERSION, true);
  if (version !== LCFS_EROFS_VERSION) {
    unsupported('header version', version, `composefs header version ${version} is not supported`);
  }
  const flags = view.getUint32(COMPOSEFS_HEADER.FLAGS, true);
  const unknownFlags = (flags & ~LCFS_EROFS_FLAGS_HAS_ACL) >>> 0;
  if (unknownFlags !== 0) {
    unsupported(
      'header flags',
      unknownFlags,
      `unknown composefs header flags ${hex(unknownFlags)}`,
    );
  }
  if (size < BLOCK_SIZE) {
    throw new ImageError(
      `truncated image: ${size} bytes are there, the smallest image has ${BLOCK_SIZE}`,
      { offset: size },
    );
  }
}

/** Returns the offset of the first byte after the superblock. */
function checkSuperBlock(view: DataView): number {
  const at = EROFS_SUPER_OFFSET;
  const magic = view.getUint32(at + SUPER_BLOCK.MAGIC, true);
  if (magic !== EROFS_SUPER_MAGIC_V1) {
    throw new ImageError(`damaged image: no EROFS superblock at byte ${at} (magic ${hex(magic)})`, {
      offset: at,
    });
  }
  // Before the size: with other block sizes the numbers below mean something else.
  const blkszBits = view.getUint8(at + SUPER_BLOCK.BLKSZBITS);
  if (blkszBits !== BLOCK_BITS) {
    unsupported(
      'blkszbits',
      blkszBits,
      `block size 2^${blkszBits} is not supported, only 2^${BLOCK_BITS}`,
    );
  }
  const incompat = view.getUint32(at + SUPER_BLOCK.FEATURE_INCOMPAT, true);
  const refused = (incompat & ~FeatureIncompat.CHUNKED_FILE) >>> 0;
  if (refused !== 0) {
    unsupported(
      'feature_incompat',
      refused,
      `unsupported EROFS feature_incompat ${hex(refused)} (${incompatNames(refused)})`,
    );
  }
  refuseNonZero(
    'compression algorithms',
    view.getUint16(at + SUPER_BLOCK.AVAILABLE_COMPR_ALGS, true),
  );
  refuseNonZero('extra_devices', view.getUint16(at + SUPER_BLOCK.EXTRA_DEVICES, true));
  refuseNonZero('dirblkbits', view.getUint8(at + SUPER_BLOCK.DIRBLKBITS));
  refuseNonZero('xattr_prefix_count', view.getUint8(at + SUPER_BLOCK.XATTR_PREFIX_COUNT));
  const packedAt = at + SUPER_BLOCK.PACKED_NID;
  const packedNid = view.getUint32(packedAt, true) + view.getUint32(packedAt + 4, true) * U32;
  refuseNonZero('packed_nid', packedNid);

  const promised = view.getUint32(at + SUPER_BLOCK.BLOCKS, true) * BLOCK_SIZE;
  if (view.byteLength < promised) {
    throw new ImageError(
      `truncated image: ${view.byteLength} bytes are there, the superblock promises ${promised}`,
      { offset: view.byteLength },
    );
  }
  const extSlots = view.getUint8(at + SUPER_BLOCK.SB_EXTSLOTS);
  const superBlockEnd = at + SUPER_BLOCK.SIZE + extSlots * SUPER_BLOCK.EXTSLOT_SIZE;
  if (superBlockEnd > BLOCK_SIZE) {
    throw new ImageError(`damaged image: the superblock claims ${extSlots} extension slots`, {
      offset: at + SUPER_BLOCK.SB_EXTSLOTS,
    });
  }
  const compat = view.getUint32(at + SUPER_BLOCK.FEATURE_COMPAT, true);
  if ((compat & FeatureCompat.SB_CHKSUM) !== 0) checkChecksum(view);
  return superBlockEnd;
}

/** crc32c, not inverted at the end, of the rest of block 0 with the checksum field taken as 0. */
function checkChecksum(view: DataView): void {
  const fieldAt = EROFS_SUPER_OFFSET + SUPER_BLOCK.CHECKSUM;
  let crc = 0xffff_ffff;
  for (let at = EROFS_SUPER_OFFSET; at < BLOCK_SIZE; at++) {
    crc ^= at >= fieldAt && at < fieldAt + 4 ? 0 : view.getUint8(at);
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0x82f6_3b78 & -(crc & 1));
  }
  const stored = view.getUint32(fieldAt, true);
  if (crc >>> 0 !== stored) {
    throw new ImageError(
      `damaged image: superblock checksum is ${hex(crc >>> 0)}, stored is ${hex(stored)}`,
      { offset: fieldAt },
    );
  }
}

function checkStarts(image: Image): void {
  if (image.metaStart >= image.sizeBytes) {
    throw new ImageError(
      `damaged image: metadata starts at byte ${image.metaStart}, the image has ${image.sizeBytes}`,
      { offset: EROFS_SUPER_OFFSET + SUPER_BLOCK.META_BLKADDR },
    );
  }
  // Equal is legal: the block of an empty shared area may be the one after the last.
  if (image.xattrStart > image.sizeBytes) {
    throw new ImageError(
      `damaged image: shared xattrs start at byte ${image.xattrStart}, the image has ${image.sizeBytes}`,
      { offset: EROFS_SUPER_OFFSET + SUPER_BLOCK.XATTR_BLKADDR },
    );
  }
}

/** An image whose root cannot be listed fails here, at set-up, and not at the first access. */
function checkRoot(image: Image): void {
  const nid = image.rootNid;
  const offset = image.metaStart + nid * SLOT_SIZE;
  const root = new Inode();
  if (readInode(image, nid, root) !== 0) {
    throw new ImageError(`damaged image: the root inode (nid ${nid}) is damaged`, { offset, nid });
  }
  if (!root.isDirectory) {
    throw new ImageError(`damaged image: the root inode (nid ${nid}) is not a directory`, {
      offset,
      nid,
    });
  }
  if (checkFirstPiece(image, root) !== 0) {
    throw new ImageError(`damaged image: the root directory (nid ${nid}) is damaged`, {
      offset,
      nid,
    });
  }
}

function unsupported(feature: string, value: number, message: string): never {
  throw new UnsupportedFeatureError(feature, value, message);
}

function refuseNonZero(feature: string, value: number): void {
  if (value !== 0) unsupported(feature, value, `unsupported EROFS feature: ${feature} is ${value}`);
}

function incompatNames(bits: number): string {
  const names = Object.entries(FeatureIncompat)
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name);
  return names.length === 0 ? 'unknown' : names.join(', ');
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
