// What `composefs-info dump` prints of the image of a dump, computed from the text alone: slowly, on
// strings, and with nothing of the product's. Strings hold one byte per character.

interface Entry {
  name: string;
  parent: Entry | undefined;
  children: Entry[];
  mode: number;
  numbers: string;
  rdev: string;
  mtime: string;
  size: bigint;
  payload: string | undefined;
  content: string | undefined;
  digest: string | undefined;
  xattrs: Map<string, string>;
  isLink: boolean;
}

const Type = { DIRECTORY: 0o040000, REGULAR: 0o100000, SYMLINK: 0o120000, CHAR: 0o020000 } as const;
const SHARED_MAX = 128;

/** The normal form of a dump whose image has this version. */
export function normalDump(text: Buffer, version: number): string {
  const { root, byPath } = parse(text.toString('latin1'));
  const all: Entry[] = [];
  walk(root, (entry) => void all.push(entry));
  const owners = all.filter((entry) => !entry.isLink);
  const stored = new Map(owners.map((entry) => [entry, storedXattrs(entry, version)]));
  const counts = new Map<string, number>();
  const count = (name: string, value: string): void => {
    const key = `${name}=${value}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  };
  for (const xattrs of stored.values()) for (const [name, value] of xattrs) count(name, value);
  const label = root.xattrs.get('security.selinux');
  const hexNames = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
  const added = hexNames.filter((name) => !root.children.some((child) => child.name === name));
  if (label !== undefined) for (const _ of added) count('security.selinux', label);

  const lines: string[] = [];
  const firstPaths = new Map<Entry, string>();
  walk(root, (entry) => {
    const target = resolve(entry, byPath);
    const path = pathOf(entry);
    const first = firstPaths.get(target);
    if (first === undefined) firstPaths.set(target, path);
    const xattrs = stored.get(target) as Map<string, string>;
    const more = target === root ? added : [];
    lines.push(lineOf(target, path, first, xattrs, counts, more));
  });
  return `${lines.join('\n')}\n`;
}

function parse(text: string): { root: Entry; byPath: Map<string, Entry> } {
  const byPath = new Map<string, Entry>();
  for (const line of text.replace(/\n$/, '').split('\n')) {
    const fields = line.split(' ');
    const [path = '', size = '', mode = '', nlink, uid, gid, rdev, mtime = ''] = fields;
    const full = unescape(path);
    const slash = full.lastIndexOf('/');
    const isRoot = full === '/';
    const parent = isRoot ? undefined : byPath.get(slash === 0 ? '/' : full.slice(0, slash));
    const isLink = mode.startsWith('@');
    const optional = (field: string | undefined): string | undefined =>
      field === '-' || field === undefined ? undefined : unescape(field);
    const u32 = (field: string | undefined): bigint => BigInt.asUintN(32, BigInt(field ?? ''));
    const [seconds = '', nanoseconds = ''] = mtime.split('.');
    const entry: Entry = {
      name: isRoot ? '' : full.slice(slash + 1),
      parent,
      children: [],
      mode: parseInt(mode.replace('@', ''), 8) & 0xffff,
      numbers: isLink ? '' : `${u32(nlink)} ${u32(uid)} ${u32(gid)}`,
      rdev: isLink ? '' : `${u32(rdev)}`,
      mtime: isLink ? '' : `${BigInt.asIntN(64, BigInt(seconds))}.${u32(nanoseconds)}`,
      size: isLink ? 0n : BigInt(size),
      payload: optional(fields[8]),
      content: optional(fields[9]),
      digest: fields[10] === '-' ? undefined : fields[10]?.toLowerCase(),
      xattrs: new Map(),
      isLink,
    };
    for (const xattr of fields.slice(11)) {
      const equals = xattr.indexOf('=');
      entry.xattrs.set(unescape(xattr.slice(0, equals)), unescape(xattr.slice(equals + 1)));
    }
    parent?.children.push(entry);
    byPath.set(full, entry);
  }
  return { root: byPath.get('/') as Entry, byPath };
}

const typeOf = (entry: Entry): number => entry.mode & 0o170000;
const isWhiteout = (entry: Entry): boolean =>
  !entry.isLink && typeOf(entry) === Type.CHAR && entry.rdev === '0';
const isInline = (entry: Entry): boolean =>
  typeOf(entry) === Type.REGULAR && entry.size > 0n && entry.content !== undefined;
const isExternal = (entry: Entry): boolean =>
  typeOf(entry) === Type.REGULAR && entry.size > 0n && entry.content === undefined;

function walk(entry: Entry, visit: (entry: Entry) => void): void {
  visit(entry);
  entry.children.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const child of entry.children) walk(child, visit);
}

function resolve(entry: Entry, byPath: Map<string, Entry>): Entry {
  let target = entry;
  while (target.isLink) target = byPath.get(target.payload ?? '') as Entry;
  return target;
}

function pathOf(entry: Entry): string {
  if (entry.parent === undefined) return '/';
  const parent = pathOf(entry.parent);
  return `${parent === '/' ? '' : parent}/${escape(entry.name)}`;
}

/** As in the image. */
function storedXattrs(entry: Entry, version: number): Map<string, string> {
  const result = new Map<string, string>();
  for (const [name, value] of entry.xattrs)
    result.set(name.replace(/^trusted\.overlay\./, 'trusted.overlay.overlay.'), value);
  const mark = (name: string, value: string): void => {
    result.set(`trusted.overlay.overlay.${name}`, value);
    result.set(`user.overlay.${name}`, value);
  };
  if (isExternal(entry)) {
    const digest = Buffer.from(`00240001${entry.digest ?? ''}`, 'hex').toString('latin1');
    result.set('trusted.overlay.metacopy', entry.digest === undefined ? '' : digest);
    if (entry.payload) result.set('trusted.overlay.redirect', `/${entry.payload}`);
  }
  if (isWhiteout(entry)) mark('whiteout', '');
  if (entry.children.some(isWhiteout)) {
    mark('whiteouts', '');
    if (version === 1) mark('opaque', 'x');
  }
  if (entry.parent === undefined) result.set('trusted.overlay.opaque', 'y');
  return result;
}

function lineOf(
  entry: Entry,
  path: string,
  firstPath: string | undefined,
  xattrs: Map<string, string>,
  counts: Map<string, number>,
  more: readonly string[],
): string {
  const type = typeOf(entry);
  const looksWhiteout =
    isWhiteout(entry) || (type === Type.REGULAR && xattrs.has('trusted.overlay.overlay.whiteout'));
  const mode = looksWhiteout ? Type.CHAR | (entry.mode & 0o7777) : entry.mode;
  const isDevice = [Type.CHAR as number, 0o060000].includes(type);
  let size = 0n;
  if (type === Type.DIRECTORY) size = BigInt(directorySize(entry, more));
  else if (type === Type.SYMLINK) size = BigInt((entry.payload ?? '').length);
  else if (type === Type.REGULAR && !looksWhiteout) size = entry.size;
  const hasPayload = type === Type.SYMLINK || isExternal(entry);
  const subdirectories = entry.children.filter(
    (child) => !child.isLink && typeOf(child) === Type.DIRECTORY,
  );
  const numbers =
    type === Type.DIRECTORY
      ? entry.numbers.replace(/^\d+/, `${2 + subdirectories.length}`)
      : entry.numbers;
  let payload = hasPayload && !looksWhiteout && entry.payload ? dashed(entry.payload) : '-';
  if (firstPath !== undefined) payload = firstPath;
  const fields = [
    path,
    size,
    `${firstPath === undefined ? '' : '@'}${mode.toString(8)}`,
    numbers,
    isDevice ? entry.rdev : '0',
    entry.mtime,
    payload,
    isInline(entry) && !looksWhiteout ? dashed(entry.content ?? '') : '-',
    isExternal(entry) ? (entry.digest ?? '-') : '-',
    ...shownXattrs(xattrs, counts),
  ];
  return fields.join(' ');
}

/** Inline ones first, then shared ones, without those that are only in images. */
function shownXattrs(xattrs: Map<string, string>, counts: Map<string, number>): string[] {
  const inline: string[] = [];
  const shared: string[] = [];
  let sharedCount = 0;
  for (const name of [...xattrs.keys()].toSorted((a, b) => (a < b ? -1 : 1))) {
    const value = xattrs.get(name) ?? '';
    const isShared = (counts.get(`${name}=${value}`) ?? 0) > 1 && sharedCount < SHARED_MAX;
    if (isShared) sharedCount++;
    const isHidden =
      /^trusted\.overlay\.(?!overlay\.)/.test(name) ||
      /^(trusted\.overlay\.overlay|user\.overlay)\.whiteouts?$/.test(name);
    if (isHidden) continue;
    const shown = name.replace(/^trusted\.overlay\.overlay\./, 'trusted.overlay.');
    const equals = (text: string): string => escape(text).replaceAll('=', '\\x3d');
    (isShared ? shared : inline).push(`${equals(shown)}=${equals(value)}`);
  }
  return [...inline, ...shared];
}

function directorySize(entry: Entry, more: readonly string[]): number {
  const names = [...entry.children.map(({ name }) => name), ...more, '.', '..'];
  let blocks = 0;
  let sum = 0;
  for (const name of names.toSorted((a, b) => (a < b ? -1 : 1))) {
    const cost = 12 + name.length;
    if (sum + cost > 4096) {
      blocks++;
      sum = 0;
    }
    sum += cost;
  }
  return sum > 2048 ? (blocks + 1) * 4096 : blocks * 4096 + sum;
}

function unescape(text: string): string {
  return text.replaceAll(/\\(x..|.)/g, (_, code: string) => {
    if (code.startsWith('x')) return String.fromCharCode(parseInt(code.slice(1), 16));
    return { n: '\n', r: '\r', t: '\t' }[code] ?? code;
  });
}

function escape(text: string): string {
  const short: Record<string, string> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  return text.replaceAll(/[^\x21-\x5b\x5d-\x7e]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(2, '0');
    return short[character] ?? `\\x${code}`;
  });
}

const dashed = (text: string): string => (text === '-' ? '\\x2d' : escape(text));
