// RingSession of the addon against a caller that does everything wrong. What it does with a mount is
// in test/e2e/io-uring.test.ts.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runInChild } from '../support/native-child.ts';
import { describeWith, needsFuse, needsRoot } from '../support/requirements.ts';
import { Scope } from '../support/scope.ts';
import { needsUring, switchOn } from '../support/uring.ts';

describeWith([needsFuse], 'a session over io_uring', () => {
  it('throws TypeError or RangeError for wrong arguments of its construction', () => {
    const results = runInChild((native) => {
      const buffer = (slots: number, size: number): Uint8Array => new Uint8Array(slots * size);
      const usual = (): unknown[] => [
        native.openDevice(),
        buffer(3, 8192),
        buffer(3, 8208),
        3,
        native.createWake(),
      ];
      const make = native.RingSession as unknown as new (...args: unknown[]) => { close(): void };
      const attempt = (run: () => unknown): string => {
        try {
          return run() === undefined ? 'undefined' : 'made';
        } catch (error) {
          return (error as Error).constructor.name;
        }
      };
      const detached = new Uint8Array(3 * 8208);
      structuredClone(detached.buffer, { transfer: [detached.buffer] });
      const wrong: string[] = [];
      const expectAll = (error: string, position: number, ...values: unknown[]): void => {
        for (const [i, value] of values.entries()) {
          const args = usual();
          args[position] = value;
          const got = attempt(() => new make(...args));
          if (got !== error) wrong.push(`argument ${position + 1}, ${i}: ${got}`);
        }
      };
      const noNumbers = [undefined, null, {}, '3', 3n, Symbol('x')];
      expectAll('TypeError', 0, ...noNumbers);
      expectAll('RangeError', 0, -1, 0, 1, 0.5, 999_999, 2 ** 31, Number.NaN, native.createWake());
      const noBytes = [
        undefined,
        null,
        3,
        {},
        new DataView(new ArrayBuffer(9)),
        new BigInt64Array(9),
      ];
      expectAll('TypeError', 1, ...noBytes);
      expectAll('TypeError', 2, ...noBytes);
      expectAll('RangeError', 1, buffer(3, 8191), buffer(3, 2 ** 18), new Uint8Array(0), detached);
      expectAll('RangeError', 2, buffer(3, 8207), new Uint8Array(0), detached);
      expectAll('TypeError', 3, ...noNumbers);
      expectAll('RangeError', 3, 0, 1, -3, 2.5, 4, 1025, 2 ** 32, Number.NaN, Infinity);
      expectAll('TypeError', 4, ...noNumbers);
      expectAll('RangeError', 4, -1, 0, 1, 0.5, 999_999, Number.NaN, native.openDevice());
      const call = native.RingSession as unknown as (...args: unknown[]) => unknown;
      wrong.push(attempt(() => call(...usual())));
      wrong.push(attempt(() => new make()));
      const args = usual();
      wrong.push(attempt(() => new make(...args)));
      // The device belongs to the first.
      wrong.push(attempt(() => new make(...args)));
      return wrong;
    });
    expect(results).toEqual(['TypeError', 'TypeError', 'made', 'RangeError']);
  });

  it('throws for wrong arguments of its methods, and cannot be used before it is open', () => {
    const results = runInChild((native) => {
      const device = native.openDevice();
      const wake = native.createWake();
      const session = new native.RingSession(
        device,
        new Uint8Array(3 * 8192),
        new Uint8Array(3 * 8208),
        3,
        wake,
      );
      const attempt = (run: () => unknown): string => {
        try {
          return String(run());
        } catch (error) {
          return (error as Error).constructor.name;
        }
      };
      const methods = session as unknown as Record<string, (...args: unknown[]) => unknown>;
      const call =
        (name: string, ...args: unknown[]) =>
        () =>
          methods[name]!.call(session, ...args);
      const queues = (...numbers: bigint[]): BigInt64Array => BigInt64Array.from(numbers);
      const calls: Record<string, (() => unknown)[]> = {
        TypeError: [
          call('open'),
          call('open', [0], 0),
          call('open', new Uint8Array(1), 0),
          call('open', queues(0n)),
          call('open', queues(0n), true),
          call('exchange'),
          call('exchange', '0'),
          call('exchange', 0n),
          call('readObject', 0, 0, 0),
          () => methods['open']!.call({}, queues(0n), 0),
          () => methods['exchange']!.call(native, 0),
          () => methods['close']!.call(undefined),
        ],
        RangeError: [
          call('open', queues(), 0),
          // More than there are slots: one queue without a slot holds back all requests.
          call('open', queues(0n, 1n, 2n), 0),
          call('open', queues(-1n), 0),
          call('open', queues(65_536n), 0),
          call('open', queues(2n ** 62n), 0),
          call('open', queues(0n), 2),
          call('open', queues(0n), 0.5),
          call('exchange', -1),
          call('exchange', 15),
          call('exchange', 8209),
          call('exchange', 16.5),
          call('exchange', Number.NaN),
          call('readObject', 0, -1, 1, 16),
          call('readObject', 0, 0, 8209, 0),
          call('readObject', 0, 0, 8192, 17),
        ],
        '-9': [
          call('exchange', 0),
          call('exchange', 16),
          call('readObject', 999_999, 0, 10, 16),
          call('readObject', 0, 0, 10, 16),
        ],
      };
      const wrong: string[] = [];
      for (const [expected, runs] of Object.entries(calls)) {
        for (const [i, run] of runs.entries()) {
          const got = attempt(run);
          if (got !== expected) wrong.push(`${expected} ${i}: ${got}`);
        }
      }
      return wrong;
    });
    expect(results).toEqual([]);
  });

  it('answers -EBADF once it is closed, and leaves no descriptor', () => {
    const results = runInChild((native, { countDescriptors }) => {
      const before = countDescriptors();
      const wake = native.createWake();
      const make = (): InstanceType<typeof native.RingSession> =>
        new native.RingSession(
          native.openDevice(),
          new Uint8Array(2 * 8192),
          new Uint8Array(2 * 8208),
          2,
          wake,
        );
      const session = make();
      session.close();
      session.close();
      const queues = BigInt64Array.from([0n]);
      const closed = [
        session.open(queues, 1),
        session.exchange(0),
        session.exchange(16),
        session.readObject(0, 0, 10, 16),
      ];
      for (let i = 0; i < 100; i++) {
        const other = make();
        other.open(queues, 1);
        other.close();
      }
      native.closeDescriptor(wake);
      return { closed, leaked: countDescriptors() - before };
    });
    expect(results).toEqual({ closed: [-9, -9, -9, -9], leaked: 0 });
  });

  it('is refused for a device that is not mounted, and can only be closed then', () => {
    const results = runInChild((native) => {
      const session = new native.RingSession(
        native.openDevice(),
        new Uint8Array(2 * 8192),
        new Uint8Array(2 * 8208),
        2,
        native.createWake(),
      );
      const opened = session.open(BigInt64Array.from([0n]), 1);
      const exchanged = session.exchange(0);
      session.close();
      return { isRefused: opened < 0 && opened > -4096, exchanged, probed: native.probeRing() };
    });
    expect(results).toMatchObject({ isRefused: true, exchanged: -9 });
    expect(results.probed).toBeLessThanOrEqual(0);
  });

  it('ends with its process, whether it was closed or not', () => {
    const result = runInChild(
      async (native, { addonPath, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const code = `const native = require(${JSON.stringify(addonPath)});
          let left = native;
          for (let i = 0; i < 20; i++) {
            const session = new native.RingSession(native.openDevice(), new Uint8Array(2 * 8192),
              new Uint8Array(2 * 8208), 2, native.createWake());
            session.open(BigInt64Array.from([0n]), 1);
            left = session;
          }`;
        const worker = new Worker(code, { eval: true });
        const ended = await new Promise((resolve) => worker.once('exit', resolve));
        return [ended, native.probeRing() <= 0];
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(result).toEqual([0, true]);
  });
});

describeWith([needsFuse, needsRoot, needsUring], 'slots that the kernel refuses', () => {
  it('are an errno, and leave a session that can only be closed', () => {
    const scope = new Scope();
    const target = mkdtempSync(join(tmpdir(), 'composefs-ring-'));
    mkdirSync(join(target, 'mnt'));
    try {
      switchOn(scope);
      const results = runInChild(
        (native, { input }) => {
          const device = native.openDevice();
          const options = 'rootmode=40000,user_id=0,group_id=0';
          if (native.mount('test', input, 'fuse.test', 1, options, device) < 0) return 'no mount';
          const [request, reply] = [new Uint8Array(8192), new Uint8Array(8192)];
          const wake = native.createWake();
          const session = new native.Session(native.duplicate(device), request, reply, wake);
          const length = session.exchange(0);
          const init = new DataView(request.buffer);
          const words = new DataView(reply.buffer);
          words.setUint32(0, 80, true);
          words.setBigUint64(8, init.getBigUint64(8, true), true);
          words.setUint32(16, 7, true);
          words.setUint32(20, 45, true);
          words.setUint32(28, (1 << 30) | (1 << 22), true); // INIT_EXT, MAX_PAGES
          words.setUint32(36, 4096, true); // max_write
          words.setUint16(44, 256, true); // max_pages: payloads of 1 MiB
          words.setUint32(48, 1 << 9, true); // OVER_IO_URING
          const isOffered = (init.getUint32(56, true) & (1 << 9)) !== 0;
          const status = session.reply(80);
          const ring = new native.RingSession(
            native.cloneDevice(device),
            new Uint8Array(2 * 8192),
            new Uint8Array(2 * 8208),
            2,
            wake,
          );
          const outOfRange = ring.open(BigInt64Array.from([60_000n]), 1);
          const tooSmall = ring.open(BigInt64Array.from([0n]), 1);
          const exchanged = ring.exchange(0);
          ring.close();
          session.close();
          native.unmount(input, 2);
          return { isInit: length > 0, isOffered, status, outOfRange, tooSmall, exchanged };
        },
        { input: join(target, 'mnt') },
      );
      expect(results).toEqual({
        isInit: true,
        isOffered: true,
        status: 0,
        outOfRange: -22,
        tooSmall: -22,
        exchanged: -9,
      });
    } finally {
      spawnSync('umount', ['-l', join(target, 'mnt')]);
      rmSync(target, { recursive: true, force: true });
      void scope.close();
    }
  });
});
