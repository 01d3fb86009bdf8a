// Runs another program and waits for it. Most mounts need none, and Node's module for it drags sockets
// and streams along (5 ms of a start), so it is loaded on first use.

import type {
  SpawnSyncOptionsWithStringEncoding as Options,
  SpawnSyncReturns,
} from 'node:child_process';
import { createRequire } from 'node:module';

/** node:child_process's spawnSync. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: Options,
): SpawnSyncReturns<string> {
  const require = createRequire(import.meta.url);
  const { spawnSync } = require('node:child_process') as typeof import('node:child_process');
  return spawnSync(program, args, options);
}
