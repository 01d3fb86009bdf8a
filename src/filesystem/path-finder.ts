// Names for log lines: the path of an inode, found by walking the image. The serving side knows only
// numbers and keeps no names, so this is done when something is to be said, on the main thread, once
// for all that came in together.

import { type Image, walkEntries } from '../image-reader/index.ts';

/** Requests that come within this time share one walk (about 30 ms for 140,000 inodes). */
const GATHER_MS = 20;
/**
 * How much longer than the last walk the next requests are gathered: a store that has lost its
 * objects must not keep this thread walking, which would take a core from the serving ones.
 */
const GATHER_PER_WALK = 20;
/** Longest path in a log line, in bytes; Linux's own limit. */
const PATH_MAX = 4096;

export class PathFinder {
  readonly #image: Image;
  readonly #decoder = new TextDecoder();
  #gatherMs = GATHER_MS;
  #waiting: { nid: number; done: (path: string | undefined) => void }[] = [];

  constructor(image: Image) {
    this.#image = image;
  }

  /** Calls `done` soon with a path of `nid` below the root, undefined if no name leads to it. */
  find(nid: number, done: (path: string | undefined) => void): void {
    if (this.#waiting.length === 0) setTimeout(() => this.flush(), this.#gatherMs);
    this.#waiting.push({ nid, done });
  }

  /** Answers everything that waits, at once. */
  flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (waiting.length === 0) return;
    const startedAt = performance.now();
    const paths = this.#findAll(new Set(waiting.map(({ nid }) => nid)));
    this.#gatherMs = Math.max(GATHER_MS, GATHER_PER_WALK * (performance.now() - startedAt));
    for (const { nid, done } of waiting) done(paths.get(nid));
  }

  #findAll(wanted: Set<number>): Map<number, string> {
    const image = this.#image;
    const paths = new Map<number, string>();
    if (wanted.delete(image.rootNid)) paths.set(image.rootNid, '/');
    const directories = new Map<number, { parent: number; start: number; length: number }>();
    if (wanted.size === 0) return paths;
    walkEntries(image, (inode, parent, start, length) => {
      // Names of a directory come before those below it, so every parent is known already.
      // The first one counts: a hostile image may name a directory again, below itself.
      if (inode.isDirectory && !directories.has(inode.nid)) {
        directories.set(inode.nid, { parent, start, length });
      }
      if (wanted.delete(inode.nid)) {
        paths.set(inode.nid, this.#join(directories, parent, start, length));
      }
      return wanted.size === 0;
    });
    return paths;
  }

  #join(
    directories: ReadonlyMap<number, { parent: number; start: number; length: number }>,
    parent: number,
    start: number,
    length: number,
  ): string {
    const names = [this.#name(start, length)];
    let total = length;
    for (let nid = parent; nid !== this.#image.rootNid;) {
      const directory = directories.get(nid);
      // Longer than any path the system takes: the end of it names the file well enough.
      if (directory === undefined || (total += directory.length + 1) > PATH_MAX) {
        return `…/${names.toReversed().join('/')}`;
      }
      names.push(this.#name(directory.start, directory.length));
      nid = directory.parent;
    }
    return `/${names.toReversed().join('/')}`;
  }

  /** Decoded for a log line: bytes that are not UTF-8 become U+FFFD. */
  #name(start: number, length: number): string {
    return this.#decoder.decode(this.#image.bytes.slice(start, start + length));
  }
}
