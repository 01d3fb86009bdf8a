// Random trees from a seed, for tests of the image writer. A tree is made of plain objects, so that
// tests have something to hold the writer's result against that is not the writer's own; it becomes
// an ImageTree through the public interface, or a dump text through a few lines of its own.

import { ImageTree, type NodeAttributes, type NodeId } from '../../src/image-writer/index.ts';
import { seededRandom } from './mutations.ts';

export interface ModelNode {
  name: Buffer;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: bigint;
  seconds: bigint;
  nanoseconds: number;
  content?: Buffer;
  objectPath?: string;
  digest?: Buffer;
  target?: Buffer;
  xattrs: [name: string, value: Buffer][];
  children: ModelNode[];
  /** Only one more name of this node. */
  linkTo?: ModelNode;
}

/** Choices from a seed: the same on every machine. */
export class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  /** From 0 to limit - 1. */
  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

export interface GeneratorOptions {
  /** Names in the tree, the root not counted. */
  entries: number;
  /** Char devices 0:0. */
  whiteouts?: boolean;
  /** Device, link and other counts that mounts cannot show, odd names, huge files. */
  extremes?: boolean;
  /** More names for files. */
  hardLinks?: boolean;
}

const labels = ['usr_t', 'bin_t', 'etc_t'].map((type) => `system_u:object_r:${type}:s0\0`);
const ids = [0, 0, 0, 1000, 65535, 65536, 4294967294];
const contentSizes = [1, 12, 64, 65, 900, 2047, 2048, 2049, 4095, 4096, 4097, 5000];
const fileSizes = [
  1n,
  4096n,
  4097n,
  100_000n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 43n + 1n,
];
const targetLengths = [1, 7, 30, 900, 4000, 4031, 4063, 4064, 4095];
const oddNames = [
  '-',
  '!',
  '.x',
  '..x',
  '...',
  ' ',
  'a b',
  'ff',
  '0a',
  'back\\slash',
  'é',
  '\x01\n\r\t',
];

const Type = { FILE: 0o100000, DIRECTORY: 0o040000, SYMLINK: 0o120000, CHAR: 0o020000 } as const;
const otherTypes = [0o060000, 0o010000, 0o140000, Type.CHAR];

/** A random tree: the root's node. */
export function randomTree(seed: number, options: GeneratorOptions): ModelNode {
  const random = new Random(seed);
  const root = emptyNode(random, Buffer.alloc(0), Type.DIRECTORY | 0o755);
  const directories = [root];
  const files: ModelNode[] = [];
  // A few large directories, and chains of small ones.
  for (let i = 0; i < options.entries; i++) {
    const parent = random.chance(50) ? (directories.at(-1) as ModelNode) : random.pick(directories);
    const node = randomNode(random, nameFor(random, i, parent, options), files, options);
    parent.children.push(node);
    if ((node.mode & 0o170000) === Type.DIRECTORY) directories.push(node);
    else if (node.linkTo === undefined) files.push(node);
  }
  return root;
}

function nameFor(
  random: Random,
  index: number,
  parent: ModelNode,
  options: GeneratorOptions,
): Buffer {
  if (options.extremes === true && random.chance(10)) {
    const odd = random.chance(30)
      ? random.bytes(6).map((byte) => byte || 1)
      : random.pick(oddNames);
    const name = Buffer.from(odd).map((byte) => (byte === 0x2f ? 0x5f : byte)) as Buffer;
    if (!parent.children.some((child) => child.name.equals(name))) return Buffer.from(name);
  }
  const padding = random.chance(5) ? 'n'.repeat(random.below(240)) : '';
  return Buffer.from(`${random.pick(['file', 'x', 'lib-'])}${padding}${index}`);
}

function emptyNode(random: Random, name: Buffer, mode: number): ModelNode {
  return {
    name,
    mode,
    nlink: 1,
    uid: random.pick(ids),
    gid: random.pick(ids),
    rdev: 0,
    size: 0n,
    seconds: random.chance(70) ? 1_700_000_000n : BigInt(random.below(2 ** 31)),
    nanoseconds: random.chance(80) ? 0 : random.below(1_000_000_000),
    xattrs: randomXattrs(random),
    children: [],
  };
}

function randomXattrs(random: Random): ModelNode['xattrs'] {
  const xattrs = new Map<string, Buffer>();
  if (random.chance(60)) xattrs.set('security.selinux', Buffer.from(random.pick(labels)));
  if (random.chance(20)) xattrs.set('user.shared', Buffer.from(random.pick(['1', 'two', ''])));
  if (random.chance(10)) xattrs.set(`user.own${random.below(50)}`, random.bytes(random.below(40)));
  if (random.chance(5)) xattrs.set('trusted.overlay.opaque', Buffer.from('y'));
  if (random.chance(3)) xattrs.set('trusted.overlay.overlay.redirect', Buffer.from('/x'));
  if (random.chance(3)) xattrs.set('trusted.note', random.bytes(3));
  if (random.chance(2)) xattrs.set('user.a=b', Buffer.from('c=d'));
  if (random.chance(2)) {
    const count = 1 + random.below(150);
    for (let i = 0; i < count; i++) xattrs.set(`user.x${i}`, Buffer.from(`${i % 7}`));
  }
  return [...xattrs];
}

function randomNode(
  random: Random,
  name: Buffer,
  files: readonly ModelNode[],
  options: GeneratorOptions,
): ModelNode {
  const permissions = random.pick([0o644, 0o755, 0o600, 0o4755, 0o1777]);
  const dice = random.below(100);
  // Directories that everybody can search, or ordinary users would see next to nothing.
  const searchable = random.pick([0o755, 0o555, 0o1777]);
  if (dice < 15) return emptyNode(random, name, Type.DIRECTORY | searchable);
  if (dice < 25) return randomSymlink(random, name);
  if (dice < 30) {
    const node = emptyNode(random, name, random.pick(otherTypes) | permissions);
    const isDevice = (node.mode & 0o170000) === Type.CHAR || (node.mode & 0o170000) === 0o060000;
    if (isDevice) node.rdev = 259 + random.below(1000);
    return node;
  }
  if (dice < 32 && options.whiteouts === true) return emptyNode(random, name, Type.CHAR | 0o644);
  if (dice < 36 && options.hardLinks === true && files.length > 0) {
    const linkTo = random.pick(files);
    return { ...emptyNode(random, name, linkTo.mode), linkTo };
  }
  const node = emptyNode(random, name, Type.FILE | permissions);
  if (options.extremes === true && random.chance(5)) node.nlink = 70_000;
  if (dice < 55) {
    node.content = random.bytes(
      random.chance(90) ? random.pick([1, 12, 60]) : random.pick(contentSizes),
    );
    node.size = BigInt(node.content.length);
  } else if (dice < 95) {
    makeExternal(random, node, options);
  }
  return node;
}

function randomSymlink(random: Random, name: Buffer): ModelNode {
  const node = emptyNode(random, name, Type.SYMLINK | 0o777);
  const length = random.chance(80) ? 20 : random.pick(targetLengths);
  node.target = Buffer.from('../target/'.repeat(length / 10 + 1).slice(0, length));
  node.size = BigInt(length);
  return node;
}

function makeExternal(random: Random, node: ModelNode, options: GeneratorOptions): void {
  node.size = options.extremes === true ? random.pick(fileSizes) : BigInt(1 + random.below(1e6));
  const digest = random.chance(20) ? Buffer.alloc(32, random.below(8)) : random.bytes(32);
  const hex = digest.toString('hex');
  const form = options.extremes === true ? random.below(10) : 0;
  node.objectPath =
    form === 8 ? `some/path-${random.below(9)}` : `${hex.slice(0, 2)}/${hex.slice(2)}`;
  if (form !== 7) node.digest = digest;
  if (form === 9) delete node.objectPath;
}

/** Calls `visit` for every node, directories before what is in them. */
export function visitModel(
  root: ModelNode,
  visit: (node: ModelNode, path: Buffer, parent: ModelNode | undefined) => void,
): void {
  const pending: [node: ModelNode, path: Buffer, parent: ModelNode | undefined][] = [
    [root, Buffer.alloc(0), undefined],
  ];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [node, path, parent] = next;
    visit(node, path, parent);
    for (const child of node.children.toReversed()) {
      pending.push([child, Buffer.concat([path, Buffer.from('/'), child.name]), node]);
    }
  }
}

/** The tree through the public interface of the writer. */
export function toImageTree(root: ModelNode): ImageTree {
  const tree = new ImageTree(attributesOf(root));
  const ids = new Map<ModelNode, NodeId>([[root, tree.root]]);
  const links: [parent: NodeId, node: ModelNode, linkTo: ModelNode][] = [];
  visitModel(root, (node, _path, parent) => {
    if (parent === undefined) return;
    const parentId = ids.get(parent) as NodeId;
    if (node.linkTo === undefined) ids.set(node, tree.add(parentId, node.name, attributesOf(node)));
    else links.push([parentId, node, node.linkTo]);
  });
  for (const [parent, node, linkTo] of links) {
    tree.addHardLink(parent, node.name, ids.get(linkTo) as NodeId);
  }
  return tree;
}

function attributesOf(node: ModelNode): NodeAttributes {
  const { mode, nlink, uid, gid, rdev, size, seconds, nanoseconds, xattrs } = node;
  const mtime = { seconds, nanoseconds };
  return {
    ...{ mode, nlink, uid, gid, rdev, size, mtime, xattrs },
    ...(node.content === undefined ? {} : { content: node.content }),
    ...(node.objectPath === undefined ? {} : { objectPath: node.objectPath }),
    ...(node.digest === undefined ? {} : { digest: node.digest }),
    ...(node.target === undefined ? {} : { target: node.target }),
  };
}

/** The tree as a dump. */
export function toDumpText(root: ModelNode): Buffer {
  const paths = new Map<ModelNode, Buffer>();
  visitModel(root, (node, path) => paths.set(node, path));
  const lines: string[] = [];
  visitModel(root, (node, path) => {
    const name = path.length === 0 ? '/' : escape(path);
    if (node.linkTo !== undefined) {
      const target = escape(paths.get(node.linkTo) as Buffer);
      lines.push(`${name} 0 @${node.mode.toString(8)} - - - - - ${target} - -`);
      return;
    }
    const numbers = [node.size, node.mode.toString(8), node.nlink, node.uid, node.gid, node.rdev];
    const payload = node.target ?? (node.objectPath === undefined ? undefined : node.objectPath);
    const fields = [
      ...[name, ...numbers, `${node.seconds}.${node.nanoseconds}`],
      payload === undefined ? '-' : escape(Buffer.from(payload)),
      node.content === undefined ? '-' : escape(node.content),
      node.digest === undefined ? '-' : node.digest.toString('hex'),
      ...node.xattrs.map(([key, value]) => `${escape(Buffer.from(key))}=${escape(value)}`),
    ];
    lines.push(fields.join(' '));
  });
  return Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
}

/** Everything that could be read in another way is written in hex. */
function escape(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    text += /[A-Za-z0-9_./]/.test(character)
      ? character
      : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return text;
}
