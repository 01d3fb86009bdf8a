// How doctor looks at the system: files of a few lines, and programs with a time limit.

import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** A program that only says something about itself. */
const LIMIT_MS = 5000;

/** The file's text; undefined where it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** A sysctl by its path below /proc/sys; undefined where the kernel has none of that name. */
export function sysctl(path: string): string | undefined {
  return readText(join('/proc/sys', path))?.trim();
}

/** Where execvp(3) finds a program. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** How a program ended. */
export interface Ending {
  /** Null if a signal ended it, or it could not be started. */
  code: number | null;
  isLate: boolean;
  stdout: string;
  stderr: string;
}

/**
 * Runs a program to its end. It and its children get SIGKILL after `limitMs`. Its standard input stays open
 * as long as this process lives.
 */
export function run(
  program: string,
  args: readonly string[],
  limitMs: number = LIMIT_MS,
): Promise<Ending> {
  return new Promise((resolve) => {
    const ending: Ending = { code: null, isLate: false, stdout: '', stderr: '' };
    // They speak to nobody, and Node.js takes 70 ms to read the usual certificates.
    const { NODE_EXTRA_CA_CERTS: _unused, ...environment } = process.env;
    const child = spawn(program, args, {
      // A group of its own, to be ended as a whole.
      detached: true,
      env: { ...environment, LC_ALL: 'C' },
    });
    const timer = setTimeout(() => {
      ending.isLate = true;
      killGroup(child.pid);
      // A process that hangs in the kernel does not end, nor let go of its output.
      resolve(ending);
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
      child.unref();
    }, limitMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (ending.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (ending.stderr += text));
    child.stdin.on('error', () => undefined);
    child.once('error', (error) => {
      clearTimeout(timer);
      resolve({ ...ending, stderr: error.message });
    });
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ ...ending, code });
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The last line that a program said on standard error, without its name. */
export function lastWords({ stderr, isLate, code }: Ending, program: string): string {
  if (isLate) return 'no answer in time';
  const line = stderr.trim().split('\n').at(-1) ?? '';
  if (line === '') return `exit code ${code}`;
  return line.startsWith(`${program}: `) ? line.slice(program.length + 2) : line;
}
