// Objects that stay open because nobody says when a file is done with: with `--verify-at read` the
// kernel opens files without asking. The oldest is closed when there are too many.

import type { ObjectOpener } from './opener.ts';
import type { VerificationState } from './verification.ts';

/** More than the files that are read at a time; each costs a descriptor. */
export const KEPT_MAX = 256;

export class KeptObjects {
  readonly #opener: ObjectOpener;
  readonly #state: VerificationState;
  readonly #limit: number;
  readonly #descriptors = new Map<number, number>();
  #generation: number;

  constructor(opener: ObjectOpener, state: VerificationState, limit: number = KEPT_MAX) {
    this.#opener = opener;
    this.#state = state;
    this.#limit = limit;
    this.#generation = state.generation;
  }

  /** The open object of the file `nid`, or -1. */
  find(nid: number): number {
    if (this.#generation !== this.#state.generation) this.clear();
    return this.#descriptors.get(nid) ?? -1;
  }

  /** Before another object is opened: with it there are not more than may be. */
  makeRoom(): void {
    if (this.#descriptors.size >= this.#limit) this.dropOldest();
  }

  /** Takes over a descriptor. */
  keep(nid: number, fd: number): void {
    this.makeRoom();
    this.#descriptors.set(nid, fd);
  }

  /** Closes the object of the file `nid` if it is kept. */
  drop(nid: number): void {
    const fd = this.#descriptors.get(nid);
    if (fd === undefined) return;
    this.#descriptors.delete(nid);
    this.#opener.close(fd);
  }

  /** False if there is none. */
  dropOldest(): boolean {
    for (const [nid, fd] of this.#descriptors) {
      this.#descriptors.delete(nid);
      this.#opener.close(fd);
      return true;
    }
    return false;
  }

  clear(): void {
    this.#generation = this.#state.generation;
    while (this.dropOldest());
  }
}
