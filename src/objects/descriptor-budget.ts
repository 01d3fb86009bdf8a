// How many objects may be open at a time, over all workers. Whoever may read the mount may open its
// files; without a bound they could take every descriptor of the process, and then not even the
// mount table could be read to unmount.

import { readdirSync, readFileSync } from 'node:fs';

/** Kept free for the control plane: log file, mount table, pipes of fusermount3. */
const RESERVED = 32;
/** Below this a mount is hardly usable; the reserve shrinks first. */
const LEAST = 16;

export class DescriptorBudget {
  readonly #taken: Int32Array;
  readonly #limit: number;

  /** `shared` has room for one 32-bit word. */
  constructor(shared: SharedArrayBuffer, limit: number) {
    this.#taken = new Int32Array(shared);
    this.#limit = limit;
  }

  /** Main thread: what the process may still open now, less a reserve. */
  static limitOfProcess(): number {
    const limits = readFileSync('/proc/self/limits', 'latin1');
    const soft = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 1024);
    const open = readdirSync('/proc/self/fd').length;
    return Math.max(soft - open - RESERVED, LEAST);
  }

  /** False if as many objects are open as may be. */
  take(): boolean {
    if (Atomics.add(this.#taken, 0, 1) < this.#limit) return true;
    Atomics.sub(this.#taken, 0, 1);
    return false;
  }

  give(): void {
    Atomics.sub(this.#taken, 0, 1);
  }
}
