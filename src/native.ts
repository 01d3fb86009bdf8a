// The contract of the native addon, and the only way to it. The addon holds just what Node
// lacks: system calls. It never parses a FUSE message, never logs and never calls back into
// JavaScript. Failures come back as negative errno numbers; only arguments of a wrong kind throw
// TypeError or RangeError.

import { loadAddon } from './load-addon.ts';

export { addonPath } from './load-addon.ts';

/** A reply that the kernel refused: `exchange` returns this base minus the errno of write(2). */
export const WRITE_FAILED = -4096;

/** Facts about an opened object, written by `openObject` as 64-bit little-endian signed words. */
export const OBJECT_FACTS = {
  SIZE: 0,
  MODE: 1,
  DEV: 2,
  INO: 3,
  MTIME_NS: 4,
  CTIME_NS: 5,
  WORDS: 6,
} as const;

/** Statuses of a measured file beside its size and -errno. */
export const VERITY_STATUS = {
  /** The file was not the same before and after reading it, or ended too early. */
  CHANGED: -4097,
  /** The file is larger than the limit and was not read. */
  TOO_LARGE: -4098,
  /** A block that was read is not the one that was hashed earlier. */
  DIFFERS: -4099,
} as const;

/** Who may vouch for an object's content: the kernel's fs-verity, the hash computed here, or either. */
export const VERIFY_ENGINE = { ANY: 0, KERNEL: 1, USER_SPACE: 2 } as const;

/** What `ObjectVerifier.verify` found, beside -errno and VERITY_STATUS. */
export const VERIFIED = {
  /** The kernel has fs-verity for the file, with this digest: it checks every read. */
  BY_KERNEL: 1,
  /** Hashed earlier, and the file has not changed since. */
  REMEMBERED: 2,
  /** Hashed now. */
  COMPUTED: 3,
  /** The kernel's digest is another one. */
  DIFFERS_BY_KERNEL: -4100,
  /** The content's digest is another one. */
  DIFFERS_COMPUTED: -4101,
  /** The kernel was to vouch, and has no fs-verity for the file. */
  NO_KERNEL_VERITY: -4102,
} as const;

/** A digest that was found: the algorithm (1 SHA-256, 2 SHA-512, 0 none), then its bytes. */
export const FOUND_DIGEST = { ALGORITHM: 0, BYTES: 1, SIZE: 65 } as const;

/** The objects that a mount has open, as one thread uses them. Throws TypeError and RangeError only. */
export interface NativeOpenFiles {
  /**
   * Opens the file `nid` if its object is known and has not changed (fstat) since. The object's
   * descriptor, which stays open until `release`, or -ENOENT. The backing id, or 0, is in the array
   * given for it.
   */
  acquire(nid: number): number;
  /** The same, whether the object has changed or not: for who checks every block. */
  acquireAny(nid: number): number;
  /**
   * Takes over a descriptor from the last `openObject` as the object of the file `nid` and opens it,
   * by `passthrough` (1) if the kernel lets us. As `acquire`; or -EMFILE if too many are open, -EBUSY
   * if the file is open by passthrough to another object. The descriptor is closed then.
   */
  insert(nid: number, fd: number, passthrough: number): number;
  /** Ends one `acquire` or `insert`. 0 or -EBADF. */
  release(nid: number): number;
  /**
   * Puts the whole content of a file of `sizeBytes` (1 to PRELOAD_MAX) that was just acquired or
   * inserted into the kernel's page cache. 1; or 0 if that was not allowed (see allowPreload), would
   * not be safe because others have the file open, was done since `unload`, or failed.
   */
  preload(nid: number, nodeid: number, sizeBytes: number): number;
  /** The kernel has forgotten the file. */
  unload(nid: number): void;
  /** Closes what is idle, and what is open as soon as it is released. */
  forget(): void;
  /** Closes what is idle. 0 if nothing was. */
  trim(): number;
  /** The errno (negative) of the last refusal of passthrough, or 0. */
  backingError(): number;
}

/** The largest file that `preload` takes. */
export const PRELOAD_MAX = 0x10_0000;

/** Compares objects with the digests that lie in one image. */
export interface NativeObjectVerifier {
  /**
   * `fd` and the facts given to the constructor are of the last `openObject`; the expected digest is
   * at `digestStart` of the image. A positive number of VERIFIED, after which reads of `fd` are
   * checked, by the kernel or by `readObject`; else a failure, with a digest that differs in the
   * array given for it.
   */
  verify(fd: number, algorithm: number, digestStart: number): number;
}

/** One record of `measurePaths`: the status as a signed 64-bit word, then the digest. */
export const MEASURED = { STATUS: 0, DIGEST: 8, SIZE: 72 } as const;

/** Two arrays and the fs-verity parameters, checked once. Neither array may be detached. */
export interface NativeBlockHasher {
  /**
   * Writes the digests of the blocks of `input[start, start + length)`, the last one padded with
   * zeros, to `digests` from byte `at` on. The number of blocks. About 0.15 us beside the hashing.
   */
  hash(start: number, length: number, at: number): number;
}

/** A record of `scanDirectory`: struct ScanHeader of native/scan.h. */
export const SCAN_RECORD = {
  LENGTH: 0,
  MODE: 4,
  UID: 8,
  GID: 12,
  SIZE_FIELD: 16,
  MTIME_SECONDS: 24,
  MTIME_NANOSECONDS: 32,
  RDEV: 36,
  INO: 40,
  DEV: 48,
  NLINK: 56,
  NAME_LENGTH: 60,
  CONTENT_LENGTH: 62,
  XATTRS_LENGTH: 64,
  SIZE: 72,
} as const;

/** What `scanDirectory` shall read besides attributes. */
export const SCAN_FLAG = { XATTRS: 1, USER_XATTRS_ONLY: 2 } as const;

/** A result of `storeObjects`; STATUS is the size, -errno, or VERITY_STATUS.CHANGED. */
export const STORED_RECORD = { STATUS: 0, OUTCOME: 8, DIGEST: 16, SIZE: 48 } as const;

/** What became of a file that was to be stored. */
export const STORED_OUTCOME = { FAILED: 0, ADDED: 1, PRESENT: 2, PRESENT_BUT_WRONG: 3 } as const;

/** `exchange` returns the number of the slot times this, plus the request's length. */
export const SLOT_UNIT = 0x4_0000;

/** What a serving thread needs of either kind of session. */
export type ServingSession = Pick<
  NativeSession,
  'exchange' | 'readObject' | 'setPolling' | 'pollAdaptively' | 'close'
>;

/**
 * Requests over io_uring (Linux 6.14). It has several slots, each with a request and a reply buffer of
 * its own; the last one is for what still comes by the device. `exchange` and `readObject` use the
 * reply buffer of the slot that the last `exchange` named; the body of a reply begins 16 bytes into it.
 */
export interface NativeRingSession extends ServingSession {
  /**
   * Makes the ring, registers the slots with the queues (numbers of CPUs) in turn and binds the
   * calling thread to those CPUs. INIT has been answered with FUSE_OVER_IO_URING. One session of a
   * connection has `readsDevice` 1. 0 or -errno.
   */
  open(queues: BigInt64Array, readsDevice: number): number;
}

/**
 * One open /dev/fuse descriptor with its two buffers, which stay referenced (and must not be
 * detached) until `close`. The session owns the descriptor from construction on.
 */
export interface NativeSession {
  /**
   * Writes `reply[0, replyLength)` if replyLength > 0, then waits for the next request and reads it
   * into the request buffer. Returns the request's length in bytes (slot 0, see SLOT_UNIT), or:
   * -ENODEV (unmounted), -ECONNABORTED (aborted), -ECANCELED (woken through the wake descriptor),
   * WRITE_FAILED - errno if the kernel refused the reply (the caller goes on with `exchange(0)`;
   * ENOENT, a request that was interrupted meanwhile, is not reported), or another -errno of read(2).
   * Requests that wait already are read before a wake is seen, 255 in a row at most.
   */
  exchange(replyLength: number): number;
  /** Writes `reply[0, replyLength)` only. 0 or -errno. */
  reply(replyLength: number): number;
  /**
   * The same on the device of another session, which read the request. Any thread may do that;
   * -EBADF once that session is closed.
   */
  replyOn(deviceFd: number, replyLength: number): number;
  /**
   * pread(2) of `length` bytes at `offset` of a descriptor from `openObject` into the reply buffer
   * at byte `at`, repeated until all are read or the file ends. Bytes read, -errno, or
   * VERITY_STATUS.DIFFERS for an object that was verified and has changed.
   */
  readObject(fd: number, offset: number, length: number, at: number): number;
  /** Microseconds to keep trying read(2) after a reply before sleeping in epoll(7). 0 to 1000. */
  setPolling(microseconds: number): void;
  /** The same, but only while it pays: see native/polling.h. */
  pollAdaptively(microseconds: number): void;
  /**
   * Shares the connection with the other sessions that joined with the same `wakeFd` (of createWake):
   * one of them listens and calls others when it is held up. See native/crew.h. 0 or -errno.
   */
  join(wakeFd: number): number;
  /** Closes the descriptor and lets the buffers go. Idempotent. */
  close(): void;
}

/** Mount flags of fsmount(2), <linux/mount.h>. */
export const MOUNT_ATTR = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  NODIRATIME: 0x80,
  NOSYMFOLLOW: 0x20_0000,
} as const;

/** How `mountKernel` may get its layers, each tried in this order. */
export const KERNEL_WAYS = {
  /** erofs from the image file (Linux 6.12), and from a loop device. */
  FILE: 1,
  LOOP: 2,
  /** Layers that are mounted nowhere (Linux 6.15), and layers in a mount namespace of their own. */
  DETACHED: 4,
  NAMESPACE: 8,
  ALL: 15,
} as const;

/** Why there is no mount. */
export interface MountFailure {
  /** Negative. */
  errno: number;
  /** A system call, the name of an option, `layers`, or what else was tried. */
  step: string;
  /** What the kernel said about it; often nothing. */
  said: string;
}

/**
 * The addon's exports. Descriptor arguments must come from the addon itself, else -EBADF (RangeError
 * in the constructor, which cannot return a number). Descriptors may pass between threads as numbers.
 * Strings are refused (RangeError) when they hold a NUL or more than 65535 bytes of UTF-8.
 */
export interface NativeAddon {
  /**
   * Both buffers 8192 bytes to 1 GiB; `wakeFd` from `createWake`, of which the session keeps a copy.
   * `deviceFd` stays valid for mount, cloneDevice, duplicate and the backing calls until `close`.
   */
  Session: new (
    deviceFd: number,
    request: Uint8Array,
    reply: Uint8Array,
    wakeFd: number,
  ) => NativeSession;
  /**
   * The buffers of all slots lie one after another, of equal size: 8192 to SLOT_UNIT - 1 bytes each
   * for requests, at least 8208 for replies; 2 to 1024 slots.
   */
  RingSession: new (
    deviceFd: number,
    requests: Uint8Array,
    replies: Uint8Array,
    slots: number,
    wakeFd: number,
  ) => NativeRingSession;
  /** Whether this process may use io_uring as RingSession does. 0 or -errno. */
  probeRing(): number;
  /** An eventfd that ends every `exchange` of the sessions made with it once `wake` is called. */
  createWake(): number;
  wake(wakeFd: number): number;
  /** Opens /dev/fuse read-write, close-on-exec. Descriptor or -errno. */
  openDevice(): number;
  /** FUSE_DEV_IOC_CLONE: a further descriptor of the same connection. Descriptor or -errno. */
  cloneDevice(deviceFd: number): number;
  /** A second, independently owned number for the same open file (F_DUPFD_CLOEXEC). */
  duplicate(fd: number): number;
  /**
   * The same for a /dev/fuse that a library has opened in this process: it need not come from the addon,
   * and the library goes on using its own number.
   */
  adoptDevice(fd: number): number;
  /**
   * 1 if the filesystem of the device's connection is gone, whoever unmounted it; 0 while it is there,
   * also when the connection was aborted. Never takes a request away. Or -EBADF.
   */
  isUnmounted(deviceFd: number): number;
  /** Closes a descriptor that the addon handed out. 0, or -EBADF for any other number. */
  closeDescriptor(fd: number): number;
  /**
   * mount(2) with `data` after the words `fd=N,` are put before it when deviceFd >= 0. 0 or -errno;
   * -E2BIG for more than 4095 bytes, which the kernel would cut.
   */
  mount(
    source: string,
    target: string,
    type: string,
    flags: number,
    data: string,
    deviceFd: number,
  ): number;
  /** umount2(2). 0 or -errno. */
  unmount(target: string, flags: number): number;
  /**
   * Puts an overlayfs in the place of the FUSE mount on `mountpoint` (device numbers as stat(2) shows
   * them), which becomes its first layer; `basedirs` become its data-only layers, in order. On the
   * thread pool, since the kernel asks the FUSE mount meanwhile. `writable` is empty or upperdir and
   * workdir. `options` are `name` or `name=value` (at most 255 bytes), each with a NUL behind it; `attributes` are MOUNT_ATTR. 0; -EBADF for a
   * descriptor that is not from openBasedir; or why not: then the FUSE mount may still be there.
   */
  stackOverlay(
    mountpoint: string,
    deviceMajor: number,
    deviceMinor: number,
    options: Uint8Array,
    basedirs: BigInt64Array,
    writable: BigInt64Array,
    attributes: number,
  ): Promise<0 | MountFailure> | number;
  /**
   * Mounts the image open as `imageFd` as the kernel's own composefs: erofs, with an overlayfs over it
   * on `mountpoint`, on top of what is there. On the thread pool. The arrays hold strings with a NUL
   * behind each: `name` or `name=value` (at most 255 bytes) for either filesystem; paths of the base
   * directories; `upper` is upperdir and workdir, or empty. `idmapFd` is an open user namespace, or
   * negative; `attributes` are MOUNT_ATTR, `ways` KERNEL_WAYS. errno 0 with the step `file` or `loop`;
   * or why not, and then nothing is left of it. -EBADF for a descriptor that is no file's.
   */
  mountKernel(
    imageFd: number,
    mountpoint: string,
    erofsOptions: Uint8Array,
    overlayOptions: Uint8Array,
    basedirs: Uint8Array,
    upper: Uint8Array,
    idmapFd: number,
    attributes: number,
    ways: number,
  ): Promise<MountFailure> | number;
  /** A connected AF_UNIX stream pair, [ours, the child's], both close-on-exec; or -errno. */
  socketPair(): [number, number] | number;
  /**
   * Waits for one message with one descriptor (SCM_RIGHTS); surplus ones are closed. Descriptor, or
   * -errno; -ENODATA at end of file, -EBADMSG for a message without descriptor.
   */
  receiveDescriptor(socketFd: number): number;
  /**
   * Sends one message to the AF_UNIX datagram socket at an absolute path, or with `@` in front the abstract
   * name. Waits 5 s at most for its receiver (-EAGAIN then). 0 or -errno; -EINVAL for another kind of address.
   */
  sendDatagram(address: string, text: string): number;
  /** Opens a directory as root of object look-ups (O_PATH|O_DIRECTORY). Descriptor or -errno. */
  openBasedir(path: string): number;
  /**
   * Opens `path[0, pathLength)` below `basedirFd` for reading with openat2(2)
   * RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS. Only a regular file is ever opened:
   * anything else gives -EINVAL (directory: -EISDIR, symlink: -ELOOP). `facts` receives
   * OBJECT_FACTS. Descriptor or -errno. Refused before the kernel sees the path: empty (-ENOENT),
   * absolute or with `..` (-EXDEV), with `.`, empty components or NUL (-EINVAL).
   */
  openObject(basedirFd: number, path: Uint8Array, pathLength: number, facts: BigInt64Array): number;
  /**
   * What openObject does by itself before Linux 5.6, which has no openat2(2): the path is walked
   * component by component. Exported so that it is tested on newer kernels too.
   */
  openObjectByWalk: NativeAddon['openObject'];
  /**
   * lseek(2); offsets up to 2^53 (beyond: -EOVERFLOW). New offset or -errno. An object whose blocks are
   * checked by `readObject` has no holes.
   */
  seek(fd: number, offset: number, whence: number): number;
  /**
   * FS_IOC_MEASURE_VERITY on any open regular file. `algorithm * 65536 + digest size`, digest in
   * `digest`; or -errno.
   */
  measureVerity(fd: number, digest: Uint8Array): number;
  /** FUSE_DEV_IOC_BACKING_OPEN: backing id > 0, or -errno. */
  openBacking(deviceFd: number, fd: number): number;
  /** FUSE_DEV_IOC_BACKING_CLOSE. 0 or -errno. */
  closeBacking(deviceFd: number, backingId: number): number;
  /**
   * FS_IOC_ENABLE_VERITY without salt; `algorithm` 1 SHA-256, 2 SHA-512. `fd` from `openObject`. The
   * kernel reads the whole file before it returns. 0 or -errno.
   */
  enableVerity(fd: number, algorithm: number, blockSize: number): number;
  /** The implementations of SHA-256 (1) or SHA-512 (2) that work here, the fastest first. */
  verityVariants(algorithm: number): string[];
  /**
   * Measures regular files on the thread pool, all of them in one piece of work. `paths` is a
   * sequence of paths that end with a NUL each, at most 1 MiB; it is copied. `salt` has up to 32
   * bytes, `variant` is an index into `verityVariants`. Files over `limit` bytes are VERITY_STATUS
   * TOO_LARGE. A MEASURED record for each path.
   */
  measurePaths(
    paths: Uint8Array,
    algorithm: number,
    blockSize: number,
    salt: Uint8Array,
    variant: number,
    limit: number,
  ): Promise<Uint8Array>;
  /**
   * The digests of the blocks of `length` bytes (at most 64 MiB) at `offset`, on the thread pool.
   * `fd` is any descriptor open for reading, which may be closed at once: a copy is used. A negative
   * number is -errno or VERITY_STATUS.CHANGED, for a file that ends earlier.
   */
  hashRange(
    fd: number,
    offset: number,
    length: number,
    algorithm: number,
    blockSize: number,
    salt: Uint8Array,
    variant: number,
  ): Promise<Uint8Array | number>;
  /** Block size 256 (for descriptors) to 65536. */
  BlockHasher: new (
    algorithm: number,
    blockSize: number,
    salt: Uint8Array,
    variant: number,
    input: Uint8Array,
    digests: Uint8Array,
  ) => NativeBlockHasher;
  /**
   * Reads a directory on the thread pool: SCAN_RECORDs of itself (without a name) and of its
   * entries, each followed by name, link target or content (of regular files up to `inlineMax`
   * bytes), and attributes as u16 and u32 length, name, value. Or the errno (negative) and the name
   * of the entry that could not be read.
   */
  scanDirectory(
    path: Uint8Array,
    flags: number,
    inlineMax: number,
  ): Promise<Uint8Array | { errno: number; name: Uint8Array }>;
  /**
   * Stores files (NUL-terminated paths) as objects named by their fs-verity SHA-256 digest, on the
   * thread pool: STORED_RECORDs. Objects are complete and on the disk before they get their name.
   * -EBADF for a descriptor that is not from openBasedir.
   */
  storeObjects(basedirFd: number, paths: Uint8Array): Promise<Uint8Array> | number;
  /**
   * `image` holds the expected digests, `facts` is the array given to `openObject`, `found` has
   * FOUND_DIGEST.SIZE bytes, `engine` is one of VERIFY_ENGINE. Objects of more than `limitBytes` that
   * would have to be hashed are VERITY_STATUS.TOO_LARGE: `measureObject` them first. The arrays must
   * not be detached.
   */
  ObjectVerifier: new (
    image: Uint8Array,
    facts: BigInt64Array,
    found: Uint8Array,
    engine: number,
    limitBytes: number,
  ) => NativeObjectVerifier;
  /**
   * Hashes an object on the thread pool and remembers the result for every verifier of the process,
   * whatever digest it is. `fd` is from `openObject` and may be closed at once. `progress` is over
   * shared memory: its first word counts the bytes done, and its second one, once not zero, ends the
   * work with -ECANCELED. 0, -errno, or VERITY_STATUS.CHANGED.
   */
  measureObject(
    fd: number,
    facts: BigInt64Array,
    algorithm: number,
    progress: BigInt64Array,
  ): Promise<number>;
  /**
   * A table of open objects for all threads of the process: its number. It holds at most `openMax`
   * descriptors, at most `idleMax` of them for files that nobody has open.
   */
  createFileTable(openMax: number, idleMax: number): number;
  /** Allows passthrough on the device's connection, once INIT has been answered. 0 or -errno. */
  allowPassthrough(table: number, deviceFd: number): number;
  /** Allows `preload` on the device's connection, once INIT has been answered. 0 or -errno. */
  allowPreload(table: number, deviceFd: number): number;
  /** Closes everything in it when the last thread has let go. 0 or -EBADF. */
  destroyFileTable(table: number): number;
  /** `facts` is the array given to `openObject`, `backing` has one word. */
  OpenFiles: new (table: number, facts: BigInt64Array, backing: BigInt64Array) => NativeOpenFiles;
  /** Forgets what was found about objects that are not open. How many were known. */
  forgetObjects(): number;
  /**
   * Asks for 2 MiB pages behind the array, where there are such: to be called before it is written for
   * the first time. 0 or -errno.
   */
  useHugePages(bytes: Uint8Array): number;
  /**
   * Takes the pages of Node.js and of libraries out of this process's memory; those that are needed
   * again come back from the page cache. 0 or -errno.
   */
  releaseProgramPages(): number;
  /** syslog(3) with identity `composefs-fuse`, facility daemon; priority 0 (emergency) to 7 (debug). */
  syslog(priority: number, line: string): void;
}

let loaded: NativeAddon | undefined;

/** Loads the addon on first use. Throws AddonError naming the remedy when it is not there. */
export function loadNative(): NativeAddon {
  loaded ??= loadAddon() as NativeAddon;
  return loaded;
}
