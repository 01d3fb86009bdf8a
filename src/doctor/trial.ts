// A process of its own that tries one thing for doctor, since it may hang or end the process, and says in one
// line of JSON on standard output how it went. Mounts are made in the mount namespace in which it was
// started, which must be private. It ends when its standard input does.

import { tryBasedir } from './trial-basedir.ts';
import { tryDaemon } from './trial-daemon.ts';
import { tryKernelMount } from './trial-kernel.ts';
import type { TrialOrder } from './trials.ts';

async function perform(order: TrialOrder): Promise<unknown> {
  switch (order.trial) {
    case 'basedir':
      return tryBasedir(order);
    case 'daemon':
      return await tryDaemon(order);
    case 'kernel':
      return await tryKernelMount(order);
  }
}

function say(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

function giveUp(error: unknown): void {
  say({ reason: error instanceof Error ? error.message : String(error) });
}

process.on('uncaughtException', giveUp);
process.stdin.on('end', () => process.exit(1)).resume();
perform(JSON.parse(process.argv[2] ?? '') as TrialOrder).then(say, giveUp);
