// What becomes of a source tree before it is laid out: the format version is chosen, and whiteouts
// and the directories that hold them get the attributes by which overlayfs knows them. The tree
// itself is not changed.

import { Errno, TreeError } from '../errors.ts';
import { NODE, type NodeId, type NodeTable } from './nodes.ts';
import { SET, XATTR_COST, type XattrSet, type XattrTable } from './xattr-table.ts';

/** Versions of the format that can be written. */
export const VERSION_MAX = 1;
/** High word of the largest external file: 2^53 bytes, which are 1024 chunks of the largest size. */
const FILE_SIZE_HIGH_MAX: number = 2 ** 21;

/** What the source tree's `trusted.overlay.` becomes: overlayfs would act on it. */
export const OVERLAY_PREFIX = 'trusted.overlay.';
export const ESCAPED_PREFIX = 'trusted.overlay.overlay.';

/** An attribute, named as in the source tree, that the writer adds. */
interface Marker {
  readonly name: string;
  readonly value: string;
}

const WHITEOUT_MARKERS: readonly Marker[] = [
  { name: 'trusted.overlay.whiteout', value: '' },
  { name: 'user.overlay.whiteout', value: '' },
];
const PARENT_MARKERS: readonly Marker[] = [
  { name: 'trusted.overlay.whiteouts', value: '' },
  { name: 'user.overlay.whiteouts', value: '' },
];
/** Linux 6.8 and later look for these on the directory. */
const OPAQUE_MARKERS: readonly Marker[] = [
  { name: 'trusted.overlay.opaque', value: 'x' },
  { name: 'user.overlay.opaque', value: 'x' },
];

export interface VersionRange {
  /** 0 or 1. Versions as the option --min-version of mkcomposefs. */
  readonly minVersion?: number | undefined;
  /** 0 or 1. Raised to the minimum if below it. */
  readonly maxVersion?: number | undefined;
}

/**
 * The version for a tree: the smallest allowed, or 1 if that is allowed and the tree has a whiteout.
 * With neither limit given the limits are 0 and 1; a limit that is missing beside the other is 0.
 */
export function chooseVersion(range: VersionRange, hasWhiteouts: boolean): number {
  const isFree = range.minVersion === undefined && range.maxVersion === undefined;
  const min = checkedVersion('minimum', range.minVersion ?? 0);
  const max = checkedVersion('maximum', range.maxVersion ?? (isFree ? VERSION_MAX : 0));
  return min < VERSION_MAX && max >= VERSION_MAX && hasWhiteouts ? VERSION_MAX : min;
}

/** The attributes, by source names, of the nodes that are marked for whiteouts. */
export function markWhiteouts(
  nodes: NodeTable,
  version: number,
  whiteouts: readonly NodeId[],
): Map<NodeId, XattrSet> {
  const marked = new Map<NodeId, XattrSet>();
  if (whiteouts.length === 0) return marked;
  const inside = new MarkerWriter(nodes.xattrs, WHITEOUT_MARKERS);
  const around = new MarkerWriter(
    nodes.xattrs,
    version >= 1 ? [...PARENT_MARKERS, ...OPAQUE_MARKERS] : PARENT_MARKERS,
  );
  const mark = (node: NodeId, writer: MarkerWriter): void => {
    const set = writer.addTo(nodes.words[node * NODE.WORDS + NODE.XATTRS]!);
    if (set === undefined) {
      const path = nodes.pathOf(node);
      throw new TreeError(
        `${path}: an attribute that marks whiteouts is there and too long to replace`,
        { path, errno: Errno.ERANGE },
      );
    }
    marked.set(node, set);
  };
  for (const node of whiteouts) {
    mark(node, inside);
    const parent = nodes.parentOf(node);
    if (!marked.has(parent)) mark(parent, around);
  }
  return marked;
}

/** Refuses an external file that is too large. By words: 2^53 + 1 is no number. */
export function checkSize(nodes: NodeTable, node: NodeId): void {
  const base = node * NODE.WORDS;
  const high = nodes.words[base + NODE.SIZE_HIGH]!;
  if (high < FILE_SIZE_HIGH_MAX) return;
  if (high === FILE_SIZE_HIGH_MAX && nodes.words[base + NODE.SIZE_LOW] === 0) return;
  const path = nodes.pathOf(node);
  throw new TreeError(`${path}: a file of more than 2^53 bytes is too large`, {
    path,
    errno: Errno.EFBIG,
  });
}

/** Adds the same markers to many sets. */
class MarkerWriter {
  readonly #xattrs: XattrTable;
  readonly #markers: { name: number; nameLength: number; value: number; valueLength: number }[];
  readonly #done: Map<XattrSet, XattrSet> = new Map();

  constructor(xattrs: XattrTable, markers: readonly Marker[]) {
    this.#xattrs = xattrs;
    const encoder = new TextEncoder();
    this.#markers = markers.map(({ name, value }) => {
      const nameBytes = encoder.encode(name);
      const valueBytes = encoder.encode(value);
      const growth = name.startsWith(OVERLAY_PREFIX)
        ? ESCAPED_PREFIX.length - OVERLAY_PREFIX.length
        : 0;
      return {
        name: xattrs.names.intern(nameBytes, 0, nameBytes.length),
        nameLength: nameBytes.length + growth,
        value: xattrs.values.intern(valueBytes, 0, valueBytes.length),
        valueLength: valueBytes.length,
      };
    });
  }

  /** The set with the markers; undefined where the reference implementation fails with ERANGE. */
  addTo(set: XattrSet): XattrSet | undefined {
    let result = this.#done.get(set);
    if (result !== undefined) return result;
    if (!this.#fits(set)) return undefined;
    const xattrs = this.#xattrs;
    xattrs.beginSet();
    xattrs.addSet(set);
    for (const marker of this.#markers) xattrs.addToSet(marker.name, marker.value);
    result = xattrs.endSet();
    this.#done.set(set, result);
    return result;
  }

  /**
   * The reference copies the tree without the account of its attributes' size, which restarts at 0
   * (spec section 11): replacing a long value makes it negative, which is as if it were too large.
   */
  #fits(set: XattrSet): boolean {
    const xattrs = this.#xattrs;
    let account = 0;
    let length = xattrs.lengthOf(set);
    for (const { name, nameLength, valueLength } of this.#markers) {
      const previous = this.#valueLengthIn(set, name);
      if (previous >= 0) {
        length--;
        account = length === 0 ? 0 : account - (XATTR_COST.ENTRY + nameLength + previous);
      }
      account += XATTR_COST.ENTRY + nameLength + valueLength + (length === 0 ? XATTR_COST.AREA : 0);
      if (account < 0 || account > XATTR_COST.MAX) return false;
      length++;
    }
    return true;
  }

  /** Length of the attribute's value, or -1 if the set does not have it. */
  #valueLengthIn(set: XattrSet, name: number): number {
    const xattrs = this.#xattrs;
    for (let i = 0; i < xattrs.lengthOf(set); i++) {
      const pair = xattrs.at(set + SET.PAIRS + i);
      if (xattrs.nameOf(pair) === name) return xattrs.values.lengthOf(xattrs.valueOf(pair));
    }
    return -1;
  }
}

function checkedVersion(which: string, version: number): number {
  if (Number.isInteger(version) && version >= 0 && version <= VERSION_MAX) return version;
  throw new RangeError(`${which} version ${version}: only 0 and ${VERSION_MAX} can be written`);
}
