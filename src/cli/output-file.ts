// A file that appears complete or not at all: written under a temporary name beside its own, made
// durable, then renamed into place. Interrupted in any way, the old file is still there.

import {
  closeSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class OutputFile {
  readonly #path: string;
  readonly #temporary: string;
  readonly #fd: number;
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.discard();
    process.kill(process.pid, signal);
  };

  /** Checks the place and opens the temporary file. Throws InputError. */
  constructor(path: string) {
    // A symlink stays one: what it points to is replaced.
    this.#path = resolveTarget(path);
    this.#temporary = join(dirname(this.#path), `.${basename(this.#path)}.${process.pid}.tmp`);
    try {
      this.#fd = openSync(this.#temporary, 'wx', 0o666);
    } catch (cause) {
      throw unusable(path, cause);
    }
    for (const signal of SIGNALS) process.once(signal, this.#onSignal);
  }

  /** Throws InputError when the disk is full or the like; the temporary file is gone then. */
  write(bytes: Uint8Array): void {
    this.#guard(() => {
      for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at);
    });
  }

  /** Makes the file durable and visible under its name. */
  commit(): void {
    this.#guard(() => {
      fsyncSync(this.#fd);
      closeSync(this.#fd);
      renameSync(this.#temporary, this.#path);
      syncDirectory(dirname(this.#path));
    });
    this.#release();
  }

  /** Leaves nothing behind. */
  discard(): void {
    rmSync(this.#temporary, { force: true });
    this.#release();
  }

  #guard(action: () => void): void {
    try {
      action();
    } catch (cause) {
      this.discard();
      throw unusable(this.#path, cause);
    }
  }

  #release(): void {
    for (const signal of SIGNALS) process.removeListener(signal, this.#onSignal);
  }
}

function resolveTarget(path: string): string {
  try {
    const target = realpathSync(path);
    if (!statSync(target).isFile()) {
      throw new InputError(`${path} is there and not a regular file`, path);
    }
    return target;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return path;
    throw error instanceof InputError ? error : unusable(path, error);
  }
}

function unusable(path: string, cause: unknown): InputError {
  const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
  return new InputError(`${path} cannot be written (${code})`, path, { cause });
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
