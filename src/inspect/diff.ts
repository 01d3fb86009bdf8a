// Explains why two images, or what would become of dumps and directories, are not the same.

import type { Image } from '../image-reader/index.ts';
import { measureBytes } from '../verify/index.ts';
import { compareEntries, type EntryDifference } from './diff-entries.ts';
import type { Source } from './diff-sources.ts';
import { reading } from './load-image.ts';
import { refuseSharedBytes } from './shared-bytes.ts';
import { toJsonBytes, fromEscaped, withSpaces } from './texts.ts';

/** A fact of the image as a whole that differs. */
export interface ImageDifference {
  readonly what: string;
  readonly a: string;
  readonly b: string;
}

export interface DiffSummary {
  readonly isEqual: boolean;
  /** fs-verity SHA-256 digests of the images; of a tree, that of the image it would become. */
  readonly digests: { readonly a: string; readonly b: string };
  readonly images: readonly ImageDifference[];
  readonly firstPath: string | undefined;
  readonly differing: number;
  readonly onlyA: number;
  readonly onlyB: number;
  /** How many entries differ in each field. */
  readonly fields: ReadonlyMap<string, number>;
  /** What is behind the differences, in sentences. */
  readonly explanations: readonly string[];
}

/** Fields that are counted by name; a hostile image must not make the list endless. */
const FIELDS_MAX = 1000;

/** Reports the entries that differ and returns what they amount to. Throws ImageError for damage. */
export function compareSources(
  a: Source,
  b: Source,
  report: (difference: EntryDifference) => void,
): DiffSummary {
  const digests = { a: measureBytes(a.image.bytes).hex, b: measureBytes(b.image.bytes).hex };
  const tally = new Tally();
  const isSame = digests.a === digests.b;
  if (!isSame) {
    for (const { path, image } of [a, b]) reading(path, () => refuseSharedBytes(image));
    for (const difference of compareEntries(a.image, b.image)) {
      tally.add(difference);
      report(difference);
    }
  }
  // The bytes of two images count, and those of a tree if an image of this kind can be written.
  const isComparable =
    (a.kind === 'image' && b.kind === 'image') ||
    (a.image.composefsVersion <= 1 && b.image.composefsVersion <= 1);
  const images = isSame || !isComparable ? [] : compareImages(a, b);
  const isEqual = isSame || (tally.total === 0 && !isComparable);
  return {
    isEqual,
    digests,
    images,
    firstPath: tally.firstPath,
    differing: tally.differing,
    onlyA: tally.onlyA,
    onlyB: tally.onlyB,
    fields: tally.fields,
    explanations: isSame ? [] : tally.explain(a, b, isComparable),
  };
}

function compareImages({ image: a, kind: kindA }: Source, { image: b, kind: kindB }: Source) {
  const differences: ImageDifference[] = [];
  const compare = (what: string, x: unknown, y: unknown): void => {
    if (x !== y) differences.push({ what, a: String(x), b: String(y) });
  };
  if (kindA === 'image' && kindB === 'image') {
    compare('format version', a.composefsVersion, b.composefsVersion);
  }
  compare('ACL flag', a.hasAclFlag, b.hasAclFlag);
  compare('inodes', a.inodeCount, b.inodeCount);
  compare('build time', buildTime(a), buildTime(b));
  compare('size', a.sizeBytes, b.sizeBytes);
  return differences;
}

/** It is the smallest mtime of all entries. */
function buildTime({ buildTimeLow, buildTimeHigh, buildTimeNsec }: Image): string {
  const seconds = BigInt.asIntN(64, (BigInt(buildTimeHigh) << 32n) | BigInt(buildTimeLow));
  return `${seconds}.${buildTimeNsec}`;
}

class Tally {
  differing: number = 0;
  onlyA: number = 0;
  onlyB: number = 0;
  firstPath: string | undefined;
  readonly fields: Map<string, number> = new Map();
  readonly #linksOnly: { a: number; b: number } = { a: 0, b: 0 };
  readonly #inlineOnly: { a: number; b: number } = { a: 0, b: 0 };

  get total(): number {
    return this.differing + this.onlyA + this.onlyB;
  }

  add({ path, only, fields }: EntryDifference): void {
    this.firstPath ??= path;
    if (only === 'a') this.onlyA++;
    else if (only === 'b') this.onlyB++;
    else this.differing++;
    for (const { field, a, b } of fields) {
      const count = this.fields.get(field) ?? 0;
      if (count > 0 || this.fields.size < FIELDS_MAX) this.fields.set(field, count + 1);
      if (field === 'hard link to') {
        if (b === 'none') this.#linksOnly.a++;
        if (a === 'none') this.#linksOnly.b++;
      } else if (field === 'stored') {
        if (a === 'in the image') this.#inlineOnly.a++;
        if (b === 'in the image') this.#inlineOnly.b++;
      }
    }
  }

  explain(a: Source, b: Source, isComparable: boolean): string[] {
    const texts: string[] = [];
    for (const [side, count] of Object.entries(this.#linksOnly)) {
      if (count === 0) continue;
      const other = side === 'a' ? 'B' : 'A';
      texts.push(
        `hard links: ${count} names are further names of a file in ${side.toUpperCase()} and files ` +
          `of their own in ${other}; mkcomposefs breaks hard links up unless it has --hardlinks`,
      );
    }
    for (const [side, count] of Object.entries(this.#inlineOnly)) {
      if (count === 0) continue;
      texts.push(
        `inline: ${count} files have their content in the image in ${side.toUpperCase()} only; ` +
          'mkcomposefs keeps files of up to 64 bytes there and makes objects of larger ones',
      );
    }
    const xattrs = [...this.fields].filter(([field]) => field.startsWith('xattr '));
    if (xattrs.length > 0) {
      const list = xattrs.slice(0, 8).map(([field, count]) => `${field.slice(6)} (${count})`);
      const more = xattrs.length > list.length ? ` and ${xattrs.length - list.length} more` : '';
      texts.push(`attributes: the sets differ in ${list.join(', ')}${more}`);
    }
    if (this.total === 0) texts.push(explainEqualTrees(a, b, isComparable));
    return texts;
  }
}

/** All entries are the same, the images are not. */
function explainEqualTrees(a: Source, b: Source, isComparable: boolean): string {
  if (!isComparable) {
    return 'the trees are the same; images of format version 2 are not written here, so that the digests say nothing';
  }
  if (a.image.composefsVersion !== b.image.composefsVersion) {
    return 'the trees are the same, the images are of different format versions (mkcomposefs --min-version)';
  }
  const at = firstDifference(a.image.bytes, b.image.bytes);
  return `the trees are the same, the images were laid out differently: their bytes differ from byte ${at} on`;
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) if (a[i] !== b[i]) return i;
  return common;
}

/** Longer values are cut: what differs is said, not shown in full. */
const VALUE_SHOWN = 160;

/** One line for each field. */
export function describeDifference({ path, only, kind, fields }: EntryDifference): string {
  const name = withSpaces(path);
  if (only !== undefined) return `${name}: only in ${only.toUpperCase()} (${kind})\n`;
  return fields.map(({ field, a, b }) => `${name}: ${field} ${pair(a, b)}\n`).join('');
}

function pair(a: string, b: string): string {
  if (a.length <= VALUE_SHOWN && b.length <= VALUE_SHOWN) return `${a} != ${b}`;
  let same = 0;
  while (a[same] === b[same]) same++;
  const start = Math.max(0, same - 16);
  const cut = (value: string): string => {
    const shown = value.slice(start, start + VALUE_SHOWN);
    const head = start > 0 ? '...' : '';
    return `${head}${shown}${start + VALUE_SHOWN < value.length ? '...' : ''}`;
  };
  return `${cut(a)} != ${cut(b)}`;
}

export function differenceToJson({ path, only, kind, fields }: EntryDifference): object {
  const name = toJsonBytes(fromEscaped(path));
  if (only !== undefined) return { path: name, only, type: kind };
  return { path: name, differences: fields };
}

export function describeDiff(summary: DiffSummary): string {
  const { digests, firstPath, fields } = summary;
  if (summary.isEqual && digests.a === digests.b) return '';
  const lines = summary.images.map(({ what, a, b }) => `image: ${what} ${a} != ${b}`);
  if (summary.isEqual) return [...lines, ...summary.explanations, ''].join('\n');
  lines.push(`image: fs-verity digest ${digests.a} != ${digests.b}`);
  if (firstPath !== undefined) {
    const { differing, onlyA, onlyB } = summary;
    lines.push(
      `${differing} entries differ, ${onlyA} only in A, ${onlyB} only in B; ` +
        `the first is ${withSpaces(firstPath)}`,
    );
  }
  if (fields.size > 0) {
    const list = [...fields].slice(0, 16).map(([field, count]) => `${field} (${count})`);
    lines.push(`differing fields: ${list.join(', ')}${fields.size > 16 ? ', ...' : ''}`);
  }
  return [...lines, ...summary.explanations, ''].join('\n');
}

export function diffToJson(summary: DiffSummary): object {
  const { firstPath, fields, ...rest } = summary;
  return {
    ...rest,
    firstPath: firstPath === undefined ? null : toJsonBytes(fromEscaped(firstPath)),
    fields: Object.fromEntries(fields),
  };
}
