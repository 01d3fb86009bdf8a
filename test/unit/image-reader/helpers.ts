// Shared by the tests of the image reader: opening, reading one node, damaging a located part.

import { expect } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import {
  DirectoryCursor,
  findChild,
  Image,
  Inode,
  readInode,
} from '../../../src/image-reader/index.ts';
import {
  type BuildOptions,
  type LocatedImage,
  locateImage,
  type NodeLocation,
} from '../../support/image-builder.ts';
import {
  type Bytes,
  type TestDirectory,
  type TestNode,
  toBytes,
} from '../../support/image-nodes.ts';

export interface OpenedImage extends LocatedImage {
  image: Image;
  /** Reads the inode of a node; fails the test if that is an error. */
  inode(node: TestNode): Inode;
  /** What readInode() returns for a node. */
  status(node: TestNode): number;
}

/** Builds, lets `damage` change bytes, opens. */
export function open(
  root: TestDirectory,
  options: BuildOptions = {},
  damage: (image: LocatedImage) => void = () => undefined,
): OpenedImage {
  const located = locateImage(root, options);
  damage(located);
  const image = Image.open(located.bytes);
  const status = (node: TestNode): number =>
    readInode(image, located.locate(node).nid, new Inode());
  const inode = (node: TestNode): Inode => {
    const result = new Inode();
    expect(readInode(image, located.locate(node).nid, result)).toBe(0);
    return result;
  };
  return { ...located, image, inode, status };
}

export function find(image: Image, dir: Inode, name: Bytes): number {
  const bytes = toBytes(name);
  // Not at the start, so that a forgotten nameStart shows.
  const buffer = new Uint8Array(bytes.length + 5);
  buffer.set(bytes, 3);
  return findChild(image, dir, buffer, 3, bytes.length);
}

export interface Listed {
  name: string;
  nid: number;
  fileType: number;
  cookie: number;
}

/** All entries from `cookie` on, and the last status: 0 or -errno. Names as latin1. */
export function list(image: Image, dir: Inode, cookie = 0): { entries: Listed[]; status: number } {
  const cursor = new DirectoryCursor();
  const entries: Listed[] = [];
  let status = cursor.start(image, dir, cookie);
  if (status < 0) return { entries, status };
  while ((status = cursor.next()) > 0) {
    const { nid, fileType, nameStart, nameLength, nextCookie } = cursor;
    const name = text(image.bytes, nameStart, nameLength);
    entries.push({ name, nid, fileType, cookie: nextCookie });
  }
  if (status < 0) expect(cursor.next(), 'the error is repeated').toBe(status);
  return { entries, status };
}

export function names(image: Image, dir: Inode): string[] {
  return list(image, dir).entries.map(({ name }) => name);
}

export function text(bytes: Uint8Array, start: number, length: number): string {
  return Buffer.from(bytes.slice(start, start + length)).toString('latin1');
}

/** Damages the image around one node. */
export type Damage = (view: DataView, at: NodeLocation) => void;

export const EUCLEAN: number = -Errno.EUCLEAN;
