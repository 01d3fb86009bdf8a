// Starting child processes for the scripts: every one has a time limit, and what is still running
// when the limit passes is ended together with its children, by the id of the group it leads.

import { spawn, spawnSync } from 'node:child_process';

/**
 * Runs a command on this terminal, or with its output in the file `output` (a descriptor). Resolves to its exit code: 124 after the time limit, 128 plus
 * the signal's place otherwise when a signal ended it, 127 when it cannot be started.
 */
export function run(command, args, { timeoutMs, env = process.env, cwd, output = 'inherit' } = {}) {
  return new Promise((resolve) => {
    const stdio = ['ignore', output, output];
    const child = spawn(command, args, { stdio, env, cwd, detached: true });
    let timedOut = false;
    const endGroup = (signal) => {
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group is gone already.
      }
    };
    // The child leads a group of its own, so the terminal's Ctrl-C has to be passed on.
    const passOn = (signal) => endGroup(signal);
    process.on('SIGINT', passOn);
    process.on('SIGTERM', passOn);
    const timer =
      timeoutMs &&
      setTimeout(() => {
        timedOut = true;
        endGroup('SIGKILL');
      }, timeoutMs);
    const settle = (code) => {
      clearTimeout(timer);
      process.off('SIGINT', passOn);
      process.off('SIGTERM', passOn);
      resolve(timedOut ? 124 : code);
    };
    child.once('error', () => settle(127));
    child.once('exit', (code, signal) => settle(signal === null ? code : 128));
  });
}

/** Runs a command quietly. `{ code, stdout, stderr }`; code is null when it could not run. */
export function capture(command, args, { timeoutMs = 30_000, env = process.env, cwd } = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: timeoutMs, env, cwd });
  return { code: result.status, stdout: result.stdout ?? '', stderr: result.stderr ?? '' };
}
