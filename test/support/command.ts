// Child processes for tests. Every one has a time limit, since anything that touches a mount may
// hang with it; only processes started here are ever signalled.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * The system's own Python where there is one: a version manager's may not be open to the other users
 * that some tests run as.
 */
export const python: string = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

/** The built command: what a user runs. */
export const commandPath: string = join(import.meta.dirname, '../../dist/cli/composefs-fuse.js');

/** What stands in front of it on a user's path: the shell script that starts ordinary mounts. */
export const launcherPath: string = join(import.meta.dirname, '../../dist/cli/composefs-fuse');

export interface Outcome {
  /** Exit code; null when a signal ended the process. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  timeoutMs?: number;
  input?: string | Uint8Array;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
}

/**
 * Runs a command until it has ended and every holder of its output has closed it. Rejects when it
 * cannot be started and when the time limit passes; any exit code resolves.
 */
export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Outcome> {
  const { timeoutMs = 30_000, input, ...spawnOptions } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...spawnOptions, stdio: 'pipe' });
    const outcome: Outcome = { code: null, signal: null, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (outcome.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (outcome.stderr += text));
    // A child that ends without reading its input is no failure of ours.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stdout.destroy();
      child.stderr.destroy();
      const shown = [command, ...args].join(' ');
      reject(new Error(`${shown}: not done after ${timeoutMs} ms: ${outcome.stderr}`));
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ ...outcome, code, signal });
    });
  });
}

/** As `runCommand`, but anything except exit code 0 rejects with what the command said. */
export async function mustRun(
  command: string,
  args: readonly string[],
  options?: CommandOptions,
): Promise<Outcome> {
  const outcome = await runCommand(command, args, options);
  if (outcome.code === 0) return outcome;
  const shown = [command, ...args].join(' ');
  throw new Error(`${shown}: exit code ${outcome.code ?? outcome.signal}: ${outcome.stderr}`);
}

/** Waits for a condition that nothing announces, and names it when the time limit passes. */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await delay(2);
  }
}

/** The exit code of a child (128 for a signal), once it has ended. */
export function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode ?? 128);
    else child.once('exit', (code) => resolve(code ?? 128));
  });
}

/** Rejects with `what` when the promise has not settled in time. */
export async function within<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done in ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
