// The objects that images refer to, and which of them a store does not have.

import { closeSync, constants, openSync, statSync } from 'node:fs';
import { type NameVisitor, damaged, rootFilter, walkNames } from '../dump/image-names.ts';
import { ImageXattrs } from '../dump/image-xattrs.ts';
import { InputError } from '../errors.ts';
import { type Image, type Inode, isExternal } from '../image-reader/index.ts';
import { describeErrno } from '../objects/system-errors.ts';
import { SharedBytes } from './shared-bytes.ts';
import { fromKey, toKey } from './texts.ts';

const SLASH = 0x2f;

/** Adds the paths of an image's objects to `keys`, as keys of texts.ts. Throws ImageError. */
export function collectObjects(image: Image, filter: readonly string[], keys: Set<string>): void {
  const walk = walkNames(image, new ObjectCollector(image, keys), rootFilter(filter));
  while (walk.next().done !== true) continue;
}

class ObjectCollector implements NameVisitor {
  readonly #image: Image;
  readonly #keys: Set<string>;
  readonly #xattrs: ImageXattrs;
  readonly #areas: SharedBytes;

  constructor(image: Image, keys: Set<string>) {
    this.#image = image;
    this.#keys = keys;
    this.#xattrs = new ImageXattrs(image);
    this.#areas = new SharedBytes(image);
  }

  name(inode: Inode): void {
    if (!isExternal(inode) || !this.#areas.add(inode)) return;
    const xattrs = this.#xattrs;
    if (xattrs.start(inode) < 0) damaged(inode.nid, 'extended attributes are damaged');
    if (xattrs.isWhiteout || xattrs.redirectLength <= 0) return;
    const { bytes } = this.#image;
    const end = xattrs.redirectStart + xattrs.redirectLength;
    const start = xattrs.redirectStart + (bytes[xattrs.redirectStart] === SLASH ? 1 : 0);
    if (start < end) this.#keys.add(toKey(bytes, start, end));
  }

  leave(): void {
    // Only names count.
  }
}

/** The keys in the order of their bytes. */
export function sortKeys(keys: Iterable<string>): string[] {
  // One character per byte: the order of strings is that of the bytes.
  return [...keys].sort();
}

/**
 * Whether no base directory has something at the path. As in the reference symlinks are followed,
 * and neither type nor content counts. A path that leads out of its directory, which no mount ever
 * opens, is missing.
 */
export function isMissing(key: string, basedirs: readonly string[]): boolean {
  const names = key.split('/');
  if (names.some((name) => name === '' || name === '.' || name === '..')) return true;
  if (key.includes('\0')) return true;
  return !basedirs.some((basedir) => exists(basedir, key));
}

function exists(basedir: string, key: string): boolean {
  try {
    statSync(Buffer.concat([Buffer.from(`${basedir}/`), fromKey(key)]));
    return true;
  } catch {
    return false;
  }
}

/** Throws InputError for a base directory that cannot be opened. */
export function checkBasedirs(basedirs: readonly string[]): void {
  for (const basedir of basedirs) {
    try {
      closeSync(openSync(basedir, constants.O_RDONLY | constants.O_DIRECTORY));
    } catch (cause) {
      const reason = describeErrno((cause as NodeJS.ErrnoException).errno ?? 0);
      throw new InputError(`Can't open basedir \`${basedir}\`: ${reason}`, basedir, { cause });
    }
  }
}
