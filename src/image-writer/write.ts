// Makes an image of a tree: the public face of the writer. The bytes are those that mkcomposefs of
// composefs 1.0.8 writes for the same tree.

import { Errno, TreeError } from '../errors.ts';
import { ImageEmitter } from './emit.ts';
import { type ImageLayout, InodeKind, kindOf, layOut } from './layout.ts';
import type { VersionRange } from './rewrite.ts';
import type { ImageTree } from './tree.ts';

/** Large enough for any inode with its attributes, small enough to be written as they come. */
const CHUNK_SIZE: number = 1 << 20;

/** What is known of an image before it is written. */
export interface ImageFacts {
  /** The format version that was chosen. */
  readonly version: number;
  readonly sizeBytes: number;
  /** Inodes, the 256 whiteouts that every root gets included. */
  readonly inodes: number;
  readonly directories: number;
  /** Files whose content is in the image, empty ones not counted. */
  readonly inlineFiles: number;
  /** Files whose content is an object. */
  readonly externalFiles: number;
  readonly symlinks: number;
  /** Attributes that are stored once for several inodes. */
  readonly sharedXattrs: number;
  readonly hasAcl: boolean;
}

/** A tree laid out as an image. The tree must not change before the last chunk is taken. */
export class ImagePlan {
  readonly #layout: ImageLayout;

  constructor(layout: ImageLayout) {
    this.#layout = layout;
  }

  get sizeBytes(): number {
    return this.#layout.sizeBytes;
  }

  get version(): number {
    return this.#layout.version;
  }

  facts(): ImageFacts {
    const { nodes, order, xattrs, version, sizeBytes, hasAcl } = this.#layout;
    const counts = [0, 0, 0, 0, 0];
    for (const node of order.nodeOf) counts[kindOf(nodes, node)]!++;
    return {
      version,
      sizeBytes,
      inodes: order.nodeOf.length,
      directories: counts[InodeKind.DIRECTORY]!,
      inlineFiles: counts[InodeKind.INLINE]!,
      externalFiles: counts[InodeKind.EXTERNAL]!,
      symlinks: counts[InodeKind.SYMLINK]!,
      sharedXattrs: xattrs.sharedEntryCount,
      hasAcl,
    };
  }

  /** The image in pieces of at most 1 MiB, each a new array. */
  chunks(): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
    return new ImageEmitter(this.#layout, CHUNK_SIZE).chunks();
  }

  /** The image in one array. */
  bytes(): Uint8Array<ArrayBuffer> {
    const result = new ImageEmitter(this.#layout, this.sizeBytes).chunks().next();
    return result.value as Uint8Array<ArrayBuffer>;
  }
}

/**
 * Lays out a tree. Throws TreeError for what no image can hold, and RangeError for versions that do
 * not exist.
 */
export function planImage(tree: ImageTree, versions: VersionRange = {}): ImagePlan {
  if (tree.nodes.count === 0) {
    throw new TreeError('/: the tree has no root directory', { path: '/', errno: Errno.ENOTDIR });
  }
  return new ImagePlan(layOut(tree.nodes, versions));
}

/** The image of a tree in one array. For large ones planImage().chunks() needs less memory. */
export function writeImage(tree: ImageTree, versions: VersionRange = {}): Uint8Array<ArrayBuffer> {
  return planImage(tree, versions).bytes();
}
