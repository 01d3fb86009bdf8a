// Child processes of the benchmark. Each leads a process group of its own, so that a Ctrl-C on the
// terminal reaches only the benchmark, which then ends what it started and unmounts in good order.

import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';

const runTimeoutMs = 600_000;
const stopping = new AbortController();
const running = new Set();

function endGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group is gone already.
  }
}

/** Ends the work: what runs is killed, and nothing but cleaning up starts any more. */
export function stop(why) {
  stopping.abort(new Error(why));
  for (const child of running) endGroup(child, 'SIGKILL');
}

/** Waits, unless the benchmark is being stopped. */
export async function pause(ms) {
  await delay(ms, undefined, { signal: stopping.signal });
}

/** The line that says why a command failed: tools put it last, or a hint about --help behind it. */
export function reasonIn(stderr) {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^dmesg\(1\)|^Try /.test(line));
  return lines.at(-1) ?? '';
}

/**
 * Runs a command to its end and returns what it printed. Throws with its last line on any exit code
 * but 0. With `finish` it is not killed when the benchmark is stopped (for commands that are over
 * soon and leave a half-made mount when killed), with `always` it is started even then.
 */
export function run(command, args, { finish = false, always = false } = {}) {
  if (!always) stopping.signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    if (!finish && !always) running.add(child);
    const output = { stdout: [], stderr: [] };
    for (const name of ['stdout', 'stderr'])
      child[name].on('data', (bytes) => output[name].push(bytes));
    const text = (name) => Buffer.concat(output[name]).toString();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      endGroup(child, 'SIGKILL');
    }, runTimeoutMs);
    const settle = () => {
      clearTimeout(timer);
      running.delete(child);
    };
    child.once('error', (error) => {
      settle();
      const why = error.code === 'ENOENT' ? 'is not installed' : error.message;
      reject(new Error(`${command} ${why}`));
    });
    child.once('close', (code, signal) => {
      settle();
      if (code === 0) return resolve(text('stdout'));
      const why = late ? `not done after ${runTimeoutMs / 1000} s` : reasonIn(text('stderr'));
      reject(new Error(why || `${command} ${args[0] ?? ''}: ended with ${code ?? signal}`));
    });
  });
}

/** True once `stop` was called. */
export function isStopping() {
  return stopping.signal.aborted;
}
