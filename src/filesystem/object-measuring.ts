// Has the objects hashed that are too large for the thread that serves: what turns a DEFER into a
// result when one asks again.

import { errnoName } from '../errors.ts';
import { CHANGED_WHILE_MEASURED, type Measurements, type Share } from '../objects/measurements.ts';
import type { ComposefsFilesystem } from './composefs.ts';

/** An object that is another one each time it has been hashed is given up after so many times. */
export const MAX_MEASUREMENTS = 3;
/** Objects that are measured at a time, each of which holds a descriptor; more requests wait. */
const MEASURED_MAX = 64;

/** Who waits for an object. */
export interface Waiter {
  /** Wants no result any more. */
  isInterrupted: boolean;
  /** While it is measured. Whoever interrupts the waiter releases it and takes it away. */
  share: Share | undefined;
}

export class ObjectMeasuring {
  readonly #filesystem: ComposefsFilesystem;
  readonly #measurements: Measurements;
  readonly #queue: (() => void)[] = [];
  #measured = 0;

  constructor(filesystem: ComposefsFilesystem, measurements: Measurements) {
    this.#filesystem = filesystem;
    this.#measurements = measurements;
  }

  /**
   * 0 when the object of the file `nid` has been hashed, or when the waiter was interrupted; else
   * what the reader is told, -errno. Never rejects.
   */
  async measure(nid: number, waiter: Waiter): Promise<number> {
    if (this.#measured >= MEASURED_MAX) {
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    } else {
      this.#measured++;
    }
    try {
      return waiter.isInterrupted ? 0 : await this.#measureNow(nid, waiter);
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#measured--;
      else next();
    }
  }

  /** After MAX_MEASUREMENTS: what the reader is told, -errno. */
  giveUp(nid: number): number {
    return this.#filesystem.notMeasured(nid, 'it is replaced again and again while it is measured');
  }

  /** Cancels everything. */
  end(): void {
    this.#measurements.end();
  }

  async #measureNow(nid: number, waiter: Waiter): Promise<number> {
    const filesystem = this.#filesystem;
    const fd = filesystem.openToMeasure(nid);
    if (fd < 0) return fd;
    const share = this.#measurements.measure({ fd, ...filesystem.toMeasure });
    filesystem.closeObject(fd);
    waiter.share = share;
    const status = await share.done;
    if (waiter.share !== undefined) share.release();
    waiter.share = undefined;
    if (status === 0 && share.isFirst) filesystem.countMeasured();
    if (status === 0 || waiter.isInterrupted) return 0;
    const detail =
      status === CHANGED_WHILE_MEASURED
        ? 'it changed while it was measured'
        : `it cannot be read: ${errnoName(status)}`;
    return filesystem.notMeasured(nid, detail);
  }
}
