#!/usr/bin/env node
// composefs-fuse without a shell: what composefs-fuse.sh leaves to Node.js, and the whole command where it
// is called by this name. An ordinary mount is started in the background before its options are read,
// which the daemon does; everything else is left to command.ts.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { READY_FD_VARIABLE, SAID_VARIABLE } from '../fuse/readiness.ts';
import { isPlainMount } from './plain-mount.ts';

/** command.ts in one file with all that it needs, made by scripts/bundle.mjs. */
const COMMAND = './command.cjs';

const args = process.argv.slice(2);
const isStarted = process.env[SAID_VARIABLE] !== undefined;
if (process.env[READY_FD_VARIABLE] === undefined && (isStarted || isPlainMount(args))) {
  const { reportStart, startInBackground } = await import('./background.ts');
  if (isStarted) reportStart(process.env[SAID_VARIABLE] ?? '');
  else await startInBackground(fileURLToPath(new URL(COMMAND, import.meta.url)), args);
} else {
  createRequire(import.meta.url)(COMMAND);
}
