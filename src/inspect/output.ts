// Standard output for programs that write much: collected, then written at once, and every failure of
// it known where it happens.

import { writeSync } from 'node:fs';
import { InputError } from '../errors.ts';
import { describeErrno } from '../objects/system-errors.ts';

const STDOUT = 1;
const CHUNK_SIZE: number = 1 << 16;
/** Between two attempts to write to a pipe that is full and does not block. */
const RETRY_MS = 2;

/** Nobody reads what is written. Not an error that anyone wants to be told of. */
export class OutputClosed extends Error {
  static {
    this.prototype.name = 'OutputClosed';
  }
}

/** Throws OutputClosed for a closed pipe, InputError for anything else. */
export class Output {
  readonly #descriptor: number;
  #parts: string[] = [];
  #length: number = 0;
  #encoding: 'utf8' | 'latin1' = 'utf8';

  constructor(descriptor: number = STDOUT) {
    this.#descriptor = descriptor;
  }

  text(text: string): void {
    this.#parts.push(text);
    this.#length += text.length;
    if (this.#length >= CHUNK_SIZE) this.flush();
  }

  json(value: unknown): void {
    this.text(`${JSON.stringify(value)}\n`);
  }

  /** Text of one character per byte; not mixed with text(). */
  key(key: string): void {
    this.#encoding = 'latin1';
    this.text(key);
  }

  bytes(bytes: Uint8Array): void {
    this.flush();
    this.#write(bytes);
  }

  flush(): void {
    const text = this.#parts.join('');
    this.#parts = [];
    this.#length = 0;
    if (text !== '') this.#write(Buffer.from(text, this.#encoding));
  }

  #write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      try {
        at += writeSync(this.#descriptor, bytes, at);
      } catch (error) {
        const { code, errno = 0 } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') {
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
          continue;
        }
        if (code === 'EPIPE') throw new OutputClosed('standard output is closed');
        const reason = describeErrno(errno);
        throw new InputError(`cannot write standard output: ${reason}`, '-', { cause: error });
      }
    }
  }
}
