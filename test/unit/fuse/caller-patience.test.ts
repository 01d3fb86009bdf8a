// What signals that wait for a process say about its patience. The process is a real one that has
// blocked nothing and is stopped, so that signals stay pending.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { hasGivenUp } from '../../../src/fuse/caller-patience.ts';
import { python, waitUntil } from '../../support/command.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** A stopped process that handles, ignores or blocks some signals. */
async function stopped(setUp: string): Promise<number> {
  const script = `import os, signal, time\n${setUp}\nprint(flush=True)\ntime.sleep(60)`;
  const child = spawn(python, ['-I', '-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  children.push(child);
  await once(child.stdout, 'data');
  child.kill('SIGSTOP');
  // Another signal would be handled first if it came before this one has stopped the process.
  const state = () => readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]![0];
  await waitUntil('the process is stopped', () => state() === 'T');
  return child.pid!;
}

const handle = (name: string): string => `signal.signal(signal.${name}, lambda *_: None)`;
const ignore = (name: string): string => `signal.signal(signal.${name}, signal.SIG_IGN)`;
const block = (name: string): string =>
  `signal.pthread_sigmask(signal.SIG_BLOCK, [signal.${name}])`;

describe('a caller has given up', () => {
  it.each<[string, string, NodeJS.Signals, boolean, boolean]>([
    // What it does, what it is sent, and whether it has given up a read and an open.
    ['that a signal will end', '', 'SIGTERM', true, true],
    ['that a signal will end', '', 'SIGALRM', true, true],
    ['that handles a wish to end', handle('SIGINT'), 'SIGINT', false, true],
    ['that handles a wish to end', handle('SIGTERM'), 'SIGTERM', false, true],
    ['that handles a timer', handle('SIGALRM'), 'SIGALRM', false, false],
    ['that handles the end of a child', handle('SIGCHLD'), 'SIGCHLD', false, false],
    ['that ignores a signal', ignore('SIGTERM'), 'SIGTERM', false, false],
    ['that blocks a signal', block('SIGTERM'), 'SIGTERM', false, false],
    ['to whom a signal means nothing', '', 'SIGWINCH', false, false],
  ])('%s (%s): %s', async (_what, setUp, signal, read, open) => {
    const pid = await stopped(setUp);
    expect([hasGivenUp(pid, false), hasGivenUp(pid, true)]).toEqual([false, false]);
    process.kill(pid, signal);
    expect([hasGivenUp(pid, false), hasGivenUp(pid, true)]).toEqual([read, open]);
  });

  it('if it cannot be seen, only where an open may fail', () => {
    expect([hasGivenUp(0, false), hasGivenUp(0, true)]).toEqual([false, true]);
  });
});
