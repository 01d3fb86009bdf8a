// The pid file: the daemon's process id, there while it serves. Never takes the place of anything
// that is not a pid file, nor of one whose process lives.

import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { InputError } from '../errors.ts';
import { reasonOf } from '../objects/system-errors.ts';

/** A pid file has a number and a newline; nothing longer is read. */
const MAX_BYTES = 32;

export class PidFile {
  readonly #path: string;

  /** Throws InputError when `path` holds something that must not be replaced. */
  constructor(path: string) {
    this.#path = path;
    const recorded = this.#read();
    if (recorded !== undefined && recorded !== process.pid && isAlive(recorded)) {
      throw new InputError(
        `pid file ${path} belongs to the running process ${recorded}; ` +
          'if that is another program by now, remove the file',
        path,
      );
    }
  }

  /** Appears complete or not at all. Throws InputError. */
  write(): void {
    const temporary = `${this.#path}.${process.pid}`;
    try {
      const fd = openSync(temporary, 'wx', 0o644);
      try {
        writeSync(fd, `${process.pid}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, this.#path);
    } catch (cause) {
      rmSync(temporary, { force: true });
      throw new InputError(
        `pid file ${this.#path} cannot be written: ${reasonOf(cause)}`,
        this.#path,
        {
          cause,
        },
      );
    }
  }

  /** Removes the file if it still names this process. */
  remove(): void {
    try {
      if (this.#read() === process.pid) rmSync(this.#path, { force: true });
    } catch {
      // Something else is there by now: not ours to remove.
    }
  }

  /** The process id in the file; undefined if there is no file or nothing in it. */
  #read(): number | undefined {
    const path = this.#path;
    let facts;
    try {
      facts = lstatSync(path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new InputError(`pid file ${path} cannot be used: ${reasonOf(cause)}`, path, { cause });
    }
    const text = facts.isFile() && facts.size <= MAX_BYTES ? readFileSync(path, 'latin1') : 'other';
    if (/^\s*$/.test(text)) return undefined;
    if (/^\d+\s*$/.test(text)) return Number(text);
    throw new InputError(`${path} is there and is no pid file; it is left alone`, path);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
