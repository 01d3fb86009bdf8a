// The FUSE kernel protocol as numbers: opcodes, flags and structure layouts of <linux/fuse.h>,
// protocol 7.31 (Linux 5.4) to 7.45 (Linux 6.18), in the kernel's spelling. Layouts map a field to
// its byte offset; SIZE is the size of the structure. test/unit/abi.test.ts holds them against the
// C compiler's offsets. Byte order is the host's; the daemon refuses to start on a big-endian one.

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor this code knows. The connection uses the smaller of this and the kernel's. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** Linux 5.4. Older minors lack layouts and caching this daemon relies on. */
export const FUSE_OLDEST_MINOR_VERSION = 31;

export const FUSE_ROOT_ID = 1;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

const opcodeNames: ReadonlyMap<number, string> = new Map(
  Object.entries(Opcode).map(([name, value]) => [value, name]),
);

/** `LOOKUP` for 1; `opcode 99` for one that is not known. */
export function opcodeName(opcode: number): string {
  return opcodeNames.get(opcode) ?? `opcode ${opcode}`;
}

/** INIT flags, bits 0 to 31 (`flags`). */
export const InitFlag = {
  FUSE_ASYNC_READ: 0x1,
  FUSE_EXPORT_SUPPORT: 0x10,
  FUSE_DO_READDIRPLUS: 0x2000,
  FUSE_PARALLEL_DIROPS: 0x40000,
  FUSE_POSIX_ACL: 0x100000,
  FUSE_ABORT_ERROR: 0x200000,
  FUSE_MAX_PAGES: 0x400000,
  FUSE_CACHE_SYMLINKS: 0x800000,
  FUSE_EXPLICIT_INVAL_DATA: 0x2000000,
  FUSE_INIT_EXT: 0x40000000,
} as const;

/** INIT flags, bits 32 to 63 shifted down (`flags2`). */
export const InitFlag2 = {
  FUSE_PASSTHROUGH: 0x20,
  FUSE_NO_EXPORT_SUPPORT: 0x40,
  FUSE_ALLOW_IDMAP: 0x100,
  FUSE_OVER_IO_URING: 0x200,
} as const;

/** `open_flags` of an OPEN or OPENDIR reply. */
export const OpenFlag = {
  FOPEN_DIRECT_IO: 0x1,
  FOPEN_KEEP_CACHE: 0x2,
  FOPEN_CACHE_DIR: 0x8,
  FOPEN_NOFLUSH: 0x20,
  FOPEN_PASSTHROUGH: 0x80,
} as const;

/** struct fuse_in_header: every request begins with it. */
export const IN_HEADER = {
  LEN: 0,
  OPCODE: 4,
  UNIQUE: 8,
  NODEID: 16,
  UID: 24,
  GID: 28,
  PID: 32,
  TOTAL_EXTLEN: 36,
  SIZE: 40,
} as const;

/** struct fuse_out_header: every reply begins with it. */
export const OUT_HEADER = { LEN: 0, ERROR: 4, UNIQUE: 8, SIZE: 16 } as const;

/** struct fuse_attr. */
export const ATTR = {
  INO: 0,
  SIZE_FIELD: 8,
  BLOCKS: 16,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  ATIMENSEC: 48,
  MTIMENSEC: 52,
  CTIMENSEC: 56,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  RDEV: 76,
  BLKSIZE: 80,
  FLAGS: 84,
  SIZE: 88,
} as const;

/** struct fuse_entry_out. */
export const ENTRY_OUT = {
  NODEID: 0,
  GENERATION: 8,
  ENTRY_VALID: 16,
  ATTR_VALID: 24,
  ENTRY_VALID_NSEC: 32,
  ATTR_VALID_NSEC: 36,
  ATTR: 40,
  SIZE: 128,
} as const;

/** struct fuse_attr_out. */
export const ATTR_OUT = {
  ATTR_VALID: 0,
  ATTR_VALID_NSEC: 8,
  DUMMY: 12,
  ATTR: 16,
  SIZE: 104,
} as const;

/** struct fuse_getattr_in. */
export const GETATTR_IN = { GETATTR_FLAGS: 0, DUMMY: 4, FH: 8, SIZE: 16 } as const;

/** struct fuse_open_in. */
export const OPEN_IN = { FLAGS: 0, OPEN_FLAGS: 4, SIZE: 8 } as const;

/** struct fuse_open_out. */
export const OPEN_OUT = { FH: 0, OPEN_FLAGS: 8, BACKING_ID: 12, SIZE: 16 } as const;

/** struct fuse_read_in, of READ, READDIR and READDIRPLUS. */
export const READ_IN = {
  FH: 0,
  OFFSET: 8,
  SIZE_FIELD: 16,
  READ_FLAGS: 20,
  LOCK_OWNER: 24,
  FLAGS: 32,
  PADDING: 36,
  SIZE: 40,
} as const;

/** struct fuse_release_in. */
export const RELEASE_IN = {
  FH: 0,
  FLAGS: 8,
  RELEASE_FLAGS: 12,
  LOCK_OWNER: 16,
  SIZE: 24,
} as const;

/** struct fuse_flush_in. */
export const FLUSH_IN = { FH: 0, UNUSED: 8, PADDING: 12, LOCK_OWNER: 16, SIZE: 24 } as const;

/** struct fuse_init_in of 7.36 and later; older kernels send the first 16 bytes. */
export const INIT_IN = {
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  FLAGS2: 16,
  UNUSED: 20,
  SIZE: 64,
} as const;
/** Bytes of fuse_init_in before 7.36. */
export const INIT_IN_OLD_SIZE = 16;

/** struct fuse_init_out. */
export const INIT_OUT = {
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  MAX_BACKGROUND: 16,
  CONGESTION_THRESHOLD: 18,
  MAX_WRITE: 20,
  TIME_GRAN: 24,
  MAX_PAGES: 28,
  MAP_ALIGNMENT: 30,
  FLAGS2: 32,
  MAX_STACK_DEPTH: 36,
  REQUEST_TIMEOUT: 40,
  SIZE: 64,
} as const;

/** struct fuse_kstatfs, the whole of a STATFS reply. */
export const KSTATFS = {
  BLOCKS: 0,
  BFREE: 8,
  BAVAIL: 16,
  FILES: 24,
  FFREE: 32,
  BSIZE: 40,
  NAMELEN: 44,
  FRSIZE: 48,
  PADDING: 52,
  SPARE: 56,
  SIZE: 80,
} as const;

/** struct fuse_getxattr_in, of GETXATTR (then the name) and LISTXATTR. */
export const GETXATTR_IN = { SIZE_FIELD: 0, PADDING: 4, SIZE: 8 } as const;

/** struct fuse_getxattr_out: the answer to a request with size 0. */
export const GETXATTR_OUT = { SIZE_FIELD: 0, PADDING: 4, SIZE: 8 } as const;

/** struct fuse_dirent; the name follows, then zeros up to a multiple of 8. */
export const DIRENT = { INO: 0, OFF: 8, NAMELEN: 16, TYPE: 20, SIZE: 24 } as const;

/** struct fuse_direntplus: an entry, then a dirent. */
export const DIRENTPLUS = { ENTRY_OUT: 0, DIRENT: 128, SIZE: 152 } as const;

/** struct fuse_lseek_in. */
export const LSEEK_IN = { FH: 0, OFFSET: 8, WHENCE: 16, PADDING: 20, SIZE: 24 } as const;

/** struct fuse_lseek_out. */
export const LSEEK_OUT = { OFFSET: 0, SIZE: 8 } as const;

/** struct fuse_ioctl_in. */
export const IOCTL_IN = {
  FH: 0,
  FLAGS: 8,
  CMD: 12,
  ARG: 16,
  IN_SIZE: 24,
  OUT_SIZE: 28,
  SIZE: 32,
} as const;

/** struct fuse_ioctl_out. */
export const IOCTL_OUT = { RESULT: 0, FLAGS: 4, IN_IOVS: 8, OUT_IOVS: 12, SIZE: 16 } as const;

/** struct fuse_access_in. */
export const ACCESS_IN = { MASK: 0, PADDING: 4, SIZE: 8 } as const;

/** struct fuse_fsync_in. */
export const FSYNC_IN = { FH: 0, FSYNC_FLAGS: 8, PADDING: 12, SIZE: 16 } as const;

/** struct fuse_interrupt_in. */
export const INTERRUPT_IN = { UNIQUE: 0, SIZE: 8 } as const;

/** struct fuse_forget_in. */
export const FORGET_IN = { NLOOKUP: 0, SIZE: 8 } as const;

/** struct fuse_batch_forget_in; `count` fuse_forget_one follow. */
export const BATCH_FORGET_IN = { COUNT: 0, DUMMY: 4, SIZE: 8 } as const;

/** struct fuse_forget_one. */
export const FORGET_ONE = { NODEID: 0, NLOOKUP: 8, SIZE: 16 } as const;

/**
 * Bytes between the request header and the variable part (name, ioctl input) for the requests this
 * daemon reads; 0 for those that begin with a name. Over read(2) the parts are adjacent, over
 * io_uring the fixed part lies apart, which is why the cursor needs the number.
 */
export function fixedArgumentsSize(opcode: number): number {
  switch (opcode) {
    case Opcode.GETATTR:
      return GETATTR_IN.SIZE;
    case Opcode.OPEN:
    case Opcode.OPENDIR:
      return OPEN_IN.SIZE;
    case Opcode.READ:
    case Opcode.READDIR:
    case Opcode.READDIRPLUS:
      return READ_IN.SIZE;
    case Opcode.GETXATTR:
    case Opcode.LISTXATTR:
      return GETXATTR_IN.SIZE;
    case Opcode.RELEASE:
    case Opcode.RELEASEDIR:
      return RELEASE_IN.SIZE;
    case Opcode.LSEEK:
      return LSEEK_IN.SIZE;
    case Opcode.IOCTL:
      return IOCTL_IN.SIZE;
    case Opcode.INTERRUPT:
      return INTERRUPT_IN.SIZE;
    case Opcode.BATCH_FORGET:
      return BATCH_FORGET_IN.SIZE;
    case Opcode.INIT:
      return INIT_IN_OLD_SIZE;
    default:
      return 0;
  }
}
