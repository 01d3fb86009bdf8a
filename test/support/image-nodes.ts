// The trees that image-builder.ts turns into images: node descriptions and short constructors.

export type Bytes = string | Uint8Array;

/** A stored attribute. By full name, or with the index chosen by the test. */
export type TestXattr =
  | readonly [name: string, value: Bytes]
  | { readonly index: number; readonly name: Bytes; readonly value: Bytes };

/** Overrides for one dirent. */
export interface DirentOverride {
  fileType?: number;
  nid?: bigint;
}

export type TestChild = readonly [name: Bytes, node: TestNode, override?: DirentOverride];

/** Values written instead of the right ones. They do not move anything. */
export interface InodeOverride {
  format?: number;
  icount?: number;
  mode?: number;
  size?: bigint;
  iU?: number;
  nlink?: number;
  mtimeNsec?: number;
}

/** Fields that every kind of node has. */
export interface TestAttributes {
  /** Permission bits. Default 0o755 for directories, 0o777 for symlinks, else 0o644. */
  permissions?: number;
  uid?: number;
  gid?: number;
  /** Default: 2 + subdirectories, or the number of names. */
  nlink?: number;
  /** Seconds. Default 0. */
  mtime?: number | bigint;
  mtimeNsec?: number;
  xattrs?: readonly TestXattr[];
  /** Default: compact if the values fit. */
  form?: 'compact' | 'extended';
  override?: InodeOverride;
}

export interface TestDirectory extends TestAttributes {
  kind: 'directory';
  children: TestChild[];
  /** What `.` and `..` lead to; null leaves the entry out. Default: the right thing. */
  dot?: TestNode | null;
  dotDot?: TestNode | null;
  /** Default true. False keeps the order `.`, `..`, children as given. */
  sorted?: boolean;
  /** Where the last, partial piece lies. Default: behind the inode up to 2048 bytes, else a block. */
  tail?: 'inline' | 'block' | 'short-block';
}

export interface TestFile extends TestAttributes {
  kind: 'file';
  content: Bytes;
  /** Where a last partial block lies. Default: behind the inode up to 2048 bytes, else a block. */
  tail?: 'inline' | 'block';
}

export interface TestExternal extends TestAttributes {
  kind: 'external';
  size: number | bigint;
  /** Value of trusted.overlay.redirect; undefined leaves it out. */
  redirect: Bytes | undefined;
  /** Value of trusted.overlay.metacopy; undefined leaves it out. */
  metacopy: Uint8Array | undefined;
}

export interface TestSymlink extends TestAttributes {
  kind: 'symlink';
  target: Bytes;
  tail?: 'inline' | 'block';
}

export interface TestSpecial extends TestAttributes {
  kind: 'char-device' | 'block-device' | 'fifo' | 'socket';
  major?: number;
  minor?: number;
}

/** The same object in two places makes a hard link. */
export type TestNode = TestDirectory | TestFile | TestExternal | TestSymlink | TestSpecial;

const encoder = new TextEncoder();

export function toBytes(value: Bytes): Uint8Array {
  return typeof value === 'string' ? encoder.encode(value) : value;
}

type Children = Readonly<Record<string, TestNode>> | TestChild[];

export function directory(
  children: Children = {},
  attributes: Partial<TestDirectory> = {},
): TestDirectory {
  const list = Array.isArray(children) ? children : Object.entries(children);
  return { ...attributes, kind: 'directory', children: [...list] as TestChild[] };
}

export function file(content: Bytes = '', attributes: Partial<TestFile> = {}): TestFile {
  return { ...attributes, kind: 'file', content };
}

export function symlink(target: Bytes, attributes: Partial<TestSymlink> = {}): TestSymlink {
  return { ...attributes, kind: 'symlink', target };
}

export function special(
  kind: TestSpecial['kind'],
  major = 0,
  minor = 0,
  attributes: TestAttributes = {},
): TestSpecial {
  return { ...attributes, kind, major, minor };
}

/** A raw whiteout, as composefs-rs stores it. */
export function whiteout(attributes: TestAttributes = {}): TestSpecial {
  return special('char-device', 0, 0, attributes);
}

/** A whiteout as mkcomposefs stores it. Its directory needs escapedWhiteoutsMarkers. */
export function escapedWhiteout(attributes: TestAttributes = {}): TestFile {
  const xattrs: TestXattr[] = [
    ['trusted.overlay.overlay.whiteout', ''],
    ['user.overlay.whiteout', ''],
  ];
  return file('', { ...attributes, xattrs: [...xattrs, ...(attributes.xattrs ?? [])] });
}

/** What mkcomposefs (version 1) puts on a directory with escaped whiteouts. */
export const escapedWhiteoutsMarkers: readonly TestXattr[] = [
  ['trusted.overlay.overlay.opaque', 'x'],
  ['trusted.overlay.overlay.whiteouts', ''],
  ['user.overlay.opaque', 'x'],
  ['user.overlay.whiteouts', ''],
];

/**
 * An external file. The digest (32 or 64 bytes, or a hex string) makes the metacopy and, unless
 * given, the redirect. Without a digest: a metacopy of 4 bytes, or of 0 with `emptyMetacopy`.
 */
export function external(
  size: number | bigint,
  facts: { digest?: Uint8Array | string; redirect?: Bytes; emptyMetacopy?: boolean } = {},
  attributes: Partial<TestExternal> = {},
): TestExternal {
  const digest = typeof facts.digest === 'string' ? fromHex(facts.digest) : facts.digest;
  const redirect = facts.redirect ?? (digest && objectRedirect(digest));
  const metacopy =
    facts.emptyMetacopy === true ? new Uint8Array(0) : metacopyValue(digest ?? new Uint8Array(0));
  return { metacopy, redirect, ...attributes, kind: 'external', size };
}

/** struct ovl_metacopy. */
export function metacopyValue(digest: Uint8Array): Uint8Array {
  const algorithm = digest.length === 0 ? 0 : digest.length === 64 ? 2 : 1;
  return Uint8Array.from([0, 4 + digest.length, 0, algorithm, ...digest]);
}

/** `/xx/yyyy...` */
export function objectRedirect(digest: Uint8Array): string {
  const hex = toHex(digest);
  return `/${hex.slice(0, 2)}/${hex.slice(2)}`;
}

export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
