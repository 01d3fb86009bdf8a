// The filesystem: what every operation on a mounted composefs answers, without knowing who asks
// over which transport. It joins the image (metadata, small contents) with the object store (all
// other contents) and shows them as overlayfs on erofs does. Operations return a number >= 0 or
// -errno and leave their result in reused records; nothing is thrown and nothing is allocated.

import { errnoName, Errno } from '../errors.ts';
import {
  DirectoryCursor,
  Extent,
  findChild,
  type Image,
  Inode,
  isExternal,
  locateData,
  ObjectRef,
  readInode,
  readObjectRef,
} from '../image-reader/index.ts';
import { KeptObjects } from '../objects/kept-objects.ts';
import type { ObjectOpener } from '../objects/opener.ts';
import {
  CONTENT_DIFFERS,
  NEEDS_MEASURING,
  type ObjectVerification,
  type VerificationState,
} from '../objects/verification.ts';
import type { Problem, ProblemReporter } from './problems.ts';
import { type XattrCaller, XattrView } from './xattr-view.ts';

/**
 * What `open`, `read` and `seek` return instead of a result when the file's object is too large to be
 * verified at once: `measure` it in another thread, then ask again. No errno is so small.
 */
export const DEFER = -0x1_0001;

/** Where contents are delivered to. The transport owns the memory. */
export interface ReadTarget {
  readonly bytes: Uint8Array;
  /**
   * Reads from an open object to `bytes[at, at + length)`: bytes read (fewer only at its end), -errno,
   * or CONTENT_DIFFERS.
   */
  readObject(fd: number, offset: number, length: number, at: number): number;
}

/** Numbers for statfs(2). Counts are in units of `bsize`. */
export interface FilesystemStatistics {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
}

/** File handle without an object: the content lies in the image, or the file was never opened. */
const NO_OBJECT = 0;

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
/** Directory entry type of a character device. */
const EROFS_FT_CHRDEV = 3;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const MAX_NAME = 255;
const DOT = 0x2e;

export class ComposefsFilesystem {
  readonly image: Image;
  /** The inode that the last lookup, attributes or entryInode loaded. */
  readonly inode: Inode = new Inode();
  /** The entry that the last nextEntry delivered. */
  readonly entry: DirectoryCursor = new DirectoryCursor();
  readonly xattrs: XattrView;
  /** Files are read without having been opened: objects are opened and verified by the first read. */
  readonly opensOnRead: boolean;

  readonly #objects: ObjectOpener;
  readonly #verification: ObjectVerification;
  readonly #kept: KeptObjects;
  readonly #problems: ProblemReporter;
  readonly #directory = new Inode();
  readonly #file = new Inode();
  readonly #extent = new Extent();
  readonly #objectRef = new ObjectRef();
  #directoryIsRoot = false;

  constructor(
    image: Image,
    objects: ObjectOpener,
    verification: { objects: ObjectVerification; state: VerificationState },
    problems: ProblemReporter,
    options: { acl: boolean; opensOnRead: boolean; keptObjectsLimit: number | undefined },
  ) {
    this.image = image;
    this.opensOnRead = options.opensOnRead;
    this.#objects = objects;
    this.#verification = verification.objects;
    this.#kept = new KeptObjects(objects, verification.state, options.keptObjectsLimit);
    this.#problems = problems;
    this.xattrs = new XattrView(image, options.acl);
  }

  /** Problems met with files so far, repeated ones included. */
  get problemCount(): number {
    return this.#problems.count;
  }

  /**
   * Loads the inode that `name[start, start + length)` names in the directory `nid`. 0, -ENOENT,
   * -ENOTDIR, -ENAMETOOLONG or -EUCLEAN. `.` and `..` work for NFS file handles.
   */
  lookup(nid: number, name: Uint8Array, start: number, length: number): number {
    if (length > MAX_NAME) return -Errno.ENAMETOOLONG;
    if (length === 1 && name[start] === DOT) return this.attributes(nid);
    let status = this.#load(nid, this.#directory);
    if (status < 0) return status;
    const child = findChild(this.image, this.#directory, name, start, length);
    if (child < 0) {
      return child === -Errno.EUCLEAN ? this.#damaged(nid, 'the directory is damaged') : child;
    }
    status = this.#load(child, this.inode);
    if (status < 0) return status;
    return isWhiteout(this.inode) ? -Errno.ENOENT : 0;
  }

  /** Loads the inode `nid`. 0 or -EUCLEAN. */
  attributes(nid: number): number {
    return this.#load(nid, this.inode);
  }

  /**
   * Finds the target of the symlink `nid`. Its length in bytes (1 to 4095), the bytes being at
   * `linkTargetStart` of the image; or -EINVAL, -EUCLEAN.
   */
  readLink(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if ((this.#file.mode & S_IFMT) !== S_IFLNK) return -Errno.EINVAL;
    const located = locateData(this.image, this.#file, 0, this.#extent);
    if (located < 0 || this.#extent.length < this.#file.size) {
      return this.#damaged(nid, 'the symlink target is damaged');
    }
    return this.#file.size;
  }

  /** Start in the image of the target found by the last readLink. */
  get linkTargetStart(): number {
    return this.#extent.start;
  }

  /** Begins to list the directory `nid` at a cookie of an earlier entry; 0 is the beginning. */
  openDirectory(nid: number, cookie: number): number {
    const status = this.#load(nid, this.#directory);
    if (status < 0) return status;
    if ((this.#directory.mode & S_IFMT) !== S_IFDIR) return -Errno.ENOTDIR;
    this.#directoryIsRoot = nid === this.image.rootNid;
    const started = this.entry.start(this.image, this.#directory, cookie);
    return started < 0 ? this.#damaged(nid, 'the directory is damaged') : 0;
  }

  /** Delivers the next entry, `.` and `..` included: 1, 0 at the end, or -EUCLEAN. */
  nextEntry(): number {
    for (;;) {
      const more = this.entry.next();
      if (more < 0) return this.#damaged(this.#directory.nid, 'the directory is damaged');
      if (more === 0) return 0;
      // overlayfs hides whiteouts in the root, which is a merged directory, and lists their names
      // elsewhere. Only composefs-rs writes any elsewhere.
      if (
        this.#directoryIsRoot &&
        this.entry.fileType === EROFS_FT_CHRDEV &&
        readInode(this.image, this.entry.nid, this.#file) === 0 &&
        isWhiteout(this.#file)
      ) {
        continue;
      }
      return 1;
    }
  }

  /** Loads the current entry's inode. 0, -ENOENT for a whiteout, -EUCLEAN. */
  entryInode(): number {
    const status = this.#load(this.entry.nid, this.inode);
    if (status < 0) return status;
    return isWhiteout(this.inode) ? -Errno.ENOENT : 0;
  }

  /**
   * Opens the regular file `nid` for reading. A handle >= 0 for read, seek and release, or -errno:
   * -ENOENT when no base directory has the object, -EIO when what is there is not its content; or
   * DEFER.
   */
  open(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    const type = this.#file.mode & S_IFMT;
    if (type === S_IFDIR) return -Errno.EISDIR;
    if (type !== S_IFREG) return -Errno.ENXIO;
    if (!isExternal(this.#file)) return NO_OBJECT;
    const fd = this.#openObject(this.#file);
    return fd < 0 ? fd : fd + 1;
  }

  /**
   * Delivers up to `length` bytes from `offset` of the file to `target.bytes[at, …)`. Bytes
   * delivered, fewer only at the end of the file; or -errno, or DEFER.
   */
  read(
    nid: number,
    handle: number,
    offset: number,
    length: number,
    target: ReadTarget,
    at: number,
  ): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    const wanted = Math.min(length, this.#file.size - offset);
    if (wanted <= 0) return 0;
    // Beyond what a number holds exactly; no file system stores such a file.
    if (offset > Number.MAX_SAFE_INTEGER) return -Errno.EOVERFLOW;
    const fd = this.#contentOf(handle);
    if (fd === NO_OBJECT) return this.#readFromImage(nid, offset, wanted, target, at);
    if (fd < 0) return fd;
    const count = target.readObject(fd - 1, offset, wanted, at);
    // A short answer would tell the kernel that the file ends here, for all its users.
    if (count === wanted) return count;
    // The next reader may find a good one in its place.
    if (handle === NO_OBJECT) this.#kept.drop(nid);
    if (count === CONTENT_DIFFERS) return this.#changed(this.#file, offset);
    const found = count < 0 ? errnoName(count) : `only ${count} of ${wanted} bytes`;
    return this.#badObject(this.#file, `reading at offset ${offset} gave ${found}`, -Errno.EIO);
  }

  /** SEEK_DATA and SEEK_HOLE. The offset, -ENXIO at or after the end, -EINVAL for another whence. */
  seek(nid: number, handle: number, offset: number, whence: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -Errno.EINVAL;
    if (offset >= this.#file.size) return -Errno.ENXIO;
    if (offset > Number.MAX_SAFE_INTEGER) return -Errno.EOVERFLOW;
    const fd = this.#contentOf(handle);
    if (fd < 0) return fd;
    if (fd !== NO_OBJECT && this.#hasTrueHoles(fd - 1)) {
      return this.#objects.seek(fd - 1, offset, whence);
    }
    return whence === SEEK_DATA ? offset : this.#file.size;
  }

  /**
   * Opens the object of the regular file `nid`, only to have it measured: its descriptor, for
   * `closeObject`, or -errno. `measured` tells what is to be measured.
   */
  openObject(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if ((this.#file.mode & S_IFMT) !== S_IFREG || !isExternal(this.#file)) return -Errno.EINVAL;
    return this.#openSized(this.#file);
  }

  /** About the object that the last `openObject` opened. */
  get measured(): {
    facts: BigInt64Array;
    algorithm: number;
    objectPath: string;
    sizeBytes: number;
  } {
    return {
      facts: this.#objects.facts.slice(),
      algorithm: this.#objectRef.digestAlgorithm,
      objectPath: this.#objectPath(),
      sizeBytes: this.#file.size,
    };
  }

  closeObject(fd: number): void {
    this.#objects.close(fd);
  }

  /** After an object was measured, whatever its digest is. */
  countMeasured(): void {
    this.#verification.countMeasured();
  }

  /** After an object could not be measured: logs it once and returns what the reader is told. */
  notMeasured(nid: number, detail: string): number {
    const status = this.#load(nid, this.#file);
    return status < 0 ? status : this.#badObject(this.#file, detail, -Errno.EIO);
  }

  /**
   * Finds the digest that the content of the regular file `nid` is checked against: the digest's
   * length, its algorithm and place being in `digestAlgorithm` and `digestStart`; -ENODATA if none is.
   */
  contentDigest(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if ((this.#file.mode & S_IFMT) !== S_IFREG || !isExternal(this.#file)) return -Errno.ENODATA;
    const ref = this.#objectRef;
    if (readObjectRef(this.image, this.#file, ref) < 0) return -Errno.EIO;
    return this.#verification.covers(ref) ? ref.digestLength : -Errno.ENODATA;
  }

  /** 1 SHA-256, 2 SHA-512. */
  get digestAlgorithm(): number {
    return this.#objectRef.digestAlgorithm;
  }

  /** Start of the digest in the image. */
  get digestStart(): number {
    return this.#objectRef.digestStart;
  }

  /** Ends the use of a handle. 0 or -EBADF. */
  release(handle: number): number {
    return handle === NO_OBJECT ? 0 : this.#objects.close(handle - 1);
  }

  /**
   * Finds an extended attribute of `nid`; its value is at `xattrs.valueStart` of the image. The
   * value's length or -errno.
   */
  getXattr(nid: number, name: Uint8Array, start: number, length: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    const found = this.xattrs.find(this.#file, name, start, length);
    return found === -Errno.EUCLEAN ? this.#damaged(nid, 'an xattr is damaged') : found;
  }

  /** Lists the names `caller` may see: the list's length (see XattrView.list) or -errno. */
  listXattrs(
    nid: number,
    caller: XattrCaller,
    out: Uint8Array,
    at: number,
    capacity: number,
  ): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    const total = this.xattrs.list(this.#file, caller, out, at, capacity);
    return total === -Errno.EUCLEAN ? this.#damaged(nid, 'an xattr is damaged') : total;
  }

  #load(nid: number, out: Inode): number {
    const status = readInode(this.image, nid, out);
    return status < 0 ? this.#damaged(nid, 'the inode is damaged', status) : 0;
  }

  #readFromImage(
    nid: number,
    offset: number,
    wanted: number,
    target: ReadTarget,
    at: number,
  ): number {
    for (let done = 0; done < wanted;) {
      const status = locateData(this.image, this.#file, offset + done, this.#extent);
      const length = Math.min(this.#extent.length, wanted - done);
      if (status < 0 || length <= 0) return this.#damaged(nid, 'the content is damaged');
      copyBytes(this.image.bytes, this.#extent.start, target.bytes, at + done, length);
      done += length;
    }
    return wanted;
  }

  /** The handle to read the loaded file by: NO_OBJECT for the image; or -errno, or DEFER. */
  #contentOf(handle: number): number {
    if (handle !== NO_OBJECT || !isExternal(this.#file)) return handle;
    const { nid } = this.#file;
    const kept = this.#kept.find(nid);
    if (kept >= 0) return kept + 1;
    this.#kept.makeRoom();
    const fd = this.#openObject(this.#file);
    if (fd < 0) return fd;
    this.#kept.keep(nid, fd);
    return fd + 1;
  }

  /**
   * Whether the holes of the loaded file's open object can be told. One that was made after the
   * object was verified would be taken for zeros by who copies only data.
   */
  #hasTrueHoles(fd: number): boolean {
    const ref = this.#objectRef;
    if (readObjectRef(this.image, this.#file, ref) < 0) return false;
    return !this.#verification.covers(ref) || this.#verification.isImmutable(fd, ref);
  }

  /** Opens the object and verifies it as far as the policy demands. A descriptor, -errno or DEFER. */
  #openObject(inode: Inode): number {
    const fd = this.#openSized(inode);
    if (fd < 0) return fd;
    const verdict = this.#verification.check(fd, this.#objectRef, inode.size);
    if (verdict === 0) return fd;
    this.#objects.close(fd);
    return verdict === NEEDS_MEASURING ? DEFER : this.#unverified(inode);
  }

  /** Opens the object if it has the size that the inode says. */
  #openSized(inode: Inode): number {
    const ref = this.#objectRef;
    const status = readObjectRef(this.image, inode, ref);
    if (status < 0) {
      const errno = status === -Errno.EUCLEAN ? status : -Errno.EIO;
      return this.#damaged(inode.nid, 'the reference to its object is invalid', errno);
    }
    const { bytes } = this.image;
    let fd = this.#objects.open(bytes, ref.pathStart, ref.pathLength);
    while (fd === -Errno.EMFILE && this.#kept.dropOldest()) {
      fd = this.#objects.open(bytes, ref.pathStart, ref.pathLength);
    }
    if (fd < 0) return this.#refused(inode, fd);
    if (this.#objects.hasSize(inode.sizeLow, inode.sizeHigh)) return fd;
    this.#objects.close(fd);
    const found = this.#objects.openedSize;
    return this.#badObject(inode, `it has ${found} bytes instead of ${inode.size}`, -Errno.EIO);
  }

  /** Turns the errno of an object that could not be opened into the one the reader is told. */
  #refused(inode: Inode, errno: number): number {
    switch (-errno) {
      case Errno.ENOENT:
        return this.#badObject(inode, 'it is in no base directory', errno);
      case Errno.EMFILE:
      case Errno.ENFILE:
      case Errno.ENOMEM:
      case Errno.EACCES:
        return this.#badObject(inode, `it cannot be opened: ${errnoName(errno)}`, errno);
      case Errno.EISDIR:
        return this.#badObject(inode, 'it is a directory, not a regular file', -Errno.EIO);
      case Errno.ELOOP:
        return this.#badObject(inode, 'a symlink is on its path', -Errno.EIO);
      case Errno.EXDEV:
        return this.#badObject(inode, 'its path leaves the base directory', -Errno.EIO);
      case Errno.EINVAL:
        return this.#badObject(inode, 'it is not a regular file', -Errno.EIO);
      default:
        return this.#badObject(inode, `it cannot be opened: ${errnoName(errno)}`, -Errno.EIO);
    }
  }

  /** Logs (once per file) what is wrong with a file's object and returns `errno`. */
  #badObject(inode: Inode, detail: string, errno: number): number {
    if (this.#problems.isNews('object', inode.nid, -errno)) {
      const problem: Problem = { kind: 'object', nid: inode.nid, errno: -errno, detail };
      if (readObjectRef(this.image, inode, this.#objectRef) === 0) {
        problem.objectPath = this.#objectPath();
      }
      this.#problems.report(problem);
    }
    return errno;
  }

  /** The object just opened was refused: -EIO, as the kernel says it. */
  #unverified(inode: Inode): number {
    if (this.#problems.isNews('verity', inode.nid, Errno.EIO)) {
      this.#problems.report({
        kind: 'verity',
        nid: inode.nid,
        errno: Errno.EIO,
        objectPath: this.#objectPath(),
        ...this.#verification.refusal(this.#objectRef),
      });
    }
    return -Errno.EIO;
  }

  /** A block that was verified is not the same any more. */
  #changed(inode: Inode, offset: number): number {
    this.#verification.countRefusedRead();
    if (
      this.#problems.isNews('verity', inode.nid, Errno.EIO) &&
      readObjectRef(this.image, inode, this.#objectRef) === 0
    ) {
      this.#problems.report({
        kind: 'verity',
        nid: inode.nid,
        errno: Errno.EIO,
        objectPath: this.#objectPath(),
        detail: `it has changed since it was verified (seen when reading at offset ${offset})`,
        expected: this.#verification.describe(this.#objectRef),
        measuredBy: 'composefs-fuse',
      });
    }
    return -Errno.EIO;
  }

  #objectPath(): string {
    const { pathStart, pathLength } = this.#objectRef;
    return new TextDecoder().decode(this.image.bytes.slice(pathStart, pathStart + pathLength));
  }

  #damaged(nid: number, detail: string, errno: number = -Errno.EUCLEAN): number {
    if (this.#problems.isNews('damage', nid, -errno)) {
      this.#problems.report({ kind: 'damage', nid, errno: -errno, detail });
    }
    return errno;
  }
}

/** A character device 0:0: overlayfs's mark for "this name does not exist". */
export function isWhiteout(inode: Inode): boolean {
  return (inode.mode & S_IFMT) === S_IFCHR && inode.rdev === 0;
}

/**
 * Below this length a loop is faster than making the view that `set` needs, and allocates nothing;
 * the images of mkcomposefs have no longer content than 64 bytes unless told otherwise.
 */
const COPY_LOOP_MAX = 256;

/** Copies `length` bytes. The ranges have been checked. */
export function copyBytes(
  from: Uint8Array,
  start: number,
  to: Uint8Array,
  at: number,
  length: number,
): void {
  if (length > COPY_LOOP_MAX) {
    to.set(from.subarray(start, start + length), at);
    return;
  }
  for (let i = 0; i < length; i++) to[at + i] = from[start + i]!;
}
