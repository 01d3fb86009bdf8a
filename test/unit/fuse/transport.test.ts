// How many threads and slots a mount gets, and which queues belong to whom: the kernel holds back all
// requests while a single queue has nobody.

import { describe, expect, it } from 'vitest';
import type { NativeAddon } from '../../../src/native.ts';
import {
  chooseTransport,
  countCpus,
  deviceTransport,
  queuesOf,
  ringTransport,
  slotCount,
} from '../../../src/fuse/transport.ts';

/** Slots of a session of the addon, one of which is for the device. */
const SESSION_SLOTS_MAX = 1024;

describe('a list of CPUs', () => {
  it.each([
    ['0', 1],
    ['0-1\n', 2],
    ['0-3,8', 5],
    ['0,2-3,5-5\n', 4],
    ['0-8191', 8192],
  ])('%j has %i', (list, count) => {
    expect(countCpus(list)).toBe(count);
  });

  it.each(['', '\n', '-1', '0-', 'all', '0 1', '0,,1', '0x3', '1-3:1/2'])('%j is none', (list) => {
    expect(countCpus(list)).toBe(0);
  });
});

describe('the queues of the threads', () => {
  it.each([
    [1, 1],
    [1, 2],
    [2, 2],
    [3, 8],
    [8, 64],
    [8, 65],
    [33, 8192],
  ])('of %i threads are all %i, each once, evenly', (threads, queues) => {
    const parts = Array.from({ length: threads }, (_, index) => queuesOf(index, threads, queues));
    const all = parts.flat().sort((a, b) => a - b);
    expect(all).toEqual(Array.from({ length: queues }, (_, queue) => queue));
    const sizes = parts.map((part) => part.length);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });
});

describe('the threads over io_uring', () => {
  it.each([
    [undefined, 1, 1],
    [undefined, 2, 2],
    [undefined, 8, 8],
    [undefined, 64, 8],
    [1, 64, 1],
    [64, 2, 2],
    [16, 64, 16],
    [1, 512, 3],
    [undefined, 8192, 33],
  ])('asked for %s, %i queues: %i', (threads, queues, expected) => {
    expect(ringTransport(threads, queues)).toEqual({
      kind: 'io_uring',
      threads: expected,
      queues,
    });
  });

  it('have at least four slots for each queue, and no more than a session can hold', () => {
    for (let queues = 1; queues <= 8192; queues++) {
      for (const wish of [undefined, 1, 64]) {
        const { threads } = ringTransport(wish, queues);
        const own = Math.ceil(queues / threads);
        const slots = slotCount(own);
        if (slots % own === 0 && slots / own >= 4 && slots < SESSION_SLOTS_MAX) continue;
        expect({ queues, wish, own, slots }).toBe('enough slots');
      }
    }
    expect(slotCount(1)).toBe(32);
    expect(slotCount(2)).toBe(64);
    expect(slotCount(8)).toBe(64);
    expect(slotCount(100)).toBe(400);
  });
});

describe('the transport', () => {
  const native = (status: number): NativeAddon => ({ probeRing: () => status }) as NativeAddon;

  it('is the device where it is asked for, whatever the kernel offers', () => {
    expect(chooseTransport('device', undefined, native(0))).toEqual(deviceTransport(undefined));
    expect(deviceTransport(undefined)).toEqual({ kind: 'device', threads: 2, queues: 0 });
    expect(deviceTransport(5)).toEqual({ kind: 'device', threads: 5, queues: 0 });
  });

  it.each(['auto', 'io_uring'] as const)(
    'is the device where io_uring is forbidden: %s',
    (name) => {
      expect(chooseTransport(name, 3, native(-1))).toEqual(deviceTransport(3));
    },
  );
});
