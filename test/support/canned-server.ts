// The dispatcher without a kernel: requests are made by hand, replies taken apart. Objects are real
// files opened by the real addon; only /dev/fuse is missing.

import type { Passthrough } from '../../src/filesystem/contents.ts';
import type { Problem } from '../../src/filesystem/problems.ts';
import { StatisticsSource } from '../../src/filesystem/statistics.ts';
import type { OwnershipRules } from '../../src/filesystem/ownership.ts';
import type { TreeView } from '../../src/filesystem/tree-view.ts';
import {
  DIRENT,
  DIRENTPLUS,
  ENTRY_OUT,
  FUSE_ROOT_ID,
  IN_HEADER,
  IOCTL_IN,
  LSEEK_IN,
  OPEN_IN,
  OPEN_OUT,
  Opcode,
  OUT_HEADER,
  READ_IN,
  RELEASE_IN,
} from '../../src/fuse/abi.ts';
import { Dispatcher } from '../../src/fuse/dispatch.ts';
import { Reply } from '../../src/fuse/reply.ts';
import { Request } from '../../src/fuse/request.ts';
import { prepareFilesystem } from '../../src/fuse/serving.ts';
import { type Deferrals, type RequestCaller, Slot } from '../../src/fuse/slot.ts';
import { REPLY_BUFFER_SIZE, type VerificationSetup } from '../../src/fuse/worker-setup.ts';
import { Image } from '../../src/image-reader/index.ts';
import { loadNative, type NativeAddon } from '../../src/native.ts';
import { filesystemSetup } from './verification.ts';

export interface CannedOptions {
  basedirs?: readonly number[];
  acl?: boolean;
  view?: TreeView;
  ownership?: OwnershipRules;
  seesTrusted?: boolean;
  verification?: Partial<VerificationSetup>;
  deferrals?: Deferrals;
  /** Of createFileTable; one of its own otherwise, which goes with the server. */
  fileTable?: number;
  passthrough?: Passthrough;
  /** To the filesystem, instead of the real one. */
  addon?: NativeAddon;
}

export interface CannedReply {
  /** 0 or a negative errno. */
  error: number;
  unique: bigint;
  body: Uint8Array;
  view: DataView;
}

export interface CannedOpen {
  /** 0 or a negative errno. */
  error: number;
  handle: number;
  openFlags: number;
  backingId: number;
}

export interface ListedEntry {
  name: string;
  nameBytes: Uint8Array;
  ino: bigint;
  off: number;
  type: number;
  /** The nodeid of a READDIRPLUS record, 0 when it only names. */
  nodeid: number;
}

export class CannedServer {
  readonly slot: Slot;
  readonly dispatcher: Dispatcher;
  readonly problems: Problem[] = [];
  readonly bugs: unknown[] = [];
  readonly requestBytes: Uint8Array = new Uint8Array(128 * 1024);
  readonly #view = new DataView(this.requestBytes.buffer);
  readonly #replyView: DataView;
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder();
  unique = 2n;
  pid = 0;

  constructor(image: Uint8Array, options: CannedOptions = {}) {
    const opened = Image.open(image);
    const native = loadNative();
    const setup = filesystemSetup(native, options.basedirs ?? [], {
      acl: options.acl ?? true,
      view: options.view ?? 'composefs',
      ...(options.ownership !== undefined && { ownership: options.ownership }),
      verification: options.verification,
      passthrough: options.passthrough ?? 'never',
      ...(options.fileTable !== undefined && { fileTable: options.fileTable }),
    });
    const filesystem = prepareFilesystem(options.addon ?? native, opened, setup, (problem) =>
      this.problems.push(problem),
    );
    // It has its users.
    if (options.fileTable === undefined) native.destroyFileTable(setup.fileTable);
    const reply = new Uint8Array(REPLY_BUFFER_SIZE);
    // A session on an unconnected device serves for its readObject.
    const session = new native.Session(
      native.openDevice(),
      this.requestBytes,
      reply,
      native.createWake(),
    );
    const caller: RequestCaller = { pid: 0, canSeeTrusted: () => options.seesTrusted ?? true };
    this.slot = new Slot(
      new Request(this.requestBytes),
      new Reply(reply),
      filesystem,
      new StatisticsSource('/', opened.sizeBytes, opened.inodeCount),
      caller,
      (fd, offset, length, at) => session.readObject(fd, offset, length, at),
      options.deferrals,
    );
    this.#replyView = new DataView(reply.buffer);
    this.dispatcher = new Dispatcher((error) => this.bugs.push(error));
  }

  /** Sends a raw request of `opcode`; undefined when it takes no reply. */
  send(
    opcode: number,
    nodeid: number,
    body: Uint8Array = new Uint8Array(0),
  ): CannedReply | undefined {
    this.requestBytes.set(body, IN_HEADER.SIZE);
    return this.sendPrepared(opcode, nodeid, body.length);
  }

  /** As send, with the body already in `requestBytes` behind the header. */
  sendPrepared(opcode: number, nodeid: number, bodyLength: number): CannedReply | undefined {
    const length = IN_HEADER.SIZE + bodyLength;
    this.#view.setUint32(IN_HEADER.LEN, length, true);
    this.#view.setUint32(IN_HEADER.OPCODE, opcode, true);
    this.#view.setBigUint64(IN_HEADER.UNIQUE, this.unique, true);
    this.#view.setBigUint64(IN_HEADER.NODEID, BigInt(nodeid), true);
    this.#view.setUint32(IN_HEADER.PID, this.pid, true);
    const replyLength = this.dispatcher.dispatch(this.slot, length);
    if (replyLength === 0) return undefined;
    const bytes = this.slot.reply.bytes;
    if (this.#replyView.getUint32(OUT_HEADER.LEN, true) !== replyLength) {
      throw new Error('the length in the reply header is not the length of the reply');
    }
    const error = this.#replyView.getInt32(OUT_HEADER.ERROR, true);
    if (error > 0 || error < -511) throw new Error(`the kernel refuses error ${error}`);
    if (error !== 0 && replyLength !== OUT_HEADER.SIZE) throw new Error('an error with a body');
    return {
      error,
      unique: this.#replyView.getBigUint64(OUT_HEADER.UNIQUE, true),
      body: bytes.subarray(OUT_HEADER.SIZE, replyLength),
      view: new DataView(bytes.buffer, OUT_HEADER.SIZE, replyLength - OUT_HEADER.SIZE),
    };
  }

  request(opcode: number, nodeid: number, body?: Uint8Array): CannedReply {
    const reply = this.send(opcode, nodeid, body);
    if (reply === undefined) throw new Error('no reply');
    return reply;
  }

  nul(name: string | Uint8Array): Uint8Array {
    const bytes = typeof name === 'string' ? this.#encoder.encode(name) : name;
    const out = new Uint8Array(bytes.length + 1);
    out.set(bytes);
    return out;
  }

  lookup(nodeid: number, name: string | Uint8Array): CannedReply {
    return this.request(Opcode.LOOKUP, nodeid, this.nul(name));
  }

  /** The nodeid at a path of plain names, from the root. Throws when there is none. */
  resolve(path: string): number {
    let nodeid = FUSE_ROOT_ID;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const reply = this.lookup(nodeid, name);
      nodeid = reply.error < 0 ? 0 : Number(reply.view.getBigUint64(ENTRY_OUT.NODEID, true));
      if (nodeid === 0) throw new Error(`${path}: no ${name} (${reply.error})`);
    }
    return nodeid;
  }

  readBody(handle: number, offset: number, size: number): Uint8Array {
    const body = new Uint8Array(READ_IN.SIZE);
    const view = new DataView(body.buffer);
    view.setBigUint64(READ_IN.FH, BigInt(handle), true);
    view.setBigUint64(READ_IN.OFFSET, BigInt(offset), true);
    view.setUint32(READ_IN.SIZE_FIELD, size, true);
    return body;
  }

  open(nodeid: number, flags = 0): CannedOpen {
    const body = new Uint8Array(OPEN_IN.SIZE);
    new DataView(body.buffer).setUint32(OPEN_IN.FLAGS, flags, true);
    const { error, view } = this.request(Opcode.OPEN, nodeid, body);
    if (error < 0) return { error, handle: 0, openFlags: 0, backingId: 0 };
    const handle = Number(view.getBigUint64(OPEN_OUT.FH, true));
    const openFlags = view.getUint32(OPEN_OUT.OPEN_FLAGS, true);
    return { error, handle, openFlags, backingId: view.getInt32(OPEN_OUT.BACKING_ID, true) };
  }

  read(nodeid: number, handle: number, offset: number, size: number): CannedReply {
    return this.request(Opcode.READ, nodeid, this.readBody(handle, offset, size));
  }

  release(nodeid: number, handle: number): CannedReply {
    const body = new Uint8Array(RELEASE_IN.SIZE);
    new DataView(body.buffer).setBigUint64(RELEASE_IN.FH, BigInt(handle), true);
    return this.request(Opcode.RELEASE, nodeid, body);
  }

  lseek(nodeid: number, handle: number, offset: number, whence: number): CannedReply {
    const body = new Uint8Array(LSEEK_IN.SIZE);
    const view = new DataView(body.buffer);
    view.setBigUint64(LSEEK_IN.FH, BigInt(handle), true);
    view.setBigUint64(LSEEK_IN.OFFSET, BigInt(offset), true);
    view.setUint32(LSEEK_IN.WHENCE, whence, true);
    return this.request(Opcode.LSEEK, nodeid, body);
  }

  /** The kernel sends as many bytes as it has room for; `outSize` says otherwise. */
  ioctl(
    nodeid: number,
    command: number,
    input: Uint8Array,
    outSize: number = input.length,
  ): CannedReply {
    const body = new Uint8Array(IOCTL_IN.SIZE + input.length);
    const view = new DataView(body.buffer);
    view.setUint32(IOCTL_IN.CMD, command, true);
    view.setUint32(IOCTL_IN.IN_SIZE, input.length, true);
    view.setUint32(IOCTL_IN.OUT_SIZE, outSize, true);
    body.set(input, IOCTL_IN.SIZE);
    return this.request(Opcode.IOCTL, nodeid, body);
  }

  getxattr(nodeid: number, name: string | Uint8Array, size: number): CannedReply {
    const text = this.nul(name);
    const body = new Uint8Array(8 + text.length);
    new DataView(body.buffer).setUint32(0, size, true);
    body.set(text, 8);
    return this.request(Opcode.GETXATTR, nodeid, body);
  }

  listxattr(nodeid: number, size: number): CannedReply {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setUint32(0, size, true);
    return this.request(Opcode.LISTXATTR, nodeid, body);
  }

  /** One READDIR or READDIRPLUS request taken apart; an errno as a number. */
  listOnce(
    opcode: typeof Opcode.READDIR | typeof Opcode.READDIRPLUS,
    nodeid: number,
    offset: number,
    size: number,
  ): ListedEntry[] | number {
    const { error, body, view } = this.request(opcode, nodeid, this.readBody(0, offset, size));
    if (error < 0) return error;
    if (body.length > size) throw new Error('more bytes than the kernel has room for');
    const plus = opcode === Opcode.READDIRPLUS ? DIRENTPLUS.DIRENT : 0;
    const entries: ListedEntry[] = [];
    for (let at = 0; at < body.length;) {
      const dirent = at + plus;
      const nameLength = view.getUint32(dirent + DIRENT.NAMELEN, true);
      const nameStart = dirent + DIRENT.SIZE;
      const nameBytes = body.slice(nameStart, nameStart + nameLength);
      entries.push({
        name: this.#decoder.decode(nameBytes),
        nameBytes,
        ino: view.getBigUint64(dirent + DIRENT.INO, true),
        off: Number(view.getBigUint64(dirent + DIRENT.OFF, true)),
        type: view.getUint32(dirent + DIRENT.TYPE, true),
        nodeid: plus === 0 ? 0 : Number(view.getBigUint64(at + ENTRY_OUT.NODEID, true)),
      });
      at = nameStart + ((nameLength + 7) & ~7);
      if (at > body.length) throw new Error('a record leaves the reply');
    }
    return entries;
  }

  /** The whole listing, in requests of `size` bytes; an errno as a number. */
  list(
    opcode: typeof Opcode.READDIR | typeof Opcode.READDIRPLUS,
    nodeid: number,
    size = 4096,
  ): ListedEntry[] | number {
    const all: ListedEntry[] = [];
    for (let offset = 0; ;) {
      const some = this.listOnce(opcode, nodeid, offset, size);
      if (typeof some === 'number') return some;
      if (some.length === 0) return all;
      all.push(...some);
      offset = some.at(-1)!.off;
    }
  }
}
