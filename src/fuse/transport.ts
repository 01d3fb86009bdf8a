// Whether requests come over io_uring or by read(2) on the device, and how many threads serve them.

import { readFileSync } from 'node:fs';
import { errnoName, MountError } from '../errors.ts';
import type { NativeAddon } from '../native.ts';
import type { OwnTransportName } from './transport-names.ts';

/** Off unless an administrator writes Y; there since Linux 6.14. */
export const ENABLE_URING = '/sys/module/fuse/parameters/enable_uring';
/** The kernel makes a queue for each of these. */
const POSSIBLE_CPUS = '/sys/devices/system/cpu/possible';

/** A second thread keeps metadata flowing while the first waits for a disk. See docs/performance.md. */
const DEVICE_THREADS = 2;
/** A thread takes about 12 MB. With more CPUs than that each serves the queues of several. */
const RING_THREADS_MAX = 8;
/** Open requests of one queue. Those that wait for an object to be hashed hold a slot meanwhile. */
const SLOTS_PER_QUEUE = 32;
const SLOTS_PER_QUEUE_MIN = 4;
const SLOTS_PER_THREAD = 64;
/** So that a session of the addon (1024 slots) has enough for each. */
const QUEUES_PER_THREAD_MAX = 255;

/** How the threads of a mount get their requests. */
export interface Transport {
  kind: 'device' | 'io_uring';
  threads: number;
  /** Queues of the kernel; 0 for the device. */
  queues: number;
}

/** Why requests cannot come over io_uring; undefined if they can. */
export function ringObstacle(native: NativeAddon): string | undefined {
  const parameter = readText(ENABLE_URING);
  if (parameter === undefined) return 'the kernel has no FUSE over io_uring (Linux 6.14)';
  if (parameter.trim() !== 'Y') {
    return `FUSE over io_uring is off: as root, echo Y > ${ENABLE_URING}`;
  }
  const status = native.probeRing();
  if (status < 0) return `io_uring is not available: ${errnoName(status)}`;
  return possibleCpus() > 0 ? undefined : `${POSSIBLE_CPUS} cannot be read`;
}

/** `threads` undefined leaves their number to us; not more than queues, nor too few for them. */
export function ringTransport(
  threads: number | undefined,
  queues: number = possibleCpus(),
): Transport {
  const least = Math.ceil(queues / QUEUES_PER_THREAD_MAX);
  const wanted = Math.max(threads ?? RING_THREADS_MAX, least);
  return { kind: 'io_uring', threads: Math.min(wanted, queues), queues };
}

export function deviceTransport(threads: number | undefined): Transport {
  return { kind: 'device', threads: threads ?? DEVICE_THREADS, queues: 0 };
}

/** What is asked for by name is had, or nothing is mounted: throws MountError. */
export function requireTransport(
  name: OwnTransportName,
  native: NativeAddon,
  mountpoint: string,
): void {
  const obstacle = name === 'io_uring' ? ringObstacle(native) : undefined;
  if (obstacle === undefined) return;
  throw new MountError(
    `--transport io_uring: ${obstacle}; or leave the choice to --transport auto`,
    { path: mountpoint },
  );
}

/** What is tried for `name`; whether INIT agrees is seen later. */
export function chooseTransport(
  name: OwnTransportName,
  threads: number | undefined,
  native: NativeAddon,
): Transport {
  const isRing = name !== 'device' && ringObstacle(native) === undefined;
  return isRing ? ringTransport(threads) : deviceTransport(threads);
}

/** The queues of thread `index` of `threads`. */
export function queuesOf(index: number, threads: number, queues: number): number[] {
  const own: number[] = [];
  for (let queue = index; queue < queues; queue += threads) own.push(queue);
  return own;
}

/** Slots that serve so many queues, the one of the device not counted. */
export function slotCount(queues: number): number {
  const fair = Math.floor(SLOTS_PER_THREAD / queues);
  return queues * Math.min(SLOTS_PER_QUEUE, Math.max(SLOTS_PER_QUEUE_MIN, fair));
}

/** The number of CPUs in a list like `0-3,8`; 0 if there is none. */
export function countCpus(list: string): number {
  let count = 0;
  for (const part of list.trim().split(',')) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (match === null) return 0;
    count += Number(match[2] ?? match[1]) - Number(match[1]) + 1;
  }
  return count;
}

function possibleCpus(): number {
  return countCpus(readText(POSSIBLE_CPUS) ?? '');
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
