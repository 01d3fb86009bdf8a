// The main thread of a mount, its control plane: opens the image, starts the workers, mounts,
// answers INIT, then only waits for something to log and for the end. It must never touch the mount
// itself.

import { errnoName, MountError } from '../errors.ts';
import { PathFinder } from '../filesystem/path-finder.ts';
import { isLayer } from '../filesystem/tree-view.ts';
import type { Logger } from '../log.ts';
import { type NativeAddon, type NativeSession, OBJECT_FACTS } from '../native.ts';
import { OpenFiles } from '../objects/open-files.ts';
import {
  VerificationState,
  type VerifyAt,
  type VerifyEngine,
  type VerityPolicy,
} from '../objects/verification.ts';
import { InitFlag2 } from './abi.ts';
import { type DataMode, passthroughFor, stackDepthFor } from './data-mode.ts';
import { hasGivenUp } from './caller-patience.ts';
import { DeferredRequests } from './deferred-requests.ts';
import { Dispatcher } from './dispatch.ts';
import { shakeHands } from './handshake.ts';
import type { InitWishes, Negotiated } from './init.ts';
import { MountGuard } from './mount-guard.ts';
import { type FuseMount, mountFuse, type MountWishes, resolveMountpoint } from './mounting.ts';
import { type MountService, type Outcome, STOP_GRACE_MS } from './mount-service.ts';
import { MountSources, needsAclEnforcement, type SourceOptions } from './mount-sources.ts';
import { mountSources } from './overlay-mount.ts';
import { ownershipRules, type OwnershipWishes } from './ownership-rules.ts';
import { raiseReadahead } from './readahead.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { prepareServing } from './serving.ts';
import { Stacking } from './stacking.ts';
import { chooseTransport, requireTransport, type Transport } from './transport.ts';
import type { OwnTransportName } from './transport-names.ts';
import { unmountFuse } from './unmounting.ts';
import { WorkerLog } from './worker-log.ts';
import { WorkerPool } from './worker-pool.ts';
import { REQUEST_BUFFER_SIZE, type ServingSetup, type WorkerMessage } from './worker-setup.ts';

/** What to mount, where and how. Paths are absolute. */
export interface DaemonOptions extends SourceOptions {
  mountpoint: string;
  verification: { policy: VerityPolicy; engine: VerifyEngine; at: VerifyAt };
  /** Who reads the objects. */
  data: DataMode;
  mount: Omit<MountWishes, 'mountpoint'>;
  /** Whether the mount is removed also when this process is killed; with an overlay it always is. */
  autoUnmount: boolean;
  /** Whether the mount has file handles, which an NFS server needs. Not below an overlayfs. */
  nfsExport: boolean;
  /** False hides POSIX ACLs (noacl). */
  acl: boolean;
  /** Whose the files are. */
  ownership: OwnershipWishes;
  /** Permits mounting over another FUSE mount. */
  allowStacking: boolean;
  /** How requests reach the daemon. */
  transport: OwnTransportName;
  /** Serving threads, at least 1; undefined for as many as the transport deserves. */
  threads: number | undefined;
  /** Microseconds a worker keeps trying after a reply before it sleeps, 0 to 1000; undefined: adaptive. */
  pollingMicroseconds: number | undefined;
}

/** The smallest buffer that the addon takes; INIT's answer has 80 bytes. */
const INIT_REPLY_BUFFER_SIZE = 8192;

export class Daemon implements MountService {
  readonly #options: DaemonOptions;
  readonly #native: NativeAddon;
  readonly #log: Logger;
  readonly #transport: Transport;
  readonly #pool: WorkerPool;
  readonly #sources: MountSources;
  readonly #stacking: Stacking;
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

  readonly ended: Promise<Outcome>;

  constructor(options: DaemonOptions, native: NativeAddon, log: Logger) {
    this.#options = options;
    this.#native = native;
    this.#log = log;
    this.#sources = new MountSources(native, options);
    this.#stacking = new Stacking(native, options);
    this.#transport = chooseTransport(options.transport, options.threads, native);
    this.#pool = new WorkerPool(native, this.#transport, {
      onMessage: (message) => this.#onMessage(message),
      onError: (error) => this.fail(error, 'a serving thread failed; the mount ends'),
      onEnd: () => this.#onEnd(),
      onHang: () => this.#log.fatal('a serving thread hangs in a system call; ending the process'),
    });
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  /** When it resolves every worker serves. */
  async start(): Promise<void> {
    const startedAt = performance.now();
    const options = this.#options;
    requireTransport(options.transport, this.#native, options.mountpoint);
    const imageFile = this.#sources.openImage();
    try {
      const basedirs = this.#sources.openBasedirs();
      const writable = this.#sources.openWritable(this.#stacking.isReadOnly);
      this.#mountpoint = resolveMountpoint(options.mountpoint, options.allowStacking);
      const stackDepth = stackDepthFor(options.data, options.verification, basedirs);
      const serving = this.#pool.start({
        image: imageFile.buffer,
        basedirs,
        passthrough: passthroughFor(options.data, stackDepth),
        statisticsPath: this.#sources.statisticsPath(basedirs),
        acl: options.acl,
        ownership: ownershipRules(options.ownership),
        view: this.#stacking.view,
        verification: { ...options.verification, state: this.#verification.shared },
        pollingMicroseconds: options.pollingMicroseconds,
        trace: this.#log.isLevelEnabled('trace'),
      });
      // The threads load their modules while the image is read.
      const image = await this.#sources.load(imageFile);
      this.#stacking.require(this.#mountpoint, image, basedirs, stackDepth);
      const wishesPassthrough = options.data === 'passthrough';
      this.#workerLog = new WorkerLog(this.#log, new PathFinder(image), wishesPassthrough);
      // Before the mount: it may walk the whole image, and whoever touches the mount waits for INIT.
      const posixAcl = options.acl && needsAclEnforcement(image);
      if (this.#stacking.isWanted || options.autoUnmount) this.#guard = this.#startGuard();
      this.#expectMount();
      const mount = mountFuse(this.#native, { ...options.mount, mountpoint: this.#mountpoint });
      this.#setMount(mount);
      this.#deferred = this.#prepareDeferred(serving, mount.device);
      const { fileTable } = serving;
      this.#files = new OpenFiles(this.#native, fileTable, new BigInt64Array(OBJECT_FACTS.WORDS));
      const overIoUring = this.#transport.kind === 'io_uring';
      const negotiated = this.#initialise(mount, {
        posixAcl,
        stackDepth,
        overIoUring,
        withoutHandles: !options.nfsExport,
      });
      const data = this.#allowPassthrough(negotiated, serving.fileTable, mount.device);
      // Files that the kernel opens by itself are not opened here.
      const asksToOpen = options.verification.at === 'open' && !isLayer(this.#stacking.view);
      if (asksToOpen) this.#native.allowPreload(serving.fileTable, mount.device);
      const transport = this.#transportOf(negotiated);
      const readaheadKiB = raiseReadahead(mount.entry);
      await this.#pool.serve(mount.device, transport);
      if (this.#stacking.isWanted) await this.#stackOverlay(mount, basedirs, writable);
      this.#log.info(
        {
          image: options.image,
          mountpoint: this.#mountpoint,
          how: mount.how,
          allowOther: mount.allowOther,
          protocol: `7.${negotiated.minor}`,
          transport,
          threads: this.#transport.threads,
          data,
          ...(options.writable !== undefined && { upperdir: options.writable.upperdir }),
          ...(readaheadKiB !== undefined && { readaheadKiB }),
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

  async check(): Promise<void> {
    const { mountpoint, allowStacking, data, verification } = this.#options;
    try {
      const basedirs = this.#sources.openBasedirs();
      this.#sources.openWritable(this.#stacking.isReadOnly);
      this.#mountpoint = resolveMountpoint(mountpoint, allowStacking);
      const image = await this.#sources.load(this.#sources.openImage());
      const stackDepth = stackDepthFor(data, verification, basedirs);
      this.#stacking.require(this.#mountpoint, image, basedirs, stackDepth);
    } finally {
      this.#release();
    }
  }

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

  fail(error: unknown, what = 'a bug in composefs-fuse; the mount ends'): void {
    this.#outcome = 'failed';
    this.#log.fatal({ err: error }, what);
    if (this.#mount !== undefined && !this.#isEnded) this.#unmount(this.#mount);
    this.#pool.end();
  }

  forget(): void {
    const files = this.#verification.forget(this.#native);
    // Then: what is opened before must not stay for having been remembered.
    this.#files?.forget();
    this.#workerLog?.forget();
    this.#log.info({ files }, 'forgot what was verified');
  }

  logStatistics(): void {
    this.#log.info({ ...this.#verification.counts }, 'verification so far');
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

  #startGuard(): MountGuard {
    const mountpoint = this.#mountpoint;
    return new MountGuard(mountpoint, () =>
      this.#log.warn({ mountpoint }, 'nobody will remove the mount if this process is killed'),
    );
  }

  /** To be said before each mount, for there may be no time to say it after. */
  #expectMount(): void {
    this.#guard?.expect({
      place: this.#mountpoint,
      sources: mountSources(this.#options.mount),
    });
  }

  /** From now on this is what is to be unmounted at the end. */
  #setMount(mount: FuseMount): void {
    this.#mount = mount;
    if (mount.entry !== undefined) this.#guard?.watch(mount.entry);
  }

  async #stackOverlay(fuse: FuseMount, basedirs: readonly number[], writable: readonly number[]) {
    this.#expectMount();
    const stacked = await this.#stacking.stack(fuse, this.#mountpoint, basedirs, writable);
    this.#setMount(stacked);
    // Asked to stop meanwhile, it was the FUSE mount that was unmounted.
    if (this.#graceTimer !== undefined) this.#unmount(stacked);
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
    const negotiated = shakeHands(this.#session, request, reply, wishes);
    if (typeof negotiated === 'string') throw this.#initFailed(negotiated);
    return negotiated;
  }

  /** How objects are read, for the log. */
  #allowPassthrough({ flags2 }: Negotiated, table: number, device: number): string {
    if ((flags2 & InitFlag2.FUSE_PASSTHROUGH) !== 0) {
      return this.#native.allowPassthrough(table, device) < 0 ? 'daemon' : this.#options.data;
    }
    if (this.#options.data === 'overlay') return 'overlay';
    if (this.#options.data === 'passthrough') {
      this.#log.warn('passthrough needs Linux 6.9 or later; the daemon reads the objects');
    }
    return 'daemon';
  }

  /** The kernel may have been told not to offer io_uring since we looked. */
  #transportOf({ flags2 }: Negotiated): Transport['kind'] {
    if ((flags2 & InitFlag2.FUSE_OVER_IO_URING) !== 0) return 'io_uring';
    if (this.#options.transport !== 'io_uring') return 'device';
    throw this.#initFailed('it does not offer FUSE over io_uring any more');
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
    // Whatever has its numbers in the mount table by now is somebody else's.
    if (this.#native.isUnmounted(mount.device) === 1) return;
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
    this.#sources.close();
    this.#pool.close();
  }
}
