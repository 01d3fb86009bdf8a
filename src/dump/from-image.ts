// The dump of an image, as `composefs-info dump` prints it: the source tree is rebuilt from what the
// writer made of it. Whiteouts are char devices again, overlay attributes lose one level of
// escaping, and those that only the writer made are left out.

import {
  type DirectoryCursor,
  Extent,
  type Image,
  Inode,
  isExternal,
  locateData,
  readInode,
} from '../image-reader/index.ts';
import {
  EROFS_SUPER_OFFSET,
  I_FORMAT,
  INODE_EXTENDED,
  METACOPY,
  S_IFCHR,
  S_IFMT,
  S_IFREG,
  SHA256_SIZE,
  SLOT_SIZE,
  SUPER_BLOCK,
} from '../image-reader/format.ts';
import { SLASH } from './fields.ts';
import { ImageXattrs } from './image-xattrs.ts';
import { damaged, type NameVisitor, rootFilter, setBit, walkNames } from './image-names.ts';
import { LineNumbers, LineWriter } from './line-writer.ts';
import { EscapeMode, TextWriter } from './text-writer.ts';

export interface DumpImageOptions {
  /** Only these entries of the root, with everything below them. All when empty or absent. */
  readonly filter?: readonly (string | Uint8Array)[] | undefined;
}

/** The dump of an image in pieces of some 64 KiB. Throws ImageError for damage. */
export function* dumpImageChunks(
  image: Image,
  options: DumpImageOptions = {},
): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
  const filter = rootFilter(options.filter);
  const counter = new NameCounter(image);
  const counting = walkNames(image, counter, filter);
  while (counting.next().done !== true) continue;

  const writer = new InodeWriter(image, counter.repeated);
  const root = new Inode();
  if (readInode(image, image.rootNid, root) !== 0) damaged(image.rootNid, 'an inode is damaged');
  writer.write(root);
  const writing = walkNames(image, writer, filter);
  while (writing.next().done !== true) {
    if (writer.lines.isFull) yield writer.lines.out.take();
  }
  yield writer.lines.out.take();
}

/** The dump of an image. For large ones dumpImageChunks() needs less memory. */
export function dumpImage(image: Image, options: DumpImageOptions = {}): Uint8Array<ArrayBuffer> {
  const all = new TextWriter();
  for (const chunk of dumpImageChunks(image, options)) {
    all.text(chunk, 0, chunk.length, EscapeMode.NONE);
  }
  return all.take();
}

/** Finds the inodes with several names, whose first path must be remembered. */
class NameCounter implements NameVisitor {
  readonly repeated: Set<number> = new Set();
  readonly #seen: Uint8Array;

  constructor(image: Image) {
    this.#seen = new Uint8Array(Math.ceil(image.endNid / 8));
  }

  name(inode: Inode): void {
    if (!setBit(this.#seen, inode.nid)) this.repeated.add(inode.nid);
  }

  leave(): void {
    // Only names count.
  }
}

class InodeWriter implements NameVisitor {
  readonly lines: LineWriter = new LineWriter();
  readonly #image: Image;
  readonly #repeated: ReadonlySet<number>;
  readonly #firstPaths: Map<number, Uint8Array> = new Map();
  readonly #numbers: LineNumbers = new LineNumbers();
  readonly #extent: Extent = new Extent();
  readonly #xattrs: ImageXattrs;

  constructor(image: Image, repeated: ReadonlySet<number>) {
    this.#image = image;
    this.#repeated = repeated;
    this.#xattrs = new ImageXattrs(image);
  }

  name(inode: Inode, { nameStart, nameLength }: DirectoryCursor): void {
    // The writer's own, and whatever else overlayfs would never show.
    if (inode.isWhiteout) return;
    this.lines.enter(this.#image.bytes, nameStart, nameStart + nameLength);
    this.write(inode);
    if (!inode.isDirectory) this.lines.leave();
  }

  leave(): void {
    this.lines.leave();
  }

  write(inode: Inode): void {
    if (this.#xattrs.start(inode) < 0) damaged(inode.nid, 'extended attributes are damaged');
    const isWhiteout = (inode.mode & S_IFMT) === S_IFREG && this.#xattrs.isWhiteout;
    this.#readNumbers(inode, isWhiteout);
    let firstPath: Uint8Array | undefined;
    if (this.#repeated.has(inode.nid)) {
      firstPath = this.#firstPaths.get(inode.nid);
      if (firstPath === undefined) this.#firstPaths.set(inode.nid, this.lines.pathText());
    }
    const { out } = this.lines;
    this.lines.begin(this.#numbers, firstPath !== undefined);
    if (firstPath !== undefined) out.text(firstPath, 0, firstPath.length, EscapeMode.NONE);
    else if (isWhiteout) out.none();
    else this.#writePayload(inode);
    out.space();
    if (isWhiteout) out.none();
    else this.#writeContent(inode);
    out.space();
    this.#writeDigest(inode);
    this.#xattrs.write(out);
    out.newline();
  }

  #readNumbers(inode: Inode, isWhiteout: boolean): void {
    const numbers = this.#numbers;
    numbers.sizeLow = isWhiteout ? 0 : inode.sizeLow;
    numbers.sizeHigh = isWhiteout ? 0 : inode.sizeHigh;
    numbers.mode = isWhiteout ? (inode.mode & ~S_IFMT) | S_IFCHR : inode.mode;
    numbers.nlink = inode.nlink;
    numbers.uid = inode.uid;
    numbers.gid = inode.gid;
    numbers.rdev = inode.rdev;
    numbers.mtimeLow = inode.mtimeLow;
    numbers.mtimeHigh = inode.mtimeHigh;
    numbers.mtimeNsec = this.#storedNsec(inode);
  }

  /** The reader caps nanoseconds for mounts; a dump shows what is stored. */
  #storedNsec(inode: Inode): number {
    const { view, metaStart } = this.#image;
    const at = metaStart + inode.nid * SLOT_SIZE;
    const format = view.getUint16(at + INODE_EXTENDED.FORMAT, true);
    return (format & I_FORMAT.VERSION_EXTENDED) !== 0
      ? view.getUint32(at + INODE_EXTENDED.MTIME_NSEC, true)
      : view.getUint32(EROFS_SUPER_OFFSET + SUPER_BLOCK.BUILD_TIME_NSEC, true);
  }

  /** A symlink's target, or the object path. */
  #writePayload(inode: Inode): void {
    const { bytes } = this.#image;
    const { redirectStart, redirectLength } = this.#xattrs;
    if (inode.isSymlink) {
      if (locateData(this.#image, inode, 0, this.#extent) < 0) {
        damaged(inode.nid, 'a symlink is damaged');
      }
      const { start, length } = this.#extent;
      this.lines.optional(bytes, start, start + length);
    } else if (isExternal(inode) && redirectLength > 0) {
      const start = bytes[redirectStart] === SLASH ? redirectStart + 1 : redirectStart;
      this.lines.optional(bytes, start, redirectStart + redirectLength);
    } else {
      this.lines.out.none();
    }
  }

  #writeContent(inode: Inode): void {
    const { out } = this.lines;
    if (!inode.isRegular || isExternal(inode) || inode.size === 0) {
      out.none();
      return;
    }
    // Only a file of one byte can be a lone dash, and that is one extent.
    const mode = inode.size === 1 ? EscapeMode.LONE_DASH : EscapeMode.PLAIN;
    for (let offset = 0; offset < inode.size; offset += this.#extent.length) {
      if (locateData(this.#image, inode, offset, this.#extent) < 0) {
        damaged(inode.nid, 'a content is damaged');
      }
      const { start, length } = this.#extent;
      out.text(this.#image.bytes, start, start + length, mode);
    }
  }

  #writeDigest(inode: Inode): void {
    const { metacopyStart, metacopyLength } = this.#xattrs;
    const { out } = this.lines;
    if (!isExternal(inode) || metacopyLength !== METACOPY.DIGEST + SHA256_SIZE) {
      out.none();
      return;
    }
    const start = metacopyStart + METACOPY.DIGEST;
    out.hex(this.#image.bytes, start, start + SHA256_SIZE);
  }
}
