// One file, directory or other object of an image, as tree.ts hands it out.

import { Errno, errnoName, ImageError } from '../errors.ts';
import { Extent, isExternal, locateData } from './data.ts';
import { DirectoryCursor, findChild } from './directory.ts';
import {
  DigestAlgorithm,
  FileType,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFSOCK,
  U32,
} from './format.ts';
import type { Image } from './image.ts';
import { fileTypeOfMode, Inode, readInode } from './inode.ts';
import { ObjectRef, readObjectRef } from './object-ref.ts';
import { XATTR_PREFIXES, XattrCursor } from './xattr.ts';

export type EntryKind =
  'file' | 'directory' | 'symlink' | 'char-device' | 'block-device' | 'fifo' | 'socket';

/** Where the content of an external file is. */
export interface ObjectReference {
  /** Relative to an object directory, without a leading slash, `.` or `..`. */
  readonly path: string;
  /** The fs-verity digest of the object; undefined if the image names none. */
  readonly digest: { readonly algorithm: 'sha256' | 'sha512'; readonly hex: string } | undefined;
}

const NO_NAME = new Uint8Array(0);
const DOT = new Uint8Array([0x2e]);
const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

/** One entry of an image. Its methods throw ImageError for damage. */
export class ImageEntry {
  /** The directory the entry was found in; undefined for the root. */
  readonly parent: ImageEntry | undefined;
  /** Empty for the root. Not necessarily UTF-8. */
  readonly nameBytes: Uint8Array;
  readonly kind: EntryKind;
  /** Device number; 0 and 0 for everything but devices. */
  readonly rdev: { readonly major: number; readonly minor: number };
  readonly mtime: { readonly seconds: bigint; readonly nanoseconds: number };
  readonly #image: Image;
  readonly #inode: Inode;

  private constructor(
    image: Image,
    inode: Inode,
    parent: ImageEntry | undefined,
    nameBytes: Uint8Array,
  ) {
    this.#image = image;
    this.#inode = inode;
    this.parent = parent;
    this.nameBytes = nameBytes;
    this.kind = kindOfMode(inode.mode);
    this.rdev = {
      major: (inode.rdev >>> 8) & 0xfff,
      minor: (inode.rdev & 0xff) | ((inode.rdev >>> 12) & 0xfff00),
    };
    this.mtime = mtimeOf(inode.mtimeLow, inode.mtimeHigh, inode.mtimeNsec);
  }

  /** The root directory of an image. */
  static root(image: Image): ImageEntry {
    return ImageEntry.#read(image, image.rootNid, undefined, NO_NAME);
  }

  static #read(
    image: Image,
    nid: number,
    parent: ImageEntry | undefined,
    nameBytes: Uint8Array,
  ): ImageEntry {
    const inode = new Inode();
    const result = readInode(image, nid, inode);
    if (result < 0) {
      const where = parent === undefined ? '/' : joinPath(parent.path, decode(nameBytes));
      throw new ImageError(`damaged image: ${where}: the inode (nid ${nid}) is damaged`, { nid });
    }
    return new ImageEntry(image, inode, parent, nameBytes);
  }

  /** The name as UTF-8, with U+FFFD for bytes that are not. */
  get name(): string {
    return decode(this.nameBytes);
  }

  /** Absolute in the image; `/` for the root. */
  get path(): string {
    if (this.parent === undefined) return '/';
    const names = [this.name];
    for (let up = this.parent; up.parent !== undefined; up = up.parent) names.push(up.name);
    return `/${names.reverse().join('/')}`;
  }

  /** Same for all names of a hard-linked file. */
  get nid(): number {
    return this.#inode.nid;
  }

  /** The inode number that a mounted image shows: the nid. */
  get ino(): number {
    return this.#inode.nid;
  }

  /** Type and permission bits, as in stat. */
  get mode(): number {
    return this.#inode.mode;
  }

  get nlink(): number {
    return this.#inode.nlink;
  }

  get uid(): number {
    return this.#inode.uid;
  }

  get gid(): number {
    return this.#inode.gid;
  }

  /** Bytes of content, symlink target, or directory data in the image. */
  get size(): bigint {
    return (BigInt(this.#inode.sizeHigh) << 32n) | BigInt(this.#inode.sizeLow);
  }

  /** A char device 0:0, which overlayfs and this project hide. */
  get isWhiteout(): boolean {
    return this.#inode.isWhiteout;
  }

  /** The target of a symlink as UTF-8, undefined for other kinds. */
  get target(): string | undefined {
    const bytes = this.targetBytes();
    return bytes && decode(bytes);
  }

  /** The target of a symlink, undefined for other kinds. */
  targetBytes(): Uint8Array | undefined {
    return this.kind === 'symlink' ? this.#data() : undefined;
  }

  /** The content of a file whose bytes are in the image; undefined for external files and others. */
  content(): Uint8Array | undefined {
    if (this.kind !== 'file' || this.#isExternal) return undefined;
    return this.#data();
  }

  /** Where the content of an external file is; undefined for everything else. */
  object(): ObjectReference | undefined {
    if (!this.#isExternal) return undefined;
    const ref = new ObjectRef();
    const result = readObjectRef(this.#image, this.#inode, ref);
    if (result < 0) throw this.#damage(objectProblem(result));
    const path = decode(this.#slice(ref.pathStart, ref.pathLength));
    if (ref.digestAlgorithm === DigestAlgorithm.NONE) return { path, digest: undefined };
    const algorithm = ref.digestAlgorithm === DigestAlgorithm.SHA256 ? 'sha256' : 'sha512';
    const digest = this.#slice(ref.digestStart, ref.digestLength);
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return { path, digest: { algorithm, hex } };
  }

  /** All attributes with their names as stored, overlay's own included. */
  xattrs(): Map<string, Uint8Array> {
    const result = new Map<string, Uint8Array>();
    const cursor = new XattrCursor();
    let status = cursor.start(this.#image, this.#inode);
    if (status === 0) status = cursor.next();
    for (; status > 0; status = cursor.next()) {
      const stored = decode(this.#slice(cursor.nameStart, cursor.nameLength));
      const name = `${XATTR_PREFIXES[cursor.nameIndex]}${stored}`;
      if (result.has(name)) throw this.#damage(`extended attribute ${name} is there twice`);
      result.set(name, this.#slice(cursor.valueStart, cursor.valueLength));
    }
    if (status < 0) throw this.#damage('its extended attributes are damaged');
    return result;
  }

  /**
   * The entries of a directory in byte order, without `.` and `..`; nothing for other kinds. Raw
   * whiteouts are included.
   */
  *children(): Generator<ImageEntry, void, undefined> {
    if (this.kind !== 'directory') return;
    this.#checkDots();
    const cursor = new DirectoryCursor();
    cursor.start(this.#image, this.#inode, 0);
    let status: number;
    while ((status = cursor.next()) > 0) {
      const name = this.#slice(cursor.nameStart, cursor.nameLength);
      if (isDots(name)) continue;
      const child = ImageEntry.#read(this.#image, cursor.nid, this, name);
      if (cursor.fileType !== FileType.UNKNOWN && cursor.fileType !== fileTypeOfMode(child.mode)) {
        throw child.#damage('its directory entry says that it is of another type');
      }
      yield child;
    }
    if (status < 0) throw this.#damage('the directory is damaged');
  }

  /** The child of that name, undefined if there is none. `.` is the entry, `..` its parent. */
  child(name: string | Uint8Array): ImageEntry | undefined {
    const bytes = typeof name === 'string' ? new TextEncoder().encode(name) : name.slice();
    const nid = findChild(this.#image, this.#inode, bytes, 0, bytes.length);
    if (nid === -Errno.ENOENT || nid === -Errno.ENOTDIR) return undefined;
    if (nid < 0) throw this.#damage('the directory is damaged');
    if (isDots(bytes)) return bytes.length === 1 ? this : (this.parent ?? this);
    return ImageEntry.#read(this.#image, nid, this, bytes);
  }

  #checkDots(): void {
    const self = findChild(this.#image, this.#inode, DOT, 0, DOT.length);
    const up = findChild(this.#image, this.#inode, DOT_DOT, 0, DOT_DOT.length);
    if (self === -Errno.EUCLEAN || up === -Errno.EUCLEAN) {
      throw this.#damage('the directory is damaged');
    }
    if (self !== this.nid) throw this.#damage("the directory's . is missing or wrong");
    if (up !== (this.parent ?? this).nid) {
      throw this.#damage("the directory's .. is missing or wrong");
    }
  }

  get #isExternal(): boolean {
    return isExternal(this.#inode);
  }

  #data(): Uint8Array {
    const inode = this.#inode;
    const result = new Uint8Array(inode.size);
    const extent = new Extent();
    for (let offset = 0; offset < inode.size; offset += extent.length) {
      const status = locateData(this.#image, inode, offset, extent);
      if (status < 0) throw this.#damage('the symlink target contains a NUL');
      result.set(this.#image.bytes.subarray(extent.start, extent.start + extent.length), offset);
    }
    return result;
  }

  /** A copy: the image may be in shared memory, which TextDecoder does not read. */
  #slice(start: number, length: number): Uint8Array {
    return this.#image.bytes.slice(start, start + length);
  }

  #damage(what: string): ImageError {
    return new ImageError(`damaged image: ${this.path}: ${what}`, { nid: this.nid });
  }
}

/** The two words of an i64 and nanoseconds as the public interface shows them. */
export function mtimeOf(
  low: number,
  high: number,
  nanoseconds: number,
): { seconds: bigint; nanoseconds: number } {
  return { seconds: BigInt.asIntN(64, BigInt(high) * BigInt(U32) + BigInt(low)), nanoseconds };
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name[0] === 0x2e && name[name.length - 1] === 0x2e;
}

function joinPath(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`;
}

function objectProblem(result: number): string {
  switch (result) {
    case -Errno.EIO:
      return 'the external file has no absolute redirect';
    case -Errno.EINVAL:
      return 'the redirect of the external file is not a plain path';
    case -Errno.ENAMETOOLONG:
      return 'the redirect of the external file is too long';
    default:
      return `the metacopy attribute of the external file is damaged (${errnoName(result)})`;
  }
}

function kindOfMode(mode: number): EntryKind {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return 'directory';
    case S_IFLNK:
      return 'symlink';
    case S_IFCHR:
      return 'char-device';
    case S_IFBLK:
      return 'block-device';
    case S_IFIFO:
      return 'fifo';
    case S_IFSOCK:
      return 'socket';
    default:
      return 'file';
  }
}
