// A child process that is talked to line by line: it reads mounts, so it may hang, and the test must
// not.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { exitOf, within } from './command.ts';
import type { Scope } from './scope.ts';

export interface Dialogue {
  pid: number;
  /** Its exit code, 128 for a signal. */
  ended: Promise<number>;
  say(line: string): void;
  /** The next line it prints. Rejects when it ends without one, and after the time limit. */
  hear(timeoutMs?: number): Promise<string>;
  ask(line: string, timeoutMs?: number): Promise<string>;
  kill(signal?: NodeJS.Signals): void;
}

/** The child is killed with the scope. */
export function talkTo(scope: Scope, command: string, args: readonly string[]): Dialogue {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  scope.defer(() => void child.kill('SIGKILL'));
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  child.stdin.on('error', () => undefined);
  const said: string[] = [];
  const listeners: { resolve: (line: string) => void; reject: (error: Error) => void }[] = [];
  let isClosed = false;
  const silence = (): Error => new Error(`${command} said nothing more: ${complaints}`);
  createInterface({ input: child.stdout })
    .on('line', (line) => {
      const listener = listeners.shift();
      if (listener === undefined) said.push(line);
      else listener.resolve(line);
    })
    .on('close', () => {
      isClosed = true;
      for (const { reject } of listeners.splice(0)) reject(silence());
    });
  const next = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const line = said.shift();
      if (line !== undefined) resolve(line);
      else if (isClosed) reject(silence());
      else listeners.push({ resolve, reject });
    });
  const hear = (timeoutMs = 20_000): Promise<string> =>
    within(`an answer of ${command}`, timeoutMs, next());
  const say = (line: string): void => void child.stdin.write(`${line}\n`);
  return {
    pid: child.pid!,
    ended: exitOf(child),
    say,
    hear,
    ask: (line, timeoutMs) => {
      say(line);
      return hear(timeoutMs);
    },
    kill: (signal = 'SIGKILL') => void child.kill(signal),
  };
}
