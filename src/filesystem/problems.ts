// What can be wrong with one file, reported once per file however often it is touched.

/** A problem with one file, for the log. */
export interface Problem {
  /**
   * `damage`: the image contradicts itself there. `object`: its content cannot be had. `verity`: its
   * content is not what the image says. `passthrough`: the kernel reads none by itself (nid 0).
   */
  kind: 'damage' | 'object' | 'verity' | 'passthrough';
  nid: number;
  /** What the reader of the file was told, positive. */
  errno: number;
  /** What was expected and found, without the file's path. */
  detail: string;
  /** Path of the object relative to the base directories, where one is concerned. */
  objectPath?: string;
  /** Digests as `sha256:HEX`, and who measured the actual one; only for `verity`. */
  expected?: string;
  actual?: string;
  measuredBy?: 'kernel' | 'composefs-fuse';
}

/**
 * Files that are remembered as reported. A hostile image may have millions of damaged ones; past
 * this many, further ones are counted but not logged.
 */
const MAX_REPORTED = 10_000;

/** Two problems with the same key are one. Files that share a bad object have the same problem. */
export function problemKey({ kind, nid, errno, objectPath }: Problem): string {
  return kind === 'verity' ? `${kind} ${objectPath}` : `${kind} ${nid} ${errno}`;
}

export class ProblemReporter {
  readonly #report: (problem: Problem) => void;
  readonly #epoch: { readonly generation: number };
  readonly #reported = new Set<string>();
  #generation: number;
  /** All problems met, including repeated and unlogged ones. */
  count = 0;

  /** Whenever the generation has changed, everything is news again. */
  constructor(
    report: (problem: Problem) => void,
    epoch: { readonly generation: number } = { generation: 0 },
  ) {
    this.#report = report;
    this.#epoch = epoch;
    this.#generation = epoch.generation;
  }

  /** True if this file's problem would be logged: lets the caller skip making the text. */
  isNews(kind: Problem['kind'], nid: number, errno: number): boolean {
    this.count++;
    if (this.#generation !== this.#epoch.generation) {
      this.#generation = this.#epoch.generation;
      this.#reported.clear();
    }
    return this.#reported.size < MAX_REPORTED && !this.#reported.has(`${kind} ${nid} ${errno}`);
  }

  /** Reports damage of the image and returns `errno` (negative). */
  damaged(nid: number, detail: string, errno: number): number {
    if (this.isNews('damage', nid, -errno)) {
      this.report({ kind: 'damage', nid, errno: -errno, detail });
    }
    return errno;
  }

  report(problem: Problem): void {
    this.#reported.add(`${problem.kind} ${problem.nid} ${problem.errno}`);
    this.#report(problem);
  }
}
