// One request in service: where it was read to, where its answer goes, and the filesystem that
// answers. A session over read(2) has one slot; over io_uring it has several. Everything in it is
// made once and reused for every request.

import type { ComposefsFilesystem } from '../filesystem/composefs.ts';
import type { ReadTarget } from '../filesystem/contents.ts';
import type { StatisticsSource } from '../filesystem/statistics.ts';
import type { XattrCaller } from '../filesystem/xattr-view.ts';
import { nidOf } from './node-id.ts';
import type { Reply } from './reply.ts';
import type { Request } from './request.ts';

export class Slot implements ReadTarget {
  readonly request: Request;
  readonly reply: Reply;
  readonly filesystem: ComposefsFilesystem;
  readonly statistics: StatisticsSource;
  readonly caller: RequestCaller;
  readonly rootNid: number;
  /** Where requests go that take long; without it they fail, and nothing can be interrupted. */
  readonly deferrals: Deferrals | undefined;
  readonly #readObject: ReadTarget['readObject'];

  /** `readObject` fills the reply buffer from an open object (see ReadTarget). */
  constructor(
    request: Request,
    reply: Reply,
    filesystem: ComposefsFilesystem,
    statistics: StatisticsSource,
    caller: RequestCaller,
    readObject: ReadTarget['readObject'],
    deferrals?: Deferrals,
  ) {
    this.request = request;
    this.reply = reply;
    this.filesystem = filesystem;
    this.statistics = statistics;
    this.caller = caller;
    this.rootNid = filesystem.image.rootNid;
    this.#readObject = readObject;
    this.deferrals = deferrals;
  }

  /** The nid that the request is about. */
  get nid(): number {
    return nidOf(this.request.nodeid, this.rootNid);
  }

  get bytes(): Uint8Array {
    return this.reply.bytes;
  }

  readObject(fd: number, offset: number, length: number, at: number): number {
    return this.#readObject(fd, offset, length, at);
  }
}

/** Takes requests that are to be answered later, by another thread. */
export interface Deferrals {
  /** `request` is a copy of the whole message, about the file `nid`. */
  defer(request: Uint8Array, nid: number): void;
  /** The caller of a request does not want to wait any longer. */
  interrupt(unique: bigint): void;
}

/** The process behind the current request. */
export interface RequestCaller extends XattrCaller {
  /** Thread id from the request header; set before the caller is asked anything. */
  pid: number;
}
