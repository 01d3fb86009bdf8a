// The filesystem: what every operation on a mounted composefs answers, without knowing who asks
// over which transport. It joins the image (metadata, small contents) with the object store (all
// other contents) and shows them as overlayfs on erofs does, or as erofs does to an overlayfs.
// Operations return a number >= 0 or -errno and leave their result in reused records; nothing is
// thrown and nothing is allocated.

import { Errno } from '../errors.ts';
import {
  DirectoryCursor,
  Extent,
  findChild,
  type Image,
  Inode,
  locateData,
  readInode,
} from '../image-reader/index.ts';
import { type FileContents, type ReadTarget, type ToMeasure } from './contents.ts';
import type { Ownership } from './ownership.ts';
import type { ProblemReporter } from './problems.ts';
import { isLayer, type TreeView } from './tree-view.ts';
import { type XattrCaller, XattrView } from './xattr-view.ts';

/** Numbers for statfs(2). Counts are in units of `bsize`. */
export interface FilesystemStatistics {
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  bsize: number;
}

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
const SLASH = 0x2f;

export class ComposefsFilesystem {
  readonly image: Image;
  /** The inode that the last lookup, attributes or entryInode loaded, with its owner in the mount. */
  readonly inode: Inode = new Inode();
  /** The entry that the last nextEntry delivered. */
  readonly entry: DirectoryCursor = new DirectoryCursor();
  readonly xattrs: XattrView;
  /** Files are read without having been opened: objects are opened and verified by the first read. */
  readonly opensOnRead: boolean;

  readonly #contents: FileContents;
  readonly #problems: ProblemReporter;
  /** Whiteouts do not exist; a layer has them. */
  readonly #hidesWhiteouts: boolean;
  /** Undefined where owners are those of the image. */
  readonly #ownership: Ownership | undefined;
  readonly #directory = new Inode();
  readonly #file = new Inode();
  readonly #extent = new Extent();
  #directoryIsRoot = false;

  constructor(
    image: Image,
    contents: FileContents,
    problems: ProblemReporter,
    options: { acl: boolean; opensOnRead: boolean; view?: TreeView; ownership?: Ownership },
  ) {
    const view = options.view ?? 'composefs';
    this.image = image;
    this.opensOnRead = options.opensOnRead;
    this.#contents = contents;
    this.#problems = problems;
    this.#hidesWhiteouts = !isLayer(view);
    this.#ownership = options.ownership;
    this.xattrs = new XattrView(image, options.acl, view, options.ownership);
  }

  /** Problems met with files so far, repeated ones included. */
  get problemCount(): number {
    return this.#problems.count;
  }

  /**
   * Loads the inode that `name[start, start + length)` names in the directory `nid`. 0, -ENOENT,
   * -ENOTDIR, -ENAMETOOLONG or -EUCLEAN. `.` and `..` work for NFS file handles. `/` is `nid` itself, also
   * of a file: so the kernel calls what it has found by a handle and not by a path, when an overlayfs
   * above asks whether it is still there. No file has that name.
   */
  lookup(nid: number, name: Uint8Array, start: number, length: number): number {
    if (length > MAX_NAME) return -Errno.ENAMETOOLONG;
    if (length === 1 && (name[start] === DOT || name[start] === SLASH)) return this.attributes(nid);
    let status = this.#load(nid, this.#directory);
    if (status < 0) return status;
    const child = findChild(this.image, this.#directory, name, start, length);
    if (child < 0) {
      return child === -Errno.EUCLEAN ? this.#damaged(nid, 'the directory is damaged') : child;
    }
    status = this.#loadShown(child);
    if (status < 0) return status;
    return this.#hidesWhiteouts && isWhiteout(this.inode) ? -Errno.ENOENT : 0;
  }

  /** Loads the inode `nid`. 0 or -EUCLEAN. */
  attributes(nid: number): number {
    return this.#loadShown(nid);
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
        this.#hidesWhiteouts &&
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
    const status = this.#loadShown(this.entry.nid);
    if (status < 0) return status;
    return this.#hidesWhiteouts && isWhiteout(this.inode) ? -Errno.ENOENT : 0;
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
    return this.#contents.open(this.#file);
  }

  /** After `open` gave a handle: see FileContents.preload. `nodeid` is what the kernel calls the file. */
  preload(handle: number, nodeid: number): void {
    this.#contents.preload(this.#file, handle, nodeid);
  }

  /** The kernel has forgotten an inode and what it had cached of it. */
  unload(nid: number): void {
    this.#contents.unload(nid);
  }

  /** After an open: the kernel's name for the object that it may read by itself, or 0. */
  get backingId(): number {
    return this.#contents.backingId;
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
    return this.#contents.read(this.#file, handle, offset, wanted, target, at);
  }

  /** SEEK_DATA and SEEK_HOLE. The offset, -ENXIO at or after the end, -EINVAL for another whence. */
  seek(nid: number, handle: number, offset: number, whence: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -Errno.EINVAL;
    if (offset >= this.#file.size) return -Errno.ENXIO;
    if (offset > Number.MAX_SAFE_INTEGER) return -Errno.EOVERFLOW;
    return this.#contents.seek(this.#file, handle, offset, whence);
  }

  /**
   * Opens the object of the regular file `nid`, only to have it measured: its descriptor, for
   * `closeObject`, or -errno. `toMeasure` tells what is to be measured.
   */
  openToMeasure(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if ((this.#file.mode & S_IFMT) !== S_IFREG) return -Errno.EINVAL;
    return this.#contents.openToMeasure(this.#file);
  }

  /** About the object that the last openToMeasure opened. */
  get toMeasure(): ToMeasure {
    return this.#contents.describeToMeasure(this.#file);
  }

  closeObject(fd: number): void {
    this.#contents.close(fd);
  }

  /** After an object was measured, whatever its digest is. */
  countMeasured(): void {
    this.#contents.countMeasured();
  }

  /** After an object could not be measured: logs it once and returns what the reader is told. */
  notMeasured(nid: number, detail: string): number {
    const status = this.#load(nid, this.#file);
    return status < 0 ? status : this.#contents.badObject(this.#file, detail, -Errno.EIO);
  }

  /**
   * Finds the digest that the content of the regular file `nid` is checked against: the digest's
   * length, its algorithm and place being in `digestAlgorithm` and `digestStart`; -ENODATA if none is.
   */
  contentDigest(nid: number): number {
    const status = this.#load(nid, this.#file);
    if (status < 0) return status;
    if ((this.#file.mode & S_IFMT) !== S_IFREG) return -Errno.ENODATA;
    return this.#contents.digest(this.#file);
  }

  /** 1 SHA-256, 2 SHA-512. */
  get digestAlgorithm(): number {
    return this.#contents.ref.digestAlgorithm;
  }

  /** Start of the digest in the image. */
  get digestStart(): number {
    return this.#contents.ref.digestStart;
  }

  /** Ends the use of a handle. 0 or -EBADF. */
  release(nid: number, handle: number): number {
    return this.#contents.release(nid, handle);
  }

  /**
   * Finds an extended attribute of `nid`; its value is at `xattrs.valueStart` of
   * `xattrs.valueBytes`. The value's length or -errno.
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

  #loadShown(nid: number): number {
    const inode = this.inode;
    const status = this.#load(nid, inode);
    const ownership = this.#ownership;
    if (status === 0 && ownership !== undefined) {
      inode.uid = ownership.uids.toMount(inode.uid);
      inode.gid = ownership.gids.toMount(inode.gid);
    }
    return status;
  }

  #load(nid: number, out: Inode): number {
    const status = readInode(this.image, nid, out);
    return status < 0 ? this.#damaged(nid, 'the inode is damaged', status) : 0;
  }

  #damaged(nid: number, detail: string, errno: number = -Errno.EUCLEAN): number {
    return this.#problems.damaged(nid, detail, errno);
  }
}

/** A character device 0:0: overlayfs's mark for "this name does not exist". */
export function isWhiteout(inode: Inode): boolean {
  return (inode.mode & S_IFMT) === S_IFCHR && inode.rdev === 0;
}
