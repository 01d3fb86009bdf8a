// The main thread of a mount, its control plane: opens the image, starts the workers, mounts,
// answers INIT, then only waits for problems to log and for the end. It must never touch the mount
// itself.

import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Errno, errnoName, InputError, MountError } from '../errors.ts';
import { ImageFile } from '../filesystem/image-file.ts';
import { PathFinder } from '../filesystem/path-finder.ts';
import type { Problem } from '../filesystem/problems.ts';
import { hasAcl, type Image, isExternal, walkEntries } from '../image-reader/index.ts';
import type { Logger } from '../log.ts';
import type { NativeAddon, NativeSession } from '../native.ts';
import { Opcode, opcodeName } from './abi.ts';
import { Control } from './control.ts';
import { type Negotiated, negotiate } from './init.ts';
import {
  type FuseMount,
  mountFuse,
  type MountWishes,
  resolveMountpoint,
  unmountFuse,
} from './mounting.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { REQUEST_BUFFER_SIZE, type WorkerMessage, type WorkerSetup } from './worker-setup.ts';

/** What to mount, where and how. Paths are absolute. */
export interface DaemonOptions {
  image: string;
  mountpoint: string;
  /** Directories of objects, searched in order. */
  basedirs: readonly string[];
  mount: Omit<MountWishes, 'mountpoint'>;
  /** False hides POSIX ACLs (noacl). */
  acl: boolean;
  /** Permits mounting over another FUSE mount. */
  allowStacking: boolean;
  /** Serving threads, at least 1. */
  threads: number;
  /** Microseconds a worker keeps trying after a reply before it sleeps; 0 to 1000. */
  pollingMicroseconds: number;
}

/** How long open files may keep a lazily unmounted tree alive after a request to stop. */
const STOP_GRACE_MS = 5000;

/** The smallest that the addon takes; INIT's answer has 80 bytes. */
const INIT_REPLY_BUFFER_SIZE = 8192;

/** composefs_version of mkcomposefs, whose HAS_ACL flag can be relied on, is below this. */
const FIRST_VERSION_WITHOUT_ACL_FLAG = 2;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #native: NativeAddon;
  readonly #log: Logger;
  readonly #control: Control;
  readonly #controlBuffer: SharedArrayBuffer;
  readonly #workers = new Set<Worker>();
  readonly #basedirs: number[] = [];
  readonly #wake: number;
  #paths: PathFinder | undefined;
  #mount: FuseMount | undefined;
  #session: NativeSession | undefined;
  #graceTimer: NodeJS.Timeout | undefined;
  readonly #problems = new Set<string>();
  #mountpoint = '';
  #failed = false;
  #isEnded = false;
  #resolveEnded!: (outcome: 'clean' | 'failed') => void;

  /** Settles when the mount is gone and everything is released. */
  readonly ended: Promise<'clean' | 'failed'>;

  constructor(options: DaemonOptions, native: NativeAddon, log: Logger) {
    this.#options = options;
    this.#native = native;
    this.#log = log;
    this.#controlBuffer = Control.create(options.threads);
    this.#control = new Control(this.#controlBuffer);
    this.#wake = native.createWake();
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  /**
   * Mounts. When it returns the mount is usable. Throws ImageError, UnsupportedFeatureError,
   * InputError or MountError; nothing is left behind then.
   */
  start(): void {
    const startedAt = performance.now();
    const options = this.#options;
    const imageFile = new ImageFile(options.image);
    try {
      this.#openBasedirs();
      const mountpoint = resolveMountpoint(options.mountpoint, options.allowStacking);
      this.#mountpoint = mountpoint;
      // The workers start up while the image is read.
      this.#startWorkers(imageFile.buffer);
      const image = imageFile.load();
      if (options.basedirs.length === 0) requireNoObjects(image, options.image);
      this.#paths = new PathFinder(image);
      this.#mount = mountFuse(this.#native, { ...options.mount, mountpoint });
      const negotiated = this.#initialise(options.acl && needsAclEnforcement(image));
      this.#releaseWorkers(this.#mount);
      this.#log.info(
        {
          image: options.image,
          mountpoint,
          how: this.#mount.how,
          allowOther: this.#mount.allowOther,
          protocol: `7.${negotiated.minor}`,
          threads: options.threads,
          ms: Math.round(performance.now() - startedAt),
        },
        'mounted',
      );
    } catch (error) {
      imageFile.close();
      this.#abandon();
      throw error;
    }
  }

  /** Checks everything that can be checked without mounting. Throws as start does. */
  check(): void {
    const options = this.#options;
    try {
      this.#openBasedirs();
      resolveMountpoint(options.mountpoint, options.allowStacking);
      const image = new ImageFile(options.image).load();
      if (options.basedirs.length === 0) requireNoObjects(image, options.image);
    } finally {
      this.#release();
    }
  }

  /**
   * Ends the mount: unmounts, lazily if it is in use; files that are still open are served for a
   * grace period. Called a second time, it ends at once.
   */
  stop(): void {
    if (this.#mount === undefined || this.#isEnded) return;
    if (this.#graceTimer !== undefined) {
      this.#native.wake(this.#wake);
      return;
    }
    this.#unmount(this.#mount);
    this.#graceTimer = setTimeout(() => {
      this.#log.warn('files of the mount are still in use; ending the connection');
      this.#native.wake(this.#wake);
    }, STOP_GRACE_MS);
  }

  #openBasedirs(): void {
    for (const path of this.#options.basedirs) {
      const fd = this.#native.openBasedir(path);
      if (fd < 0) throw new InputError(`base directory ${path} ${explainBasedir(fd)}`, path);
      this.#basedirs.push(fd);
    }
  }

  #startWorkers(image: SharedArrayBuffer): void {
    const options = this.#options;
    const [basedir] = this.#basedirs;
    for (let index = 0; index < options.threads; index++) {
      const setup: WorkerSetup = {
        index,
        image,
        basedirs: this.#basedirs,
        statisticsPath: basedir === undefined ? dirname(options.image) : `/proc/self/fd/${basedir}`,
        acl: options.acl,
        control: this.#controlBuffer,
        wakeDescriptor: this.#wake,
        pollingMicroseconds: options.pollingMicroseconds,
        trace: this.#log.isLevelEnabled('trace'),
      };
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: setup });
      this.#workers.add(worker);
      worker.on('message', (message: WorkerMessage) => this.#onMessage(message));
      worker.on('error', (error) => this.#onWorkerError(error));
      worker.on('exit', () => this.#onWorkerExit(worker));
    }
  }

  /** Answers INIT, which the kernel has queued by the time the mount call returns. */
  #initialise(posixAcl: boolean): Negotiated {
    const mount = this.#mount!;
    const request = new Request(new Uint8Array(REQUEST_BUFFER_SIZE));
    const reply = new Reply(new Uint8Array(INIT_REPLY_BUFFER_SIZE));
    // A clone of its own, so that the session may own and close it.
    const device = this.#native.duplicate(mount.device);
    this.#session = new this.#native.Session(device, request.bytes, reply.bytes, this.#wake);
    const length = this.#session.exchange(0);
    if (length < 0 || request.loadAdjacent(length) < 0 || request.opcode !== Opcode.INIT) {
      const found = length < 0 ? errnoName(length) : opcodeName(request.opcode);
      throw new MountError(`the kernel did not begin with INIT but with ${found}`, {
        path: this.#options.mountpoint,
      });
    }
    const negotiated: Negotiated = { minor: 0, flags: 0, flags2: 0 };
    const result = negotiate(request, reply, { posixAcl }, negotiated);
    const status = this.#session.reply(reply.finish(request, result));
    if (result < 0 || status < 0) {
      const message = 'this kernel speaks a FUSE protocol older than 7.31 (Linux 5.4)';
      throw new MountError(result < 0 ? message : `INIT failed: ${errnoName(status)}`, {
        path: this.#options.mountpoint,
      });
    }
    return negotiated;
  }

  #releaseWorkers(mount: FuseMount): void {
    const devices: number[] = [];
    for (let i = 0; i < this.#options.threads; i++) {
      const device = this.#native.cloneDevice(mount.device);
      if (device < 0) {
        devices.forEach((fd) => this.#native.closeDescriptor(fd));
        throw new MountError(`the FUSE device cannot be cloned: ${errnoName(device)}`, {
          errno: -device,
          path: this.#options.mountpoint,
        });
      }
      devices.push(device);
    }
    this.#control.serve(devices);
  }

  #onMessage(message: WorkerMessage): void {
    switch (message.kind) {
      case 'problem':
        this.#onProblem(message.problem);
        break;
      case 'bug':
        this.#log.error(
          { opcode: opcodeName(message.opcode), nodeid: message.nodeid, stack: message.stack },
          'a request failed because of a bug in composefs-fuse; its caller got EIO',
        );
        break;
      case 'refused-reply':
        this.#log.error(message.text);
        break;
      case 'trace':
        this.#log.trace(message.text);
        break;
      case 'ended':
        this.#log.debug(`a worker ended: ${message.end}`);
        break;
    }
  }

  /** Every worker reports a file once; together they do so only once here. */
  #onProblem(problem: Problem): void {
    const key = `${problem.kind} ${problem.nid}`;
    if (this.#problems.has(key)) return;
    this.#problems.add(key);
    this.#paths?.find(problem.nid, (path) => this.#logProblem(problem, path));
  }

  #logProblem(problem: Problem, path: string | undefined): void {
    const facts: Record<string, unknown> = { path, nid: problem.nid };
    if (problem.objectPath !== undefined) facts['objectPath'] = problem.objectPath;
    facts['errno'] = errnoName(problem.errno);
    if (problem.kind === 'damage') {
      this.#log.warn(facts, `damaged image: ${problem.detail}`);
    } else {
      this.#log.warn(facts, `object not usable: ${problem.detail}`);
    }
  }

  #onWorkerError(error: unknown): void {
    this.#failed = true;
    this.#log.fatal({ err: error }, 'a serving thread failed; the mount ends');
    this.stop();
    this.#native.wake(this.#wake);
  }

  #onWorkerExit(worker: Worker): void {
    this.#workers.delete(worker);
    if (this.#workers.size > 0) return;
    clearTimeout(this.#graceTimer);
    this.#paths?.flush();
    // The connection may have ended without an unmount (abort, wake): leave no dead mount behind.
    if (this.#mount !== undefined) this.#unmount(this.#mount);
    this.#release();
    this.#isEnded = true;
    if (this.#mount !== undefined) this.#log.info('unmounted');
    this.#resolveEnded(this.#failed ? 'failed' : 'clean');
  }

  #unmount(mount: FuseMount): void {
    const mountpoint = this.#mountpoint;
    if (unmountFuse(this.#native, mount, mountpoint, false) === 0) return;
    const errno = unmountFuse(this.#native, mount, mountpoint, true);
    if (errno !== 0) {
      this.#log.warn({ mountpoint }, `the mount cannot be removed: ${errnoName(errno)}`);
    }
  }

  /** After a failed start: nothing stays mounted, no worker stays behind. */
  #abandon(): void {
    if (this.#mount !== undefined) this.#unmount(this.#mount);
    this.#mount = undefined;
    this.#control.abandon();
    if (this.#workers.size === 0) this.#release();
  }

  #release(): void {
    this.#session?.close();
    if (this.#mount !== undefined) this.#native.closeDescriptor(this.#mount.device);
    for (const fd of this.#basedirs) this.#native.closeDescriptor(fd);
    this.#native.closeDescriptor(this.#wake);
  }
}

/** Whether the kernel must be asked to enforce ACLs: they cost a request per walk from the root. */
function needsAclEnforcement(image: Image): boolean {
  if (image.hasAclFlag) return true;
  return image.composefsVersion >= FIRST_VERSION_WITHOUT_ACL_FLAG && hasAcl(image);
}

function requireNoObjects(image: Image, path: string): void {
  if (!walkEntries(image, isExternal)) return;
  throw new InputError(
    `image ${path} keeps its files' contents in objects: name their directory with --basedir`,
    path,
  );
}

function explainBasedir(status: number): string {
  switch (-status) {
    case Errno.ENOENT:
      return 'does not exist';
    case Errno.ENOTDIR:
      return 'is not a directory';
    case Errno.EACCES:
      return 'may not be entered by this user';
    default:
      return `cannot be opened: ${errnoName(status)}`;
  }
}
