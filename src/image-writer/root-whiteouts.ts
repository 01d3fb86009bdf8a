// The 256 char devices 00 to ff that every image has in its root, unless the source tree has the name
// itself: kernels without data-only layers would show the object folders there. They are nodes of the
// table like any other, but belong to no directory, so the tree's users do not see them.

import { S_IFCHR } from '../image-reader/format.ts';
import { NO_NODE, NODE, type NodeId, type NodeTable, ROOT_NODE } from './nodes.ts';
import { NO_XATTRS, SET, type XattrSet } from './xattr-table.ts';

const WHITEOUT_COUNT = 256;
const WHITEOUT_MODE: number = S_IFCHR | 0o644;
const encoder = new TextEncoder();
const LABEL_NAME: Uint8Array = encoder.encode('security.selinux');
const COPIED_WORDS = [
  NODE.UID,
  NODE.GID,
  NODE.MTIME_LOW,
  NODE.MTIME_HIGH,
  NODE.MTIME_NSEC,
] as const;

/** The whiteouts that the root needs, by name, with the owner, time and label of the root. */
export function rootWhiteouts(nodes: NodeTable): NodeId[] {
  if (nodes.rootWhiteouts === NO_NODE) addNodes(nodes);
  const label = labelOf(nodes, ROOT_NODE);
  const needed: NodeId[] = [];
  const { words } = nodes;
  const rootBase = ROOT_NODE * NODE.WORDS;
  for (let i = 0; i < WHITEOUT_COUNT; i++) {
    const node = nodes.rootWhiteouts + i;
    const name = nodes.nameBytes(node);
    if (nodes.findChild(ROOT_NODE, name, 0, name.length) >= 0) continue;
    const base = node * NODE.WORDS;
    for (const word of COPIED_WORDS) words[base + word] = words[rootBase + word]!;
    words[base + NODE.NLINK] = 1;
    words[base + NODE.XATTRS] = label;
    needed.push(node);
  }
  return needed;
}

function addNodes(nodes: NodeTable): void {
  nodes.rootWhiteouts = nodes.count;
  for (let i = 0; i < WHITEOUT_COUNT; i++) {
    const name = encoder.encode(i.toString(16).padStart(2, '0'));
    nodes.append(NO_NODE, name, 0, name.length, WHITEOUT_MODE, 0);
  }
}

/** The set with nothing but the SELinux label of a node, if it has one. */
function labelOf(nodes: NodeTable, node: NodeId): XattrSet {
  const { xattrs } = nodes;
  const set = nodes.words[node * NODE.WORDS + NODE.XATTRS]!;
  if (set === NO_XATTRS) return NO_XATTRS;
  const labelName = xattrs.names.intern(LABEL_NAME, 0, LABEL_NAME.length);
  xattrs.beginSet();
  for (let i = 0; i < xattrs.lengthOf(set); i++) {
    const pair = xattrs.at(set + SET.PAIRS + i);
    if (xattrs.nameOf(pair) === labelName) xattrs.addToSet(labelName, xattrs.valueOf(pair));
  }
  return xattrs.endSet();
}
