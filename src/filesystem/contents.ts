// The contents of regular files: which lie in the image and which in an object, how an object is
// opened, verified and read. Results are numbers >= 0, -errno, or DEFER.

import { errnoName, Errno } from '../errors.ts';
import {
  Extent,
  type Image,
  type Inode,
  isExternal,
  locateData,
  ObjectRef,
  readObjectRef,
} from '../image-reader/index.ts';
import type { OpenFiles } from '../objects/open-files.ts';
import type { ObjectOpener } from '../objects/opener.ts';
import { CONTENT_DIFFERS, type ObjectVerification, Verdict } from '../objects/verification.ts';
import { copyBytes } from './copy-bytes.ts';
import type { Problem, ProblemReporter } from './problems.ts';

/**
 * What opening, reading and seeking return instead of a result when the file's object is too large to
 * be verified at once: it must be measured in another thread, then one asks again. No errno is so
 * small.
 */
export const DEFER = -0x1_0001;

/** Handle without an object: the content lies in the image, or the file was never opened. */
export const NO_OBJECT = 0;

/** Which objects the kernel may read by itself, past us: none, those whose content is none of our
 * business or guarded by the kernel, or also those that were only verified when they were opened. */
export type Passthrough = 'never' | 'where-guarded' | 'where-opened';

/** Where contents are delivered to. The transport owns the memory. */
export interface ReadTarget {
  readonly bytes: Uint8Array;
  /**
   * Reads from an open object to `bytes[at, at + length)`: bytes read (fewer only at its end), -errno,
   * or CONTENT_DIFFERS.
   */
  readObject(fd: number, offset: number, length: number, at: number): number;
}

/** About an object that is to be measured. */
export interface ToMeasure {
  facts: BigInt64Array;
  /** 1 SHA-256, 2 SHA-512. */
  algorithm: number;
  objectPath: string;
  sizeBytes: number;
}

/**
 * Up to this size a file's content goes to the kernel with its opening, so that reading it costs no
 * request. See docs/performance.md.
 */
const PRELOAD_MAX = 64 * 1024;

/** lseek(2)'s whence. */
const SEEK_DATA = 3;

export class FileContents {
  /** The reference of the object that the last call was about. */
  readonly ref: ObjectRef = new ObjectRef();
  readonly #image: Image;
  readonly #objects: ObjectOpener;
  readonly #files: OpenFiles;
  readonly #verification: ObjectVerification;
  readonly #problems: ProblemReporter;
  readonly #extent = new Extent();
  #passthrough: Passthrough;

  constructor(
    image: Image,
    objects: ObjectOpener,
    files: OpenFiles,
    verification: ObjectVerification,
    problems: ProblemReporter,
    passthrough: Passthrough,
  ) {
    this.#image = image;
    this.#objects = objects;
    this.#files = files;
    this.#verification = verification;
    this.#problems = problems;
    this.#passthrough = passthrough;
  }

  /** The backing id of the file opened last, 0 without passthrough. */
  get backingId(): number {
    return this.#files.backingId;
  }

  /** A handle >= 0 for read, seek and release of this file. */
  open(file: Inode): number {
    if (!isExternal(file)) return NO_OBJECT;
    let fd = this.#files.acquire(file.nid);
    if (fd >= 0) this.#verification.countReopened();
    else fd = this.#openAndKeep(file);
    return fd < 0 ? fd : fd + 1;
  }

  /** After `open` gave a handle: may put the content of a small file, verified, into the kernel's cache. */
  preload(file: Inode, handle: number, nodeid: number): void {
    if (handle === NO_OBJECT || file.size === 0 || file.size > PRELOAD_MAX) return;
    this.#files.preload(file.nid, nodeid, file.size);
  }

  /** The kernel has forgotten a file and what it had cached of it. */
  unload(nid: number): void {
    this.#files.unload(nid);
  }

  /** 0 or -EBADF. */
  release(nid: number, handle: number): number {
    return handle === NO_OBJECT ? 0 : this.#files.release(nid);
  }

  /** Delivers exactly `wanted` bytes, which the caller knows to be there, from `offset`. */
  read(
    file: Inode,
    handle: number,
    offset: number,
    wanted: number,
    target: ReadTarget,
    at: number,
  ): number {
    if (handle !== NO_OBJECT) {
      const count = target.readObject(handle - 1, offset, wanted, at);
      return count === wanted ? count : this.#badRead(file, count, offset, wanted);
    }
    if (!isExternal(file)) return this.#readFromImage(file, offset, wanted, target, at);
    return this.#readUnopened(file, offset, wanted, target, at);
  }

  /** SEEK_DATA and SEEK_HOLE at an offset inside the file. */
  seek(file: Inode, handle: number, offset: number, whence: number): number {
    if (handle !== NO_OBJECT) return this.#objects.seek(handle - 1, offset, whence);
    if (!isExternal(file)) return whence === SEEK_DATA ? offset : file.size;
    const fd = this.#acquireUnopened(file);
    if (fd < 0) return fd;
    const found = this.#objects.seek(fd, offset, whence);
    this.#files.release(file.nid);
    return found;
  }

  /** Opens the object of an external file only to have it measured: a descriptor for `close`. */
  openToMeasure(file: Inode): number {
    return isExternal(file) ? this.#openObject(file) : -Errno.EINVAL;
  }

  /** About the object that openToMeasure opened for this file. */
  describeToMeasure(file: Inode): ToMeasure {
    return {
      facts: this.#objects.facts.slice(),
      algorithm: this.ref.digestAlgorithm,
      objectPath: this.#objectPath(),
      sizeBytes: file.size,
    };
  }

  close(fd: number): void {
    this.#objects.close(fd);
  }

  /** After an object was measured, whatever its digest is. */
  countMeasured(): void {
    this.#verification.countMeasured();
  }

  /** Logs (once per file) what is wrong with a file's object and returns `errno`. */
  badObject(file: Inode, detail: string, errno: number): number {
    if (this.#problems.isNews('object', file.nid, -errno)) {
      const problem: Problem = { kind: 'object', nid: file.nid, errno: -errno, detail };
      if (readObjectRef(this.#image, file, this.ref) === 0) problem.objectPath = this.#objectPath();
      this.#problems.report(problem);
    }
    return errno;
  }

  /**
   * Finds the digest that the content is checked against: its length, the digest being that of
   * `ref`; -ENODATA if there is none or it is not checked.
   */
  digest(file: Inode): number {
    if (!isExternal(file)) return -Errno.ENODATA;
    if (readObjectRef(this.#image, file, this.ref) < 0) return -Errno.EIO;
    return this.#verification.covers(this.ref) ? this.ref.digestLength : -Errno.ENODATA;
  }

  #readFromImage(
    file: Inode,
    offset: number,
    wanted: number,
    target: ReadTarget,
    at: number,
  ): number {
    const { bytes } = this.#image;
    for (let done = 0; done < wanted;) {
      const status = locateData(this.#image, file, offset + done, this.#extent);
      const length = Math.min(this.#extent.length, wanted - done);
      if (status < 0 || length <= 0) return this.#damaged(file.nid, 'the content is damaged');
      copyBytes(bytes, this.#extent.start, target.bytes, at + done, length);
      done += length;
    }
    return wanted;
  }

  /** Reads a file that the kernel opened without asking. */
  #readUnopened(
    file: Inode,
    offset: number,
    wanted: number,
    target: ReadTarget,
    at: number,
  ): number {
    const fd = this.#acquireUnopened(file);
    if (fd < 0) return fd;
    let count = target.readObject(fd, offset, wanted, at);
    if (count !== wanted) {
      // There may be a good object in its place by now. If not, the blocks of the old one that are
      // still right go on being served.
      const again = this.#openAndKeep(file);
      if (again >= 0) {
        count = target.readObject(again, offset, wanted, at);
        this.#files.release(file.nid);
      }
      if (again === DEFER) count = DEFER;
    }
    this.#files.release(file.nid);
    if (count === wanted || count === DEFER) return count;
    return this.#badRead(file, count, offset, wanted);
  }

  /** The object of a file that was not opened; to be released. */
  #acquireUnopened(file: Inode): number {
    const fd = this.#files.acquireAny(file.nid);
    return fd >= 0 ? fd : this.#openAndKeep(file);
  }

  /** Opens and verifies the object and enters it as open. */
  #openAndKeep(file: Inode): number {
    const opened = this.#openObject(file);
    if (opened < 0) return opened;
    const verdict = this.#verification.check(opened, this.ref, file.size);
    if (verdict < 0) {
      this.#objects.close(opened);
      return verdict === Verdict.NEEDS_MEASURING ? DEFER : this.#unverified(file);
    }
    const mayPass =
      this.#passthrough === 'where-opened'
        ? verdict !== Verdict.COMPUTED || this.#verification.policy !== 'require'
        : this.#passthrough === 'where-guarded' && verdict !== Verdict.COMPUTED;
    let fd = this.#files.insert(file.nid, opened, mayPass);
    // An inode has one backing file at a time. Where that one needs no check by us it goes on serving.
    const isTrusted = this.#passthrough === 'where-guarded' || this.#verification.policy === 'off';
    if (fd === -Errno.EBUSY && isTrusted) fd = this.#files.acquireAny(file.nid);
    if (mayPass && fd >= 0 && this.#files.backingId === 0) this.#noPassthrough();
    return fd < 0 ? this.#refused(file, fd) : fd;
  }

  /** Opens the object if it has the size that the inode says. A descriptor. */
  #openObject(file: Inode): number {
    const { ref } = this;
    const status = readObjectRef(this.#image, file, ref);
    if (status < 0) {
      const errno = status === -Errno.EUCLEAN ? status : -Errno.EIO;
      return this.#damaged(file.nid, 'the reference to its object is invalid', errno);
    }
    const { bytes } = this.#image;
    let fd = this.#objects.open(bytes, ref.pathStart, ref.pathLength);
    if (fd === -Errno.EMFILE && this.#files.trim()) {
      fd = this.#objects.open(bytes, ref.pathStart, ref.pathLength);
    }
    if (fd < 0) return this.#refused(file, fd);
    if (this.#objects.hasSize(file.sizeLow, file.sizeHigh)) return fd;
    this.#objects.close(fd);
    const found = this.#objects.openedSize;
    return this.badObject(file, `it has ${found} bytes instead of ${file.size}`, -Errno.EIO);
  }

  /** Turns the errno of an object that could not be opened into the one the reader is told. */
  #refused(file: Inode, errno: number): number {
    switch (-errno) {
      case Errno.ENOENT:
        return this.badObject(file, 'it is in no base directory', errno);
      case Errno.EMFILE:
      case Errno.ENFILE:
      case Errno.ENOMEM:
      case Errno.EACCES:
        return this.badObject(file, `it cannot be opened: ${errnoName(errno)}`, errno);
      case Errno.EISDIR:
        return this.badObject(file, 'it is a directory, not a regular file', -Errno.EIO);
      case Errno.ELOOP:
        return this.badObject(file, 'a symlink is on its path', -Errno.EIO);
      case Errno.EXDEV:
        return this.badObject(file, 'its path leaves the base directory', -Errno.EIO);
      case Errno.EINVAL:
        return this.badObject(file, 'it is not a regular file', -Errno.EIO);
      case Errno.EBUSY:
        return this.badObject(
          file,
          'it was replaced while the kernel reads the one before by itself (--data passthrough)',
          -Errno.EIO,
        );
      default:
        return this.badObject(file, `it cannot be opened: ${errnoName(errno)}`, -Errno.EIO);
    }
  }

  #badRead(file: Inode, count: number, offset: number, wanted: number): number {
    if (count === CONTENT_DIFFERS) return this.#changed(file, offset);
    const found = count < 0 ? errnoName(count) : `only ${count} of ${wanted} bytes`;
    return this.badObject(file, `reading at offset ${offset} gave ${found}`, -Errno.EIO);
  }

  /** The object just opened was refused: -EIO, as the kernel says it. */
  #unverified(file: Inode): number {
    if (this.#problems.isNews('verity', file.nid, Errno.EIO)) {
      this.#reportVerity(file, this.#verification.refusal(this.ref));
    }
    return -Errno.EIO;
  }

  /** A block that was verified is not the same any more. */
  #changed(file: Inode, offset: number): number {
    this.#verification.countRefusedRead();
    const isNews = this.#problems.isNews('verity', file.nid, Errno.EIO);
    if (isNews && readObjectRef(this.#image, file, this.ref) === 0) {
      this.#reportVerity(file, {
        detail: `it has changed since it was verified (seen when reading at offset ${offset})`,
        expected: this.#verification.describe(this.ref),
        measuredBy: 'composefs-fuse',
      });
    }
    return -Errno.EIO;
  }

  #reportVerity(file: Inode, what: Pick<Problem, 'detail' | 'expected' | 'actual' | 'measuredBy'>) {
    const objectPath = this.#objectPath();
    this.#problems.report({ kind: 'verity', nid: file.nid, errno: Errno.EIO, objectPath, ...what });
  }

  /** Says so once, and does not try again where it cannot help. */
  #noPassthrough(): void {
    const errno = -this.#files.backingError;
    if (errno === Errno.EPERM) this.#passthrough = 'never';
    if (errno === 0 || !this.#problems.isNews('passthrough', 0, errno)) return;
    const detail =
      errno === Errno.ELOOP
        ? 'the objects are on a stacked filesystem'
        : `the kernel says ${errnoName(errno)}`;
    this.#problems.report({ kind: 'passthrough', nid: 0, errno, detail });
  }

  #damaged(nid: number, detail: string, errno: number = -Errno.EUCLEAN): number {
    return this.#problems.damaged(nid, detail, errno);
  }

  #objectPath(): string {
    const { pathStart, pathLength } = this.ref;
    return new TextDecoder().decode(this.#image.bytes.slice(pathStart, pathStart + pathLength));
  }
}
