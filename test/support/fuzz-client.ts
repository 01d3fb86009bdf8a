// A client that asks a dispatcher everything a kernel could ask about a tree, fast enough for tens of
// thousands of damaged images: requests are patched in place, replies are checked for form.

import { StatisticsSource } from '../../src/filesystem/statistics.ts';
import {
  ATTR,
  DIRENT,
  DIRENTPLUS,
  ENTRY_OUT,
  FUSE_ROOT_ID,
  IN_HEADER,
  Opcode,
  OUT_HEADER,
  READ_IN,
} from '../../src/fuse/abi.ts';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import { Reply } from '../../src/fuse/reply.ts';
import { Request } from '../../src/fuse/request.ts';
import { type FilesystemSetup, prepareFilesystem } from '../../src/fuse/serving.ts';
import { Slot } from '../../src/fuse/slot.ts';
import { Image } from '../../src/image-reader/index.ts';
import type { NativeAddon } from '../../src/native.ts';
import { filesystemSetup } from './verification.ts';

const LIST_SIZE = 65_536;
const XATTR_ROOM = 65_536;
const S_IFMT = 0o170000;

export interface WalkFacts {
  entries: number;
  requests: number;
  problems: number;
}

export class FuzzClient {
  readonly #request = new Uint8Array(8192);
  readonly #requestView = new DataView(this.#request.buffer);
  readonly #reply = new Uint8Array(OUT_HEADER.SIZE + 0x2_0000);
  readonly #replyView = new DataView(this.#reply.buffer);
  readonly #native: NativeAddon;
  readonly #setup: FilesystemSetup;
  readonly #bugs: unknown[] = [];
  readonly #dispatcher = new Dispatcher((error) => this.#bugs.push(error));
  readonly #names = new Uint8Array(XATTR_ROOM);
  #slot!: Slot;
  #requests = 0;
  #requestLimit = 0;

  constructor(native: NativeAddon) {
    this.#native = native;
    this.#setup = filesystemSetup(native, []);
  }

  /**
   * Walks the whole tree through the dispatcher. Throws what Image.open throws, and an Error for
   * every broken promise: a bug in a handler, a malformed reply, more requests than the image's size
   * accounts for.
   */
  walk(bytes: Uint8Array): WalkFacts {
    const image = Image.open(bytes);
    const filesystem = prepareFilesystem(this.#native, image, this.#setup, () => {});
    this.#slot = new Slot(
      new Request(this.#request),
      new Reply(this.#reply),
      filesystem,
      new StatisticsSource('/', 0, 0),
      { pid: 0, canSeeTrusted: () => true },
      () => 0,
    );
    this.#requests = 0;
    // 13 bytes is the smallest entry; a directory is listed once, an inode is asked a few things.
    const mostEntries = Math.ceil(bytes.length / 13);
    this.#requestLimit = 40 * mostEntries + 1000;
    const entries = this.#walkFrom(FUSE_ROOT_ID, mostEntries);
    return { entries, requests: this.#requests, problems: filesystem.problemCount };
  }

  #walkFrom(root: number, mostEntries: number): number {
    const seen = new Set<number>([root]);
    const directories = [root];
    let entries = 0;
    this.#ask(Opcode.GETATTR, root, 16);
    for (let nodeid = directories.pop(); nodeid !== undefined; nodeid = directories.pop()) {
      for (let cookie = 0; ;) {
        const length = this.#list(nodeid, cookie);
        if (length <= 0) break;
        const listing = this.#reply.slice(OUT_HEADER.SIZE, OUT_HEADER.SIZE + length);
        const view = new DataView(listing.buffer);
        const before = cookie;
        for (let at = 0; at < length;) {
          const child = this.#u64(view, at + ENTRY_OUT.NODEID);
          const mode = view.getUint32(at + ENTRY_OUT.ATTR + ATTR.MODE, true);
          const nameLength = view.getUint32(at + DIRENTPLUS.DIRENT + DIRENT.NAMELEN, true);
          const nameStart = at + DIRENTPLUS.SIZE;
          if (nameLength === 0 || nameLength > 255) this.#fail(`a name of ${nameLength} bytes`);
          if (listing.subarray(nameStart, nameStart + nameLength).includes(0x2f)) {
            this.#fail('a name with a slash');
          }
          cookie = this.#u64(view, at + DIRENTPLUS.DIRENT + DIRENT.OFF);
          if (cookie <= before && before > 0) this.#fail('a cookie that does not grow');
          this.#lookup(nodeid, listing, nameStart, nameLength, child);
          if (child !== 0 && !seen.has(child)) {
            seen.add(child);
            this.#visit(child, mode);
            if ((mode & S_IFMT) === 0o040000) directories.push(child);
          }
          at = nameStart + ((nameLength + 7) & ~7);
          if (at > length) this.#fail('a record that leaves the reply');
          // Directories may share blocks: a hostile tree is larger than its image, so stop counting.
          if (++entries > mostEntries) return entries;
        }
      }
    }
    return entries;
  }

  /** Everything about one inode. */
  #visit(nodeid: number, mode: number): void {
    const type = mode & S_IFMT;
    if (type === 0o120000) {
      const length = this.#ask(Opcode.READLINK, nodeid, 0);
      if (length >= 4096) this.#fail(`a link target of ${length} bytes`);
    } else if (type === 0o100000) {
      this.#visitFile(nodeid);
    }
    this.#requestView.setUint32(IN_HEADER.SIZE, XATTR_ROOM, true);
    const length = this.#ask(Opcode.LISTXATTR, nodeid, 8);
    if (length <= 0) return;
    this.#names.set(this.#reply.subarray(OUT_HEADER.SIZE, OUT_HEADER.SIZE + length));
    if (this.#names[length - 1] !== 0) this.#fail('a name list without its last NUL');
    for (let start = 0, asked = 0; start < length && asked < 8; asked++) {
      let end = start;
      while (this.#names[end] !== 0) end++;
      this.#requestView.setUint32(IN_HEADER.SIZE, XATTR_ROOM, true);
      for (let i = start; i <= end; i++) {
        this.#request[IN_HEADER.SIZE + 8 + i - start] = this.#names[i]!;
      }
      this.#ask(Opcode.GETXATTR, nodeid, 8 + end + 1 - start);
      start = end + 1;
    }
  }

  #visitFile(nodeid: number): void {
    this.#requestView.setUint32(IN_HEADER.SIZE, 0, true);
    if (this.#ask(Opcode.OPEN, nodeid, 8) < 0) return;
    const handle = this.#replyView.getUint32(OUT_HEADER.SIZE, true);
    for (let offset = 0; ; offset += LIST_SIZE) {
      const length = this.#readAt(Opcode.READ, nodeid, handle, offset);
      if (length < LIST_SIZE) break;
    }
    this.#ask(Opcode.RELEASE, nodeid, 24);
  }

  #list(nodeid: number, cookie: number): number {
    return this.#readAt(Opcode.READDIRPLUS, nodeid, 0, cookie);
  }

  #readAt(opcode: number, nodeid: number, handle: number, offset: number): number {
    const view = this.#requestView;
    const at = IN_HEADER.SIZE;
    view.setUint32(at + READ_IN.FH, handle, true);
    view.setUint32(at + READ_IN.FH + 4, 0, true);
    view.setUint32(at + READ_IN.OFFSET, offset >>> 0, true);
    view.setUint32(at + READ_IN.OFFSET + 4, Math.floor(offset / 0x1_0000_0000), true);
    view.setUint32(at + READ_IN.SIZE_FIELD, LIST_SIZE, true);
    const length = this.#ask(opcode, nodeid, READ_IN.SIZE);
    if (length > LIST_SIZE) this.#fail(`${length} bytes where ${LIST_SIZE} were asked for`);
    return length;
  }

  /** What is listed must be found, as the same inode; a damaged order may hide a name, no more. */
  #lookup(
    parent: number,
    names: Uint8Array,
    start: number,
    length: number,
    expected: number,
  ): void {
    for (let i = 0; i < length; i++) this.#request[IN_HEADER.SIZE + i] = names[start + i]!;
    this.#request[IN_HEADER.SIZE + length] = 0;
    if (this.#ask(Opcode.LOOKUP, parent, length + 1) <= 0) return;
    const found = this.#u64(this.#replyView, OUT_HEADER.SIZE + ENTRY_OUT.NODEID);
    if (found !== 0 && expected !== 0 && found !== expected) this.#fail('LOOKUP found another');
  }

  /** Sends the prepared body. The reply body's length, or its negative errno. */
  #ask(opcode: number, nodeid: number, bodyLength: number): number {
    if (++this.#requests > this.#requestLimit)
      this.#fail('more requests than can be accounted for');
    const view = this.#requestView;
    const length = IN_HEADER.SIZE + bodyLength;
    view.setUint32(IN_HEADER.LEN, length, true);
    view.setUint32(IN_HEADER.OPCODE, opcode, true);
    view.setUint32(IN_HEADER.NODEID, nodeid >>> 0, true);
    view.setUint32(IN_HEADER.NODEID + 4, Math.floor(nodeid / 0x1_0000_0000), true);
    const replyLength = this.#dispatcher.dispatch(this.#slot, length);
    const bug = this.#bugs.pop();
    if (bug !== undefined) throw bug;
    const error = this.#replyView.getInt32(OUT_HEADER.ERROR, true);
    if (this.#replyView.getUint32(OUT_HEADER.LEN, true) !== replyLength)
      this.#fail('a wrong length');
    if (error > 0 || error < -511) this.#fail(`the error ${error}`);
    if (error < 0 && replyLength !== OUT_HEADER.SIZE) this.#fail('an error with a body');
    return error < 0 ? error : replyLength - OUT_HEADER.SIZE;
  }

  #u64(view: DataView, at: number): number {
    return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
  }

  #fail(what: string): never {
    throw new Error(`broken promise: ${what}`);
  }
}
