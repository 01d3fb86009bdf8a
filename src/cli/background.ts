// Starts the command again as a daemon in the background and waits until its mount is ready.
// Node.js cannot fork; a second process it is, and this one stays small.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import {
  INHERITED_VARIABLE,
  parseReadiness,
  READY_FD_VARIABLE,
  type Readiness,
} from '../fuse/readiness.ts';
import { ExitCode, fail } from './exit-code.ts';

/** Where the daemon says that the mount is ready. */
const READY_FD = 3;

/** Runs `script` with `args` detached from this terminal and session, and reports a failure. */
export async function startInBackground(script: string, args: readonly string[]): Promise<void> {
  reportReadiness(await startDaemon(script, args));
}

/** The same without reporting: what the daemon said of its start. It goes on running. */
export async function startDaemon(script: string, args: readonly string[]): Promise<Readiness> {
  const daemon = spawn(process.execPath, [...process.execArgv, script, ...args], {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    env: environment(),
  });
  // Absent when the process could not be started at all.
  const pipe = (daemon.stdio[3] as Readable | null | undefined) ?? Readable.from([]);
  let text = '';
  pipe.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const ended = new Promise<string>((resolve) => {
    daemon.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    // No memory, no processes left, no /dev/null.
    daemon.on('error', (error) => resolve(error.message));
  });
  await new Promise((resolve) => {
    pipe.on('close', resolve).on('error', resolve);
    daemon.on('error', resolve);
  });
  const readiness = parseReadiness(text);
  if (readiness?.ready === true) daemon.unref();
  return (
    readiness ?? {
      ready: false,
      message: `the daemon ended before the mount was ready (${await ended})`,
      exitCode: ExitCode.INTERNAL,
    }
  );
}

function reportReadiness(readiness: Readiness): void {
  if (!readiness.ready) fail(readiness.message, readiness.exitCode);
}

/** Reports what a daemon said of its start, if it did not succeed. */
export function reportStart(text: string): void {
  const readiness = parseReadiness(text);
  if (readiness !== undefined) reportReadiness(readiness);
}

/** The daemon speaks to nobody, and Node.js takes 70 ms to read the usual certificates. */
function environment(): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _unused, ...rest } = process.env;
  return {
    ...rest,
    [READY_FD_VARIABLE]: String(READY_FD),
    [INHERITED_VARIABLE]: inheritedDescriptors().join(' '),
  };
}

/**
 * Descriptors of our caller that a child of ours has too. Node.js marks those that it inherits
 * close-on-exec, but above 15 only up to the first gap.
 */
function inheritedDescriptors(): number[] {
  const O_CLOEXEC = 0o2000000;
  const folder = '/proc/self/fdinfo';
  return readdirSync(folder)
    .map(Number)
    .filter((fd) => {
      if (fd <= READY_FD) return false;
      try {
        const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`${folder}/${fd}`, 'latin1'))?.[1];
        return flags !== undefined && (parseInt(flags, 8) & O_CLOEXEC) === 0;
      } catch {
        return false; // The listing's own.
      }
    });
}
