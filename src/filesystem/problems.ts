// What can be wrong with one file, reported once per file however often it is touched.

/** A problem with one file, for the log. */
export interface Problem {
  /** `damage`: the image contradicts itself there. `object`: its content cannot be had. */
  kind: 'damage' | 'object';
  nid: number;
  /** What the reader of the file was told, positive. */
  errno: number;
  /** What was expected and found, without the file's path. */
  detail: string;
  /** Path of the object relative to the base directories, where one is concerned. */
  objectPath?: string;
}

/**
 * Files that are remembered as reported. A hostile image may have millions of damaged ones; past
 * this many, further ones are counted but not logged.
 */
const MAX_REPORTED = 10_000;

/** Two problems with the same key are one. */
export function problemKey({ kind, nid, errno }: Problem): string {
  return `${kind} ${nid} ${errno}`;
}

export class ProblemReporter {
  readonly #report: (problem: Problem) => void;
  readonly #reported = new Set<string>();
  /** All problems met, including repeated and unlogged ones. */
  count = 0;

  constructor(report: (problem: Problem) => void) {
    this.#report = report;
  }

  /** True if this file's problem would be logged: lets the caller skip making the text. */
  isNews(kind: Problem['kind'], nid: number, errno: number): boolean {
    this.count++;
    return this.#reported.size < MAX_REPORTED && !this.#reported.has(`${kind} ${nid} ${errno}`);
  }

  report(problem: Problem): void {
    this.#reported.add(problemKey(problem));
    this.#report(problem);
  }
}
