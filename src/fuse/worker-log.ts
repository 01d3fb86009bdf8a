// Turns what workers post into log lines. A problem with a file is said once, with the file's path.

import type { PathFinder } from '../filesystem/path-finder.ts';
import { type Problem, problemKey } from '../filesystem/problems.ts';
import { errnoName } from '../errors.ts';
import type { Logger } from '../log.ts';
import { opcodeName } from './abi.ts';
import type { LoggedMessage } from './worker-setup.ts';

/** A hostile image may have millions of damaged files; so many are named. */
const MAX_PROBLEMS = 10_000;

const TITLES: Readonly<Record<Problem['kind'], string>> = {
  damage: 'damaged image',
  object: 'object not usable',
  verity: 'object refused',
  passthrough: 'the kernel does not read objects by itself',
};

export class WorkerLog {
  readonly #log: Logger;
  readonly #paths: PathFinder;
  readonly #wishesPassthrough: boolean;
  readonly #said = new Set<string>();

  /** `wishesPassthrough`: it was asked for by name, so that to be without it deserves a warning. */
  constructor(log: Logger, paths: PathFinder, wishesPassthrough = false) {
    this.#log = log;
    this.#paths = paths;
    this.#wishesPassthrough = wishesPassthrough;
  }

  /** Everything is news again. */
  forget(): void {
    this.#said.clear();
  }

  /** Says what still waits for a path. */
  flush(): void {
    this.#paths.flush();
  }

  write(message: LoggedMessage): void {
    switch (message.kind) {
      case 'problem':
        this.#onProblem(message.problem);
        break;
      case 'bug':
        this.#log.error(
          { opcode: opcodeName(message.opcode), nodeid: message.nodeid, stack: message.stack },
          'a request failed because of a bug in composefs-fuse; its caller got EIO',
        );
        break;
      case 'refused-reply':
        this.#log.error(message.text);
        break;
      case 'trace':
        this.#log.trace(message.text);
        break;
      case 'ended':
        this.#log.debug(`a worker ended: ${message.end}`);
        break;
    }
  }

  /** Every worker reports a file once; together they do so only once here. */
  #onProblem(problem: Problem): void {
    const key = problemKey(problem);
    if (this.#said.has(key) || this.#said.size >= MAX_PROBLEMS) return;
    this.#said.add(key);
    // Not about one file.
    if (problem.kind === 'passthrough') this.#writePassthrough(problem.detail);
    else this.#paths.find(problem.nid, (path) => this.#writeProblem(problem, path));
  }

  #writePassthrough(detail: string): void {
    const text = `${TITLES.passthrough}: ${detail}`;
    if (this.#wishesPassthrough) this.#log.warn(text);
    else this.#log.info(text);
  }

  #writeProblem(problem: Problem, path: string | undefined): void {
    const { kind, detail, errno, ...rest } = problem;
    const facts = { path, ...rest, errno: errnoName(errno) };
    this.#log.warn(facts, `${TITLES[kind]}: ${detail}`);
  }
}
