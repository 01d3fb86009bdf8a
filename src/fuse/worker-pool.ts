// The serving threads of a mount, seen from the main thread: started early, let go together once the
// mount is there, ended together.

import { Worker } from 'node:worker_threads';
import { errnoName, MountError } from '../errors.ts';
import type { NativeAddon } from '../native.ts';
import {
  DESCRIPTORS_NEEDED,
  descriptorLimit,
  softDescriptorLimit,
} from '../objects/descriptor-limit.ts';
import { createFileTable } from '../objects/open-files.ts';
import { Control } from './control.ts';
import type { Transport } from './transport.ts';
import type { ServingSetup, WorkerMessage, WorkerSetup } from './worker-setup.ts';

/** Event loop, device, wake and epoll descriptors of one worker. */
const DESCRIPTORS_PER_WORKER = 12;
/** With fewer objects open at a time nothing but listing would work. */
const OPEN_MIN = 8;
/** So many a mount with two threads needs to be of use; README.md says so. */
const LEAST_OPEN_FILES = 128;
/** Beside this file and of its kind: a module, or a bundle beside a bundle. */
const WORKER = `./worker${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`;
/** How long a worker may take to notice that it is to end. */
const KILL_AFTER_MS = 3000;

/** What all workers of a mount are given alike. */
export type SharedSetup = Pick<
  WorkerSetup,
  | 'image'
  | 'basedirs'
  | 'statisticsPath'
  | 'acl'
  | 'view'
  | 'ownership'
  | 'passthrough'
  | 'verification'
  | 'pollingMicroseconds'
  | 'trace'
>;

export interface PoolEvents {
  onMessage(message: WorkerMessage): void;
  /** A thread died of an exception while it served. */
  onError(error: unknown): void;
  /** All threads have ended, whatever the reason. */
  onEnd(): void;
  /** A thread hangs in a system call and the process is about to be killed. */
  onHang(): void;
}

export class WorkerPool {
  readonly #native: NativeAddon;
  readonly #transport: Transport;
  readonly #events: PoolEvents;
  readonly #wake: number;
  readonly #controlBuffer: SharedArrayBuffer;
  readonly #control: Control;
  readonly #workers = new Set<Worker>();
  readonly #serving = new Deferred();
  #servingCount = 0;
  #fileTable: number | undefined;

  /** Throws MountError. */
  constructor(native: NativeAddon, transport: Transport, events: PoolEvents) {
    this.#native = native;
    this.#transport = transport;
    this.#events = events;
    this.#controlBuffer = Control.create(transport.threads);
    this.#control = new Control(this.#controlBuffer);
    this.#wake = native.createWake();
    if (this.#wake < 0) throw cannotStart(`no descriptor: ${errnoName(this.#wake)}`);
  }

  /** Ends every exchange of the sessions made with it. */
  get wakeDescriptor(): number {
    return this.#wake;
  }

  get isEmpty(): boolean {
    return this.#workers.size === 0;
  }

  /**
   * Starts the threads; they load their modules and wait. What another thread needs to serve like
   * them.
   */
  start(shared: SharedSetup): ServingSetup {
    const openMax = descriptorLimit() - DESCRIPTORS_PER_WORKER * this.#threads;
    if (openMax < OPEN_MIN) {
      throw cannotStart(
        `only ${softDescriptorLimit()} open files are allowed; ` +
          `raise the limit to ${DESCRIPTORS_NEEDED} or more (ulimit -n)`,
      );
    }
    this.#fileTable = createFileTable(this.#native, openMax);
    const serving = { ...shared, fileTable: this.#fileTable, wakeDescriptor: this.#wake };
    for (let index = 0; index < this.#threads; index++) {
      const setup: WorkerSetup = {
        ...serving,
        index,
        transport: this.#transport,
        control: this.#controlBuffer,
      };
      const worker = new Worker(new URL(WORKER, import.meta.url), { workerData: setup });
      this.#workers.add(worker);
      worker.on('message', (message: WorkerMessage) => this.#onMessage(message));
      worker.on('error', (error) => this.#onError(error));
      worker.on('exit', () => this.#onExit(worker));
    }
    return serving;
  }

  /**
   * Lets them serve the connection of `device`. Resolves when each does: one that cannot start (no
   * memory, no descriptors) must not be found out by a user who waits for an answer that never
   * comes. Rejects with MountError.
   */
  async serve(device: number, kind: Transport['kind']): Promise<void> {
    const devices: number[] = [];
    for (let i = 0; i < this.#threads; i++) {
      const clone = this.#native.cloneDevice(device);
      if (clone < 0) {
        devices.forEach((fd) => this.#native.closeDescriptor(fd));
        throw cannotStart(`the FUSE device cannot be cloned: ${errnoName(clone)}`);
      }
      devices.push(clone);
    }
    this.#control.serve(devices, kind);
    await this.#serving.promise;
  }

  /** The mount will not be: ends the threads, whether they wait or serve already. */
  abandon(): void {
    this.#native.wake(this.#wake);
    this.#control.abandon();
  }

  /** Wakes the threads to end; kills the process if one hangs in a system call. */
  end(): void {
    this.#native.wake(this.#wake);
    setTimeout(() => {
      this.#events.onHang();
      process.kill(process.pid, 'SIGKILL');
    }, KILL_AFTER_MS).unref();
  }

  /** After the last thread has ended. */
  close(): void {
    if (this.#fileTable !== undefined) this.#native.destroyFileTable(this.#fileTable);
    this.#native.closeDescriptor(this.#wake);
  }

  get #threads(): number {
    return this.#transport.threads;
  }

  get #isServing(): boolean {
    return this.#servingCount === this.#threads;
  }

  #onMessage(message: WorkerMessage): void {
    if (message.kind === 'serving') {
      this.#servingCount++;
      if (this.#isServing) this.#serving.resolve();
      return;
    }
    // The connection's end is the end of all, and over io_uring not every thread notices it: one whose
    // slots all wait for objects to be hashed hears nothing from the kernel.
    if (message.kind === 'ended') this.#native.wake(this.#wake);
    this.#events.onMessage(message);
  }

  #onError(error: unknown): void {
    if (this.#isServing) {
      this.#events.onError(error);
      return;
    }
    const reason = error instanceof Error ? error.message.split('\n')[0]! : String(error);
    const isStarved = /^E[MN]FILE\b/.test(reason);
    this.#serving.reject(
      cannotStart(
        isStarved
          ? `too few files may be open; ${LEAST_OPEN_FILES} are needed (ulimit -n)`
          : `a serving thread cannot start: ${reason}`,
      ),
    );
  }

  #onExit(worker: Worker): void {
    this.#workers.delete(worker);
    this.#serving.reject(cannotStart('it was ended before it was ready'));
    if (this.isEmpty) this.#events.onEnd();
  }
}

function cannotStart(reason: string): MountError {
  return new MountError(`mounting failed: ${reason}`, { path: '/dev/fuse' });
}

/** A promise that is settled from outside, once. */
class Deferred {
  resolve!: () => void;
  reject!: (error: Error) => void;
  readonly promise: Promise<void>;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Rejected also when nobody waits any more: every worker exits in the end.
    this.promise.catch(() => {});
  }
}
