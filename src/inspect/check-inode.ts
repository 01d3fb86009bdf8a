// The checks of the headers, and those of one inode beyond what readInode() makes: times, content,
// attributes, and the reference to an object.

import { Errno, errnoName } from '../errors.ts';
import {
  BLOCK_SIZE,
  EROFS_SUPER_OFFSET,
  I_FORMAT,
  INODE_EXTENDED,
  NAME_LENGTH_MAX,
  SLOT_SIZE,
  SUPER_BLOCK,
} from '../image-reader/format.ts';
import {
  Extent,
  type Image,
  type Inode,
  isExternal,
  locateData,
  ObjectRef,
  readObjectRef,
  XATTR_PREFIXES,
  XattrCursor,
  XattrIndex,
} from '../image-reader/index.ts';
import { INLINE_SIZE_MAX } from '../image-writer/index.ts';
import { explainXattrs } from './explain-inode.ts';
import { ExternalFiles } from './external-files.ts';
import type { PathBytes } from './path-bytes.ts';
import type { Report } from './problem.ts';
import { SharedBytes } from './shared-bytes.ts';
import { fromKey, toEscaped, toKey } from './texts.ts';

const NSEC_END = 1_000_000_000;
const WHITEOUT_NAME = 'overlay.overlay.whiteout';

export class InodeChecks {
  readonly files: ExternalFiles;
  readonly #image: Image;
  readonly #report: Report;
  readonly #path: PathBytes;
  readonly #cursor: XattrCursor = new XattrCursor();
  readonly #extent: Extent = new Extent();
  readonly #ref: ObjectRef = new ObjectRef();
  readonly #areas: SharedBytes;
  #isAreaReported: boolean = false;
  #isAclReported: boolean = false;

  /** `path` is where the walk is. */
  constructor(image: Image, report: Report, path: PathBytes) {
    this.#image = image;
    this.#report = report;
    this.#path = path;
    this.files = new ExternalFiles(image);
    this.#areas = new SharedBytes(image);
  }

  /** What is left to check after Image.open(). */
  checkHeaders(): void {
    const { sizeBytes, view } = this.#image;
    if (sizeBytes % BLOCK_SIZE !== 0) {
      const expected = `a multiple of ${BLOCK_SIZE}`;
      this.#report({ kind: 'warning', what: 'image size', expected, found: String(sizeBytes) });
    }
    const blocks = view.getUint32(EROFS_SUPER_OFFSET + SUPER_BLOCK.BLOCKS, true);
    if (blocks !== Math.floor(sizeBytes / BLOCK_SIZE)) {
      const expected = `${Math.floor(sizeBytes / BLOCK_SIZE)} blocks`;
      const what = "the superblock's size";
      this.#report({ kind: 'warning', what, expected, found: String(blocks) });
    }
    const nsec = view.getUint32(EROFS_SUPER_OFFSET + SUPER_BLOCK.BUILD_TIME_NSEC, true);
    if (nsec >= NSEC_END) {
      const what = 'nanoseconds of the build time';
      this.#report({ kind: 'warning', what, expected: `below ${NSEC_END}`, found: String(nsec) });
    }
  }

  /** Once for every inode that readInode() accepts. */
  check(inode: Inode): void {
    this.#checkTime(inode);
    this.#checkData(inode);
    if (!this.#areas.takesPart(inode)) {
      if (!this.#isAreaReported) {
        this.#damage(
          'attributes or contents of inodes share their bytes; the rest of them is not checked',
        );
      }
      this.#isAreaReported = true;
      return;
    }
    if (this.#checkXattrs(inode) && isExternal(inode)) this.#checkReference(inode);
  }

  #checkTime(inode: Inode): void {
    const { view, metaStart } = this.#image;
    const at = metaStart + inode.nid * SLOT_SIZE;
    const format = view.getUint16(at + INODE_EXTENDED.FORMAT, true);
    if ((format & I_FORMAT.VERSION_EXTENDED) === 0) return;
    const nsec = view.getUint32(at + INODE_EXTENDED.MTIME_NSEC, true);
    if (nsec >= NSEC_END) this.#warn('nanoseconds of mtime', `below ${NSEC_END}`, String(nsec));
  }

  #checkData(inode: Inode): void {
    if (inode.isSymlink && locateData(this.#image, inode, 0, this.#extent) < 0) {
      this.#damage('a symlink target with a NUL');
    }
    if (inode.isRegular && !isExternal(inode) && inode.size > INLINE_SIZE_MAX) {
      this.#damage('content in the image', `${INLINE_SIZE_MAX} bytes at most`, `${inode.size}`);
    }
  }

  /** False if they cannot be read. */
  #checkXattrs(inode: Inode): boolean {
    const cursor = this.#cursor;
    const { bytes } = this.#image;
    const names = new Set<string>();
    let status = cursor.start(this.#image, inode);
    while (status === 0 && (status = cursor.next()) > 0) {
      status = 0;
      const { nameIndex, nameStart, nameLength } = cursor;
      const stored = toKey(bytes, nameStart, nameStart + nameLength);
      const name = `${XATTR_PREFIXES[nameIndex]}${stored}`;
      if (names.has(name)) {
        this.#damage('an attribute is there twice', undefined, toEscaped(fromKey(name)));
      }
      names.add(name);
      if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
        this.#damage('length of an attribute name', `1 to ${NAME_LENGTH_MAX}`, `${name.length}`);
      }
      this.#checkAcl(nameIndex);
      if (nameIndex === XattrIndex.TRUSTED && stored === WHITEOUT_NAME) this.#checkWhiteout(inode);
    }
    if (status === 0) return true;
    const { what, expected, found } = explainXattrs(this.#image, inode);
    this.#damage(what, expected, found);
    return false;
  }

  /** Readers go by the flag, except for version 2, whose writers never set it. */
  #checkAcl(nameIndex: number): void {
    const isAcl =
      nameIndex === XattrIndex.POSIX_ACL_ACCESS || nameIndex === XattrIndex.POSIX_ACL_DEFAULT;
    if (!isAcl || this.#isAclReported) return;
    this.#isAclReported = true;
    const { hasAclFlag, composefsVersion } = this.#image;
    if (!hasAclFlag && composefsVersion < 2) {
      this.#warn('an ACL in an image whose header says that there is none');
    }
  }

  #checkWhiteout(inode: Inode): void {
    if (inode.isRegular && inode.size === 0) return;
    this.#warn('the mark of a whiteout on something that is not an empty file');
  }

  #checkReference(inode: Inode): void {
    const result = readObjectRef(this.#image, inode, this.#ref);
    if (result === 0) {
      this.files.add(inode, this.#ref);
      return;
    }
    switch (result) {
      case -Errno.EIO:
        this.#damage('an external file names no object (its redirect is missing or not absolute)');
        break;
      case -Errno.EINVAL:
        this.#damage('the path of the object (redirect) is not a plain one');
        break;
      case -Errno.ENAMETOOLONG:
        this.#damage('the path of the object (redirect) is too long');
        break;
      case -Errno.EBADMSG:
        this.#damage('the metacopy attribute of an external file is not valid');
        break;
      case -Errno.EUCLEAN:
        this.#damage('the metacopy attribute of an external file is missing');
        break;
      default:
        this.#damage(`the reference to the object cannot be read (${errnoName(result)})`);
    }
  }

  #damage(what: string, expected?: string, found?: string): void {
    this.#report({ kind: 'image', path: this.#path.bytes(), what, expected, found });
  }

  #warn(what: string, expected?: string, found?: string): void {
    this.#report({ kind: 'warning', path: this.#path.bytes(), what, expected, found });
  }
}
