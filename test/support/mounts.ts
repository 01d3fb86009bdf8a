// Mounts for tests: ours through the built command, and the kernel's own of the same image (erofs
// with overlayfs over it) as the reference. Every mount belongs to a scope and goes away with it,
// whatever state it is in.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { commandPath, exitOf, mustRun, python, runCommand, waitUntil, within } from './command.ts';
import type { Outcome } from './command.ts';
import type { Scope } from './scope.ts';

/** How our command is run, for tests that put it into a command line of their own. */
export const ourCommand: readonly string[] = [process.execPath, commandPath];
const reaper = join(import.meta.dirname, 'reap-daemon.py');

/** A line of the mount table. */
export interface MountEntry {
  mountpoint: string;
  type: string;
  source: string;
  options: string[];
  superOptions: string[];
}

const unescapeTable = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));

export function mountTable(): MountEntry[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n');
  return lines.map((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const left = before.split(' ');
    const right = after.split(' ');
    return {
      mountpoint: unescapeTable(left[4] ?? ''),
      options: (left[5] ?? '').split(','),
      type: right[0] ?? '',
      source: unescapeTable(right[1] ?? ''),
      superOptions: (right[2] ?? '').split(','),
    };
  });
}

/** The uppermost mount on a directory, if there is one. */
export function mountAt(mountpoint: string): MountEntry | undefined {
  return mountTable().findLast((entry) => entry.mountpoint === mountpoint);
}

export function isRunning(pid: number): boolean {
  try {
    // A zombie has ended; only nobody has asked yet.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** What a process has open, as the targets of its descriptors. Nothing is opened or followed. */
export function openDescriptors(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).flatMap((fd) => {
    try {
      return [readlinkSync(join(folder, fd))];
    } catch {
      return []; // Closed between the two calls.
    }
  });
}

/** Takes a mountpoint out of the tree, dead or busy, however many mounts lie on it. */
export async function detach(mountpoint: string): Promise<void> {
  for (let left = 8; left > 0 && mountAt(mountpoint) !== undefined; left--) {
    const outcome = await runCommand('umount', ['-l', mountpoint]);
    if (outcome.code !== 0) await runCommand('fusermount3', ['-uz', mountpoint]);
  }
  if (mountAt(mountpoint) !== undefined) throw new Error(`${mountpoint} cannot be unmounted`);
}

export interface OurMountOptions {
  image: string;
  basedirs?: readonly string[];
  /** Further arguments of the command. */
  args?: readonly string[];
  /** A directory made by the scope when absent. */
  mountpoint?: string;
  logLevel?: string;
  /** A command in front of ours, such as setpriv with its options. */
  as?: readonly string[];
  env?: NodeJS.ProcessEnv;
}

export interface OurMount {
  mountpoint: string;
  /** The serving process. */
  pid: number;
  /** Its exit code, once it has ended. */
  ended: Promise<number>;
  /** What it has logged so far. */
  log(): string;
  /** Unmounts with umount(8) and waits for the process. Returns its exit code. */
  unmount(): Promise<number>;
}

/** Arguments of the command for these options. */
function commandLine(options: OurMountOptions, mountpoint: string, more: string[]): string[] {
  const basedirs = (options.basedirs ?? []).flatMap((path) => ['--basedir', path]);
  const level = ['--log-level', options.logLevel ?? 'info'];
  const rest = [...basedirs, ...level, ...more, ...(options.args ?? [])];
  return [...(options.as ?? []), ...ourCommand, ...rest, options.image, mountpoint];
}

/** Runs our command to its end, for what it prints and its exit code. */
export function runOurs(
  args: readonly string[],
  as: readonly string[] = [],
  ours: readonly string[] = ourCommand,
): Promise<Outcome> {
  const [command = '', ...rest] = [...as, ...ours, ...args];
  return runCommand(command, rest);
}

function ourMount(
  scope: Scope,
  mountpoint: string,
  pid: number,
  ended: Promise<number>,
  log: () => string,
): OurMount {
  scope.defer(async () => {
    await detach(mountpoint);
    try {
      await within('the end of the daemon', 5_000, ended);
    } catch (error) {
      if (isRunning(pid)) process.kill(pid, 'SIGKILL');
      throw error;
    }
  });
  const unmount = async (): Promise<number> => {
    await mustRun('umount', [mountpoint]);
    return await within('the end of the daemon', 10_000, ended);
  };
  return { mountpoint, pid, ended, log, unmount };
}

function ensureMountpoint(scope: Scope, options: OurMountOptions): string {
  if (options.mountpoint !== undefined) return options.mountpoint;
  const mountpoint = join(scope.directory(), 'mnt');
  mkdirSync(mountpoint);
  return mountpoint;
}

/**
 * Mounts with our command in the background, as a user does. The mount is ready when the command
 * has returned. Rejects with the command's message when it fails.
 */
export async function mountOurs(scope: Scope, options: OurMountOptions): Promise<OurMount> {
  const mountpoint = ensureMountpoint(scope, options);
  const folder = scope.directory();
  // The command may run as another user.
  chmodSync(folder, 0o777);
  const logFile = join(folder, 'log');
  const pidFile = join(folder, 'pid');
  const more = ['--log-file', logFile, '--pid-file', pidFile];
  const child = spawn(python, ['-I', reaper, ...commandLine(options, mountpoint, more)], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  scope.defer(() => void child.kill('SIGKILL'));
  const codes = new Map<number, number>();
  let output = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (output += text));
  const started = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    const reports = createInterface({ input: child.stdio[3] as NodeJS.ReadableStream });
    reports.on('line', (line) => {
      const [event, ...numbers] = line.split(' ');
      if (event === 'started') resolve(Number(numbers[0]));
      else codes.set(Number(numbers[0]), Number(numbers[1]));
    });
    reports.on('close', () => reject(new Error(`the command left no report: ${output}`)));
  });
  let code: number;
  try {
    code = await within(`mounting ${options.image}`, 20_000, started);
  } catch (error) {
    await detach(mountpoint);
    throw error;
  }
  if (code !== 0) throw new Error(`exit code ${code}: ${output.trim()}`);
  const pid = Number(readFileSync(pidFile, 'utf8').trim());
  const ended = exitOf(child).then(() => codes.get(pid) ?? -1);
  return ourMount(scope, mountpoint, pid, ended, () =>
    existsSync(logFile) ? readFileSync(logFile, 'utf8') : '',
  );
}

/** Mounts with `--foreground`: the child itself serves. Ready when its log says so. */
export async function mountForeground(
  scope: Scope,
  options: OurMountOptions,
): Promise<OurMount & { child: ChildProcess }> {
  const mountpoint = ensureMountpoint(scope, options);
  const [command = '', ...args] = commandLine(options, mountpoint, ['--foreground']);
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = exitOf(child);
  scope.defer(() => void child.kill('SIGKILL'));
  await waitUntil('the mount is announced', () => {
    if (child.exitCode !== null) throw new Error(`exit code ${child.exitCode}: ${output.trim()}`);
    return output.includes('"mounted"');
  });
  return { ...ourMount(scope, mountpoint, child.pid!, ended, () => output), child };
}

/**
 * The kernel's own mount of an image: erofs from a loop device and overlayfs over it with the
 * basedirs as data-only layers, the way mount.composefs does it. `noAcl` leaves ACLs out. Returns the
 * mountpoint.
 */
export async function mountKernel(
  scope: Scope,
  image: string,
  basedirs: readonly string[],
  options: { noAcl?: boolean } = {},
): Promise<string> {
  const folder = scope.directory();
  const [lower, mountpoint] = [join(folder, 'erofs'), join(folder, 'mnt')];
  mkdirSync(lower);
  mkdirSync(mountpoint);
  scope.defer(() => detach(lower));
  const words = options.noAcl === true ? 'loop,ro,noacl' : 'loop,ro';
  await mustRun('mount', ['-t', 'erofs', '-o', words, image, lower]);
  scope.defer(() => detach(mountpoint));
  // overlayfs wants a second layer, also for an image without external files.
  const data = basedirs.length > 0 ? basedirs : [scope.directory()];
  const overlay = (separator: string): Promise<Outcome> => {
    const layers = [lower, ...data].join(separator);
    const options = `ro,metacopy=on,redirect_dir=on,lowerdir=${layers}`;
    return runCommand('mount', ['-t', 'overlay', 'overlay', '-o', options, mountpoint]);
  };
  // Before Linux 6.5 there are no data-only layers, and the objects are ordinary lower layers.
  let outcome = await overlay('::');
  if (outcome.code !== 0) outcome = await overlay(':');
  if (outcome.code !== 0) throw new Error(`no kernel mount of ${image}: ${outcome.stderr.trim()}`);
  return mountpoint;
}
