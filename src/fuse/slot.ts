// One request in service: where it was read to, where its answer goes, and the filesystem that
// answers. A session over read(2) has one slot; over io_uring it has several. Everything in it is
// made once and reused for every request.

import type { ComposefsFilesystem, ReadTarget } from '../filesystem/composefs.ts';
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
  readonly #readObject: ReadTarget['readObject'];

  /** `readObject` fills the reply buffer from an open object (see ReadTarget). */
  constructor(
    request: Request,
    reply: Reply,
    filesystem: ComposefsFilesystem,
    statistics: StatisticsSource,
    caller: RequestCaller,
    readObject: ReadTarget['readObject'],
  ) {
    this.request = request;
    this.reply = reply;
    this.filesystem = filesystem;
    this.statistics = statistics;
    this.caller = caller;
    this.rootNid = filesystem.image.rootNid;
    this.#readObject = readObject;
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

/** The process behind the current request. */
export interface RequestCaller extends XattrCaller {
  /** Thread id from the request header; set before the caller is asked anything. */
  pid: number;
}
