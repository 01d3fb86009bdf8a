// The order of things in an image: the entries of each directory by name, and the inodes breadth
// first. Works on node numbers; knows nothing of bytes or positions. One pass over the tree also
// collects what must be known of all nodes before anything is laid out.

import { S_IFDIR, S_IFMT } from '../image-reader/format.ts';
import {
  isSourceWhiteout,
  MODE_WORD,
  NODE,
  NodeFlag,
  type NodeId,
  type NodeTable,
  ROOT_NODE,
} from './nodes.ts';

export interface InodeOrder {
  /** The node of each inode. The root is the first. */
  readonly nodeOf: Uint32Array;
  /** The inode of each node; meaningless for hard links. */
  readonly inodeOf: Uint32Array;
  /**
   * The nodes in all directories, by name, hard links included, `.` and `..` not: those of the
   * directory with inode i are from starts[i] up to starts[i + 1].
   */
  readonly entries: Uint32Array;
  readonly starts: Uint32Array;
  /** The char devices 0:0 of the source tree. */
  readonly whiteouts: readonly NodeId[];
  /** The smallest mtime of all inodes. */
  readonly mtime: MinimumTime;
}

export interface MinimumTime {
  readonly low: number;
  readonly high: number;
  readonly nsec: number;
}

/** Orders a tree. The nodes in `more` are added to the root's entries. */
export function orderInodes(nodes: NodeTable, more: readonly NodeId[] = []): InodeOrder {
  const { words } = nodes;
  const namesMax = nodes.namedCount + more.length;
  const entries = new Uint32Array(namesMax);
  const nodeOf = new Uint32Array(namesMax + 1);
  const starts = new Uint32Array(namesMax + 2);
  const inodeOf = new Uint32Array(nodes.count);
  const whiteouts: NodeId[] = [];
  let low = words[NODE.MTIME_LOW]!;
  let high = words[NODE.MTIME_HIGH]! | 0;
  let nsec = words[NODE.MTIME_NSEC]!;
  let entriesLength = 0;
  let length = 1;
  for (let inode = 0; inode < length; inode++) {
    const node = nodeOf[inode]!;
    const base = node * NODE.WORDS;
    starts[inode] = entriesLength;
    const difference =
      (words[base + NODE.MTIME_HIGH]! | 0) - high ||
      words[base + NODE.MTIME_LOW]! - low ||
      words[base + NODE.MTIME_NSEC]! - nsec;
    if (difference < 0) {
      low = words[base + NODE.MTIME_LOW]!;
      high = words[base + NODE.MTIME_HIGH]! | 0;
      nsec = words[base + NODE.MTIME_NSEC]!;
    }
    if ((words[base + NODE.MODE]! & S_IFMT) !== S_IFDIR) {
      if (isSourceWhiteout(words, node)) whiteouts.push(node);
      continue;
    }
    const end = listEntries(words, node, entries, entriesLength);
    const last = node === ROOT_NODE ? appendAll(entries, end, more) : end;
    sortRange(nodes, entries, entriesLength, last);
    for (; entriesLength < last; entriesLength++) {
      const child = entries[entriesLength]!;
      const flags = words[child * NODE.WORDS + NODE.MODE]! >>> MODE_WORD.FLAGS_SHIFT;
      if ((flags & NodeFlag.HARD_LINK) !== 0) continue;
      inodeOf[child] = length;
      nodeOf[length++] = child;
    }
  }
  starts[length] = entriesLength;
  return {
    nodeOf: nodeOf.subarray(0, length),
    inodeOf,
    entries,
    starts,
    whiteouts,
    mtime: { low, high: high >>> 0, nsec },
  };
}

/** Writes the nodes in a directory in the order they were added. Returns the offset behind them. */
function listEntries(
  words: Uint32Array,
  directory: NodeId,
  entries: Uint32Array,
  start: number,
): number {
  const last = words[directory * NODE.WORDS + NODE.OBJECT]!;
  if (last === 0) return start;
  let end = start;
  let node = last;
  do {
    node = words[node * NODE.WORDS + NODE.NEXT]!;
    entries[end++] = node;
  } while (node !== last);
  return end;
}

function appendAll(entries: Uint32Array, start: number, more: readonly NodeId[]): number {
  entries.set(more, start);
  return start + more.length;
}

function sortRange(nodes: NodeTable, entries: Uint32Array, start: number, end: number): void {
  // Dumps and walkers deliver sorted directories, as a rule.
  for (let at = start + 1; at < end; at++) {
    if (compareNames(nodes, entries[at - 1]!, entries[at]!) <= 0) continue;
    entries.subarray(start, end).sort((a, b) => compareNames(nodes, a, b));
    return;
  }
}

function compareNames(nodes: NodeTable, a: NodeId, b: NodeId): number {
  return nodes.heap.compare(
    nodes.words[a * NODE.WORDS + NODE.NAME]!,
    nodes.nameLength(a),
    nodes.words[b * NODE.WORDS + NODE.NAME]!,
    nodes.nameLength(b),
  );
}
