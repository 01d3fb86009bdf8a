#!/usr/bin/env node
// composefs-fuse: mounts a composefs image. This process is in the way of every mount, so it loads next
// to nothing: an ordinary mount is started in the background before its options are read, which the
// daemon does. Everything else is left to command.ts.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { READY_FD_VARIABLE } from '../fuse/readiness.ts';
import { startInBackground } from './background.ts';
import { isPlainMount } from './plain-mount.ts';

/** command.ts in one file with all that it needs, made by scripts/bundle.mjs. */
const COMMAND = './command.cjs';

const args = process.argv.slice(2);
if (process.env[READY_FD_VARIABLE] === undefined && isPlainMount(args)) {
  await startInBackground(fileURLToPath(new URL(COMMAND, import.meta.url)), args);
} else {
  createRequire(import.meta.url)(COMMAND);
}
