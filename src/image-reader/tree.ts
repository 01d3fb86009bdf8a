// The comfortable interface to an image: entries as objects, names as strings, damage as exceptions.
// It allocates freely and is not for serving requests. It is stricter than the kernel: a directory
// with two names, a dirent of the wrong type and a wrong `.` or `..` throw an ImageError.

import { ImageError } from '../errors.ts';
import { ImageEntry, mtimeOf } from './entry.ts';
import { DIRENT } from './format.ts';
import { Image } from './image.ts';

/** What the two headers of an image say. */
export interface ImageHeader {
  readonly sizeBytes: number;
  /** 0 and 1: made by mkcomposefs; 2: made by composefs-rs. */
  readonly composefsVersion: number;
  /** Some inode has an ACL. Not set by writers of version 2; hasAcl() looks at the inodes. */
  readonly hasAclFlag: boolean;
  /** Informative. */
  readonly inodeCount: number;
  readonly rootNid: number;
  /** The mtime of all inodes that store none. */
  readonly buildTime: { readonly seconds: bigint; readonly nanoseconds: number };
}

/** An open image as a tree. Made by openImage(). */
export class ComposefsImage {
  /** For use with the functions that serve requests. */
  readonly image: Image;
  readonly header: ImageHeader;
  readonly root: ImageEntry;

  constructor(image: Image) {
    this.image = image;
    this.header = {
      sizeBytes: image.sizeBytes,
      composefsVersion: image.composefsVersion,
      hasAclFlag: image.hasAclFlag,
      inodeCount: image.inodeCount,
      rootNid: image.rootNid,
      buildTime: mtimeOf(image.buildTimeLow, image.buildTimeHigh, image.buildTimeNsec),
    };
    this.root = ImageEntry.root(image);
  }

  /**
   * The entry at `path`, counted from the root with or without a leading slash, or undefined.
   * Symlinks are not followed, `..` leads to the parent. A string stands for its UTF-8 bytes; other
   * names need bytes. Throws ImageError for damage on the way.
   */
  lookup(path: string | Uint8Array): ImageEntry | undefined {
    const bytes = typeof path === 'string' ? new TextEncoder().encode(path) : path;
    let entry: ImageEntry | undefined = this.root;
    let start = 0;
    while (entry !== undefined && start < bytes.length) {
      const slash = bytes.indexOf(0x2f, start);
      const end = slash < 0 ? bytes.length : slash;
      if (end > start) entry = entry.child(bytes.subarray(start, end));
      start = end + 1;
    }
    return entry;
  }

  /**
   * All entries, the root first, every directory directly before its children, siblings in byte
   * order. Hard links appear once for every name. Whiteouts are included, also the 256 that mkcomposefs
   * puts into every root for old kernels and that no mount shows: see ImageEntry.isWhiteout. Throws ImageError at the first damage, also for a
   * directory that is reached twice, so it ends on any image.
   */
  *walk(): Generator<ImageEntry, void, undefined> {
    const visited = new Set<number>([this.root.nid]);
    const open = [this.root.children()];
    // Two directories may claim the same bytes. More entries than the image has room for prove it.
    let entriesLeft = Math.floor(this.image.sizeBytes / (DIRENT.SIZE + 1));
    yield this.root;
    for (;;) {
      const directory = open.at(-1);
      if (directory === undefined) return;
      const { done, value: entry } = directory.next();
      if (done === true) {
        open.pop();
        continue;
      }
      if (entriesLeft-- === 0) throw new ImageError('damaged image: directories share their bytes');
      if (entry.kind === 'directory') {
        if (visited.has(entry.nid)) {
          throw new ImageError(`damaged image: directory ${entry.path} has a second name`, {
            nid: entry.nid,
          });
        }
        visited.add(entry.nid);
        open.push(entry.children());
      }
      yield entry;
    }
  }
}

/**
 * Opens the image in `bytes`, without a copy: the bytes must not change afterwards. Throws
 * ImageError or UnsupportedFeatureError.
 */
export function openImage(bytes: Uint8Array): ComposefsImage {
  return new ComposefsImage(Image.open(bytes));
}
