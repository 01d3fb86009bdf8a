// Reads a composefs dump into a tree, line by line, from bytes as they come. Accepts what the
// reference accepts, with these exceptions, whose results there are accidents: digests that are not
// 64 hex digits, NULs in paths and names, hard links to directories or in a circle, and a gid or
// rdev that is not a number.

import {
  NAME_LENGTH_MAX,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  SHA256_SIZE,
  SYMLINK_SIZE_MAX,
} from '../image-reader/format.ts';
import {
  MODE_WORD,
  NO_NODE,
  NODE,
  NodeFlag,
  type NodeId,
  type NodeTable,
} from '../image-writer/nodes.ts';
import { objectPathValue, objectPathWord, readDigest } from '../image-writer/object-path.ts';
import { ImageTree, INLINE_SIZE_MAX, isFileType, OBJECT_PATH_MAX } from '../image-writer/tree.ts';
import { AT, DOT, Field, NEWLINE, SLASH } from './fields.ts';
import { HardLinks } from './hard-links.ts';
import { LineReader } from './line-reader.ts';
import { PlaceProblem, Places } from './places.ts';
import { XattrFields } from './xattr-fields.ts';

export interface ReadDumpOptions {
  /** The reference's CFS_PARSE_STRICT: refuses more of what is harmless but wrong. */
  readonly strict?: boolean | undefined;
}

const NEWLINE_BYTES: Uint8Array = Uint8Array.of(NEWLINE);
const DIGEST_TEXT_LENGTH: number = SHA256_SIZE * 2;

/** Takes a dump in pieces of any size. Throws DumpError at the first line that is wrong. */
export class DumpReader {
  readonly #tree: ImageTree = new ImageTree();
  readonly #nodes: NodeTable = this.#tree.nodes;
  readonly #reader: LineReader = new LineReader();
  readonly #places: Places = new Places(this.#nodes);
  readonly #links: HardLinks = new HardLinks(this.#nodes);
  readonly #xattrFields: XattrFields = new XattrFields(this.#reader, this.#nodes.xattrs);
  readonly #isStrict: boolean;
  readonly #digest: Uint8Array = new Uint8Array(SHA256_SIZE);
  /** Of the last symlink. */
  #targetLength: number = 0;
  /** The beginning of a line whose end has not come yet. */
  #rest: Uint8Array = new Uint8Array(0);
  #restLength: number = 0;

  constructor(options: ReadDumpOptions = {}) {
    this.#isStrict = options.strict ?? false;
  }

  /** Reads the next piece of the text. The array is not kept. */
  push(chunk: Uint8Array): void {
    const last = chunk.lastIndexOf(NEWLINE);
    if (last < 0) {
      this.#keep(chunk, 0, chunk.length);
      return;
    }
    let start = 0;
    if (this.#restLength > 0) {
      start = chunk.indexOf(NEWLINE) + 1;
      this.#keep(chunk, 0, start);
      this.#readLines(this.#rest, 0, this.#restLength);
      this.#restLength = 0;
    }
    this.#readLines(chunk, start, last + 1);
    this.#keep(chunk, last + 1, chunk.length);
  }

  /** The tree, after the last piece. */
  finish(): ImageTree {
    if (this.#restLength > 0) {
      this.#keep(NEWLINE_BYTES, 0, 1);
      this.#readLines(this.#rest, 0, this.#restLength);
      if (this.#isStrict) this.#reader.failLine('the newline at its end is missing');
    }
    if (this.#nodes.count === 0) {
      this.#reader.line = 1;
      this.#reader.failLine('the dump is empty, its first line must be the root');
    }
    this.#links.resolve(this.#places);
    return this.#tree;
  }

  #keep(chunk: Uint8Array, start: number, end: number): void {
    const length = this.#restLength + end - start;
    if (length > this.#rest.length) {
      const longer = new Uint8Array(length * 2);
      longer.set(this.#rest.subarray(0, this.#restLength));
      this.#rest = longer;
    }
    this.#rest.set(chunk.subarray(start, end), this.#restLength);
    this.#restLength = length;
  }

  /** Reads whole lines. The last byte is a newline. */
  #readLines(bytes: Uint8Array, start: number, end: number): void {
    const nul = bytes.subarray(start, end).indexOf(0) + start;
    for (let at = start; at < end; at++) {
      const newline = this.#reader.start(bytes, at);
      if (nul >= at && nul < newline) this.#reader.failLine(`a NUL at byte ${nul - at}`);
      this.#readLine(bytes);
      at = newline;
    }
  }

  #readLine(bytes: Uint8Array): void {
    const reader = this.#reader;
    reader.readText(Field.PATH);
    if (reader.textStart === reader.textEnd) reader.fail(Field.PATH, 'is empty');
    reader.refuseNul(Field.PATH);
    const modeStart = reader.fields.starts[Field.MODE]!;
    const isHardLink = bytes[modeStart] === AT && reader.fields.lengthOf(Field.MODE) > 0;
    const mode = reader.readMode(isHardLink ? modeStart + 1 : modeStart);
    if (!isFileType(mode & S_IFMT)) {
      reader.fail(Field.MODE, `${mode.toString(8)} has no valid file type`);
    }
    const node = this.#addNode(mode, isHardLink);
    if (isHardLink) this.#readHardLink(node);
    else this.#readAttributes(node, mode & S_IFMT);
  }

  #addNode(mode: number, isHardLink: boolean): NodeId {
    const reader = this.#reader;
    const nodes = this.#nodes;
    const { textBytes: path, textStart: start, textEnd: end } = reader;
    const isDirectory = (mode & S_IFMT) === S_IFDIR;
    if (end - start === 1 && path[start] === SLASH) {
      if (!isDirectory) reader.fail(Field.MODE, 'the root must be a directory');
      if (isHardLink) reader.fail(Field.MODE, 'a directory cannot be a hard link');
      if (nodes.count > 0) reader.fail(Field.PATH, 'the root is there twice');
      return nodes.append(NO_NODE, path, end, end, mode, 0);
    }
    if (nodes.count === 0) reader.fail(Field.PATH, 'the first line must be the root');
    const parent = this.#places.findParent(path, start, end);
    if (parent === PlaceProblem.MISSING) reader.fail(Field.PATH, 'its directory is missing');
    if (parent === PlaceProblem.NOT_DIRECTORY) {
      reader.fail(Field.PATH, 'lies in something that is not a directory');
    }
    const { nameStart } = this.#places;
    this.#checkName(path, nameStart, end);
    if (isHardLink && isDirectory) reader.fail(Field.MODE, 'a directory cannot be a hard link');
    const flags = isHardLink ? NodeFlag.HARD_LINK : 0;
    const node = nodes.append(parent, path, nameStart, end, mode, flags);
    if (node < 0) reader.fail(Field.PATH, 'is there twice');
    return node;
  }

  #checkName(path: Uint8Array, start: number, end: number): void {
    const reader = this.#reader;
    const length = end - start;
    if (length === 0) reader.fail(Field.PATH, 'ends with a slash');
    if (length > NAME_LENGTH_MAX) {
      reader.fail(Field.PATH, `its last name has ${length} bytes, more than ${NAME_LENGTH_MAX}`);
    }
    if (length <= 2 && path[start] === DOT && path[end - 1] === DOT) {
      reader.fail(Field.PATH, 'its last name is . or ..');
    }
  }

  #readHardLink(node: NodeId): void {
    const reader = this.#reader;
    if (reader.fields.isNone(Field.PAYLOAD)) {
      reader.fail(Field.PAYLOAD, 'a hard link needs the path of its target');
    }
    reader.readText(Field.PAYLOAD);
    reader.refuseNul(Field.PAYLOAD);
    this.#links.add(node, reader.line, reader.textBytes, reader.textStart, reader.textEnd);
  }

  #readAttributes(node: NodeId, type: number): void {
    const reader = this.#reader;
    const { words } = this.#nodes;
    const base = node * NODE.WORDS;
    reader.readU64(Field.SIZE);
    words[base + NODE.SIZE_LOW] = reader.low;
    words[base + NODE.SIZE_HIGH] = reader.high;
    words[base + NODE.NLINK] = reader.readU32(Field.NLINK);
    words[base + NODE.UID] = reader.readU32(Field.UID);
    words[base + NODE.GID] = reader.readU32(Field.GID);
    const rdev = reader.readU32(Field.RDEV);
    words[base + NODE.MTIME_NSEC] = reader.readTime();
    words[base + NODE.MTIME_LOW] = reader.low;
    words[base + NODE.MTIME_HIGH] = reader.high;
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    this.#readPayload(node, type);
    this.#readContent(node, type);
    this.#readDigest(node);
    if (isDevice) words[base + NODE.CONTENT] = rdev;
    else if (this.#isStrict && rdev !== 0) reader.fail(Field.RDEV, 'is not 0 on a non-device');
    if (type === S_IFLNK) this.#setTargetSize(node);
    words[base + NODE.XATTRS] = this.#xattrFields.read();
  }

  /** A symlink's target, or an object path. */
  #readPayload(node: NodeId, type: number): void {
    const reader = this.#reader;
    const isSymlink = type === S_IFLNK;
    if (reader.fields.isNone(Field.PAYLOAD)) {
      if (isSymlink) reader.fail(Field.PAYLOAD, 'a symlink needs a target');
      return;
    }
    reader.readText(Field.PAYLOAD);
    reader.refuseNul(Field.PAYLOAD);
    const { textBytes, textStart, textEnd } = reader;
    const length = textEnd - textStart;
    const { words, heap, xattrs } = this.#nodes;
    const base = node * NODE.WORDS;
    if (isSymlink) {
      if (length === 0 || length > SYMLINK_SIZE_MAX) {
        reader.fail(
          Field.PAYLOAD,
          `a symlink target has 1 to ${SYMLINK_SIZE_MAX} bytes, not ${length}`,
        );
      }
      this.#targetLength = length;
      words[base + NODE.CONTENT] = heap.add(textBytes, textStart, textEnd);
      return;
    }
    if (length > OBJECT_PATH_MAX) {
      reader.fail(Field.PAYLOAD, `has ${length} bytes, more than ${OBJECT_PATH_MAX}`);
    }
    if (length === 0 || type !== S_IFREG) return;
    words[base + NODE.OBJECT] = objectPathWord(xattrs, textBytes, textStart, textEnd);
  }

  /** What the line says does not count. */
  #setTargetSize(node: NodeId): void {
    const length = this.#targetLength;
    if (this.#isStrict && this.#nodes.size(node) !== length) {
      this.#reader.fail(Field.SIZE, `must be ${length}, the length of the target`);
    }
    this.#nodes.words[node * NODE.WORDS + NODE.SIZE_LOW] = length;
    this.#nodes.words[node * NODE.WORDS + NODE.SIZE_HIGH] = 0;
  }

  #readContent(node: NodeId, type: number): void {
    const reader = this.#reader;
    if (reader.fields.isNone(Field.CONTENT)) return;
    reader.readText(Field.CONTENT);
    const { textBytes, textStart, textEnd } = reader;
    const length = textEnd - textStart;
    if (this.#nodes.size(node) !== length) {
      reader.fail(Field.CONTENT, `has ${length} bytes, which is not what field 2 (size) says`);
    }
    if (type === S_IFLNK) {
      if (this.#isStrict && length > 0) reader.fail(Field.CONTENT, 'a symlink has no content');
      return;
    }
    if (length > INLINE_SIZE_MAX) {
      reader.fail(Field.CONTENT, `has ${length} bytes, more than ${INLINE_SIZE_MAX}`);
    }
    if (length === 0 || type !== S_IFREG) return;
    const { words, heap } = this.#nodes;
    const base = node * NODE.WORDS;
    words[base + NODE.MODE]! |= NodeFlag.INLINE << MODE_WORD.FLAGS_SHIFT;
    words[base + NODE.OBJECT] = 0;
    words[base + NODE.CONTENT] = heap.add(textBytes, textStart, textEnd);
  }

  /** Looked at in external files only, as everywhere else the reference does not use it. */
  #readDigest(node: NodeId): void {
    const reader = this.#reader;
    if (reader.fields.isNone(Field.DIGEST)) return;
    reader.readText(Field.DIGEST);
    const nodes = this.#nodes;
    const type = nodes.mode(node) & S_IFMT;
    const isExternal = type === S_IFREG && nodes.flags(node) === 0 && nodes.size(node) > 0;
    if (!isExternal) return;
    const length = reader.textEnd - reader.textStart;
    if (
      length !== DIGEST_TEXT_LENGTH ||
      !readDigest(reader.textBytes, reader.textStart, this.#digest)
    ) {
      reader.fail(Field.DIGEST, `is not ${DIGEST_TEXT_LENGTH} hex digits`);
    }
    const base = node * NODE.WORDS;
    const { values } = nodes.xattrs;
    const object = nodes.words[base + NODE.OBJECT]!;
    // The object path usually holds the same 32 bytes.
    const isSame =
      object !== 0 && values.isEqual(objectPathValue(object), this.#digest, 0, SHA256_SIZE);
    nodes.words[base + NODE.CONTENT] =
      1 + (isSame ? objectPathValue(object) : values.intern(this.#digest, 0, SHA256_SIZE));
  }
}

/** The tree that a dump describes. Throws DumpError. */
export function readDump(text: Uint8Array, options: ReadDumpOptions = {}): ImageTree {
  const reader = new DumpReader(options);
  reader.push(text);
  return reader.finish();
}

/** The tree that a dump describes, read from a stream. Throws DumpError and what the stream throws. */
export async function readDumpStream(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: ReadDumpOptions = {},
): Promise<ImageTree> {
  const reader = new DumpReader(options);
  for await (const chunk of chunks) reader.push(chunk);
  return reader.finish();
}
