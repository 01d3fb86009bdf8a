#!/usr/bin/env node
// composefs-fuse: mounts a composefs image. See HELP in options.ts.

import { fileURLToPath } from 'node:url';
import { takeReadyDescriptor } from '../fuse/readiness.ts';
import { startInBackground } from './background.ts';
import { describeError, ExitCode, exitCodeOf } from './exit.ts';
import { HELP, parseCommandLine } from './options.ts';
import { version } from './version.ts';

function fail(message: string, exitCode: number): void {
  process.stderr.write(`composefs-fuse: ${message}\n`);
  process.exitCode = exitCode;
}

async function main(): Promise<void> {
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
  const readyDescriptor = takeReadyDescriptor();
  if (readyDescriptor === undefined && !options.foreground && !options.fake) {
    const readiness = await startInBackground(fileURLToPath(import.meta.url), args);
    if (!readiness.ready) fail(readiness.message, readiness.exitCode);
    return;
  }
  // Loaded only where it is needed: the process that waits for the background one stays small.
  const { runDaemon } = await import('./run-daemon.ts');
  process.exitCode = await runDaemon(options, readyDescriptor);
}

try {
  await main();
} catch (error) {
  fail(describeError(error), error instanceof Error ? exitCodeOf(error) : ExitCode.INTERNAL);
}
