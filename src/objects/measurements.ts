// Objects that are being hashed on the thread pool. Whoever asks for one that is under way already
// shares it; when nobody waits any more it is cancelled.

import { type NativeAddon, VERITY_STATUS } from '../native.ts';

/** A measurement that takes longer is reported, again and again. */
const PROGRESS_INTERVAL_MS = 5000;

/** The object was not the same before and after it was measured. */
export const CHANGED_WHILE_MEASURED: number = VERITY_STATUS.CHANGED;

/** An open object, with the facts from when it was opened. */
export interface MeasuredObject {
  fd: number;
  facts: BigInt64Array;
  /** 1 SHA-256, 2 SHA-512. */
  algorithm: number;
  /** For the report of progress. */
  objectPath: string;
  sizeBytes: number;
}

/** Told now and then how far a long measurement has come. */
export type ReportProgress = (object: MeasuredObject, doneBytes: number) => void;

/** One caller's share in a measurement. */
export interface Share {
  /** This call began the measurement. */
  readonly isFirst: boolean;
  /** 0 when the result is remembered, -ECANCELED, -errno, or CHANGED_WHILE_MEASURED. Never rejects. */
  readonly done: Promise<number>;
  /** To be called once by each who asked. */
  release(): void;
}

interface Running {
  done: Promise<number>;
  /** Bytes done; not zero to cancel. */
  words: BigInt64Array;
  waiting: number;
}

export class Measurements {
  readonly #native: NativeAddon;
  readonly #report: ReportProgress;
  readonly #running = new Map<string, Running>();

  constructor(native: NativeAddon, report: ReportProgress) {
    this.#native = native;
    this.#report = report;
  }

  /** Hashes the object, whose descriptor may be closed at once. */
  measure(object: MeasuredObject): Share {
    const key = `${object.algorithm} ${object.facts.join(' ')}`;
    const known = this.#running.get(key);
    const running = known ?? this.#start(key, object);
    running.waiting++;
    return {
      isFirst: known === undefined,
      done: running.done,
      release: () => {
        if (--running.waiting === 0) this.#cancel(key, running);
      },
    };
  }

  /** Cancels everything. */
  end(): void {
    for (const [key, running] of this.#running) this.#cancel(key, running);
  }

  #start(key: string, object: MeasuredObject): Running {
    const words = new BigInt64Array(new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT));
    const { fd, facts, algorithm } = object;
    const report = (): void => this.#report(object, Number(Atomics.load(words, 0)));
    const timer = setInterval(report, PROGRESS_INTERVAL_MS);
    const done = this.#native.measureObject(fd, facts, algorithm, words).then((status) => {
      clearInterval(timer);
      if (this.#running.get(key) === running) this.#running.delete(key);
      return status;
    });
    const running: Running = { done, words, waiting: 0 };
    this.#running.set(key, running);
    return running;
  }

  /** Nobody may share it from now on. */
  #cancel(key: string, running: Running): void {
    Atomics.store(running.words, 1, 1n);
    if (this.#running.get(key) === running) this.#running.delete(key);
  }
}
