// A mount through the package fuse-native: the same filesystem core, on this thread alone, with the
// same life as a mount over the device. It must never touch the mount itself.

import { errnoName, MountError } from '../errors.ts';
import { ObjectMeasuring } from '../filesystem/object-measuring.ts';
import { PathFinder } from '../filesystem/path-finder.ts';
import { StatisticsSource } from '../filesystem/statistics.ts';
import type { DaemonOptions } from '../fuse/daemon.ts';
import { type MountService, type Outcome, STOP_GRACE_MS } from '../fuse/mount-service.ts';
import { MountSources, needsAclEnforcement } from '../fuse/mount-sources.ts';
import { entryOf, isDeadMount, resolveMountpoint } from '../fuse/mounting.ts';
import { ownershipRules } from '../fuse/ownership-rules.ts';
import { prepareFilesystem } from '../fuse/serving.ts';
import type { KnownMount } from '../fuse/unmounting.ts';
import { WorkerLog } from '../fuse/worker-log.ts';
import type { Image } from '../image-reader/index.ts';
import type { Logger } from '../log.ts';
import { type NativeAddon, OBJECT_FACTS } from '../native.ts';
import { descriptorLimit } from '../objects/descriptor-limit.ts';
import { Measurements } from '../objects/measurements.ts';
import { createFileTable, OpenFiles } from '../objects/open-files.ts';
import { VerificationState } from '../objects/verification.ts';
import { LibfuseConnection } from './connection.ts';
import { allowsOther, libfuseOptions } from './mount-options.ts';
import { ObjectReader } from './object-reader.ts';
import { Operations } from './operations.ts';
import { type FusePackage, loadFusePackage } from './package.ts';
import { unmountServed } from './unmounting.ts';

/** Everything but how the device is served. */
export type ServiceOptions = Omit<DaemonOptions, 'transport'>;

/** How often it is looked whether somebody has unmounted: the package does not say. */
const WATCH_MS = 250;
/** The same while it is expected. */
const IMPATIENT_WATCH_MS = 10;

export class FuseNativeDaemon implements MountService {
  readonly #options: ServiceOptions;
  readonly #native: NativeAddon;
  readonly #log: Logger;
  readonly #sources: MountSources;
  readonly #verification = new VerificationState();
  #mountpoint = '';
  #fileTable: number | undefined;
  #files: OpenFiles | undefined;
  #reader: ObjectReader | undefined;
  #operations: Operations | undefined;
  #problems: WorkerLog | undefined;
  #connection: LibfuseConnection | undefined;
  /** A descriptor of our own for its connection, which tells whether it is gone. */
  #device = -1;
  #mount: KnownMount | undefined;
  #watch: NodeJS.Timeout | undefined;
  #graceTimer: NodeJS.Timeout | undefined;
  #isStopping = false;
  #isEnded = false;
  #outcome: Outcome = 'clean';
  #resolveEnded!: (outcome: Outcome) => void;

  readonly ended: Promise<Outcome>;

  constructor(options: ServiceOptions, native: NativeAddon, log: Logger) {
    this.#options = options;
    this.#native = native;
    this.#log = log;
    this.#sources = new MountSources(native, options);
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
  }

  async start(): Promise<void> {
    const startedAt = performance.now();
    const options = this.#options;
    const fusePackage = loadFusePackage();
    const imageFile = this.#sources.openImage();
    try {
      const basedirs = this.#sources.openBasedirs();
      this.#mountpoint = resolveMountpoint(options.mountpoint, options.allowStacking);
      const image = await this.#sources.load(imageFile);
      requireNoAclEnforcement(options, image);
      const operations = this.#prepare(image, basedirs);
      await this.#connect(fusePackage, operations);
      this.#log.info(
        {
          image: options.image,
          mountpoint: this.#mountpoint,
          how: `libfuse 2 (${fusePackage.libfuse})`,
          allowOther: allowsOther(options.mount),
          transport: 'fuse-native',
          data: 'daemon',
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
      await this.#abandon();
      throw error;
    }
    this.#watchEvery(WATCH_MS);
    // A signal that came while the mount was made.
    if (this.#isStopping) void this.#beginStop();
  }

  async check(): Promise<void> {
    const options = this.#options;
    try {
      loadFusePackage();
      this.#sources.openBasedirs();
      resolveMountpoint(options.mountpoint, options.allowStacking);
      requireNoAclEnforcement(options, await this.#sources.load(this.#sources.openImage()));
    } finally {
      this.#sources.close();
    }
  }

  stop(): void {
    if (this.#isEnded) return;
    const isRepeated = this.#isStopping;
    this.#isStopping = true;
    if (this.#watch === undefined) return;
    if (isRepeated) void this.#finish();
    else void this.#beginStop();
  }

  fail(error: unknown, what = 'a bug in composefs-fuse; the mount ends'): void {
    this.#outcome = 'failed';
    this.#log.fatal({ err: error }, what);
    this.#isStopping = true;
    if (this.#watch !== undefined) void this.#finish();
  }

  forget(): void {
    const files = this.#verification.forget(this.#native);
    // Then: what is opened before must not stay for having been remembered.
    this.#files?.forget();
    this.#problems?.forget();
    this.#log.info({ files }, 'forgot what was verified');
  }

  logStatistics(): void {
    this.#log.info({ ...this.#verification.counts }, 'verification so far');
  }

  /** The filesystem core, as a thread over the device has it, and what asks it. */
  #prepare(image: Image, basedirs: readonly number[]): Operations {
    const options = this.#options;
    const problems = new WorkerLog(this.#log, new PathFinder(image));
    this.#problems = problems;
    this.#reader = new ObjectReader(this.#native);
    this.#fileTable = createFileTable(this.#native, descriptorLimit());
    this.#files = new OpenFiles(
      this.#native,
      this.#fileTable,
      new BigInt64Array(OBJECT_FACTS.WORDS),
    );
    const filesystem = prepareFilesystem(
      this.#native,
      image,
      {
        basedirs,
        fileTable: this.#fileTable,
        passthrough: 'never',
        view: 'composefs',
        acl: options.acl,
        ownership: ownershipRules(options.ownership),
        verification: { ...options.verification, state: this.#verification.shared },
      },
      (problem) => problems.write({ kind: 'problem', problem }),
    );
    const measurements = new Measurements(this.#native, ({ objectPath, sizeBytes }, doneBytes) =>
      this.#log.info({ objectPath, sizeBytes, doneBytes }, 'verifying a large object'),
    );
    const statisticsPath = this.#sources.statisticsPath(basedirs);
    this.#operations = new Operations({
      filesystem,
      statistics: new StatisticsSource(statisticsPath, image.sizeBytes, image.inodeCount),
      target: this.#reader,
      measuring: new ObjectMeasuring(filesystem, measurements),
      reportBug: (error, operation) =>
        this.#log.error(
          { err: error, operation },
          'a request failed because of a bug in composefs-fuse; its caller got EIO',
        ),
    });
    return this.#operations;
  }

  async #connect(fusePackage: FusePackage, operations: Operations): Promise<void> {
    const mountpoint = this.#mountpoint;
    const wishes = libfuseOptions({ ...this.#options.mount, mountpoint });
    const before = entryOf(mountpoint);
    this.#connection = new LibfuseConnection(
      fusePackage,
      mountpoint,
      wishes,
      operations.table,
      operations,
    );
    try {
      await this.#connection.mount();
    } finally {
      // After a failure too: libfuse may have mounted before it failed.
      const entry = entryOf(mountpoint);
      if (entry?.id !== before?.id) this.#mount = { entry };
    }
    this.#mount ??= { entry: undefined };
    this.#device = this.#native.adoptDevice(this.#connection.device);
  }

  #watchEvery(intervalMs: number): void {
    clearInterval(this.#watch);
    this.#watch = setInterval(() => {
      if (this.#connection?.isAlive !== true) void this.#finish();
    }, intervalMs);
  }

  async #beginStop(): Promise<void> {
    this.#graceTimer = setTimeout(() => {
      this.#log.warn('files of the mount are still in use; ending the connection');
      void this.#finish();
    }, STOP_GRACE_MS);
    await this.#unmount();
    if (!this.#isEnded) this.#watchEvery(IMPATIENT_WATCH_MS);
  }

  async #unmount(): Promise<void> {
    if (this.#mount === undefined) return;
    // Whatever has its numbers in the mount table by now is somebody else's, and lives; ours is dead if
    // its connection was aborted, which libfuse 2 has the kernel report like an unmount.
    const hasEnded = this.#native.isUnmounted(this.#device) === 1;
    if (hasEnded && !isDeadMount(this.#mountpoint)) return;
    const errno = await unmountServed(this.#native, this.#mount, this.#mountpoint);
    if (errno === 0) return;
    const reason = errnoName(errno);
    this.#log.warn({ mountpoint: this.#mountpoint }, `the mount cannot be removed: ${reason}`);
  }

  /**
   * Ends the service, whether libfuse has ended or not: its threads end with the process, and the
   * connection with them.
   */
  async #finish(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearInterval(this.#watch);
    clearTimeout(this.#graceTimer);
    this.#problems?.flush();
    // Not yet unmounted after a failure, or aborted by an administrator: leave no dead mount behind.
    await this.#unmount();
    this.#release();
    this.#log.info({ verified: this.#verification.counts }, 'unmounted');
    this.#resolveEnded(this.#outcome);
  }

  /** After a failed start: nothing stays mounted. */
  async #abandon(): Promise<void> {
    this.#isEnded = true;
    await this.#unmount();
    this.#release();
  }

  #release(): void {
    this.#operations?.end();
    this.#reader?.close();
    if (this.#fileTable !== undefined) this.#native.destroyFileTable(this.#fileTable);
    this.#sources.close();
    this.#native.closeDescriptor(this.#device);
    this.#connection?.letGo();
  }
}

/** libfuse 2 cannot ask the kernel to enforce ACLs, and permissions must not be wider than meant. */
function requireNoAclEnforcement({ acl, image: path }: ServiceOptions, image: Image): void {
  if (!acl || !needsAclEnforcement(image)) return;
  throw new MountError(
    `image ${path} has POSIX ACLs, which --transport fuse-native cannot have enforced: ` +
      'use --transport device, or -o noacl to go without them',
    { path },
  );
}
