// Requests that a worker could not answer at once because an object has to be hashed first. The main
// thread has it hashed, serves the request by a dispatcher of its own, which by then finds the
// result, and replies on the device of the worker that read the request.

import { Errno, errnoName } from '../errors.ts';
import { type NativeAddon, type NativeSession, VERITY_STATUS } from '../native.ts';
import { Measurements, type ReportProgress, type Share } from '../objects/measurements.ts';
import { IN_HEADER } from './abi.ts';
import type { Dispatcher } from './dispatch.ts';
import type { Slot } from './slot.ts';

/** An object that is another one each time it has been hashed is given up. */
const MAX_ATTEMPTS = 3;
/** Interrupts that are remembered, for they may overtake the request they are about. */
const EARLY_INTERRUPTS_MAX = 64;

/** What serves the requests here. Its slot has deferrals, which need not do anything. */
export interface DeferredServer {
  slot: Slot;
  dispatcher: Dispatcher;
  session: NativeSession;
}

/** A request as the worker read it. */
export interface DeferredRequest {
  /** The whole message. */
  request: Uint8Array;
  /** The file it is about. */
  nid: number;
  /** The worker's device. */
  device: number;
}

interface Waiting extends DeferredRequest {
  unique: bigint;
  share: Share | undefined;
  isInterrupted: boolean;
}

export class DeferredRequests {
  readonly #measurements: Measurements;
  readonly #server: DeferredServer;
  readonly #waiting = new Map<bigint, Waiting>();
  readonly #earlyInterrupts = new Set<bigint>();

  constructor(native: NativeAddon, report: ReportProgress, server: DeferredServer) {
    this.#measurements = new Measurements(native, report);
    this.#server = server;
  }

  /** Takes over a request. Resolves when it is answered. */
  async serve(deferred: DeferredRequest): Promise<void> {
    const { slot, dispatcher } = this.#server;
    const { request } = deferred;
    const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
    const unique = view.getBigUint64(IN_HEADER.UNIQUE, true);
    const waiting: Waiting = { ...deferred, unique, share: undefined, isInterrupted: false };
    this.#waiting.set(unique, waiting);
    if (this.#earlyInterrupts.delete(unique)) this.#interrupt(waiting);
    for (let attempt = 0; !waiting.isInterrupted; attempt++) {
      slot.request.bytes.set(request);
      // First of all: others may have had the object hashed meanwhile.
      const length = dispatcher.dispatch(slot, request.length);
      if (length > 0) {
        this.#reply(waiting, length);
        break;
      }
      // Without a reply it was deferred again: the object is not known, or another one by now.
      if (attempt === MAX_ATTEMPTS) {
        const detail = 'it is replaced again and again while it is measured';
        this.#fail(waiting, slot.filesystem.notMeasured(waiting.nid, detail));
        break;
      }
      const status = await this.#measure(waiting);
      if (status < 0 && !waiting.isInterrupted) {
        this.#fail(waiting, status);
        break;
      }
    }
  }

  /** The caller of a request was interrupted. Others who wait for the same object go on waiting. */
  interrupt(unique: bigint): void {
    const waiting = this.#waiting.get(unique);
    if (waiting !== undefined) {
      this.#interrupt(waiting);
      return;
    }
    this.#earlyInterrupts.add(unique);
    if (this.#earlyInterrupts.size <= EARLY_INTERRUPTS_MAX) return;
    const [oldest] = this.#earlyInterrupts;
    this.#earlyInterrupts.delete(oldest!);
  }

  /** The connection is gone: nobody waits any more. */
  end(): void {
    for (const waiting of this.#waiting.values()) waiting.isInterrupted = true;
    this.#waiting.clear();
    this.#measurements.end();
    this.#server.session.close();
  }

  /** 0 when the object has been hashed, or what the reader is told. */
  async #measure(waiting: Waiting): Promise<number> {
    const { filesystem } = this.#server.slot;
    const fd = filesystem.openObject(waiting.nid);
    if (fd < 0) return fd;
    const share = this.#measurements.measure({ fd, ...filesystem.measured });
    filesystem.closeObject(fd);
    waiting.share = share;
    const status = await share.done;
    if (waiting.share !== undefined) share.release();
    waiting.share = undefined;
    if (status === 0 && share.isFirst) filesystem.countMeasured();
    if (status === 0 || waiting.isInterrupted) return 0;
    const detail =
      status === VERITY_STATUS.CHANGED
        ? 'it changed while it was measured'
        : `it cannot be read: ${errnoName(status)}`;
    return filesystem.notMeasured(waiting.nid, detail);
  }

  #interrupt(waiting: Waiting): void {
    waiting.isInterrupted = true;
    waiting.share?.release();
    waiting.share = undefined;
    this.#fail(waiting, -Errno.EINTR);
  }

  #fail(waiting: Waiting, errno: number): void {
    const { request, reply } = this.#server.slot;
    request.bytes.set(waiting.request);
    request.loadAdjacent(waiting.request.length);
    this.#reply(waiting, reply.finish(request, errno));
  }

  /** A reply that comes too late (the mount is gone) is nobody's loss. */
  #reply(waiting: Waiting, length: number): void {
    this.#waiting.delete(waiting.unique);
    this.#server.session.replyOn(waiting.device, length);
  }
}
