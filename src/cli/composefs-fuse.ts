#!/usr/bin/env node
// composefs-fuse: mounts a composefs image. See HELP in options.ts.

import { fileURLToPath } from 'node:url';
import { announce, takeReadyDescriptor } from '../fuse/readiness.ts';
import { startInBackground } from './background.ts';
import { exitCodeOf, describeError, unreadiness } from './exit.ts';
import { HELP, parseCommandLine } from './options.ts';
import { version } from './version.ts';

function fail(message: string, exitCode: number): void {
  process.stderr.write(`composefs-fuse: ${message}\n`);
  process.exitCode = exitCode;
}

async function main(readyDescriptor: number | undefined): Promise<void> {
  const args = process.argv.slice(2);
  const program = process.argv[1] ?? '';
  const command = parseCommandLine(args, program);
  switch (command.kind) {
    case 'help':
      process.stdout.write(HELP);
      return;
    case 'version':
      process.stdout.write(`composefs-fuse ${version()}\n`);
      return;
    case 'mount':
      break;
  }
  const { options } = command;
  if (readyDescriptor === undefined && !options.foreground && !options.fake) {
    const readiness = await startInBackground(fileURLToPath(import.meta.url), args);
    if (!readiness.ready) fail(readiness.message, readiness.exitCode);
    return;
  }
  // Loaded only where it is needed: the process that waits for the background one stays small.
  const { runDaemon } = await import('./run-daemon.ts');
  process.exitCode = await runDaemon(options, readyDescriptor);
}

// Help into a full disk or a closed pipe is no reason for a stack trace.
process.stdout.on('error', () => (process.exitCode = exitCodeOf(undefined)));
const readyDescriptor = takeReadyDescriptor();
try {
  await main(readyDescriptor);
} catch (error) {
  if (readyDescriptor === undefined) {
    fail(describeError(error), exitCodeOf(error));
  } else {
    announce(readyDescriptor, unreadiness(error));
    process.exitCode = exitCodeOf(error);
  }
}
