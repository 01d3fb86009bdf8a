// Directory data for image-builder.ts: the entries of a directory, cut into pieces.

import { BLOCK_SIZE, DIRENT } from '../../src/image-reader/format.ts';
import { type DirentOverride, type TestDirectory, type TestNode, toBytes } from './image-nodes.ts';

interface Entry {
  name: Uint8Array;
  /** 'dot' and 'dot-dot' are resolved when nids are known. */
  node: TestNode | 'dot' | 'dot-dot';
  override: DirentOverride;
}

export interface DirectoryGroup {
  entries: Entry[];
  /** Bytes of dirents and names. */
  length: number;
}

const TYPES = {
  file: { bits: 0o100000, fileType: 1, permissions: 0o644 },
  external: { bits: 0o100000, fileType: 1, permissions: 0o644 },
  directory: { bits: 0o040000, fileType: 2, permissions: 0o755 },
  'char-device': { bits: 0o020000, fileType: 3, permissions: 0o644 },
  'block-device': { bits: 0o060000, fileType: 4, permissions: 0o644 },
  fifo: { bits: 0o010000, fileType: 5, permissions: 0o644 },
  socket: { bits: 0o140000, fileType: 6, permissions: 0o644 },
  symlink: { bits: 0o120000, fileType: 7, permissions: 0o777 },
} as const;

export function modeOf(node: TestNode): number {
  const { bits, permissions } = TYPES[node.kind];
  return bits | (node.permissions ?? permissions);
}

/** All entries in stored order, cut where a piece of 4096 bytes is full. */
export function directoryGroups(node: TestDirectory): DirectoryGroup[] {
  const entries: Entry[] = [];
  if (node.dot !== null) {
    entries.push({ name: toBytes('.'), node: node.dot ?? 'dot', override: {} });
  }
  if (node.dotDot !== null) {
    entries.push({ name: toBytes('..'), node: node.dotDot ?? 'dot-dot', override: {} });
  }
  for (const [name, child, override] of node.children) {
    entries.push({ name: toBytes(name), node: child, override: override ?? {} });
  }
  if (node.sorted !== false) entries.sort((a, b) => Buffer.compare(a.name, b.name));
  const groups: DirectoryGroup[] = [];
  let group: DirectoryGroup | undefined;
  for (const entry of entries) {
    const cost = DIRENT.SIZE + entry.name.length;
    if (group === undefined || group.length + cost > BLOCK_SIZE) {
      group = { entries: [], length: 0 };
      groups.push(group);
    }
    group.entries.push(entry);
    group.length += cost;
  }
  return groups;
}

export function groupBytes(
  group: DirectoryGroup,
  self: TestDirectory,
  parent: TestDirectory,
  nidOf: (node: TestNode) => number,
): Uint8Array {
  const bytes = new Uint8Array(group.length);
  const view = new DataView(bytes.buffer);
  let nameOff = group.entries.length * DIRENT.SIZE;
  group.entries.forEach((entry, index) => {
    const at = index * DIRENT.SIZE;
    const node = entry.node === 'dot' ? self : entry.node === 'dot-dot' ? parent : entry.node;
    const nid = entry.override.nid ?? BigInt(nidOf(node));
    view.setBigUint64(at + DIRENT.NID, nid, true);
    view.setUint16(at + DIRENT.NAMEOFF, nameOff, true);
    view.setUint8(at + DIRENT.FILE_TYPE, entry.override.fileType ?? TYPES[node.kind].fileType);
    bytes.set(entry.name, nameOff);
    nameOff += entry.name.length;
  });
  return bytes;
}
