// The byte layout of composefs images: one object per on-disk structure, one per flag set. Names
// follow fs/erofs/erofs_fs.h and libcomposefs/lcfs-erofs.h, so that grep finds both sides. All
// integers are little endian. This file has no logic; the numbers are the format's, not choices.

/** Header of a composefs image (struct lcfs_erofs_header_s), at byte 0. */
export const COMPOSEFS_HEADER = {
  MAGIC: 0,
  VERSION: 4,
  FLAGS: 8,
  COMPOSEFS_VERSION: 12,
  SIZE: 32,
} as const;

export const LCFS_EROFS_MAGIC = 0xd078629a;
/** The only version of the header itself. */
export const LCFS_EROFS_VERSION = 1;
export const LCFS_EROFS_FLAGS_HAS_ACL = 1;

/** struct erofs_super_block; offsets are relative to EROFS_SUPER_OFFSET. */
export const SUPER_BLOCK = {
  MAGIC: 0,
  CHECKSUM: 4,
  FEATURE_COMPAT: 8,
  BLKSZBITS: 12,
  SB_EXTSLOTS: 13,
  ROOT_NID: 14,
  INOS: 16,
  BUILD_TIME: 24,
  BUILD_TIME_NSEC: 32,
  BLOCKS: 36,
  META_BLKADDR: 40,
  XATTR_BLKADDR: 44,
  UUID: 48,
  VOLUME_NAME: 64,
  FEATURE_INCOMPAT: 80,
  AVAILABLE_COMPR_ALGS: 84,
  EXTRA_DEVICES: 86,
  DEVT_SLOTOFF: 88,
  DIRBLKBITS: 90,
  XATTR_PREFIX_COUNT: 91,
  XATTR_PREFIX_START: 92,
  PACKED_NID: 96,
  XATTR_FILTER_RESERVED: 104,
  SIZE: 128,
  /** Unit of sb_extslots. */
  EXTSLOT_SIZE: 16,
} as const;

export const EROFS_SUPER_OFFSET = 1024;
export const EROFS_SUPER_MAGIC_V1 = 0xe0f5e1e2;

/** Bits of feature_compat. Unknown ones do no harm by their definition. */
export const FeatureCompat = {
  SB_CHKSUM: 0x1,
  MTIME: 0x2,
  XATTR_FILTER: 0x4,
} as const;

/** Bits of feature_incompat. Everything but CHUNKED_FILE is refused at open. */
export const FeatureIncompat = {
  LZ4_0PADDING: 0x1,
  COMPR_CFGS: 0x2,
  CHUNKED_FILE: 0x4,
  DEVICE_TABLE: 0x8,
  ZTAILPACKING: 0x10,
  FRAGMENTS: 0x20,
  XATTR_PREFIXES: 0x40,
  '48BIT': 0x80,
  METABOX: 0x100,
} as const;

/** Only 4 KiB blocks exist in composefs images. */
export const BLOCK_BITS = 12;
export const BLOCK_SIZE = 4096;
/** A nid counts slots of this many bytes from the start of the metadata. */
export const SLOT_SIZE = 32;

/** struct erofs_inode_compact. */
export const INODE_COMPACT = {
  FORMAT: 0,
  XATTR_ICOUNT: 2,
  MODE: 4,
  NLINK: 6,
  SIZE_FIELD: 8,
  I_U: 16,
  INO: 20,
  UID: 24,
  GID: 26,
  SIZE: 32,
} as const;

/** struct erofs_inode_extended. The first six bytes are the same as in a compact inode. */
export const INODE_EXTENDED = {
  FORMAT: 0,
  XATTR_ICOUNT: 2,
  MODE: 4,
  SIZE_FIELD: 8,
  I_U: 16,
  INO: 20,
  UID: 24,
  GID: 28,
  MTIME: 32,
  MTIME_NSEC: 40,
  NLINK: 44,
  SIZE: 64,
} as const;

/** Parts of i_format. */
export const I_FORMAT = {
  VERSION_EXTENDED: 0x1,
  LAYOUT_SHIFT: 1,
  LAYOUT_MASK: 0x7,
  RESERVED: 0xfff0,
} as const;

/** Data layouts (EROFS_INODE_*) that a composefs image may use. */
export const Layout = {
  FLAT_PLAIN: 0,
  FLAT_INLINE: 2,
  CHUNK_BASED: 4,
} as const;

/** Low 16 bits of i_u of a chunk based inode. The high 16 bits mean nothing. */
export const CHUNK_FORMAT = {
  BLKBITS_MASK: 0x1f,
  INDEXES: 0x20,
  RESERVED: 0xffc0,
} as const;

/** Type bits of i_mode. */
export const S_IFMT = 0o170000;
export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFDIR = 0o040000;
export const S_IFBLK = 0o060000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFSOCK = 0o140000;

/** A symlink target has 1 to this many bytes. */
export const SYMLINK_SIZE_MAX = 4095;

/** struct erofs_dirent. */
export const DIRENT = {
  NID: 0,
  NAMEOFF: 8,
  FILE_TYPE: 10,
  SIZE: 12,
} as const;

export const NAME_LENGTH_MAX = 255;

/** file_type of a dirent (EROFS_FT_*). */
export const FileType = {
  UNKNOWN: 0,
  REG_FILE: 1,
  DIR: 2,
  CHRDEV: 3,
  BLKDEV: 4,
  FIFO: 5,
  SOCK: 6,
  SYMLINK: 7,
} as const;

/** struct erofs_xattr_ibody_header: starts an inode's xattr area. */
export const XATTR_IBODY_HEADER = {
  NAME_FILTER: 0,
  SHARED_COUNT: 4,
  SIZE: 12,
} as const;

/** struct erofs_xattr_entry: name and value follow, then zero bytes up to a multiple of 4. */
export const XATTR_ENTRY = {
  NAME_LEN: 0,
  NAME_INDEX: 1,
  VALUE_SIZE: 2,
  SIZE: 4,
  ALIGN: 4,
} as const;

/** Values of e_name_index (EROFS_XATTR_INDEX_*), and 0 for a name stored whole. */
export const XattrIndex = {
  NONE: 0,
  USER: 1,
  POSIX_ACL_ACCESS: 2,
  POSIX_ACL_DEFAULT: 3,
  TRUSTED: 4,
  LUSTRE: 5,
  SECURITY: 6,
} as const;

/** What the stored name has lost, by e_name_index. Indexes beyond the table are damage. */
export const XATTR_PREFIXES: readonly string[] = [
  '',
  'user.',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'trusted.',
  'lustre.',
  'security.',
];

/** Value of `trusted.overlay.metacopy` (struct ovl_metacopy). */
export const METACOPY = {
  VERSION: 0,
  LENGTH: 1,
  FLAGS: 2,
  DIGEST_ALGO: 3,
  DIGEST: 4,
} as const;

/** fs-verity's numbers for digest algorithms (linux/fsverity.h); 0 means that there is no digest. */
export const DigestAlgorithm = {
  NONE: 0,
  SHA256: 1,
  SHA512: 2,
} as const;
export const SHA256_SIZE = 32;
export const SHA512_SIZE = 64;

export const U32 = 0x1_0000_0000;
