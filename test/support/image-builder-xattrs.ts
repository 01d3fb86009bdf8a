// Extended attributes for image-builder.ts: stored names, the shared area, areas of inodes.

import { XATTR_PREFIXES } from '../../src/image-reader/format.ts';
import { type TestNode, type TestXattr, toBytes } from './image-nodes.ts';

/** An inode's xattr area: its size is known before the ids of shared entries are. */
export interface XattrPlan {
  areaSize: number;
  write(firstSharedId: number): Uint8Array;
}

interface Stored {
  index: number;
  name: Uint8Array;
  entry: Uint8Array;
  /** Identifies name and value. */
  key: string;
}

const HEADER_SIZE = 12;
const FILTER_SEED = 0x25bbe08f;
/** shared_count is one byte. */
const SHARED_MAX = 255;

/** Fills in `xattrs` of every plan and returns the shared area. */
export function collectXattrs(
  plans: { node: TestNode; xattrs: XattrPlan }[],
  options: { sharedXattrs?: boolean; nameFilters?: boolean },
): { bytes: Uint8Array; hasAcl: boolean } {
  const all = plans.map((plan) => xattrsOf(plan.node).map(store));
  const counts = new Map<string, number>();
  for (const { key } of all.flat()) counts.set(key, (counts.get(key) ?? 0) + 1);
  const sharedOffsets = new Map<string, number>();
  const parts: Uint8Array[] = [];
  let length = 0;
  if (options.sharedXattrs !== false) {
    for (const { key, entry } of all.flat()) {
      if ((counts.get(key) ?? 0) < 2 || sharedOffsets.has(key)) continue;
      sharedOffsets.set(key, length);
      parts.push(entry);
      length += entry.length;
    }
  }
  plans.forEach((plan, index) => {
    plan.xattrs = planArea(all[index] ?? [], sharedOffsets, options.nameFilters !== false);
  });
  const hasAcl = all.flat().some(({ index }) => index === 2 || index === 3);
  return { bytes: concat(parts), hasAcl };
}

function xattrsOf(node: TestNode): TestXattr[] {
  const xattrs = [...(node.xattrs ?? [])];
  if (node.kind !== 'external') return xattrs;
  if (node.metacopy !== undefined) xattrs.push(['trusted.overlay.metacopy', node.metacopy]);
  if (node.redirect !== undefined) xattrs.push(['trusted.overlay.redirect', node.redirect]);
  return xattrs;
}

function store(xattr: TestXattr): Stored {
  let index: number;
  let name: Uint8Array;
  let value: Uint8Array;
  if ('index' in xattr) {
    index = xattr.index;
    name = toBytes(xattr.name);
    value = toBytes(xattr.value);
  } else {
    const [fullName] = xattr;
    index = XATTR_PREFIXES.findIndex((prefix, i) => i > 0 && fullName.startsWith(prefix));
    if (index < 0) index = 0;
    name = toBytes(fullName.slice(XATTR_PREFIXES[index]?.length));
    value = toBytes(xattr[1]);
  }
  const entry = new Uint8Array(Math.ceil((4 + name.length + value.length) / 4) * 4);
  entry.set([name.length, index, value.length & 0xff, value.length >>> 8]);
  entry.set(name, 4);
  entry.set(value, 4 + name.length);
  return { index, name, entry, key: Buffer.from(entry).toString('latin1') };
}

function planArea(
  stored: Stored[],
  sharedOffsets: ReadonlyMap<string, number>,
  withFilter: boolean,
): XattrPlan {
  if (stored.length === 0) return { areaSize: 0, write: () => new Uint8Array(0) };
  const shared = stored.filter(({ key }) => sharedOffsets.has(key)).slice(0, SHARED_MAX);
  const inline = stored.filter((xattr) => !shared.includes(xattr));
  const entries = concat(inline.map(({ entry }) => entry));
  const areaSize = HEADER_SIZE + 4 * shared.length + entries.length;
  const write = (firstSharedId: number): Uint8Array => {
    const area = new Uint8Array(areaSize);
    const view = new DataView(area.buffer);
    view.setUint32(0, withFilter ? nameFilter(stored) : 0, true);
    view.setUint8(4, shared.length);
    shared.forEach(({ key }, i) => {
      const id = firstSharedId + (sharedOffsets.get(key) ?? 0) / 4;
      view.setUint32(HEADER_SIZE + 4 * i, id, true);
    });
    area.set(entries, HEADER_SIZE + 4 * shared.length);
    return area;
  };
  return { areaSize, write };
}

function nameFilter(stored: Stored[]): number {
  let filter = 0xffffffff;
  for (const { index, name } of stored) filter &= ~(1 << (xxh32(name, FILTER_SEED + index) & 31));
  return filter >>> 0;
}

/** Exported for its test. */
export function xxh32(bytes: Uint8Array, seed: number): number {
  const p1 = 2654435761;
  const p2 = 2246822519;
  const p3 = 3266489917;
  const p4 = 668265263;
  const p5 = 374761393;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let hash: number;
  if (bytes.length >= 16) {
    const lanes = [seed + p1 + p2, seed + p2, seed, seed - p1];
    for (; at + 16 <= bytes.length; at += 16) {
      lanes.forEach((lane, i) => {
        const sum = lane + Math.imul(view.getUint32(at + i * 4, true), p2);
        lanes[i] = Math.imul(rotateLeft(sum, 13), p1);
      });
    }
    const [a = 0, b = 0, c = 0, d = 0] = lanes;
    hash = rotateLeft(a, 1) + rotateLeft(b, 7) + rotateLeft(c, 12) + rotateLeft(d, 18);
  } else {
    hash = seed + p5;
  }
  hash = (hash + bytes.length) | 0;
  for (; at + 4 <= bytes.length; at += 4) {
    hash = Math.imul(rotateLeft(hash + Math.imul(view.getUint32(at, true), p3), 17), p4);
  }
  for (; at < bytes.length; at++) {
    hash = Math.imul(rotateLeft(hash + Math.imul(bytes[at]!, p5), 11), p1);
  }
  hash = Math.imul(hash ^ (hash >>> 15), p2);
  hash = Math.imul(hash ^ (hash >>> 13), p3);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function rotateLeft(value: number, count: number): number {
  return (value << count) | (value >>> (32 - count));
}

function concat(parts: Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
