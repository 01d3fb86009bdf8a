// What an image consists of, counted: the answer to `composefs-info stat`.

import { type NameVisitor, damaged, setBit, walkNames } from '../dump/image-names.ts';
import { ImageXattrs } from '../dump/image-xattrs.ts';
import { METACOPY } from '../image-reader/format.ts';
import {
  DigestAlgorithm,
  type EntryKind,
  type Image,
  Inode,
  isExternal,
  readInode,
} from '../image-reader/index.ts';
import { measureBytes } from '../verify/index.ts';
import { kindOf } from './entries.ts';
import { SharedBytes } from './shared-bytes.ts';
import { toJsonNumber, toKey } from './texts.ts';

export type StatKind = EntryKind | 'whiteout';

export interface ImageStatistics {
  readonly formatVersion: number;
  readonly aclFlag: boolean;
  readonly imageBytes: number;
  /** fs-verity digests of the image itself, in hex. */
  readonly digests: { readonly sha256: string; readonly sha512: string };
  /** Inodes by kind, the root included. Whiteouts are those of the source tree. */
  readonly entries: Readonly<Record<StatKind, number>>;
  /** Names beyond the first of their inode. */
  readonly hardLinks: number;
  /** Char devices 0:0, which a mount hides. */
  readonly hiddenWhiteouts: number;
  /** Files whose bytes are in the image, and how many bytes; empty ones not counted. */
  readonly inlineFiles: number;
  readonly inlineBytes: number;
  /** Files whose content is an object. */
  readonly externalFiles: number;
  readonly referencedBytes: bigint;
  readonly objects: number;
  readonly objectBytes: bigint;
  /** External files by what their object is to be verified with. */
  readonly digestAlgorithms: Readonly<Record<'sha256' | 'sha512' | 'none', number>>;
}

/** Throws ImageError for damage. */
export function readStatistics(image: Image): ImageStatistics {
  const counter = new Counter(image);
  const root = new Inode();
  if (readInode(image, image.rootNid, root) !== 0) damaged(image.rootNid, 'an inode is damaged');
  counter.name(root);
  const walk = walkNames(image, counter, undefined);
  while (walk.next().done !== true) continue;
  const { bytes } = image;
  return {
    formatVersion: image.composefsVersion,
    aclFlag: image.hasAclFlag,
    imageBytes: image.sizeBytes,
    digests: {
      sha256: measureBytes(bytes).hex,
      sha512: measureBytes(bytes, { algorithm: 'sha512' }).hex,
    },
    entries: counter.entries,
    hardLinks: counter.hardLinks,
    hiddenWhiteouts: counter.hiddenWhiteouts,
    inlineFiles: counter.inlineFiles,
    inlineBytes: counter.inlineBytes,
    externalFiles: counter.externalFiles,
    referencedBytes: counter.referencedBytes,
    objects: counter.objects.size,
    objectBytes: counter.objectBytes,
    digestAlgorithms: counter.digestAlgorithms,
  };
}

class Counter implements NameVisitor {
  readonly entries: Record<StatKind, number> = {
    file: 0,
    directory: 0,
    symlink: 0,
    'char-device': 0,
    'block-device': 0,
    fifo: 0,
    socket: 0,
    whiteout: 0,
  };
  readonly digestAlgorithms: Record<'sha256' | 'sha512' | 'none', number> = {
    sha256: 0,
    sha512: 0,
    none: 0,
  };
  readonly objects: Set<string> = new Set();
  hardLinks: number = 0;
  hiddenWhiteouts: number = 0;
  inlineFiles: number = 0;
  inlineBytes: number = 0;
  externalFiles: number = 0;
  referencedBytes: bigint = 0n;
  objectBytes: bigint = 0n;
  readonly #image: Image;
  readonly #xattrs: ImageXattrs;
  readonly #seenWhiteouts: Uint8Array;
  readonly #areas: SharedBytes;

  constructor(image: Image) {
    this.#image = image;
    this.#xattrs = new ImageXattrs(image);
    this.#areas = new SharedBytes(image);
    this.#seenWhiteouts = new Uint8Array(Math.ceil(image.endNid / 8));
  }

  name(inode: Inode): void {
    if (inode.isWhiteout) {
      if (setBit(this.#seenWhiteouts, inode.nid)) this.hiddenWhiteouts++;
      return;
    }
    if (!this.#areas.add(inode)) {
      this.hardLinks++;
      return;
    }
    if (!inode.isRegular) {
      this.entries[kindOf(inode.mode)]++;
      return;
    }
    if (this.#xattrs.start(inode) < 0) damaged(inode.nid, 'extended attributes are damaged');
    this.entries[this.#xattrs.isWhiteout ? 'whiteout' : 'file']++;
    if (isExternal(inode)) this.#countExternal(inode);
    else if (inode.size > 0) {
      this.inlineFiles++;
      this.inlineBytes += inode.size;
    }
  }

  leave(): void {
    // Only names count.
  }

  #countExternal(inode: Inode): void {
    const { redirectStart, redirectLength, metacopyStart, metacopyLength } = this.#xattrs;
    const size = (BigInt(inode.sizeHigh) << 32n) | BigInt(inode.sizeLow);
    this.externalFiles++;
    this.referencedBytes += size;
    const algorithm =
      metacopyLength > METACOPY.DIGEST
        ? this.#image.view.getUint8(metacopyStart + METACOPY.DIGEST_ALGO)
        : DigestAlgorithm.NONE;
    this.digestAlgorithms[algorithmName(algorithm)]++;
    if (redirectLength <= 0) return;
    const before = this.objects.size;
    this.objects.add(toKey(this.#image.bytes, redirectStart, redirectStart + redirectLength));
    if (this.objects.size > before) this.objectBytes += size;
  }
}

function algorithmName(number: number): 'sha256' | 'sha512' | 'none' {
  switch (number) {
    case DigestAlgorithm.SHA256:
      return 'sha256';
    case DigestAlgorithm.SHA512:
      return 'sha512';
    default:
      return 'none';
  }
}

/** For a terminal: one fact a line. */
export function describeStatistics(facts: ImageStatistics): string {
  const kinds = Object.entries(facts.entries).filter(([, count]) => count > 0);
  const algorithms = Object.entries(facts.digestAlgorithms).filter(([, count]) => count > 0);
  const list = (pairs: [string, number][]): string =>
    pairs.length === 0 ? 'none' : pairs.map(([name, count]) => `${count} ${name}`).join(', ');
  const rows: [string, string][] = [
    ['format version', String(facts.formatVersion)],
    ['ACL flag', facts.aclFlag ? 'set' : 'not set'],
    ['image size', `${facts.imageBytes} bytes`],
    ['fs-verity sha256', facts.digests.sha256],
    ['fs-verity sha512', facts.digests.sha512],
    ['entries', list(kinds)],
    ['hard links', `${facts.hardLinks} further names`],
    ['hidden whiteouts', String(facts.hiddenWhiteouts)],
    ['inline files', `${facts.inlineFiles} with ${facts.inlineBytes} bytes`],
    ['external files', `${facts.externalFiles} with ${facts.referencedBytes} bytes`],
    ['distinct objects', `${facts.objects} with ${facts.objectBytes} bytes`],
    ['digest algorithms', list(algorithms)],
  ];
  return rows.map(([name, value]) => `${`${name}:`.padEnd(18)} ${value}\n`).join('');
}

/** With numbers that a JSON reader would round as strings. */
export function statisticsToJson(facts: ImageStatistics): object {
  return {
    ...facts,
    referencedBytes: toJsonNumber(facts.referencedBytes),
    objectBytes: toJsonNumber(facts.objectBytes),
  };
}
