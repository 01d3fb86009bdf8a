// Writes a tree as dump text: the root, then depth first by name, in the reference's form. Reading
// the text gives the same tree again, with its hard links where they were.

import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../image-reader/format.ts';
import { compareBytes } from '../image-writer/byte-heap.ts';
import {
  isExternalNode,
  NODE,
  NodeFlag,
  type NodeId,
  type NodeTable,
  ROOT_NODE,
} from '../image-writer/nodes.ts';
import { objectPathLength, writeObjectPath } from '../image-writer/object-path.ts';
import { orderInodes } from '../image-writer/order.ts';
import type { ImageTree } from '../image-writer/tree.ts';
import { NO_XATTRS, SET, type XattrSet } from '../image-writer/xattr-table.ts';
import { EQUALS } from './fields.ts';
import { LineNumbers, LineWriter } from './line-writer.ts';
import { EscapeMode, TextWriter } from './text-writer.ts';

/** The dump of a tree in pieces of some 64 KiB. The tree must not change meanwhile. */
export function* writeDumpChunks(
  tree: ImageTree,
): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
  const { nodes } = tree;
  const { entries, starts, inodeOf } = orderInodes(nodes);
  const writer = new NodeWriter(nodes);
  writer.write(ROOT_NODE);
  /** Positions in `entries`: of the next entry of each open directory, and its end. */
  const open: { at: number; readonly end: number }[] = [];
  const enter = (directory: NodeId): void => {
    const inode = inodeOf[directory]!;
    open.push({ at: starts[inode]!, end: starts[inode + 1]! });
  };
  enter(ROOT_NODE);
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    if (level.at === level.end) {
      open.pop();
      writer.lines.leave();
      continue;
    }
    const node = entries[level.at++]!;
    writer.enter(node);
    writer.write(node);
    if ((nodes.mode(node) & S_IFMT) === S_IFDIR && !nodes.isHardLink(node)) {
      enter(node);
    } else {
      writer.lines.leave();
    }
    if (writer.lines.isFull) yield writer.lines.out.take();
  }
  yield writer.lines.out.take();
}

/** The dump of a tree. For large ones writeDumpChunks() needs less memory. */
export function writeDump(tree: ImageTree): Uint8Array<ArrayBuffer> {
  const all = new TextWriter();
  for (const chunk of writeDumpChunks(tree)) all.text(chunk, 0, chunk.length, EscapeMode.NONE);
  return all.take();
}

class NodeWriter {
  readonly lines: LineWriter = new LineWriter();
  readonly #nodes: NodeTable;
  readonly #numbers: LineNumbers = new LineNumbers();

  constructor(nodes: NodeTable) {
    this.#nodes = nodes;
  }

  enter(node: NodeId): void {
    const name = this.#nodes.nameBytes(node);
    this.lines.enter(name, 0, name.length);
  }

  write(name: NodeId): void {
    const nodes = this.#nodes;
    const isHardLink = nodes.isHardLink(name);
    const node = nodes.resolve(name);
    this.#readNumbers(node);
    this.lines.begin(this.#numbers, isHardLink);
    if (isHardLink) this.#writePath(node);
    else this.#writePayload(node);
    const { out } = this.lines;
    out.space();
    this.#writeContent(node);
    out.space();
    this.#writeDigest(node);
    this.#writeXattrs(nodes.words[node * NODE.WORDS + NODE.XATTRS]!);
    out.newline();
  }

  #readNumbers(node: NodeId): void {
    const { words } = this.#nodes;
    const base = node * NODE.WORDS;
    const numbers = this.#numbers;
    const mode = this.#nodes.mode(node);
    const type = mode & S_IFMT;
    numbers.mode = mode;
    numbers.sizeLow = words[base + NODE.SIZE_LOW]!;
    numbers.sizeHigh = words[base + NODE.SIZE_HIGH]!;
    numbers.nlink = type === S_IFDIR ? words[base + NODE.CONTENT]! + 2 : words[base + NODE.NLINK]!;
    numbers.uid = words[base + NODE.UID]!;
    numbers.gid = words[base + NODE.GID]!;
    numbers.rdev = type === S_IFCHR || type === S_IFBLK ? words[base + NODE.CONTENT]! : 0;
    numbers.mtimeLow = words[base + NODE.MTIME_LOW]!;
    numbers.mtimeHigh = words[base + NODE.MTIME_HIGH]!;
    numbers.mtimeNsec = words[base + NODE.MTIME_NSEC]!;
  }

  #writePayload(node: NodeId): void {
    const nodes = this.#nodes;
    const base = node * NODE.WORDS;
    const object = nodes.words[base + NODE.OBJECT]!;
    if ((nodes.mode(node) & S_IFMT) === S_IFLNK) {
      const target = nodes.heap.view(nodes.words[base + NODE.CONTENT]!, nodes.size(node));
      this.lines.optional(target, 0, target.length);
    } else if (object !== 0 && isExternalNode(nodes, node)) {
      const path = new Uint8Array(objectPathLength(nodes.xattrs, object));
      writeObjectPath(nodes.xattrs, object, path, 0);
      this.lines.optional(path, 0, path.length);
    } else {
      this.lines.out.none();
    }
  }

  /** The path of a node that another name is a hard link to. */
  #writePath(node: NodeId): void {
    const path = new LineWriter();
    const names: Uint8Array[] = [];
    const nodes = this.#nodes;
    for (let at = node; at !== ROOT_NODE; at = nodes.parentOf(at)) names.push(nodes.nameBytes(at));
    for (const name of names.reverse()) path.enter(name, 0, name.length);
    const text = path.pathText();
    this.lines.out.text(text, 0, text.length, EscapeMode.NONE);
  }

  #writeContent(node: NodeId): void {
    const nodes = this.#nodes;
    const isInline =
      (nodes.mode(node) & S_IFMT) === S_IFREG && (nodes.flags(node) & NodeFlag.INLINE) !== 0;
    if (!isInline) {
      this.lines.out.none();
      return;
    }
    const ref = nodes.words[node * NODE.WORDS + NODE.CONTENT]!;
    const content = nodes.heap.view(ref, nodes.size(node));
    this.lines.optional(content, 0, content.length);
  }

  #writeDigest(node: NodeId): void {
    const nodes = this.#nodes;
    const word = isExternalNode(nodes, node) ? nodes.words[node * NODE.WORDS + NODE.CONTENT]! : 0;
    if (word === 0) {
      this.lines.out.none();
      return;
    }
    const digest = nodes.xattrs.values.bytesOf(word - 1);
    this.lines.out.hex(digest, 0, digest.length);
  }

  #writeXattrs(set: XattrSet): void {
    if (set === NO_XATTRS) return;
    const { xattrs } = this.#nodes;
    const pairs = Array.from({ length: xattrs.lengthOf(set) }, (_, i) =>
      xattrs.at(set + SET.PAIRS + i),
    );
    const nameOf = (pair: number): Uint8Array => xattrs.names.bytesOf(xattrs.nameOf(pair));
    pairs.sort((a, b) => compareBytes(nameOf(a), nameOf(b)));
    const { out } = this.lines;
    for (const pair of pairs) {
      const name = nameOf(pair);
      const value = xattrs.values.bytesOf(xattrs.valueOf(pair));
      out.space();
      out.text(name, 0, name.length, EscapeMode.EQUALS);
      out.byte(EQUALS);
      out.text(value, 0, value.length, EscapeMode.EQUALS);
    }
  }
}
