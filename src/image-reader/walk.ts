// A bounded walk over everything that can be reached from the root of an image, hostile or not.

import { DirectoryCursor } from './directory.ts';
import { DIRENT } from './format.ts';
import type { Image } from './image.ts';
import { Inode, readInode } from './inode.ts';

/**
 * Called for every name except `.` and `..`: the inode (reused, valid during the call), the nid of
 * the directory and the name's place in the image. True ends the walk.
 */
export type VisitEntry = (
  inode: Inode,
  parentNid: number,
  nameStart: number,
  nameLength: number,
) => boolean;

/**
 * Visits every name reachable from the root, the names of a directory before those of its
 * subdirectories. Damaged inodes and directories are skipped, a directory is entered once, and at
 * most as many names are visited as the image has bytes for (blocks that hostile directories share
 * would otherwise multiply them). True if `visit` ended the walk, false if it went to the end.
 */
export function walkEntries(image: Image, visit: VisitEntry): boolean {
  let entriesLeft = Math.floor(image.sizeBytes / (DIRENT.SIZE + 1));
  const entered = new Uint8Array(Math.ceil(image.endNid / 8));
  const directories: number[] = [image.rootNid];
  const inode = new Inode();
  const entries = new DirectoryCursor();
  for (let nid = directories.pop(); nid !== undefined; nid = directories.pop()) {
    const bit = 1 << (nid & 7);
    const byte = entered[nid >>> 3]!;
    if ((byte & bit) !== 0) continue;
    entered[nid >>> 3] = byte | bit;
    if (readInode(image, nid, inode) !== 0) continue;
    if (entries.start(image, inode, 0) !== 0) continue;
    while (entries.next() > 0) {
      if (entriesLeft-- === 0) return false;
      const { nameStart, nameLength } = entries;
      if (isDots(image.bytes, nameStart, nameLength)) continue;
      if (readInode(image, entries.nid, inode) !== 0) continue;
      if (visit(inode, nid, nameStart, nameLength)) return true;
      if (inode.isDirectory) directories.push(entries.nid);
    }
  }
  return false;
}

/** Whether a name is `.` or `..`. */
export function isDots(bytes: Uint8Array, nameStart: number, nameLength: number): boolean {
  const DOT = 0x2e;
  if (nameLength > 2 || bytes[nameStart] !== DOT) return false;
  return nameLength === 1 || bytes[nameStart + 1] === DOT;
}
