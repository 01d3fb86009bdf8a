// Mounts the sample by composefs-fuse, as a child that ends with this process, and reads its file. Runs in
// trial.ts.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { LIFELINE_VARIABLE, parseReadiness, READY_FD_VARIABLE } from '../fuse/readiness.ts';
import { hashOf, SAMPLE_FILE } from './sample.ts';
import type { DaemonOrder, MountResult } from './trials.ts';

const DAEMON = '../cli/command.cjs';

export async function tryDaemon(order: DaemonOrder): Promise<MountResult> {
  const { sample, data } = order;
  const daemon = start(order);
  // Where there is no /dev/null it cannot be started.
  const failed = new Promise<MountResult>((resolve) =>
    daemon.once('error', ({ message }) => resolve({ reason: message })),
  );
  if (daemon.pid === undefined) return await failed;
  const log = text(daemon.stdio[2] as Readable);
  const readiness = parseReadiness(await text(daemon.stdio[3] as Readable));
  if (readiness === undefined) return { reason: `it ended without a word: ${await log}` };
  if (!readiness.ready) {
    return { reason: readiness.message.replace(sample.mountpoint, 'a temporary mountpoint') };
  }
  const content = readFileSync(join(sample.mountpoint, SAMPLE_FILE));
  const ended = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  const [code] = (await ended) as [number | null];
  if (hashOf(content) !== sample.contentHash) return { reason: 'a file reads wrong' };
  if (code !== 0) return { reason: `the daemon ended with exit code ${code}` };
  return data === 'passthrough' ? passthroughIn(await log) : { found: 'a file was read' };
}

function start({ sample, basedirs, data }: DaemonOrder): ChildProcess {
  const script = fileURLToPath(new URL(DAEMON, import.meta.url));
  const all = [sample.objects, ...basedirs].flatMap((path) => [
    '--basedir',
    path.replaceAll(/[\\:]/g, String.raw`\$&`),
  ]);
  const args = ['--foreground', '--log-format=json', '--verity=off', `--data=${data}`, ...all];
  return spawn(process.execPath, [script, ...args, '--', sample.image, sample.mountpoint], {
    stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, [READY_FD_VARIABLE]: '3', [LIFELINE_VARIABLE]: '1' },
  });
}

/** Asked for by name, passthrough that cannot be had is a warning in the log. */
function passthroughIn(log: string): MountResult {
  const events = log
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { msg?: string; data?: string });
  const refusal = events.find(({ msg }) => /passthrough|read objects by itself/.test(msg ?? ''));
  if (refusal !== undefined) return { reason: refusal.msg ?? '' };
  const isTaken = events.some(({ msg, data }) => msg === 'mounted' && data === 'passthrough');
  if (!isTaken) return { reason: 'the kernel has no passthrough' };
  return { found: 'a file was read by the kernel itself' };
}
