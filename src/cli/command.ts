// The whole command: reads the options, then shows its help, mounts here, or has the same done in the
// background. Runs when it is loaded: by composefs-fuse.ts, or as the main file of a daemon.

import { fileURLToPath } from 'node:url';
import { announce, takeReadyDescriptor } from '../fuse/readiness.ts';
import { fail } from './exit-code.ts';
import { oneLine } from './error-line.ts';
import { exitCodeOf, unreadiness } from './exit.ts';
import { HELP } from './help.ts';
import { parseCommandLine } from './options.ts';
import { takeNotifySocket } from './service-manager.ts';
import { version } from './version.ts';

/** By which name composefs-fuse.sh was called. */
const CALLED_VARIABLE = 'COMPOSEFS_FUSE_CALLED';

async function main(
  readyDescriptor: number | undefined,
  notifySocket: string | undefined,
): Promise<void> {
  const args = process.argv.slice(2);
  const program = process.env[CALLED_VARIABLE] ?? process.argv[1] ?? '';
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
    const { startInBackground } = await import('./background.ts');
    await startInBackground(fileURLToPath(import.meta.url), args);
    return;
  }
  // Loaded only where it is needed: the process that waits for the background one stays small.
  const { runDaemon } = await import('./run-daemon.ts');
  process.exitCode = await runDaemon(options, readyDescriptor, notifySocket);
}

/** Reports to whoever waits: the starter of a daemon in the background, else the terminal. */
function report(error: unknown, readyDescriptor: number | undefined): void {
  if (readyDescriptor === undefined) {
    fail(oneLine(error), exitCodeOf(error));
  } else {
    announce(readyDescriptor, unreadiness(error));
    process.exitCode = exitCodeOf(error);
  }
}

// Help into a full disk or a closed pipe is no reason for a stack trace.
process.stdout.on('error', () => (process.exitCode = exitCodeOf(undefined)));
const readyDescriptor = takeReadyDescriptor();
// Of all ways to start, only a daemon in the foreground is the service itself, and is to speak for it.
const notifySocket = takeNotifySocket();
main(readyDescriptor, readyDescriptor === undefined ? notifySocket : undefined).catch(
  (error: unknown) => report(error, readyDescriptor),
);
