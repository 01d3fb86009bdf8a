// Requests that a worker could not answer at once because an object has to be hashed first. The main
// thread has it hashed, serves the request by a dispatcher of its own, which by then finds the
// result, and replies on the device of the worker that read the request.

import { Errno } from '../errors.ts';
import { MAX_MEASUREMENTS, ObjectMeasuring, type Waiter } from '../filesystem/object-measuring.ts';
import type { NativeAddon, NativeSession } from '../native.ts';
import { Measurements, type ReportProgress } from '../objects/measurements.ts';
import { IN_HEADER, Opcode } from './abi.ts';
import type { Dispatcher } from './dispatch.ts';
import type { Slot } from './slot.ts';

/** Interrupts that are remembered, for they may overtake the request they are about. */
const EARLY_INTERRUPTS_MAX = 64;
/** How often an interrupted caller that goes on waiting is looked at. */
const PATIENCE_INTERVAL_MS = 200;

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

/** Whether a caller that got a signal wants no answer any more: see caller-patience.ts. */
export type HasGivenUp = (tid: number, mayFail: boolean) => boolean;

interface Waiting extends DeferredRequest, Waiter {
  unique: bigint;
  patience: NodeJS.Timeout | undefined;
}

export class DeferredRequests {
  readonly #measuring: ObjectMeasuring;
  readonly #server: DeferredServer;
  readonly #waiting = new Map<bigint, Waiting>();
  readonly #earlyInterrupts = new Set<bigint>();

  readonly #hasGivenUp: HasGivenUp;

  constructor(
    native: NativeAddon,
    report: ReportProgress,
    server: DeferredServer,
    hasGivenUp: HasGivenUp,
  ) {
    const measurements = new Measurements(native, report);
    this.#measuring = new ObjectMeasuring(server.slot.filesystem, measurements);
    this.#server = server;
    this.#hasGivenUp = hasGivenUp;
  }

  /** Takes over a request. Resolves when it is answered. */
  async serve(deferred: DeferredRequest): Promise<void> {
    const { slot, dispatcher } = this.#server;
    const { request } = deferred;
    const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
    const unique = view.getBigUint64(IN_HEADER.UNIQUE, true);
    const waiting: Waiting = {
      ...deferred,
      unique,
      share: undefined,
      isInterrupted: false,
      patience: undefined,
    };
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
      if (attempt === MAX_MEASUREMENTS) {
        this.#fail(waiting, this.#measuring.giveUp(waiting.nid));
        break;
      }
      const status = await this.#measuring.measure(waiting.nid, waiting);
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
    for (const waiting of this.#waiting.values()) {
      waiting.isInterrupted = true;
      clearInterval(waiting.patience);
    }
    this.#waiting.clear();
    this.#measuring.end();
    this.#server.session.close();
  }

  /** Ends the waiting now or, if the caller still wants the answer, as soon as it does not. */
  #interrupt(waiting: Waiting): void {
    const { request } = waiting;
    const view = new DataView(request.buffer, request.byteOffset, request.byteLength);
    const tid = view.getUint32(IN_HEADER.PID, true);
    const mayFail = view.getUint32(IN_HEADER.OPCODE, true) === Opcode.OPEN;
    const look = (): void => {
      if (this.#hasGivenUp(tid, mayFail)) this.#giveUp(waiting);
    };
    look();
    if (!waiting.isInterrupted) waiting.patience ??= setInterval(look, PATIENCE_INTERVAL_MS);
  }

  #giveUp(waiting: Waiting): void {
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
    clearInterval(waiting.patience);
    this.#server.session.replyOn(waiting.device, length);
  }
}
