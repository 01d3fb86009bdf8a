// Checks everything in an image that can be checked without its objects, and goes on after damage:
// every problem is reported with the path it is at. Bounded for hostile images: a directory is
// entered once, no more names are read than there is room for, attributes are read once per inode
// and not beyond the image's size in sum.

import { setBit } from '../dump/image-names.ts';
import { Errno, errnoName } from '../errors.ts';
import { DIRENT } from '../image-reader/format.ts';
import {
  DirectoryCursor,
  fileTypeOfMode,
  findChild,
  type Image,
  Inode,
  isDots,
  readInode,
} from '../image-reader/index.ts';
import { InodeChecks } from './check-inode.ts';
import { explainDirectory } from './explain-directory.ts';
import { explainInode } from './explain-inode.ts';
import type { ExternalFiles } from './external-files.ts';
import { PathBytes } from './path-bytes.ts';
import type { Report } from './problem.ts';

const ENTRY_TYPES = 'none,file,directory,char device,block device,fifo,socket,symlink'.split(',');

interface Level {
  readonly inode: Inode;
  readonly cursor: DirectoryCursor;
  readonly parentNid: number;
  hasDot: boolean;
  hasDotDot: boolean;
}

/** What a check of an image's structure leads to, beside the problems. */
export interface StructureFacts {
  /** Names, the root included. */
  readonly names: number;
  readonly inodes: number;
  readonly files: ExternalFiles;
}

/** Checks the image. Its external files are collected, except those with a bad reference. */
export function checkStructure(image: Image, report: Report): StructureFacts {
  return new StructureCheck(image, report).run();
}

class StructureCheck {
  readonly #image: Image;
  readonly #report: Report;
  readonly #checks: InodeChecks;
  readonly #path: PathBytes = new PathBytes();
  readonly #levels: Level[] = [];
  readonly #entered: Uint8Array;
  /** Names of each inode. */
  readonly #nameCounts: Uint32Array;
  readonly #inode: Inode = new Inode();
  #entriesLeft: number;
  #names: number = 1;
  #inodes: number = 1;

  constructor(image: Image, report: Report) {
    this.#image = image;
    this.#report = report;
    this.#checks = new InodeChecks(image, report, this.#path);
    this.#entered = new Uint8Array(Math.ceil(image.endNid / 8));
    this.#nameCounts = new Uint32Array(image.endNid);
    this.#entriesLeft = Math.floor(image.sizeBytes / (DIRENT.SIZE + 1));
  }

  run(): StructureFacts {
    const { rootNid } = this.#image;
    this.#checks.checkHeaders();
    readInode(this.#image, rootNid, this.#inode);
    this.#checks.check(this.#inode);
    this.#enter(rootNid, rootNid);
    for (let level = this.#levels.at(-1); level !== undefined; level = this.#levels.at(-1)) {
      const status = level.cursor.next();
      if (status > 0) this.#readEntry(level);
      else {
        if (status < 0) this.#damage(explainDirectory(this.#image, level.inode));
        else this.#checkDots(level);
        this.#leave();
      }
    }
    this.#checkLinkCounts();
    if (this.#inodes !== this.#image.inodeCount) {
      const expected = `${this.#inodes}, which were found`;
      const found = String(this.#image.inodeCount);
      this.#report({ kind: 'warning', what: "the superblock's inode count", expected, found });
    }
    return { names: this.#names, inodes: this.#inodes, files: this.#checks.files };
  }

  /** Opens the directory that #inode and the path are at. */
  #enter(nid: number, parentNid: number): void {
    if (!setBit(this.#entered, nid)) {
      this.#damage({ what: 'a directory with a second name, or inside itself' });
      this.#path.leave();
      return;
    }
    const inode = new Inode();
    readInode(this.#image, nid, inode);
    const cursor = new DirectoryCursor();
    cursor.start(this.#image, inode, 0);
    this.#levels.push({ inode, cursor, parentNid, hasDot: false, hasDotDot: false });
  }

  #leave(): void {
    this.#levels.pop();
    this.#path.leave();
  }

  #readEntry(level: Level): void {
    const { cursor } = level;
    const { nid, nameStart, nameLength } = cursor;
    const { bytes } = this.#image;
    if (isDots(bytes, nameStart, nameLength)) {
      this.#readDots(level, nameLength === 1);
      return;
    }
    if (this.#entriesLeft-- <= 0) {
      this.#damage({ what: 'directories share their bytes; the rest is not checked' });
      this.#levels.length = 0;
      return;
    }
    this.#names++;
    this.#path.enter(bytes, nameStart, nameStart + nameLength);
    this.#checkLookup(level);
    const inode = this.#inode;
    if (readInode(this.#image, nid, inode) !== 0) {
      this.#damage(explainInode(this.#image, nid));
      this.#path.leave();
      return;
    }
    const type = fileTypeOfMode(inode.mode);
    if (cursor.fileType !== type) {
      const found = ENTRY_TYPES[cursor.fileType]!;
      this.#damage({ what: 'type in the directory entry', expected: ENTRY_TYPES[type]!, found });
    }
    if (this.#nameCounts[nid]!++ === 0) {
      this.#inodes++;
      this.#checks.check(inode);
    }
    if (inode.isDirectory) this.#enter(nid, level.inode.nid);
    else this.#path.leave();
  }

  #readDots(level: Level, isDot: boolean): void {
    if (isDot) level.hasDot = true;
    else level.hasDotDot = true;
    this.#checkLookup(level);
    const wanted = isDot ? level.inode.nid : level.parentNid;
    const { nid, fileType } = level.cursor;
    const name = isDot ? '.' : '..';
    if (nid !== wanted) {
      const expected = `inode ${wanted}`;
      this.#damage({ what: `where ${name} leads`, expected, found: `inode ${nid}` });
    }
    const expected = ENTRY_TYPES[2]!;
    const found = ENTRY_TYPES[fileType]!;
    if (found !== expected) this.#damage({ what: `type of ${name}`, expected, found });
  }

  /** What readers find under a name is what the listing says. */
  #checkLookup({ inode, cursor }: Level): void {
    const { nid, nameStart, nameLength } = cursor;
    const found = findChild(this.#image, inode, this.#image.bytes, nameStart, nameLength);
    if (found === nid || (found === -Errno.EUCLEAN && nid === Number.MAX_SAFE_INTEGER)) return;
    this.#damage({
      what: 'lookup of the name',
      expected: `inode ${nid}`,
      found: found < 0 ? errnoName(found) : `inode ${found}`,
    });
  }

  #checkDots({ hasDot, hasDotDot }: Level): void {
    if (!hasDot) this.#damage({ what: 'the directory has no entry .' });
    if (!hasDotDot) this.#damage({ what: 'the directory has no entry ..' });
  }

  /** Any dump can say any link count, so a wrong one is no damage; one line is enough for it. */
  #checkLinkCounts(): void {
    const inode = new Inode();
    let wrong = 0;
    let first = '';
    for (const [nid, names] of this.#nameCounts.entries()) {
      if (names === 0 || readInode(this.#image, nid, inode) !== 0) continue;
      if (inode.isDirectory || inode.nlink === names) continue;
      wrong++;
      if (wrong === 1) first = `inode ${nid} has link count ${inode.nlink} and ${names} names`;
    }
    if (wrong === 0) return;
    const what = `link counts of ${wrong} files are not their numbers of names`;
    this.#report({ kind: 'warning', what, found: `first: ${first}` });
  }

  #damage(damage: { what: string; expected?: string; found?: string }): void {
    this.#report({ kind: 'image', path: this.#path.bytes(), ...damage });
  }
}
