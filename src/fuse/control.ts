// The few words of shared memory by which the main thread starts its workers. A worker that serves
// never looks at messages, so this is how it learns that the mount is there and which descriptor is
// its own.

import type { Transport } from './transport.ts';

export const ControlState = { WAIT: 0, SERVE: 1, ABANDON: 2 } as const;

const STATE = 0;
const IS_RING = 1;
const FIRST_DEVICE = 2;

export class Control {
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static create(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer((FIRST_DEVICE + workers) * Int32Array.BYTES_PER_ELEMENT);
  }

  /** Main thread: hands out one device descriptor per worker and lets them all go. */
  serve(devices: readonly number[], kind: Transport['kind']): void {
    Atomics.store(this.#words, IS_RING, kind === 'io_uring' ? 1 : 0);
    devices.forEach((fd, index) => Atomics.store(this.#words, FIRST_DEVICE + index, fd));
    this.#release(ControlState.SERVE);
  }

  /** Main thread: the mount failed, the workers shall end. */
  abandon(): void {
    this.#release(ControlState.ABANDON);
  }

  /** Worker: blocks until serve or abandon was called; the state then. */
  waitForStart(): number {
    Atomics.wait(this.#words, STATE, ControlState.WAIT);
    return Atomics.load(this.#words, STATE);
  }

  /** Worker: what the kernel agreed to. */
  get transport(): Transport['kind'] {
    return Atomics.load(this.#words, IS_RING) === 1 ? 'io_uring' : 'device';
  }

  /** Worker: its descriptor. */
  deviceOf(index: number): number {
    return Atomics.load(this.#words, FIRST_DEVICE + index);
  }

  #release(state: number): void {
    Atomics.store(this.#words, STATE, state);
    Atomics.notify(this.#words, STATE);
  }
}
