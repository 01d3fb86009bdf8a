// mount(): a composefs mount as an object. The server runs in a process of its own, so the calling
// program may use the mount freely (a process that serves what it reads deadlocks), survives a
// failure of the server, and takes the mount with it when it ends.

import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import {
  AddonError,
  type ComposefsError,
  ImageDigestError,
  ImageError,
  InputError,
  MountError,
  UnsupportedFeatureError,
  UsageError,
} from './errors.ts';
import type { IdRange } from './filesystem/ownership.ts';
import type { DataMode } from './fuse/data-mode.ts';
import type { TransportName } from './fuse/transport-names.ts';
import type { LogLevel } from './log-levels.ts';
import type { VerifyAt, VerifyEngine, VerityPolicy } from './objects/verification.ts';
import {
  LIFELINE_VARIABLE,
  parseReadiness,
  READY_FD_VARIABLE,
  type Readiness,
} from './fuse/readiness.ts';

/** How to mount. Relative paths are resolved against the current directory. */
export interface MountSettings {
  /** Directory or directories of objects, searched in order. */
  basedir?: string | readonly string[];
  /** Mount options as behind -o of the command, for example `['noacl', 'noexec']`. */
  options?: readonly string[];
  /**
   * The image's fs-verity digest, 64 (SHA-256) or 128 (SHA-512) hex digits: another image is not
   * mounted. It makes `verity` `require`.
   */
  digest?: string;
  /** Which objects are verified; default `if-present`. See docs/verification.md. */
  verity?: VerityPolicy;
  /** Who may vouch for an object; default `auto`. */
  verifyEngine?: VerifyEngine;
  /** Whether a bad object fails the opening of a file (default) or the reading. */
  verifyAt?: VerifyAt;
  /** Who reads objects; default `auto`. */
  data?: DataMode;
  /** User ids of the image that are shown as others; all not named become the overflow id. */
  uidMap?: readonly IdRange[];
  /** The same for group ids. */
  gidMap?: readonly IdRange[];
  /** Everything is shown as owned by these; not together with a map. */
  squash?: { uid: number; gid: number };
  /**
   * Makes the mount writable: what is written goes to `upperdir`; `workdir` is overlayfs's own, a
   * directory on the same filesystem. Needs root or a user namespace. See docs/mounting.md.
   */
  upperdir?: string;
  workdir?: string;
  /** How the kernel is served; default `auto`. See docs/transports.md. */
  transport?: TransportName;
  /** Serving threads, 1 to 64. */
  threads?: number;
  /** What becomes a `log` event: one of pino's levels. Default `info`. */
  logLevel?: LogLevel;
}

/** All of MountSettings: a word that is misspelt must not mean a mount without it. */
const SETTINGS: Readonly<Record<keyof MountSettings, true>> = {
  basedir: true,
  options: true,
  digest: true,
  verity: true,
  verifyEngine: true,
  verifyAt: true,
  data: true,
  uidMap: true,
  gidMap: true,
  squash: true,
  upperdir: true,
  workdir: true,
  transport: true,
  threads: true,
  logLevel: true,
};

/** Events of a mount. */
export interface MountEvents {
  /** One line of the server's log, as pino writes it: `level`, `time`, `msg` and facts. */
  log: [event: Record<string, unknown>];
  /** A file that could not be served as the image says; once per file. */
  problem: [event: Record<string, unknown>];
  /** The mount is gone: unmounted by anyone, or its server ended. `code` 0 means cleanly. */
  end: [code: number | null, signal: NodeJS.Signals | null];
}

/** pino's number for warnings. */
const WARN = 40;
/** A living mount. Made by `mount`. */
export class ComposefsMount extends EventEmitter<MountEvents> implements AsyncDisposable {
  readonly image: string;
  readonly mountpoint: string;
  readonly #server: ChildProcess;
  #isEnded = false;
  #isEnding = false;

  /** @internal */
  constructor(image: string, mountpoint: string, server: ChildProcess) {
    super();
    this.image = image;
    this.mountpoint = mountpoint;
    this.#server = server;
    server.once('exit', (code, signal) => {
      this.#isEnded = true;
      this.emit('end', code, signal);
    });
    createInterface({ input: server.stderr! }).on('line', (line) => this.#onLine(line));
  }

  /** Process id of the server. */
  get pid(): number {
    return this.#server.pid!;
  }

  /**
   * Unmounts, lazily if files are still open (they are served for a few seconds more), and waits
   * until the server has ended. Does nothing when the mount is gone already.
   */
  async unmount(): Promise<void> {
    if (this.#isEnded) return;
    const ended = once(this, 'end');
    // A second signal would cut off files that are still open.
    if (!this.#isEnding) this.#server.kill('SIGTERM');
    this.#isEnding = true;
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }

  #onLine(line: string): void {
    let event: Record<string, unknown>;
    try {
      event = JSON.parse(line) as Record<string, unknown>;
    } catch {
      // Not from the log: the runtime's own last words.
      event = { level: WARN, msg: line };
    }
    this.emit('log', event);
    if (typeof event['level'] === 'number' && event['level'] >= WARN) this.emit('problem', event);
  }
}

/**
 * Mounts `image` on the directory `mountpoint` and resolves when it can be used. The mount ends with
 * `unmount()`, with an unmount by anyone else, or with this process, however that ends; until then it
 * keeps this process from ending by itself.
 *
 * @throws UsageError, ImageError, ImageDigestError, UnsupportedFeatureError, InputError, MountError or AddonError with
 *   the message that the command would print, in which a setting has its name there (`--basedir`).
 */
export async function mount(
  image: string,
  mountpoint: string,
  settings: MountSettings = {},
): Promise<ComposefsMount> {
  if (image === '' || mountpoint === '') throw new UsageError('IMAGE or MOUNTPOINT is empty');
  const unknown = Object.keys(settings).find((name) => !Object.hasOwn(SETTINGS, name));
  if (unknown !== undefined) {
    throw new UsageError(
      `unknown setting ${unknown}; expected ${Object.keys(SETTINGS).join(', ')}`,
    );
  }
  const script = fileURLToPath(new URL('./cli/composefs-fuse.js', import.meta.url));
  const server = spawn(process.execPath, [script, ...commandLine(image, mountpoint, settings)], {
    stdio: ['pipe', 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, [READY_FD_VARIABLE]: '3', [LIFELINE_VARIABLE]: '1' },
    // Control-C is for the calling program, which may want to unmount in its own time.
    detached: true,
  });
  if (server.pid === undefined) {
    const [cause] = (await once(server, 'error')) as [Error];
    throw new MountError(`the server cannot be started (${cause.message})`, { path: mountpoint });
  }
  const handle = new ComposefsMount(resolve(image), resolve(mountpoint), server);
  const pipe = server.stdio[3] as Readable;
  let text = '';
  pipe.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await once(pipe, 'close');
  const readiness = parseReadiness(text);
  if (readiness?.ready === true) return handle;
  server.stdin?.destroy();
  throw readiness === undefined || readiness.ready
    ? new MountError('the server ended before the mount was ready', { path: mountpoint })
    : failure(readiness, mountpoint);
}

function commandLine(image: string, mountpoint: string, settings: MountSettings): string[] {
  const basedirs = typeof settings.basedir === 'string' ? [settings.basedir] : settings.basedir;
  const args = ['--foreground', '--log-format', 'json', '--log-level', settings.logLevel ?? 'info'];
  if (settings.threads !== undefined) args.push('--threads', String(settings.threads));
  if (settings.digest !== undefined) args.push(`--digest=${settings.digest}`);
  if (settings.verity !== undefined) args.push(`--verity=${settings.verity}`);
  if (settings.verifyEngine !== undefined) args.push(`--verify-engine=${settings.verifyEngine}`);
  if (settings.data !== undefined) args.push(`--data=${settings.data}`);
  if (settings.transport !== undefined) args.push(`--transport=${settings.transport}`);
  for (const { image: from, host, count } of settings.uidMap ?? [])
    args.push(`--uid-map=${from}:${host}:${count}`);
  for (const { image: from, host, count } of settings.gidMap ?? [])
    args.push(`--gid-map=${from}:${host}:${count}`);
  if (settings.squash !== undefined)
    args.push(`--squash=${settings.squash.uid}:${settings.squash.gid}`);
  if (settings.upperdir !== undefined) args.push(`--upperdir=${settings.upperdir}`);
  if (settings.workdir !== undefined) args.push(`--workdir=${settings.workdir}`);
  if (settings.verifyAt !== undefined) args.push(`--verify-at=${settings.verifyAt}`);
  for (const basedir of basedirs ?? [])
    args.push(`--basedir=${basedir.replaceAll(/[\\:]/g, '\\$&')}`);
  for (const option of settings.options ?? []) args.push(`-o${option}`);
  return [...args, '--', image, mountpoint];
}

/** The error that the server met, as the class it had there. */
function failure(readiness: Readiness & { ready: false }, mountpoint: string): ComposefsError {
  const { message, code, path = mountpoint, expected = '', actual = '' } = readiness;
  switch (code) {
    case 'CFS_USAGE':
      return new UsageError(message);
    case 'CFS_BAD_IMAGE':
      return new ImageError(message);
    case 'CFS_IMAGE_DIGEST':
      return new ImageDigestError(path, expected, actual);
    case 'CFS_UNSUPPORTED':
      return new UnsupportedFeatureError('image', 0, message);
    case 'CFS_INPUT':
      return new InputError(message, path);
    case 'CFS_ADDON':
      return new AddonError(message);
    default:
      return new MountError(message, { path });
  }
}
