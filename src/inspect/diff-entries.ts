// Compares two images entry by entry, in one pass over both: their entries come in the same order.

import type { Image } from '../image-reader/index.ts';
import { type Entry, imageEntries, kindOf, splitXattr } from './entries.ts';
import { fromEscaped } from './texts.ts';

/** A field that differs; the values are texts as in a dump. */
export interface FieldDifference {
  readonly field: string;
  readonly a: string;
  readonly b: string;
}

export interface EntryDifference {
  /** Escaped as in a dump. */
  readonly path: string;
  /** The side that alone has the entry; undefined if both do. */
  readonly only: 'a' | 'b' | undefined;
  /** What the entry is, for one that only one side has. */
  readonly kind: string;
  readonly fields: readonly FieldDifference[];
}

const ABSENT = 'none';

/** The entries that differ, in the order of a dump. Throws ImageError for damage. */
export function* compareEntries(a: Image, b: Image): Generator<EntryDifference, void, undefined> {
  const left = imageEntries(a);
  const right = imageEntries(b);
  let inA = left.next();
  let inB = right.next();
  while (inA.done !== true || inB.done !== true) {
    const order =
      inA.done === true ? 1 : inB.done === true ? -1 : comparePaths(inA.value, inB.value);
    if (order < 0) {
      yield onlyIn('a', inA.value as Entry);
      inA = left.next();
    } else if (order > 0) {
      yield onlyIn('b', inB.value as Entry);
      inB = right.next();
    } else {
      const fields = compareFields(inA.value as Entry, inB.value as Entry);
      const { path, mode } = inA.value as Entry;
      if (fields.length > 0) yield { path, only: undefined, kind: kindOf(mode), fields };
      inA = left.next();
      inB = right.next();
    }
  }
}

function onlyIn(only: 'a' | 'b', entry: Entry): EntryDifference {
  const { path, mode, isHardLink } = entry;
  return { path, only, kind: isHardLink ? 'hard link' : kindOf(mode), fields: [] };
}

/** The order of a walk: directories before what is in them, names by bytes. */
function comparePaths({ path: a }: Entry, { path: b }: Entry): number {
  if (a === b) return 0;
  const isPlain = !a.includes('\\') && !b.includes('\\');
  const [x, y] = isPlain ? [a, b] : [latin1(a), latin1(b)];
  // With the separator below every byte of a name, the order of texts is that of the walk.
  const [p, q] = [x.replaceAll('/', '\0'), y.replaceAll('/', '\0')];
  // The root is a slash by itself.
  if (p.length === 1 || q.length === 1) return p.length - q.length;
  return p < q ? -1 : 1;
}

function latin1(text: string): string {
  return Buffer.from(fromEscaped(text)).toString('latin1');
}

function compareFields(a: Entry, b: Entry): FieldDifference[] {
  const fields: FieldDifference[] = [];
  const compare = (field: string, x: string, y: string): void => {
    if (x !== y) fields.push({ field, a: x, b: y });
  };
  const kindA = kindOf(a.mode);
  const kindB = kindOf(b.mode);
  compare('type', kindA, kindB);
  compare('mode', a.mode.toString(8), b.mode.toString(8));
  // That of a directory follows from its names and from the layout.
  if (kindA !== 'directory' || kindB !== 'directory') compare('size', a.size, b.size);
  compare('nlink', a.nlink, b.nlink);
  compare('uid', a.uid, b.uid);
  compare('gid', a.gid, b.gid);
  compare('rdev', a.rdev, b.rdev);
  compare('mtime', a.mtime, b.mtime);
  compare('hard link to', linkOf(a), linkOf(b));
  compare('symlink target', targetOf(a), targetOf(b));
  compare('stored', storageOf(a), storageOf(b));
  compare('object', objectOf(a), objectOf(b));
  compare('content', valueOf(a.content), valueOf(b.content));
  compare('digest', digestOf(a), digestOf(b));
  compareXattrs(a.xattrs, b.xattrs, compare);
  return fields;
}

const valueOf = (field: string): string => (field === '-' ? ABSENT : field);
const linkOf = (entry: Entry): string => (entry.isHardLink ? entry.payload : ABSENT);

function targetOf(entry: Entry): string {
  const isOwn = !entry.isHardLink && kindOf(entry.mode) === 'symlink';
  return isOwn ? valueOf(entry.payload) : ABSENT;
}

function objectOf(entry: Entry): string {
  return entry.isExternal && !entry.isHardLink ? valueOf(entry.payload) : ABSENT;
}

function storageOf(entry: Entry): string {
  if (entry.isExternal) return 'in an object';
  return entry.content === '-' ? ABSENT : 'in the image';
}

function digestOf({ digest }: Entry): string {
  return digest === undefined ? ABSENT : `${digest.algorithm}:${digest.hex}`;
}

function compareXattrs(
  a: readonly string[],
  b: readonly string[],
  compare: (field: string, x: string, y: string) => void,
): void {
  if (a.length === 0 && b.length === 0) return;
  const inA = new Map(a.map(splitXattr));
  const inB = new Map(b.map(splitXattr));
  // The order in an image depends on which attributes are shared there: it says nothing.
  for (const name of [...new Set([...inA.keys(), ...inB.keys()])].sort()) {
    compare(`xattr ${name}`, quoted(inA.get(name)), quoted(inB.get(name)));
  }
}

/** In quotes: a value may be empty or the word for an absent one. */
function quoted(value: string | undefined): string {
  return value === undefined ? ABSENT : `"${value}"`;
}
