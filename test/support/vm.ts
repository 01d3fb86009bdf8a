// Boots a real kernel in QEMU (software emulation) with a payload and waits for its end. Console and
// results leave the guest through two serial ports, which QEMU writes to files: whatever happens to
// the guest, what it has said is there. No guest outlives its call or this process.

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findKernel } from '../../scripts/lib/kernels.mjs';
import { exitOf } from './command.ts';
import type { Scope } from './scope.ts';
import { guestProject, packInitramfs } from './vm-payload.ts';
import type { KernelName } from './vm-requirements.ts';

export interface VmOptions {
  kernel: KernelName;
  /** An .mjs of test/vm/guest that node runs in the guest, by its name. */
  module?: string;
  /** Instead of a module: a shell script. */
  script?: string;
  /** Files and folders of this machine by their place in the guest. */
  files?: Readonly<Record<string, string>>;
  /** For the module, as JSON: `input` of harness.mjs. */
  input?: unknown;
  memoryMb?: number;
  timeoutMs?: number;
}

export interface VmRun {
  /** Exit status of the module or script; undefined when the guest did not get to its end. */
  status: number | undefined;
  /** True when the time limit ended the guest. */
  isLate: boolean;
  /** Everything on the console: the kernel's warnings, standard output and error. */
  console: string;
  /** What the guest handed back: the lines it wrote to /dev/ttyS1, parsed as JSON. */
  lines: unknown[];
}

/** For hangs, several times what a guest needs that has two processors to itself. */
const TIMEOUT_MS = 480_000;

const serial = (path: string): string[] => ['-serial', `file:${path}`];

/**
 * QEMU dies with this process (setpriv), with the guest's panic (-no-reboot) and with its end. Two
 * processors, so that the daemon's workers run at the same time.
 */
function qemuCommand(options: VmOptions, image: string, initramfs: string): string[] {
  const kernelLine = 'console=ttyS0 quiet loglevel=5 panic=-1 random.trust_cpu=on';
  return [
    ...['setpriv', '--pdeathsig', 'KILL'],
    ...['qemu-system-x86_64', '-no-user-config', '-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-accel', 'tcg', '-cpu', 'max', '-smp', '2', '-m', `${options.memoryMb ?? 1024}`],
    ...['-kernel', image, '-initrd', initramfs, '-append', kernelLine],
  ];
}

/** Boots, runs the module or script, and waits for the guest's end. The scope keeps the files. */
export async function bootVm(scope: Scope, options: VmOptions): Promise<VmRun> {
  const kernel = findKernel(options.kernel);
  if ('reason' in kernel) throw new Error(`no kernel of ${options.kernel}: ${kernel.reason}`);
  const folder = scope.directory();
  const inputPath = join(folder, 'input.json');
  writeFileSync(inputPath, JSON.stringify(options.input ?? null));
  const initramfs = await packInitramfs(folder, {
    modules: kernel.modules,
    script: options.script ?? `exec node ${guestProject}/test/vm/guest/${options.module ?? ''}`,
    files: { ...options.files, '/vm/input.json': inputPath },
  });
  const [consolePath, resultsPath] = [join(folder, 'console'), join(folder, 'results')];
  for (const path of [consolePath, resultsPath]) writeFileSync(path, '');
  const [command = '', ...args] = [
    ...qemuCommand(options, kernel.image, initramfs),
    ...serial(consolePath),
    ...serial(resultsPath),
  ];
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  child.once('error', (error) => (complaint += error.message));
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, options.timeoutMs ?? TIMEOUT_MS);
  try {
    const code = await exitOf(child);
    if (code !== 0 && !isLate) throw new Error(`QEMU ended with ${code}: ${complaint}`);
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
  return { isLate, console: readFileSync(consolePath, 'utf8'), ...parseResults(resultsPath) };
}

function parseResults(path: string): Pick<VmRun, 'status' | 'lines'> {
  // What stands behind the last newline was cut off with the guest.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  const [, status] = /^exit (\d+)$/.exec(lines.at(-1) ?? '') ?? [];
  if (status !== undefined) lines.pop();
  return {
    status: status === undefined ? undefined : Number(status),
    lines: lines.map((line) => JSON.parse(line) as unknown),
  };
}
