// The order of things in an image: the entries of each directory by name, and the inodes breadth
// first. Works on node numbers; knows nothing of bytes or positions.

import { S_IFDIR, S_IFMT } from '../image-reader/format.ts';
import { MODE_WORD, NO_NODE, NODE, NodeFlag, type NodeId, type NodeTable } from './nodes.ts';

/** Entries of directories, hard links included, `.` and `..` not. */
export interface SortedChildren {
  /** The nodes of all directories' entries: those of `directory` from starts[directory] on ... */
  readonly entries: Uint32Array;
  /** ... up to starts[directory + 1]. One more than there are nodes. */
  readonly starts: Uint32Array;
}

export interface InodeOrder {
  /** The node of each inode. The root is the first. */
  readonly nodeOf: Uint32Array;
  /** The inode of each node; meaningless for hard links. */
  readonly inodeOf: Uint32Array;
}

/** Sorts the entries of all directories; those in `more` are added to the root's. */
export function sortChildren(nodes: NodeTable, more: readonly NodeId[] = []): SortedChildren {
  const { words, count } = nodes;
  const starts = new Uint32Array(count + 1);
  for (let node = 1; node < count; node++) {
    const parent = words[node * NODE.WORDS + NODE.PARENT]!;
    if (parent !== NO_NODE) starts[parent]!++;
  }
  starts[0]! += more.length;
  let end = 0;
  for (let node = 0; node <= count; node++) {
    end += starts[node]!;
    starts[node] = end;
  }
  // From the back, so that each start moves down to its place and the order of nodes is kept.
  const entries = new Uint32Array(end);
  for (let i = more.length - 1; i >= 0; i--) entries[--starts[0]!] = more[i]!;
  for (let node = count - 1; node > 0; node--) {
    const parent = words[node * NODE.WORDS + NODE.PARENT]!;
    if (parent !== NO_NODE) entries[--starts[parent]!] = node;
  }
  for (let node = 0; node < count; node++)
    sortRange(nodes, entries, starts[node]!, starts[node + 1]!);
  return { entries, starts };
}

/** Numbers the inodes breadth first. */
export function numberInodes(nodes: NodeTable, children: SortedChildren): InodeOrder {
  const { words, count } = nodes;
  const { entries, starts } = children;
  const nodeOf = new Uint32Array(entries.length + 1);
  const inodeOf = new Uint32Array(count);
  let length = 1;
  for (let i = 0; i < length; i++) {
    const node = nodeOf[i]!;
    if ((words[node * NODE.WORDS + NODE.MODE]! & S_IFMT) !== S_IFDIR) continue;
    for (let at = starts[node]!; at < starts[node + 1]!; at++) {
      const child = entries[at]!;
      const flags = words[child * NODE.WORDS + NODE.MODE]! >>> MODE_WORD.FLAGS_SHIFT;
      if ((flags & NodeFlag.HARD_LINK) !== 0) continue;
      inodeOf[child] = length;
      nodeOf[length++] = child;
    }
  }
  return { nodeOf: nodeOf.subarray(0, length), inodeOf };
}

function sortRange(nodes: NodeTable, entries: Uint32Array, start: number, end: number): void {
  const { words, heap } = nodes;
  const compare = (a: NodeId, b: NodeId): number =>
    heap.compare(
      words[a * NODE.WORDS + NODE.NAME]!,
      nodes.nameLength(a),
      words[b * NODE.WORDS + NODE.NAME]!,
      nodes.nameLength(b),
    );
  // Dumps and walkers deliver sorted directories, as a rule.
  for (let at = start + 1; at < end; at++) {
    if (compare(entries[at - 1]!, entries[at]!) > 0) {
      entries.subarray(start, end).sort(compare);
      return;
    }
  }
}
