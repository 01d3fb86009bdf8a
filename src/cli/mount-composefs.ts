#!/usr/bin/env node
// mount.composefs: mounts a composefs image for mount(8), fstab and systemd, by the kernel itself or by
// composefs-fuse. One line says what went wrong; exit codes are those of mount(8).

import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { AddonError, ComposefsError, InputError, MountError, UsageError } from '../errors.ts';
import { MountSources } from '../fuse/mount-sources.ts';
import { resolveMountpoint } from '../fuse/mounting.ts';
import { loadNative, type NativeAddon } from '../native.ts';
import { escapeControls } from './escape-controls.ts';
import { oneLine } from './error-line.ts';
import {
  HELP,
  type MountRequest,
  parseMountCommand,
  withoutNamespace,
} from './mount-composefs-options.ts';
import { type Attempt, climb, type Climb, type Sources } from './mount-ladder.ts';
import { version } from './version.ts';

/** EXIT STATUS of mount(8). */
const MountExit = { OK: 0, USAGE: 1, SYSTEM: 2, BUG: 4, FAILURE: 32 } as const;

async function main(args: readonly string[]): Promise<number> {
  const command = parseMountCommand(args);
  switch (command.kind) {
    case 'help':
      process.stdout.write(HELP);
      return MountExit.OK;
    case 'version':
      process.stdout.write(`mount.composefs (composefs-fuse) ${version()}\n`);
      return MountExit.OK;
    case 'mount':
      break;
  }
  const { request } = command;
  if (request.namespace !== undefined) return enterNamespace(request.namespace, args);
  return await mount(loadNative(), request);
}

async function mount(native: NativeAddon, request: MountRequest): Promise<number> {
  // As mount(8): what is there already is covered.
  const mountpoint = resolveMountpoint(request.mountpoint, true);
  // Otherwise the digest is the business of the rung that is taken.
  const digest = request.fake ? request.mount.digest : undefined;
  // Likewise the writable layer.
  const files = new MountSources(native, { ...request, digest, writable: undefined });
  const opened: number[] = [];
  try {
    const sources = await open(files, request, opened);
    if (request.fake) return MountExit.OK;
    const { taken, refused } = await climb(native, { ...request, mountpoint }, sources);
    report(request, { taken, refused });
    return taken === undefined ? MountExit.FAILURE : MountExit.OK;
  } finally {
    for (const fd of opened) closeSync(fd);
    files.close();
  }
}

/** Opens and checks everything that is named; `opened` gets what must be closed. */
async function open(
  files: MountSources,
  { idmap }: MountRequest,
  opened: number[],
): Promise<Sources> {
  const basedirFds = files.openBasedirs();
  let idmapFd: number | undefined;
  if (idmap !== undefined) {
    idmapFd = openFile('idmap', idmap);
    opened.push(idmapFd);
  }
  const file = files.openImage();
  // The same file again: its path may lead to another one by now.
  const imageFd = openSync(`/proc/self/fd/${file.fd}`, 'r');
  opened.push(imageFd);
  return { image: await files.load(file), imageFd, basedirFds, idmapFd };
}

function openFile(what: string, path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new InputError(`${what} ${path} cannot be opened (${code})`, path, { cause });
  }
}

/** One line, on a terminal or with -v; with -v another one for each rung that was not taken. */
function report(request: MountRequest, { taken, refused }: Climb): void {
  const { image, mountpoint, verbose } = request;
  if (taken === undefined) {
    const reasons = refused.map(({ backend, text }) => `${backend}: ${text}`).join('; ');
    say(`${image} cannot be mounted on ${mountpoint}: ${reasons}`);
    return;
  }
  const tell = ({ backend, text }: Attempt): string => `${backend} (${text})`;
  if (verbose) for (const { backend, text } of refused) say(`not by ${backend}: ${text}`);
  if (verbose || process.stderr.isTTY) {
    say(`${image} is mounted on ${mountpoint} by ${tell(taken)}`);
  }
}

function say(line: string): void {
  process.stderr.write(`mount.composefs: ${escapeControls(line)}\n`);
}

/**
 * Runs this command again in another mount namespace. All paths are looked up there, those of Node.js
 * and of this package too.
 */
function enterNamespace(namespace: string, args: readonly string[]): number {
  closeSync(openFile('mount namespace', namespace));
  const script = fileURLToPath(import.meta.url);
  const command = [process.execPath, script, ...withoutNamespace(args)];
  const done = spawnSync('nsenter', [`--mount=${namespace}`, '--', ...command], {
    stdio: 'inherit',
  });
  // What nsenter(1) says when it finds no such command there.
  const isMissing = done.status === 126 || done.status === 127;
  if (done.error === undefined && done.status !== null && !isMissing) return done.status;
  throw new MountError(
    `mount namespace ${namespace}: nsenter(1) cannot run ${process.execPath} in it`,
    { path: namespace, cause: done.error },
  );
}

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return MountExit.USAGE;
  if (error instanceof AddonError) return MountExit.SYSTEM;
  const isExpected =
    error instanceof ComposefsError ||
    (error as NodeJS.ErrnoException | undefined)?.syscall !== undefined;
  return isExpected ? MountExit.FAILURE : MountExit.BUG;
}

process.stdout.on('error', () => (process.exitCode = MountExit.SYSTEM));
main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    process.stderr.write(`mount.composefs: ${oneLine(error)}\n`);
    process.exitCode = exitCodeOf(error);
  },
);
