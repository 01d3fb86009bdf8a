// Things a test makes outside this process (directories, mounts, daemons) belong to a scope, which
// undoes them in reverse order whether the test passed or not.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach } from 'vitest';

export class Scope {
  readonly #undo: (() => void | Promise<void>)[] = [];

  /** Registers what must be undone; the last registered is undone first. */
  defer(undo: () => void | Promise<void>): void {
    this.#undo.push(undo);
  }

  /** An empty directory that other users can enter. */
  directory(): string {
    const path = mkdtempSync(join(tmpdir(), 'composefs-test-'));
    chmodSync(path, 0o755);
    this.defer(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  /** Undoes everything, also after one step has failed; then throws what failed first. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** A scope closed after every test of the enclosing describe block. */
export function scopeOfEachTest(): Scope {
  const scope = new Scope();
  afterEach(() => scope.close());
  return scope;
}

/** A scope closed after the last test of the enclosing describe block. */
export function scopeOfAllTests(): Scope {
  const scope = new Scope();
  afterAll(() => scope.close());
  return scope;
}
