// The entries of an image one by one, with the values that a dump line shows and what a dump does
// not say. The line is the source, so that nothing here can disagree with the dump; the names are
// walked beside it.

import { type NameVisitor, rootFilter, walkNames } from '../dump/image-names.ts';
import { ImageXattrs } from '../dump/image-xattrs.ts';
import { dumpImageChunks } from '../dump/index.ts';
import { ImageError } from '../errors.ts';
import { METACOPY, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../image-reader/format.ts';
import {
  DigestAlgorithm,
  type EntryKind,
  FileType,
  fileTypeOfMode,
  type Image,
  Inode,
  isExternal,
  readInode,
} from '../image-reader/index.ts';
import { toHex } from '../verify/index.ts';
import { SharedBytes } from './shared-bytes.ts';
import { fromEscaped, type JsonBytes, toJsonBytes, toJsonNumber, withSpaces } from './texts.ts';

export interface Digest {
  readonly algorithm: 'sha256' | 'sha512';
  readonly hex: string;
}

/** Strings are parts of a dump line, escaped as there. */
export interface Entry {
  readonly path: string;
  readonly size: string;
  /** One more name of what `payload` names. */
  readonly isHardLink: boolean;
  readonly mode: number;
  readonly nlink: string;
  readonly uid: string;
  readonly gid: string;
  readonly rdev: string;
  readonly mtime: string;
  /** `-` for none. */
  readonly payload: string;
  readonly content: string;
  /** `name=value` each. */
  readonly xattrs: readonly string[];
  readonly digest: Digest | undefined;
  /** The content is in an object. */
  readonly isExternal: boolean;
  readonly nid: number;
}

const KINDS: Readonly<Record<number, EntryKind>> = {
  [FileType.REG_FILE]: 'file',
  [FileType.DIR]: 'directory',
  [FileType.CHRDEV]: 'char-device',
  [FileType.BLKDEV]: 'block-device',
  [FileType.FIFO]: 'fifo',
  [FileType.SOCK]: 'socket',
  [FileType.SYMLINK]: 'symlink',
};

export function kindOf(mode: number): EntryKind {
  return KINDS[fileTypeOfMode(mode)] ?? 'file';
}

/**
 * The entries in the order of a dump, the root first. Throws ImageError at the first damage. The
 * strings of an entry keep 64 KiB of text alive: not to be collected.
 */
export function* imageEntries(
  image: Image,
  filter: readonly string[] = [],
): Generator<Entry, void, undefined> {
  const facts = new InodeFacts(image);
  const names = walkNames(image, facts, rootFilter(filter));
  facts.takeRoot();
  for (const chunk of dumpImageChunks(image, { filter })) {
    const text = Buffer.from(chunk.buffer).toString('latin1');
    // Chunks end at the end of a line.
    for (let start = 0; start < text.length;) {
      const end = text.indexOf('\n', start);
      while (!facts.isTaken && names.next().done !== true) continue;
      yield readLine(text.slice(start, end), facts);
      facts.isTaken = false;
      start = end + 1;
    }
  }
}

/** What the names beside the lines lead to. */
class InodeFacts implements NameVisitor {
  /** The facts are those of a name that the dump shows. */
  isTaken: boolean = false;
  nid: number = 0;
  isExternal: boolean = false;
  digest: Digest | undefined;
  readonly #image: Image;
  readonly #xattrs: ImageXattrs;
  readonly #areas: SharedBytes;

  constructor(image: Image) {
    this.#image = image;
    this.#xattrs = new ImageXattrs(image);
    this.#areas = new SharedBytes(image);
  }

  takeRoot(): void {
    const root = new Inode();
    if (readInode(this.#image, this.#image.rootNid, root) === 0) this.name(root);
  }

  name(inode: Inode): void {
    if (inode.isWhiteout) return;
    this.#areas.add(inode);
    this.isTaken = true;
    this.nid = inode.nid;
    this.isExternal = isExternal(inode);
    this.digest = this.isExternal ? this.#readDigest(inode) : undefined;
  }

  leave(): void {
    // Only names count.
  }

  #readDigest(inode: Inode): Digest | undefined {
    if (this.#xattrs.start(inode) < 0) return undefined;
    const { metacopyStart, metacopyLength } = this.#xattrs;
    if (metacopyLength <= METACOPY.DIGEST) return undefined;
    const { view, bytes } = this.#image;
    const number = view.getUint8(metacopyStart + METACOPY.DIGEST_ALGO);
    const digest = bytes.slice(metacopyStart + METACOPY.DIGEST, metacopyStart + metacopyLength);
    const algorithm = number === DigestAlgorithm.SHA512 ? 'sha512' : 'sha256';
    return { algorithm, hex: toHex(digest) };
  }
}

function readLine(line: string, facts: InodeFacts): Entry {
  const fields = line.split(' ');
  const [path, size, mode, nlink, uid, gid, rdev, mtime, payload, content] = fields;
  if (content === undefined) throw new ImageError('a line of the dump is too short');
  const isHardLink = mode!.startsWith('@');
  return {
    path: path!,
    size: size!,
    isHardLink,
    mode: Number.parseInt(isHardLink ? mode!.slice(1) : mode!, 8),
    nlink: nlink!,
    uid: uid!,
    gid: gid!,
    rdev: rdev!,
    mtime: mtime!,
    payload: payload!,
    content,
    xattrs: fields.slice(11),
    digest: facts.digest,
    isExternal: facts.isExternal,
    nid: facts.nid,
  };
}

/** A line of `ls`; the root has none. */
export function lsLine(entry: Entry): string {
  const path = withSpaces(entry.path);
  if (entry.isHardLink) return `${path}\n`;
  // Only a dump needs the escape that tells a dash from nothing.
  const payload = entry.payload === '\\x2d' ? '-' : entry.payload;
  switch (entry.mode & S_IFMT) {
    case S_IFDIR:
      return `${path}/\t\n`;
    case S_IFLNK:
      return `${path}\t-> ${payload}\n`;
    case S_IFREG:
      return entry.payload === '-' ? `${path}\n` : `${path}\t@ ${payload}\n`;
    default:
      return `${path}\n`;
  }
}

/** An entry as `--json` shows it. What an entry does not have is null. */
export function entryToJson(entry: Entry): Record<string, unknown> {
  const kind = kindOf(entry.mode);
  const [seconds, nanoseconds] = entry.mtime.split('.');
  const payload = entry.payload === '-' ? null : toJsonBytes(fromEscaped(entry.payload));
  const own = (wanted: EntryKind): JsonBytes | null =>
    !entry.isHardLink && kind === wanted ? payload : null;
  return {
    path: toJsonBytes(fromEscaped(entry.path)),
    type: kind,
    mode: entry.mode.toString(8),
    size: toJsonNumber(entry.size),
    nlink: toJsonNumber(entry.nlink),
    uid: toJsonNumber(entry.uid),
    gid: toJsonNumber(entry.gid),
    rdev: toJsonNumber(entry.rdev),
    mtime: { seconds: toJsonNumber(seconds!), nanoseconds: toJsonNumber(nanoseconds!) },
    hardLinkTo: entry.isHardLink ? payload : null,
    target: own('symlink'),
    object: own('file'),
    digest: entry.digest ?? null,
    content: entry.content === '-' ? null : toJsonBytes(fromEscaped(entry.content)),
    xattrs: entry.xattrs.map((pair) => {
      const [name, value] = splitXattr(pair);
      return [toJsonBytes(fromEscaped(name)), toJsonBytes(fromEscaped(value))];
    }),
  };
}

/** Name and value of an attribute of an entry; a `=` in either is escaped. */
export function splitXattr(pair: string): [name: string, value: string] {
  const at = pair.indexOf('=');
  return [pair.slice(0, at), pair.slice(at + 1)];
}
