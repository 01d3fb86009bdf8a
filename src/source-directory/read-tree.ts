// Walks a directory of the system into a tree that can be written as an image. Directories are read
// ahead on the thread pool and taken in order, so the result does not depend on their timing.

import { SourceError } from '../errors.ts';
import { ImageTree, type NodeId } from '../image-writer/index.ts';
import { type NativeAddon, SCAN_FLAG } from '../native.ts';
import { readScan, type ScannedEntry } from './scan-records.ts';
import { describeErrno } from '../objects/system-errors.ts';

/** Files up to this size are kept in the image; larger ones become objects. mkcomposefs's limit. */
export const INLINE_FILE_MAX = 64;
/** Directories that are being read while others are taken. */
const READ_AHEAD = 16;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;

export interface ReadTreeOptions {
  useEpoch?: boolean;
  skipDevices?: boolean;
  skipXattrs?: boolean;
  userXattrs?: boolean;
  /** Names of one file stay one inode; otherwise each becomes a file of its own. */
  hardLinks?: boolean;
  /** Called now and then with the number of entries found. */
  onProgress?: (entries: number) => void;
}

/** A regular file whose content is to become an object. */
export interface ExternalFile {
  node: NodeId;
  /** Absolute or as the source was given, in bytes. */
  path: Uint8Array;
  sizeBytes: number;
}

export interface SourceTree {
  tree: ImageTree;
  /** In the order of the walk. */
  externalFiles: ExternalFile[];
}

interface Directory {
  path: Uint8Array;
  /** The node of its parent and its name there; none for the root. */
  parent: NodeId | undefined;
  name: Uint8Array;
  scan?: ReturnType<NativeAddon['scanDirectory']>;
}

/** Reads the tree below `source`. Throws SourceError. */
export async function readTree(
  native: NativeAddon,
  source: string,
  options: ReadTreeOptions = {},
): Promise<SourceTree> {
  return await new TreeReader(native, options).read(new TextEncoder().encode(source));
}

class TreeReader {
  readonly #native: NativeAddon;
  readonly #options: ReadTreeOptions;
  readonly #flags: number;
  readonly #links = new Map<string, NodeId>();
  readonly #externalFiles: ExternalFile[] = [];
  #tree: ImageTree | undefined;
  #directories: Directory[] = [];

  constructor(native: NativeAddon, options: ReadTreeOptions) {
    this.#native = native;
    this.#options = options;
    const onlyUser = options.userXattrs === true ? SCAN_FLAG.USER_XATTRS_ONLY : 0;
    this.#flags = options.skipXattrs === true ? 0 : SCAN_FLAG.XATTRS | onlyUser;
  }

  async read(source: Uint8Array): Promise<SourceTree> {
    this.#directories = [{ path: source, parent: undefined, name: new Uint8Array(0) }];
    let isStarted = 0;
    for (let next = 0; next < this.#directories.length; next++) {
      for (; isStarted < Math.min(next + READ_AHEAD, this.#directories.length); isStarted++) {
        const directory = this.#directories[isStarted]!;
        directory.scan = this.#native.scanDirectory(directory.path, this.#flags, INLINE_FILE_MAX);
      }
      const directory = this.#directories[next]!;
      const scan = await directory.scan!;
      if (!(scan instanceof Uint8Array)) throw unreadable(directory.path, scan.name, scan.errno);
      this.#take(directory, scan);
      // What was taken is not needed any more; the records of a large tree are large.
      delete directory.scan;
      this.#options.onProgress?.(this.#tree!.size);
    }
    return { tree: this.#tree!, externalFiles: this.#externalFiles };
  }

  /** Adds a directory and its entries to the tree. */
  #take(directory: Directory, records: Uint8Array): void {
    let node: NodeId | undefined;
    for (const entry of readScan(records, this.#options.useEpoch === true)) {
      if (node === undefined) node = this.#addDirectory(directory, entry);
      else this.#addEntry(node, directory.path, entry);
    }
  }

  #addDirectory(directory: Directory, entry: ScannedEntry): NodeId {
    if (directory.parent === undefined) {
      this.#tree = new ImageTree(entry.attributes);
      return this.#tree.root;
    }
    return this.#tree!.add(directory.parent, directory.name, entry.attributes);
  }

  #addEntry(parent: NodeId, parentPath: Uint8Array, entry: ScannedEntry): void {
    const type = entry.mode & S_IFMT;
    const path = joinPath(parentPath, entry.name);
    if (type === S_IFDIR) {
      // Copied: the records it is a part of are dropped before its turn comes.
      this.#directories.push({ path, parent, name: entry.name.slice() });
      return;
    }
    if (this.#options.skipDevices === true && (type === S_IFCHR || type === S_IFBLK)) return;
    const tree = this.#tree!;
    if (this.#options.hardLinks === true && entry.nlink > 1) {
      const first = this.#links.get(entry.inode);
      if (first !== undefined) {
        tree.addHardLink(parent, entry.name, first);
        const names = (this.#linkCounts.get(first) ?? 1) + 1;
        this.#linkCounts.set(first, names);
        tree.setLinkCount(first, names);
        return;
      }
    }
    const node = tree.add(parent, entry.name, entry.attributes);
    if (entry.nlink > 1) this.#links.set(entry.inode, node);
    if (type === S_IFREG && entry.size > BigInt(INLINE_FILE_MAX)) {
      this.#externalFiles.push({ node, path, sizeBytes: Number(entry.size) });
    }
  }

  /** Names found so far of files with several; the tree counts names, not the system's nlink. */
  readonly #linkCounts = new Map<NodeId, number>();
}

function joinPath(parent: Uint8Array, name: Uint8Array): Uint8Array {
  const SLASH = 0x2f;
  const hasSlash = parent.at(-1) === SLASH;
  const path = new Uint8Array(parent.length + (hasSlash ? 0 : 1) + name.length);
  path.set(parent);
  if (!hasSlash) path[parent.length] = SLASH;
  path.set(name, path.length - name.length);
  return path;
}

function unreadable(directory: Uint8Array, name: Uint8Array, errno: number): SourceError {
  const bytes = name.length === 0 ? directory : joinPath(directory, name);
  const path = new TextDecoder().decode(bytes);
  return new SourceError(`error accessing ${path}: ${describeErrno(errno)}`, path);
}
