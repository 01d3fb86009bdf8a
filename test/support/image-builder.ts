// Builds small composefs images for tests: every layout that a reader must accept, and, told so,
// images that break a rule. It is not the product's writer and its layout is nobody's; erofs-utils
// accept what it makes (test/unit/image-reader/builder.test.ts), and so does the kernel.
//
//   import { buildImage, locateImage } from '../support/image-builder.ts';
//   import { directory, external, file, symlink } from '../support/image-nodes.ts';
//
//   const shared = file('hard linked');                      // one object, two names: a hard link
//   const root = directory({
//     hello: file('hello\n'),                                // content in the image
//     big: external(5000, { digest: '5a'.repeat(32) }),      // content in an object
//     link: symlink('hello', { mtime: -1, uid: 1000 }),
//     etc: directory({ a: shared, b: shared }, { xattrs: [['user.x', 'y']] }),
//   });
//   const bytes = buildImage(root, { composefsVersion: 1 }); // Uint8Array, a multiple of 4096 bytes
//
// Names, contents and targets are strings (UTF-8) or bytes. Children are an object or a list of
// [name, node, override?], the list allowing any bytes, duplicates and wrong dirents. locateImage()
// returns the bytes with the place of every part of every node, for tests that damage one of them.

import {
  BLOCK_SIZE,
  COMPOSEFS_HEADER,
  EROFS_SUPER_MAGIC_V1,
  EROFS_SUPER_OFFSET,
  INODE_COMPACT,
  INODE_EXTENDED,
  LCFS_EROFS_MAGIC,
  Layout,
  SLOT_SIZE,
  SUPER_BLOCK,
} from '../../src/image-reader/format.ts';
import { collectXattrs, type XattrPlan } from './image-builder-xattrs.ts';
import {
  type DirectoryGroup,
  directoryGroups,
  groupBytes,
  modeOf,
} from './image-builder-directories.ts';
import { type TestDirectory, type TestNode, toBytes } from './image-nodes.ts';

export interface BuildOptions {
  /** Default 1. */
  composefsVersion?: number;
  /** Default: whether there are ACLs, except for version 2. */
  hasAclFlag?: boolean;
  /** meta_blkaddr. Data blocks go before the metadata if they fit there. Default 0. */
  metaBlock?: number;
  /** Store pairs of name and value that occur twice once. Default true. */
  sharedXattrs?: boolean;
  /** xattr_blkaddr 0, so that shared ids count from the start of the image. Default false. */
  xattrBlockZero?: boolean;
  /** Default true. */
  nameFilters?: boolean;
  /** Default: all inodes that fit are compact. */
  form?: 'compact' | 'extended';
  /** mtime of compact inodes. Default: the smallest mtime. */
  buildTime?: bigint;
  buildTimeNsec?: number;
  /** Bit 2 of feature_incompat (chunked files). Default false, as both writers leave it. */
  chunkFeature?: boolean;
}

/** Where the parts of a node are, in bytes from the start of the image. */
export interface NodeLocation {
  nid: number;
  offset: number;
  headerSize: number;
  xattrStart: number;
  /** First byte after the xattr area: the tail. */
  body: number;
  tailLength: number;
  /** First data block, in bytes; 0 without blocks. */
  blocks: number;
  /** Pieces of a directory. */
  pieces: { start: number; length: number }[];
}

export interface LocatedImage {
  bytes: Uint8Array;
  view: DataView;
  sharedXattrStart: number;
  locate(node: TestNode): NodeLocation;
}

interface Plan extends NodeLocation {
  node: TestNode;
  number: number;
  parent: TestDirectory;
  names: number;
  xattrs: XattrPlan;
  groups: DirectoryGroup[];
  layout: number;
  size: bigint;
  blockCount: number;
  blockData: Uint8Array;
  tail: Uint8Array;
}

export function buildImage(root: TestDirectory, options: BuildOptions = {}): Uint8Array {
  return locateImage(root, options).bytes;
}

export function locateImage(root: TestDirectory, options: BuildOptions = {}): LocatedImage {
  const plans = collect(root);
  const shared = collectXattrs([...plans.values()], options);
  const buildTime = buildTimeOf(plans, options);
  for (const plan of plans.values()) planData(plan);

  const metaBlock = options.metaBlock ?? 0;
  const metaStart = metaBlock * BLOCK_SIZE;
  let position = metaBlock === 0 ? EROFS_SUPER_OFFSET + SUPER_BLOCK.SIZE : metaStart;
  for (const plan of plans.values()) {
    plan.headerSize = isCompact(plan, buildTime, options)
      ? INODE_COMPACT.SIZE
      : INODE_EXTENDED.SIZE;
    position = roundUp(position, SLOT_SIZE);
    const before = plan.headerSize + plan.xattrs.areaSize;
    for (let tries = 0; crossesBlock(position + before, plan.tailLength); tries++) {
      if (tries > BLOCK_SIZE / SLOT_SIZE) throw new Error('a tail fits into no block');
      position += SLOT_SIZE;
    }
    plan.offset = position;
    plan.nid = (position - metaStart) / SLOT_SIZE;
    plan.xattrStart = position + plan.headerSize;
    plan.body = position + before;
    position = plan.body + plan.tailLength;
  }
  const sharedStart = roundUp(position, SLOT_SIZE);
  let end = roundUp(sharedStart + shared.bytes.length, BLOCK_SIZE);

  const blockCount = [...plans.values()].reduce((sum, plan) => sum + plan.blockCount, 0);
  let nextBlock = blockCount < metaBlock ? BLOCK_SIZE : end;
  for (const plan of plans.values()) {
    if (plan.blockCount > 0) plan.blocks = nextBlock;
    nextBlock += plan.blockCount * BLOCK_SIZE;
  }
  end = Math.max(end, nextBlock);

  const bytes = new Uint8Array(end);
  const view = new DataView(bytes.buffer);
  const xattrBlock = options.xattrBlockZero === true ? 0 : Math.floor(sharedStart / BLOCK_SIZE);
  const firstSharedId = (sharedStart - xattrBlock * BLOCK_SIZE) / 4;
  writeHeaders(view, plans, shared.hasAcl, xattrBlock, buildTime, options);
  bytes.set(shared.bytes, sharedStart);
  for (const plan of plans.values()) {
    writeInode(view, plan);
    bytes.set(plan.xattrs.write(firstSharedId), plan.xattrStart);
    writeData(bytes, plan, plans);
  }
  const locate = (node: TestNode): NodeLocation => {
    const plan = plans.get(node);
    if (plan === undefined) throw new Error('the node is not in this tree');
    return plan;
  };
  return { bytes, view, sharedXattrStart: sharedStart, locate };
}

/** Breadth first, every node once however many names it has. */
function collect(root: TestDirectory): Map<TestNode, Plan> {
  const plans = new Map<TestNode, Plan>();
  const add = (node: TestNode, parent: TestDirectory): void => {
    const known = plans.get(node);
    if (known !== undefined) {
      known.names++;
      return;
    }
    plans.set(node, {
      node,
      parent,
      number: plans.size,
      names: 1,
      nid: 0,
      offset: 0,
      headerSize: 0,
      xattrStart: 0,
      body: 0,
      tailLength: 0,
      blocks: 0,
      pieces: [],
      xattrs: { areaSize: 0, write: () => new Uint8Array(0) },
      groups: [],
      layout: Layout.FLAT_PLAIN,
      size: 0n,
      blockCount: 0,
      blockData: new Uint8Array(0),
      tail: new Uint8Array(0),
    });
  };
  add(root, root);
  // A Map's iteration reaches what is added while it runs.
  for (const node of plans.keys()) {
    if (node.kind !== 'directory') continue;
    for (const [, child] of node.children) add(child, node);
  }
  return plans;
}

function buildTimeOf(
  plans: Map<TestNode, Plan>,
  options: BuildOptions,
): { seconds: bigint; nsec: number } {
  let best: { seconds: bigint; nsec: number } | undefined;
  for (const { node } of plans.values()) {
    const seconds = BigInt(node.mtime ?? 0);
    const nsec = node.mtimeNsec ?? 0;
    if (
      best === undefined ||
      seconds < best.seconds ||
      (seconds === best.seconds && nsec < best.nsec)
    ) {
      best = { seconds, nsec };
    }
  }
  return {
    seconds: options.buildTime ?? best?.seconds ?? 0n,
    nsec: options.buildTimeNsec ?? best?.nsec ?? 0,
  };
}

function planData(plan: Plan): void {
  const { node } = plan;
  switch (node.kind) {
    case 'directory': {
      plan.groups = directoryGroups(node);
      const last = plan.groups.at(-1);
      const inBlock = last === undefined || (node.tail ?? defaultTail(last.length)) !== 'inline';
      plan.blockCount = plan.groups.length - (inBlock ? 0 : 1);
      plan.tailLength = inBlock ? 0 : last.length;
      plan.layout = inBlock ? Layout.FLAT_PLAIN : Layout.FLAT_INLINE;
      const lastLength = node.tail === 'short-block' || !inBlock ? (last?.length ?? 0) : BLOCK_SIZE;
      plan.size = BigInt(Math.max(0, plan.groups.length - 1) * BLOCK_SIZE + lastLength);
      return;
    }
    case 'file':
      splitContent(plan, toBytes(node.content), node.tail);
      return;
    case 'symlink':
      splitContent(plan, toBytes(node.target), node.tail ?? 'inline');
      return;
    case 'external':
      plan.size = BigInt(node.size);
      plan.layout = Layout.CHUNK_BASED;
      plan.tailLength = 4 * Number((plan.size + (1n << 43n) - 1n) >> 43n || 1n);
      // One pointer as composefs-rs does, where an array would not fit behind the inode.
      if (plan.tailLength > BLOCK_SIZE / 2) plan.tailLength = 4;
      plan.tail = new Uint8Array(plan.tailLength).fill(0xff);
      return;
    default:
      return;
  }
}

function splitContent(plan: Plan, content: Uint8Array, tail: 'inline' | 'block' | undefined): void {
  const rest = content.length % BLOCK_SIZE;
  const isInline = rest > 0 && (tail ?? defaultTail(rest)) === 'inline';
  const inBlocks = isInline ? content.length - rest : content.length;
  plan.size = BigInt(content.length);
  plan.layout = isInline ? Layout.FLAT_INLINE : Layout.FLAT_PLAIN;
  plan.blockCount = Math.ceil(inBlocks / BLOCK_SIZE);
  plan.blockData = content.subarray(0, inBlocks);
  plan.tail = content.subarray(inBlocks);
  plan.tailLength = plan.tail.length;
}

function defaultTail(length: number): 'inline' | 'block' {
  return length <= BLOCK_SIZE / 2 ? 'inline' : 'block';
}

function isCompact(
  plan: Plan,
  buildTime: { seconds: bigint; nsec: number },
  options: BuildOptions,
): boolean {
  const { node } = plan;
  const form = node.form ?? options.form;
  if (form !== undefined) return form === 'compact';
  return (
    BigInt(node.mtime ?? 0) === buildTime.seconds &&
    (node.mtimeNsec ?? 0) === buildTime.nsec &&
    plan.size < 1n << 32n &&
    Math.max(node.uid ?? 0, node.gid ?? 0, nlinkOf(plan)) <= 0xffff
  );
}

function nlinkOf(plan: Plan): number {
  const { node } = plan;
  if (node.nlink !== undefined) return node.nlink;
  if (node.kind !== 'directory') return plan.names;
  return 2 + node.children.filter(([, child]) => child.kind === 'directory').length;
}

function writeHeaders(
  view: DataView,
  plans: Map<TestNode, Plan>,
  hasAcl: boolean,
  xattrBlock: number,
  buildTime: { seconds: bigint; nsec: number },
  options: BuildOptions,
): void {
  const version = options.composefsVersion ?? 1;
  const flag = options.hasAclFlag ?? (hasAcl && version < 2);
  view.setUint32(COMPOSEFS_HEADER.MAGIC, LCFS_EROFS_MAGIC, true);
  view.setUint32(COMPOSEFS_HEADER.VERSION, 1, true);
  view.setUint32(COMPOSEFS_HEADER.FLAGS, flag ? 1 : 0, true);
  view.setUint32(COMPOSEFS_HEADER.COMPOSEFS_VERSION, version, true);
  const at = EROFS_SUPER_OFFSET;
  const [root] = plans.values();
  view.setUint32(at + SUPER_BLOCK.MAGIC, EROFS_SUPER_MAGIC_V1, true);
  view.setUint32(at + SUPER_BLOCK.FEATURE_COMPAT, options.nameFilters === false ? 2 : 6, true);
  view.setUint8(at + SUPER_BLOCK.BLKSZBITS, 12);
  view.setUint16(at + SUPER_BLOCK.ROOT_NID, root?.nid ?? 0, true);
  view.setBigUint64(at + SUPER_BLOCK.INOS, BigInt(plans.size), true);
  view.setBigInt64(at + SUPER_BLOCK.BUILD_TIME, buildTime.seconds, true);
  view.setUint32(at + SUPER_BLOCK.BUILD_TIME_NSEC, buildTime.nsec, true);
  view.setUint32(at + SUPER_BLOCK.BLOCKS, view.byteLength / BLOCK_SIZE, true);
  view.setUint32(at + SUPER_BLOCK.META_BLKADDR, options.metaBlock ?? 0, true);
  view.setUint32(at + SUPER_BLOCK.XATTR_BLKADDR, xattrBlock, true);
  view.setUint32(at + SUPER_BLOCK.FEATURE_INCOMPAT, options.chunkFeature === true ? 4 : 0, true);
}

function writeInode(view: DataView, plan: Plan): void {
  const { node, offset: at } = plan;
  const override = node.override ?? {};
  const isExtended = plan.headerSize === INODE_EXTENDED.SIZE;
  const { areaSize } = plan.xattrs;
  const icount = areaSize === 0 ? 0 : (areaSize - 12) / 4 + 1;
  const layout = INODE_EXTENDED;
  view.setUint16(at, override.format ?? plan.layout * 2 + (isExtended ? 1 : 0), true);
  view.setUint16(at + layout.XATTR_ICOUNT, override.icount ?? icount, true);
  view.setUint16(at + layout.MODE, override.mode ?? modeOf(node), true);
  view.setUint32(at + layout.I_U, (override.iU ?? iUOf(plan)) >>> 0, true);
  view.setUint32(at + layout.INO, plan.number, true);
  const size = override.size ?? plan.size;
  const nlink = override.nlink ?? nlinkOf(plan);
  if (isExtended) {
    view.setBigUint64(at + layout.SIZE_FIELD, size, true);
    view.setUint32(at + layout.UID, node.uid ?? 0, true);
    view.setUint32(at + layout.GID, node.gid ?? 0, true);
    view.setBigInt64(at + layout.MTIME, BigInt(node.mtime ?? 0), true);
    view.setUint32(at + layout.MTIME_NSEC, override.mtimeNsec ?? node.mtimeNsec ?? 0, true);
    view.setUint32(at + layout.NLINK, nlink, true);
  } else {
    view.setUint32(at + INODE_COMPACT.SIZE_FIELD, Number(size), true);
    view.setUint16(at + INODE_COMPACT.NLINK, nlink, true);
    view.setUint16(at + INODE_COMPACT.UID, node.uid ?? 0, true);
    view.setUint16(at + INODE_COMPACT.GID, node.gid ?? 0, true);
  }
}

function iUOf(plan: Plan): number {
  const { node } = plan;
  switch (node.kind) {
    case 'char-device':
    case 'block-device': {
      const minor = node.minor ?? 0;
      return (minor & 0xff) | ((node.major ?? 0) << 8) | ((minor & 0xfff00) << 12);
    }
    case 'external': {
      // The smallest chunk size that needs one pointer, at most 2^43.
      let bits = 12;
      while (bits < 43 && 1n << BigInt(bits) < plan.size) bits++;
      return bits - 12;
    }
    default:
      return plan.blocks / BLOCK_SIZE;
  }
}

function writeData(bytes: Uint8Array, plan: Plan, plans: Map<TestNode, Plan>): void {
  if (plan.node.kind !== 'directory') {
    bytes.set(plan.blockData, plan.blocks);
    bytes.set(plan.tail, plan.body);
    return;
  }
  const nidOf = (node: TestNode): number => plans.get(node)?.nid ?? 0;
  plan.pieces = plan.groups.map((group, index) => {
    const isTail = index === plan.blockCount;
    const start = isTail ? plan.body : plan.blocks + index * BLOCK_SIZE;
    bytes.set(groupBytes(group, plan.node as TestDirectory, plan.parent, nidOf), start);
    const left = Number(plan.size) - index * BLOCK_SIZE;
    return { start, length: Math.min(BLOCK_SIZE, left) };
  });
}

function crossesBlock(start: number, length: number): boolean {
  return length > 0 && (start % BLOCK_SIZE) + length > BLOCK_SIZE;
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
