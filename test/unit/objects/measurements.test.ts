// Who shares a measurement, who may cancel it and who gets a new one.

import { mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { loadNative, type NativeAddon } from '../../../src/native.ts';
import { type MeasuredObject, Measurements } from '../../../src/objects/measurements.ts';
import { GuardedObjects } from '../../support/guarded-objects.ts';

interface Call {
  fd: number;
  algorithm: number;
  words: BigInt64Array;
  end: (status: number) => void;
}

/** An addon whose measurements end when the test says so. */
function manual(): { native: NativeAddon; calls: Call[] } {
  const calls: Call[] = [];
  const measureObject: NativeAddon['measureObject'] = (fd, _facts, algorithm, words) =>
    new Promise((end) => calls.push({ fd, algorithm, words, end }));
  return { native: { measureObject } as NativeAddon, calls };
}

function object(overrides: Partial<MeasuredObject> = {}): MeasuredObject {
  const facts = new BigInt64Array([9n, 8n, 7n, 6n, 5n, 4n]);
  return { fd: 3, facts, algorithm: 1, objectPath: 'aa/b', sizeBytes: 9, ...overrides };
}

const isCancelled = ({ words }: Call): boolean => words[1] !== 0n;

afterEach(() => {
  vi.useRealTimers();
});

describe('a measurement', () => {
  it('is one for all who ask while it is under way', async () => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    const shares = [10, 11, 12].map((fd) => measurements.measure(object({ fd })));
    expect(calls.map(({ fd }) => fd)).toEqual([10]);
    expect(shares.map(({ isFirst }) => isFirst)).toEqual([true, false, false]);
    calls[0]!.end(-5);
    expect(await Promise.all(shares.map(({ done }) => done))).toEqual([-5, -5, -5]);
    for (const share of shares) share.release();
  });

  it.each([
    ['another algorithm', { algorithm: 2 }],
    ['a file that was touched', { facts: new BigInt64Array([9n, 8n, 7n, 6n, 5n, 3n]) }],
    ['another size', { facts: new BigInt64Array([1n, 8n, 7n, 6n, 5n, 4n]) }],
  ])('is not shared with %s', (_title, overrides) => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    measurements.measure(object());
    measurements.measure(object(overrides));
    expect(calls).toHaveLength(2);
  });

  it('has its words in shared memory', () => {
    const { native, calls } = manual();
    new Measurements(native, () => {}).measure(object());
    expect(calls[0]!.words.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect([...calls[0]!.words]).toEqual([0n, 0n]);
  });

  it('is cancelled when the last one who waits goes, and not before', () => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    const first = measurements.measure(object());
    const second = measurements.measure(object());
    first.release();
    expect(isCancelled(calls[0]!)).toBe(false);
    const third = measurements.measure(object());
    second.release();
    expect(isCancelled(calls[0]!)).toBe(false);
    third.release();
    expect(isCancelled(calls[0]!)).toBe(true);
    expect(calls).toHaveLength(1);
  });

  it('starts anew for who asks after it was cancelled, and the old end does not touch it', async () => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    const old = measurements.measure(object());
    old.release();
    const next = measurements.measure(object());
    expect(next.isFirst).toBe(true);
    expect(calls).toHaveLength(2);
    expect(isCancelled(calls[1]!)).toBe(false);
    calls[0]!.end(-Errno.ECANCELED);
    expect(await old.done).toBe(-Errno.ECANCELED);
    // The new one is still the one that is shared.
    const shared = measurements.measure(object());
    expect(calls).toHaveLength(2);
    calls[1]!.end(0);
    expect(await Promise.all([next.done, shared.done])).toEqual([0, 0]);
  });

  it('starts anew for who asks after it ended', async () => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    const first = measurements.measure(object());
    calls[0]!.end(0);
    await first.done;
    const second = measurements.measure(object());
    expect(calls).toHaveLength(2);
    first.release();
    expect(isCancelled(calls[1]!)).toBe(false);
    second.release();
    expect(isCancelled(calls[1]!)).toBe(true);
  });

  it('is cancelled with all others at the end', () => {
    const { native, calls } = manual();
    const measurements = new Measurements(native, () => {});
    measurements.measure(object());
    measurements.measure(object({ algorithm: 2 }));
    measurements.end();
    expect(calls.map(isCancelled)).toEqual([true, true]);
    measurements.end();
    measurements.measure(object());
    expect(calls).toHaveLength(3);
    expect(isCancelled(calls[2]!)).toBe(false);
  });
});

describe('progress', () => {
  it('is told every five seconds until the end', async () => {
    vi.useFakeTimers();
    const { native, calls } = manual();
    const told: [string, number, number][] = [];
    const measurements = new Measurements(native, ({ objectPath, sizeBytes }, doneBytes) =>
      told.push([objectPath, sizeBytes, doneBytes]),
    );
    const share = measurements.measure(object());
    measurements.measure(object());
    calls[0]!.words[0] = 2n;
    vi.advanceTimersByTime(4999);
    expect(told).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(told).toEqual([['aa/b', 9, 2]]);
    calls[0]!.words[0] = 7n;
    vi.advanceTimersByTime(5000);
    expect(told).toEqual([
      ['aa/b', 9, 2],
      ['aa/b', 9, 7],
    ]);
    calls[0]!.end(0);
    await share.done;
    vi.advanceTimersByTime(60_000);
    expect(told).toHaveLength(2);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('with the addon', () => {
  it('a large file is measured for two, cancelled for none, and remembered', async () => {
    const native = loadNative();
    const objects = new GuardedObjects(mkdtempSync(join(tmpdir(), 'cfs-measurements-')));
    objects.write('large', new Uint8Array(0));
    truncateSync(objects.path('large'), 1024 << 20);
    native.forgetObjects();
    const measurements = new Measurements(native, () => {});
    const measure = (algorithm: number) => {
      const fd = objects.open('large');
      const facts = objects.facts.slice();
      const share = measurements.measure(object({ fd, facts, algorithm }));
      native.closeDescriptor(fd);
      return share;
    };
    const cancelled = measure(1);
    await sleep(20);
    const startedAt = performance.now();
    cancelled.release();
    expect(await cancelled.done).toBe(-Errno.ECANCELED);
    // A group is 512 KiB; a second is for machines that are busy.
    expect(performance.now() - startedAt).toBeLessThan(1000);
    expect(native.forgetObjects()).toBe(0);

    truncateSync(objects.path('large'), 64 << 20);
    const [first, second] = [measure(2), measure(2)];
    first.release();
    expect(await second.done).toBe(0);
    second.release();
    expect(native.forgetObjects()).toBe(1);
    objects.close();
    rmSync(objects.folder, { recursive: true });
  });
});
