#!/usr/bin/env node
// composefs-fuse without a shell: what composefs-fuse.sh leaves to Node.js, and the whole command where it
// is called by this name; doctor.ts is another command. An ordinary mount is started in the background before its options are read,
// which the daemon does; everything else is left to command.ts.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { READY_FD_VARIABLE, SAID_VARIABLE } from '../fuse/readiness.ts';
import { DOCTOR, isPlainMount } from './plain-mount.ts';

/** command.ts in one file with all that it needs, made by scripts/bundle.mjs. */
const COMMAND = './command.cjs';

const args = process.argv.slice(2);
const isDaemon = process.env[READY_FD_VARIABLE] !== undefined;
const isStarted = process.env[SAID_VARIABLE] !== undefined;
if (args[0] === DOCTOR && !isDaemon) {
  const { runDoctor } = await import('./doctor.ts');
  await runDoctor(args.slice(1));
} else if (!isDaemon && (isStarted || isPlainMount(args))) {
  const { reportStart, startInBackground } = await import('./background.ts');
  if (isStarted) reportStart(process.env[SAID_VARIABLE] ?? '');
  else await startInBackground(fileURLToPath(new URL(COMMAND, import.meta.url)), args);
} else {
  createRequire(import.meta.url)(COMMAND);
}
