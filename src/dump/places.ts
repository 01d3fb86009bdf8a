// Finds the nodes that paths of a dump stand for. Slashes at the beginning and repeated ones are
// skipped, as in the reference; `.` and `..` are names like others and never found.

import { S_IFDIR, S_IFMT } from '../image-reader/format.ts';
import { type NodeId, type NodeTable, ROOT_NODE } from '../image-writer/nodes.ts';
import { SLASH } from './fields.ts';

/** Results of Places.find() below 0. */
export const PlaceProblem = { MISSING: -1, NOT_DIRECTORY: -2 } as const;

/** One per reader of dumps. */
export class Places {
  readonly #nodes: NodeTable;
  /** After find(): the last component is from nameStart to nameEnd. */
  nameStart: number = 0;
  nameEnd: number = 0;
  /** The directory part of the last path, and its node: siblings follow each other. */
  #lastPath: Uint8Array = new Uint8Array(256);
  #lastLength: number = -1;
  #lastNode: NodeId = ROOT_NODE;

  constructor(nodes: NodeTable) {
    this.#nodes = nodes;
  }

  /** The directory that a path other than `/` lies in, or one of PlaceProblem. */
  findParent(bytes: Uint8Array, start: number, end: number): NodeId | -1 | -2 {
    let nameStart = end;
    while (nameStart > start && bytes[nameStart - 1] !== SLASH) nameStart--;
    this.nameStart = nameStart;
    this.nameEnd = end;
    if (this.#isLast(bytes, start, nameStart)) return this.#lastNode;
    const node = this.lookup(bytes, start, nameStart);
    if (node < 0) return PlaceProblem.MISSING;
    const nodes = this.#nodes;
    if ((nodes.mode(node) & S_IFMT) !== S_IFDIR || nodes.isHardLink(node)) {
      return PlaceProblem.NOT_DIRECTORY;
    }
    this.#setLast(bytes, start, nameStart, node);
    return node;
  }

  /** The node at a path, the root for one without components, or -1. */
  lookup(bytes: Uint8Array, start: number, end: number): NodeId | -1 {
    let node: NodeId | -1 = ROOT_NODE;
    let at = start;
    while (node >= 0) {
      while (at < end && bytes[at] === SLASH) at++;
      if (at === end) break;
      const nameStart = at;
      while (at < end && bytes[at] !== SLASH) at++;
      node = this.#nodes.findChild(node, bytes, nameStart, at);
    }
    return node;
  }

  #isLast(bytes: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    if (length !== this.#lastLength) return false;
    const last = this.#lastPath;
    // Neighbours differ at the end, if at all.
    for (let i = length - 1; i >= 0; i--) {
      if (bytes[start + i] !== last[i]) return false;
    }
    return true;
  }

  #setLast(bytes: Uint8Array, start: number, end: number, node: NodeId): void {
    const length = end - start;
    if (length > this.#lastPath.length) this.#lastPath = new Uint8Array(length * 2);
    for (let i = 0; i < length; i++) this.#lastPath[i] = bytes[start + i]!;
    this.#lastLength = length;
    this.#lastNode = node;
  }
}
