// The main thread of a mount, its control plane: opens the image, starts the workers, mounts,
// answers INIT, then only waits for something to log and for the end. It must never touch the mount
// itself.

import { dirname } from 'node:path';
import { errnoName, MountError } from '../errors.ts';
import { ImageFile } from '../filesystem/image-file.ts';
import { PathFinder } from '../filesystem/path-finder.ts';
import type { Image } from '../image-reader/index.ts';
import type { Logger } from '../log.ts';
import { type NativeAddon, type NativeSession, OBJECT_FACTS } from '../native.ts';
import { openBasedir } from '../objects/basedirs.ts';
import { OpenFiles } from '../objects/open-files.ts';
import {
  VerificationState,
  type VerifyAt,
  type VerifyEngine,
  type VerityPolicy,
} from '../objects/verification.ts';
import { InitFlag2, Opcode, opcodeName } from './abi.ts';
import { type DataMode, passthroughFor, stackDepthFor } from './data-mode.ts';
import { hasGivenUp } from './caller-patience.ts';
import { DeferredRequests } from './deferred-requests.ts';
import { Dispatcher } from './dispatch.ts';
import { imageDigestCheck } from './image-digest.ts';
import { needsAclEnforcement, requireNoObjects } from './image-needs.ts';
import { type InitWishes, type Negotiated, negotiate } from './init.ts';
import { MountGuard } from './mount-guard.ts';
import {
  type FuseMount,
  mountFuse,
  type MountWishes,
  resolveMountpoint,
  unmountFuse,
} from './mounting.ts';
import { layerView, noOverlay, stackOverlay, whyNoOverlay } from './overlay-mount.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { prepareServing } from './serving.ts';
import { WorkerLog } from './worker-log.ts';
import { WorkerPool } from './worker-pool.ts';
import { REQUEST_BUFFER_SIZE, type ServingSetup, type WorkerMessage } from './worker-setup.ts';

/** What to mount, where and how. Paths are absolute. */
export interface DaemonOptions {
  image: string;
  mountpoint: string;
  /** Directories of objects, searched in order. */
  basedirs: readonly string[];
  /** The fs-verity digest that the image must have, in lower-case hex of 64 or 128 digits. */
  digest: string | undefined;
  verification: { policy: VerityPolicy; engine: VerifyEngine; at: VerifyAt };
  /** Who reads the objects. */
  data: DataMode;
  mount: Omit<MountWishes, 'mountpoint'>;
  /** Whether the mount is removed also when this process is killed; with an overlay it always is. */
  autoUnmount: boolean;
  /** False hides POSIX ACLs (noacl). */
  acl: boolean;
  /** Permits mounting over another FUSE mount. */
  allowStacking: boolean;
  /** Serving threads, at least 1. */
  threads: number;
  /** Microseconds a worker keeps trying after a reply before it sleeps; 0 to 1000. */
  pollingMicroseconds: number;
}

/** How the service ended: as somebody wished, or because of a failure. */
export type Outcome = 'clean' | 'failed';

/** How long open files may keep a lazily unmounted tree alive after a request to stop. */
const STOP_GRACE_MS = 5000;

/** The smallest buffer that the addon takes; INIT's answer has 80 bytes. */
const INIT_REPLY_BUFFER_SIZE = 8192;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #native: NativeAddon;
  readonly #log: Logger;
  readonly #pool: WorkerPool;
  readonly #descriptors: number[] = [];
  readonly #verification = new VerificationState();
  #deferred: DeferredRequests | undefined;
  #files: OpenFiles | undefined;
  #workerLog: WorkerLog | undefined;
  #mountpoint = '';
  #mount: FuseMount | undefined;
  #guard: MountGuard | undefined;
  #session: NativeSession | undefined;
  #graceTimer: NodeJS.Timeout | undefined;
  /** The connection ended because the mount did: there is nothing left to unmount. */
  #isUnmounted = false;
  #isAbandoned = false;
  #isEnded = false;
  #outcome: Outcome = 'clean';
  #resolveEnded!: (outcome: Outcome) => void;

  /** Settles when the mount is gone and everything is released. */
  readonly ended: Promise<Outcome>;

  constructor(options: DaemonOptions, native: NativeAddon, log: Logger) {
    this.#options = options;
    this.#native = native;
    this.#log = log;
    this.#pool = new WorkerPool(native, options.threads, {
      onMessage: (message) => this.#onMessage(message),
      onError: (error) => this.fail(error, 'a serving thread failed; the mount ends'),
      onEnd: () => this.#onEnd(),
      onHang: () => this.#log.fatal('a serving thread hangs in a system call; ending the process'),
    });
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  /**
   * Mounts. When it resolves every worker serves. Rejects with ImageError, UnsupportedFeatureError,
   * InputError or MountError; nothing is left behind then.
   */
  async start(): Promise<void> {
    const startedAt = performance.now();
    const options = this.#options;
    const imageFile = new ImageFile(options.image);
    try {
      const basedirs = this.#openBasedirs();
      this.#mountpoint = resolveMountpoint(options.mountpoint, options.allowStacking);
      const stackDepth = stackDepthFor(options.data, options.verification, basedirs);
      const serving = this.#pool.start({
        image: imageFile.buffer,
        basedirs,
        passthrough: passthroughFor(options.data, stackDepth),
        statisticsPath: this.#statisticsPath(basedirs),
        acl: options.acl,
        view: this.#isOverlay ? (layerView() ?? 'composefs') : 'composefs',
        verification: { ...options.verification, state: this.#verification.shared },
        pollingMicroseconds: options.pollingMicroseconds,
        trace: this.#log.isLevelEnabled('trace'),
      });
      // The threads load their modules while the image is read.
      const image = this.#load(imageFile);
      this.#requireData(image, basedirs);
      this.#workerLog = new WorkerLog(this.#log, new PathFinder(image));
      // Before the mount: it may walk the whole image, and whoever touches the mount waits for INIT.
      const posixAcl = options.acl && needsAclEnforcement(image);
      if (this.#isOverlay || options.autoUnmount) this.#guard = this.#startGuard();
      const mount = mountFuse(this.#native, { ...options.mount, mountpoint: this.#mountpoint });
      this.#setMount(mount);
      this.#deferred = this.#prepareDeferred(serving, mount.device);
      const { fileTable } = serving;
      this.#files = new OpenFiles(this.#native, fileTable, new BigInt64Array(OBJECT_FACTS.WORDS));
      const negotiated = this.#initialise(mount, { posixAcl, stackDepth });
      const data = this.#allowPassthrough(negotiated, serving.fileTable, mount.device);
      await this.#pool.serve(mount.device);
      if (this.#isOverlay) await this.#stackOverlay(mount, basedirs);
      this.#log.info(
        {
          image: options.image,
          mountpoint: this.#mountpoint,
          how: mount.how,
          allowOther: mount.allowOther,
          protocol: `7.${negotiated.minor}`,
          threads: options.threads,
          data,
          verity: options.verification.policy,
          verifyEngine: options.verification.engine,
          verifyAt: options.verification.at,
          ...(options.digest !== undefined && { digest: options.digest }),
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
      const basedirs = this.#openBasedirs();
      this.#mountpoint = resolveMountpoint(options.mountpoint, options.allowStacking);
      const image = this.#load(new ImageFile(options.image));
      this.#requireData(image, basedirs);
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
      this.#pool.end();
      return;
    }
    this.#unmount(this.#mount);
    this.#graceTimer = setTimeout(() => {
      this.#log.warn('files of the mount are still in use; ending the connection');
      this.#pool.end();
    }, STOP_GRACE_MS);
  }

  /** After a bug: ends the mount with whatever still works. */
  fail(error: unknown, what = 'a bug in composefs-fuse; the mount ends'): void {
    this.#outcome = 'failed';
    this.#log.fatal({ err: error }, what);
    if (this.#mount !== undefined && !this.#isEnded) this.#unmount(this.#mount);
    this.#pool.end();
  }

  /** Verifies every object anew from now on, and logs every problem again. */
  forget(): void {
    const files = this.#verification.forget(this.#native);
    // Then: what is opened before must not stay for having been remembered.
    this.#files?.forget();
    this.#workerLog?.forget();
    this.#log.info({ files }, 'forgot what was verified');
  }

  /** Logs what has been verified and refused so far. */
  logStatistics(): void {
    this.#log.info({ ...this.#verification.counts }, 'verification so far');
  }

  #load(imageFile: ImageFile): Image {
    const { digest } = this.#options;
    if (digest === undefined) return imageFile.load();
    return imageFile.load((fd) => imageDigestCheck(this.#native, imageFile.path, fd, digest));
  }

  /** What serves requests that workers hand over. */
  #prepareDeferred(setup: ServingSetup, device: number): DeferredRequests {
    // A number of its own, so that the session may own and close it.
    const own = this.#native.duplicate(device);
    if (own < 0) {
      throw new MountError(`mounting failed: no descriptor: ${errnoName(own)}`, {
        path: this.#mountpoint,
      });
    }
    const { session, slot } = prepareServing(
      this.#native,
      setup,
      own,
      (problem) => this.#workerLog?.write({ kind: 'problem', problem }),
      // Whoever defers here is asked again after another measurement.
      { defer: () => {}, interrupt: () => {} },
    );
    const dispatcher = new Dispatcher((error) => this.fail(error));
    return new DeferredRequests(
      this.#native,
      ({ objectPath, sizeBytes }, doneBytes) =>
        this.#log.info({ objectPath, sizeBytes, doneBytes }, 'verifying a large object'),
      { session, slot, dispatcher },
      hasGivenUp,
    );
  }

  get #isOverlay(): boolean {
    return this.#options.data === 'overlay';
  }

  /** Throws InputError or MountError if the files' contents cannot be had in the way that is wished. */
  #requireData(image: Image, basedirs: readonly number[]): void {
    if (basedirs.length === 0) requireNoObjects(image, this.#options.image);
    if (!this.#isOverlay) return;
    const { policy } = this.#options.verification;
    const reason = whyNoOverlay(this.#native, image, { policy, basedirs });
    if (reason !== undefined) throw noOverlay(this.#mountpoint, reason);
  }

  #startGuard(): MountGuard {
    const mountpoint = this.#mountpoint;
    return new MountGuard(mountpoint, () =>
      this.#log.warn({ mountpoint }, 'nobody will remove the mount if this process is killed'),
    );
  }

  /** From now on this is what is to be unmounted at the end. */
  #setMount(mount: FuseMount): void {
    this.#mount = mount;
    if (mount.entry !== undefined) this.#guard?.watch(mount.entry);
  }

  async #stackOverlay(fuse: FuseMount, basedirs: readonly number[]): Promise<void> {
    const mountpoint = this.#mountpoint;
    const { mount, verification } = this.#options;
    const stacked = await stackOverlay(this.#native, fuse, {
      policy: verification.policy,
      basedirs,
      mount: { ...mount, mountpoint },
    });
    if (typeof stacked === 'string') throw noOverlay(mountpoint, stacked);
    this.#setMount(stacked);
    // Asked to stop meanwhile, it was the FUSE mount that was unmounted.
    if (this.#graceTimer !== undefined) this.#unmount(stacked);
  }

  #openBasedirs(): number[] {
    return this.#options.basedirs.map((path) => {
      const fd = openBasedir(this.#native, path);
      this.#descriptors.push(fd);
      return fd;
    });
  }

  /**
   * A path on the filesystem that statfs reports, through a descriptor from before the mount: an
   * ordinary path could lead into the mount itself, and a worker that asks its own mount waits for
   * ever.
   */
  #statisticsPath(basedirs: readonly number[]): string {
    let [fd] = basedirs;
    if (fd === undefined) {
      fd = openBasedir(this.#native, dirname(this.#options.image));
      this.#descriptors.push(fd);
    }
    return `/proc/self/fd/${fd}`;
  }

  /** Answers INIT, which the kernel has queued by the time the mount call returns. */
  #initialise(mount: FuseMount, wishes: InitWishes): Negotiated {
    const request = new Request(new Uint8Array(REQUEST_BUFFER_SIZE));
    const reply = new Reply(new Uint8Array(INIT_REPLY_BUFFER_SIZE));
    // A number of its own, so that the session may own and close it.
    const device = this.#native.duplicate(mount.device);
    if (device < 0) throw this.#initFailed(errnoName(device));
    const wake = this.#pool.wakeDescriptor;
    this.#session = new this.#native.Session(device, request.bytes, reply.bytes, wake);
    const length = this.#session.exchange(0);
    if (length < 0 || request.loadAdjacent(length) < 0 || request.opcode !== Opcode.INIT) {
      throw this.#initFailed(length < 0 ? errnoName(length) : opcodeName(request.opcode));
    }
    const negotiated: Negotiated = { minor: 0, flags: 0, flags2: 0 };
    const result = negotiate(request, reply, wishes, negotiated);
    const status = this.#session.reply(reply.finish(request, result));
    if (result < 0) throw this.#initFailed('its FUSE protocol is older than 7.31 (Linux 5.4)');
    if (status < 0) throw this.#initFailed(errnoName(status));
    return negotiated;
  }

  /** How objects are read, for the log. */
  #allowPassthrough({ flags2 }: Negotiated, table: number, device: number): string {
    if ((flags2 & InitFlag2.FUSE_PASSTHROUGH) !== 0) {
      return this.#native.allowPassthrough(table, device) < 0 ? 'daemon' : this.#options.data;
    }
    if (this.#isOverlay) return 'overlay';
    if (this.#options.data === 'passthrough') {
      this.#log.warn('passthrough needs Linux 6.9 or later; the daemon reads the objects');
    }
    return 'daemon';
  }

  #initFailed(reason: string): MountError {
    return new MountError(`no agreement with the kernel: ${reason}`, { path: this.#mountpoint });
  }

  #onMessage(message: WorkerMessage): void {
    switch (message.kind) {
      case 'serving':
        return;
      case 'deferred':
        this.#deferred?.serve(message).catch((error: unknown) => this.fail(error));
        return;
      case 'interrupt':
        this.#deferred?.interrupt(message.unique);
        return;
      case 'ended':
        if (message.end === 'unmounted') this.#isUnmounted = true;
        this.#workerLog?.write(message);
        return;
      default:
        this.#workerLog?.write(message);
    }
  }

  #onEnd(): void {
    clearTimeout(this.#graceTimer);
    this.#workerLog?.flush();
    // Aborted or woken: leave no dead mount behind. After an unmount, what is on the mountpoint by
    // now is somebody else's.
    if (this.#mount !== undefined && !this.#isUnmounted) this.#unmount(this.#mount);
    this.#release();
    this.#isEnded = true;
    if (!this.#isAbandoned) this.#log.info({ verified: this.#verification.counts }, 'unmounted');
    this.#resolveEnded(this.#outcome);
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
    this.#isAbandoned = true;
    if (this.#mount !== undefined) this.#unmount(this.#mount);
    this.#pool.abandon();
    if (this.#pool.isEmpty) this.#release();
  }

  #release(): void {
    this.#deferred?.end();
    this.#session?.close();
    if (this.#mount !== undefined) this.#native.closeDescriptor(this.#mount.device);
    this.#guard?.end();
    for (const fd of this.#descriptors.splice(0)) this.#native.closeDescriptor(fd);
    this.#pool.close();
  }
}
