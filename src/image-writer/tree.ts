// The comfortable interface to a tree that is to be written: nodes are added with their attributes,
// checked, and named by numbers. Reads no files; a walker of directories and the reader of dumps
// fill it.

import { Errno, TreeError } from '../errors.ts';
import {
  NAME_LENGTH_MAX,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SHA256_SIZE,
  SYMLINK_SIZE_MAX,
} from '../image-reader/format.ts';
import {
  isExternalNode,
  NO_NODE,
  NODE,
  NodeFlag,
  type NodeId,
  NodeTable,
  ROOT_NODE,
} from './nodes.ts';
import { objectPathLength, objectPathWord, writeObjectPath } from './object-path.ts';
import { XATTR_NAME_MAX } from './xattr-table.ts';

/** Longest content that an image holds itself. */
export const INLINE_SIZE_MAX = 5000;
/** Longest path of an object. */
export const OBJECT_PATH_MAX = 4095;

/** What stat says of a file, and where its content is. */
export interface NodeAttributes {
  /** Type and permission bits. */
  readonly mode: number;
  /** Ignored for directories, whose subdirectories are counted. 1 when absent. */
  readonly nlink?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Of char and block devices, in the kernel's 32-bit encoding. */
  readonly rdev?: number;
  readonly mtime?: { readonly seconds: bigint | number; readonly nanoseconds: number };
  /** Of external files, in bytes. Follows from the content or target otherwise. */
  readonly size?: bigint | number;
  /** A regular file's bytes, to be kept in the image. */
  readonly content?: Uint8Array;
  /** Where the content of an external file is: its path below the object directory. */
  readonly objectPath?: string | Uint8Array;
  /** The fs-verity SHA-256 digest of an external file. */
  readonly digest?: Uint8Array;
  /** Of a symlink; required. */
  readonly target?: string | Uint8Array;
  /** Full names, such as `user.mime_type`. */
  readonly xattrs?: Iterable<readonly [name: string | Uint8Array, value: Uint8Array]>;
}

const encoder = new TextEncoder();
const EMPTY = new Uint8Array(0);
const SLASH = 0x2f;

/** A tree of files, described completely; made for writeImage() and writeDump(). */
export class ImageTree {
  /** The records behind this interface. */
  readonly nodes: NodeTable = new NodeTable();

  /** Without attributes there is no root yet: for code that fills `nodes` itself. */
  constructor(root?: NodeAttributes) {
    if (root === undefined) return;
    if ((root.mode & S_IFMT) !== S_IFDIR) throw problem('the root is not a directory', '/');
    const node = this.nodes.append(NO_NODE, EMPTY, 0, 0, root.mode, 0);
    this.#fill(node, root);
  }

  /** The number of the root directory. */
  get root(): NodeId {
    return ROOT_NODE;
  }

  /** Names in the tree, the root included. */
  get size(): number {
    return this.nodes.namedCount + 1;
  }

  /** Adds a file, directory or other object to the directory `parent`. Throws TreeError. */
  add(parent: NodeId, name: string | Uint8Array, attributes: NodeAttributes): NodeId {
    const bytes = toBytes(name);
    this.#checkName(parent, bytes);
    const type = attributes.mode & S_IFMT;
    if (!isFileType(type)) {
      const mode = attributes.mode.toString(8);
      throw problem(`mode ${mode} has no valid file type`, this.#pathBelow(parent, bytes));
    }
    const isInline = type === S_IFREG && (attributes.content?.length ?? 0) > 0;
    const flags = isInline ? NodeFlag.INLINE : 0;
    const node = this.#append(parent, bytes, attributes.mode, flags);
    this.#fill(node, attributes);
    return node;
  }

  /** Adds one more name of `target`, which must not be a directory. Throws TreeError. */
  addHardLink(parent: NodeId, name: string | Uint8Array, target: NodeId): NodeId {
    const bytes = toBytes(name);
    this.#checkName(parent, bytes);
    const final = this.nodes.resolve(target);
    if ((this.nodes.mode(final) & S_IFMT) === S_IFDIR) {
      throw problem('a directory cannot have a second name', this.#pathBelow(parent, bytes));
    }
    const mode = this.nodes.mode(final);
    const node = this.#append(parent, bytes, mode, NodeFlag.HARD_LINK);
    this.nodes.words[node * NODE.WORDS + NODE.CONTENT] = final;
    return node;
  }

  /** The node of that name in a directory. */
  child(parent: NodeId, name: string | Uint8Array): NodeId | undefined {
    const bytes = toBytes(name);
    const node = this.nodes.findChild(parent, bytes, 0, bytes.length);
    return node < 0 ? undefined : node;
  }

  /** Sets nlink, which hard links do not change by themselves. */
  setLinkCount(node: NodeId, nlink: number): void {
    this.nodes.words[node * NODE.WORDS + NODE.NLINK] = nlink;
  }

  /** Sets where the content of an external file is. Throws TreeError. */
  setObject(
    node: NodeId,
    path: string | Uint8Array | undefined,
    digest: Uint8Array | undefined,
  ): void {
    const { nodes } = this;
    const base = node * NODE.WORDS;
    if ((nodes.mode(node) & S_IFMT) !== S_IFREG || nodes.flags(node) !== 0) {
      throw problem('only an external file has an object', nodes.pathOf(node));
    }
    const pathBytes = toBytes(path ?? '');
    if (pathBytes.length > OBJECT_PATH_MAX) {
      throw problem(`the object path is longer than ${OBJECT_PATH_MAX} bytes`, nodes.pathOf(node));
    }
    if (digest !== undefined && digest.length !== SHA256_SIZE) {
      throw problem(`a digest has ${SHA256_SIZE} bytes, not ${digest.length}`, nodes.pathOf(node));
    }
    nodes.words[base + NODE.OBJECT] =
      pathBytes.length === 0 ? 0 : objectPathWord(nodes.xattrs, pathBytes, 0, pathBytes.length);
    nodes.words[base + NODE.CONTENT] =
      digest === undefined ? 0 : nodes.xattrs.values.intern(digest, 0, digest.length) + 1;
  }

  /** The object path of an external file, undefined if it has none. */
  objectPath(node: NodeId): Uint8Array | undefined {
    const word = this.nodes.words[node * NODE.WORDS + NODE.OBJECT]!;
    if (word === 0 || !isExternalNode(this.nodes, node)) return undefined;
    const path = new Uint8Array(objectPathLength(this.nodes.xattrs, word));
    writeObjectPath(this.nodes.xattrs, word, path, 0);
    return path;
  }

  #fill(node: NodeId, attributes: NodeAttributes): void {
    const { words } = this.nodes;
    const base = node * NODE.WORDS;
    words[base + NODE.NLINK] = attributes.nlink ?? 1;
    words[base + NODE.UID] = attributes.uid ?? 0;
    words[base + NODE.GID] = attributes.gid ?? 0;
    this.#setTime(node, attributes);
    this.#setSize(node, BigInt(attributes.size ?? 0));
    switch (attributes.mode & S_IFMT) {
      case S_IFREG:
        this.#fillFile(node, attributes);
        break;
      case S_IFLNK:
        this.#fillSymlink(node, toBytes(attributes.target ?? ''));
        break;
      case S_IFCHR:
      case S_IFBLK:
        words[base + NODE.CONTENT] = attributes.rdev ?? 0;
        break;
      default:
    }
    if (attributes.xattrs !== undefined) this.#setXattrs(node, attributes.xattrs);
  }

  #fillFile(node: NodeId, { content, objectPath, digest }: NodeAttributes): void {
    if (content === undefined || content.length === 0) {
      this.setObject(node, objectPath, digest);
      return;
    }
    if (content.length > INLINE_SIZE_MAX) {
      throw problem(`more than ${INLINE_SIZE_MAX} bytes of content`, this.nodes.pathOf(node));
    }
    this.#setSize(node, BigInt(content.length));
    const ref = this.nodes.heap.add(content, 0, content.length);
    this.nodes.words[node * NODE.WORDS + NODE.CONTENT] = ref;
  }

  #fillSymlink(node: NodeId, target: Uint8Array): void {
    if (target.length === 0 || target.length > SYMLINK_SIZE_MAX) {
      throw problem(
        `a symlink target has 1 to ${SYMLINK_SIZE_MAX} bytes, not ${target.length}`,
        this.nodes.pathOf(node),
      );
    }
    this.#setSize(node, BigInt(target.length));
    const ref = this.nodes.heap.add(target, 0, target.length);
    this.nodes.words[node * NODE.WORDS + NODE.CONTENT] = ref;
  }

  #setSize(node: NodeId, size: bigint): void {
    const { words } = this.nodes;
    const base = node * NODE.WORDS;
    words[base + NODE.SIZE_LOW] = Number(size & 0xffff_ffffn);
    words[base + NODE.SIZE_HIGH] = Number((size >> 32n) & 0xffff_ffffn);
  }

  #setTime(node: NodeId, { mtime }: NodeAttributes): void {
    if (mtime === undefined) return;
    const { words } = this.nodes;
    const base = node * NODE.WORDS;
    const seconds = BigInt(mtime.seconds);
    words[base + NODE.MTIME_LOW] = Number(seconds & 0xffff_ffffn);
    words[base + NODE.MTIME_HIGH] = Number((seconds >> 32n) & 0xffff_ffffn);
    words[base + NODE.MTIME_NSEC] = mtime.nanoseconds;
  }

  #setXattrs(node: NodeId, entries: NonNullable<NodeAttributes['xattrs']>): void {
    const { xattrs } = this.nodes;
    xattrs.beginSet();
    for (const [name, value] of entries) {
      const key = toBytes(name);
      if (key.length === 0 || key.length > XATTR_NAME_MAX) {
        throw problem(
          `an attribute name has 1 to ${XATTR_NAME_MAX} bytes, not ${key.length}`,
          this.nodes.pathOf(node),
        );
      }
      const keyId = xattrs.names.intern(key, 0, key.length);
      // Before the value is stored, whose length the heap does not check.
      const isSmall = value.length <= 0xffff;
      if (!isSmall || !xattrs.addToSet(keyId, xattrs.values.intern(value, 0, value.length))) {
        throw problem('its attributes exceed 32 KiB', this.nodes.pathOf(node), Errno.ERANGE);
      }
    }
    this.nodes.words[node * NODE.WORDS + NODE.XATTRS] = xattrs.endSet();
  }

  #checkName(parent: NodeId, name: Uint8Array): void {
    const fail = (message: string): never => {
      throw problem(message, this.#pathBelow(parent, name));
    };
    const isDirectory = (this.nodes.mode(parent) & S_IFMT) === S_IFDIR;
    if (!isDirectory || this.nodes.isHardLink(parent)) {
      throw problem('it is not a directory and cannot have entries', this.nodes.pathOf(parent));
    }
    if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
      fail(`a name has 1 to ${NAME_LENGTH_MAX} bytes, not ${name.length}`);
    }
    if (isDots(name) || name.includes(SLASH) || name.includes(0)) {
      fail('a name is not . or .. and has no slash or NUL');
    }
  }

  #append(parent: NodeId, name: Uint8Array, mode: number, flags: number): NodeId {
    const node = this.nodes.append(parent, name, 0, name.length, mode, flags);
    if (node < 0) throw problem('the name is there already', this.#pathBelow(parent, name));
    return node;
  }

  #pathBelow(parent: NodeId, name: Uint8Array): string {
    const folder = this.nodes.pathOf(parent);
    return `${folder === '/' ? '' : folder}/${new TextDecoder().decode(name)}`;
  }
}

/** Whether these are type bits that POSIX knows. */
export function isFileType(type: number): boolean {
  switch (type) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

function problem(what: string, path: string, errno: number = Errno.EINVAL): TreeError {
  return new TreeError(`${path}: ${what}`, { path, errno });
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name[0] === 0x2e && name[name.length - 1] === 0x2e;
}

function toBytes(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? encoder.encode(text) : text;
}
