// The addon against a caller that does everything wrong: nothing may abort the process, touch a
// descriptor that the addon did not hand out, or open anything but a regular file below the basedir.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative, OBJECT_FACTS } from '../../src/native.ts';
import { runInChild } from '../support/native-child.ts';
import { describeWith, needsFuse, needsRoot } from '../support/requirements.ts';
import type { Requirement } from '../support/requirements.ts';

const EBADF = -9;

const needsCompiler: Requirement = {
  what: 'a C compiler (cc)',
  isMet: () => spawnSync('cc', ['--version']).status === 0,
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'composefs-native-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('wrong arguments of functions', () => {
  it('throw TypeError or RangeError, or are -EBADF for a number, at every place', () => {
    const wrong = runInChild<string[]>((native) => {
      // The kinds of the parameters: d descriptor, m descriptor or none (negative), s string,
      // w 32-bit word, o offset, p priority, l length, b bytes, f facts; of fs-verity: r readable
      // descriptor, n packed paths, h algorithm, z block size, a salt, v variant, q size, g words of
      // progress; of tables of files: t table, c count of descriptors, i idle ones; k an array of
      // descriptors, u one of two or none.
      const signatures: Record<string, string> = {
        wake: 'd',
        cloneDevice: 'd',
        duplicate: 'd',
        adoptDevice: 'd',
        closeDescriptor: 'd',
        mount: 'ssswsm',
        stackOverlay: 'swwnkuw',
        mountKernel: 'dsnnnadww',
        unmount: 'sw',
        receiveDescriptor: 'd',
        sendDatagram: 'ss',
        openBasedir: 's',
        openObject: 'dblf',
        openObjectByWalk: 'dblf',
        seek: 'dow',
        measureVerity: 'db',
        releaseProgramPages: '',
        useHugePages: 'b',
        openBacking: 'dd',
        closeBacking: 'dw',
        syslog: 'ps',
        enableVerity: 'dww',
        verityVariants: 'h',
        measurePaths: 'nhzavq',
        hashRange: 'rqlhzav',
        measureObject: 'rfhg',
        forgetObjects: '',
        allowPassthrough: 'td',
        allowPreload: 'td',
        destroyFileTable: 't',
        createFileTable: 'ci',
      };
      const detached = (array: Uint8Array | BigInt64Array): unknown => {
        structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
        return array;
      };
      const usual = (kind: string): unknown => {
        if (kind === 'd' || kind === 'm' || kind === 'r') return 999_999;
        if (kind === 'n') return new Uint8Array([47, 0]);
        if (kind === 'z') return 4096;
        if (kind === 'a') return new Uint8Array(0);
        if (kind === 'v') return 0;
        if (kind === 's') return '/nonexistent/composefs';
        if (kind === 'b') return new Uint8Array(64);
        if ('fgk'.includes(kind)) return new BigInt64Array(6);
        if (kind === 'u') return new BigInt64Array(2);
        return kind === 'p' ? 7 : 1;
      };
      const values: [string, unknown][] = [
        ['undefined', undefined],
        ['null', null],
        ['true', true],
        ['a symbol', Symbol('x')],
        ['an object', {}],
        ['an object that throws', { valueOf: () => process.abort() }],
        ['an array', [3]],
        ['a function', () => 3],
        ['a bigint', 3n],
        ['a Number object', Object(3)],
        ['a String object', Object('x')],
        ['a DataView', new DataView(new ArrayBuffer(64))],
        ['an ArrayBuffer', new ArrayBuffer(64)],
        ['a Float64Array', new Float64Array(64)],
        ['a Uint8ClampedArray', new Uint8ClampedArray(64)],
        ['a short BigInt64Array', new BigInt64Array(5)],
        ['a BigUint64Array', new BigUint64Array(6)],
        ['a detached BigInt64Array', detached(new BigInt64Array(6))],
        ['a proxy of a Uint8Array', new Proxy(new Uint8Array(64), {})],
        ['a string with NUL', 'a\0b'],
        ['a huge string', 'x'.repeat(70_000)],
        ['NaN', Number.NaN],
        ['-1', -1],
        ['0.5', 0.5],
        ['2^20', 2 ** 20],
        ['2^31', 2 ** 31],
        ['2^32', 2 ** 32],
        ['2^53 + 2', 2 ** 53 + 2],
        ['1e308', 1e308],
        ['Infinity', Number.POSITIVE_INFINITY],
        ['-Infinity', Number.NEGATIVE_INFINITY],
      ];
      // Every descriptor that the process has, libuv's own among them.
      for (let fd = 0; fd < 40; fd++) values.push([`descriptor ${fd}`, fd]);

      // Its number is no argument of the others: it is destroyed at once.
      let tables = native.createFileTable(1, 1);
      native.destroyFileTable(tables);
      const expected = (kind: string, name: string, value: unknown): string[] => {
        if (kind === 's') {
          return typeof value === 'string' ? ['RangeError'] : ['TypeError'];
        }
        if (kind === 'b' || kind === 'n' || kind === 'a') return ['TypeError'];
        if (kind === 'g' && name === 'a short BigInt64Array') return ['[object Promise]'];
        if (kind === 'k' && name === 'a short BigInt64Array') return ['-9'];
        // Empty: then the other array is looked at.
        if ('ku'.includes(kind) && name === 'a detached BigInt64Array') return ['-9'];
        if (kind === 'u' && name === 'a short BigInt64Array') return ['RangeError'];
        if ('ku'.includes(kind)) return ['TypeError'];
        if ('fg'.includes(kind))
          return name.includes('Int64Array') ? ['RangeError'] : ['TypeError'];
        if (typeof value !== 'number') return ['TypeError'];
        if (kind === 'd') return ['-9'];
        if (kind === 'r') return ['[object Promise]'];
        if (kind === 'm') return value < 0 ? ['-2'] : ['-9'];
        if (kind === 'z') return ['RangeError'];
        const length = name === 'hashRange' ? 2 ** 26 : 64;
        const variants = native.verityVariants(1).length - 1;
        const highests = { w: 2 ** 32 - 1, o: 2 ** 53, p: 7, l: length, h: 2, v: variants };
        const others = { q: 2 ** 53, t: 2 ** 32 - 1, c: 2 ** 20, i: 2 ** 20 };
        const highest = { ...highests, ...others }[kind] ?? 0;
        const lowest = { o: -(2 ** 53), h: 1, c: 1 }[kind] ?? 0;
        const fits = Number.isInteger(value) && value >= lowest && value <= highest;
        if (!fits) return ['RangeError'];
        // Every table gets a number of its own.
        if (kind === 'c' || kind === 'i') return [String(++tables)];
        if (name === 'verityVariants') return [String(native.verityVariants(value))];
        // -EINVAL: the kernel looks at the flags of umount2 before the path.
        return 'vhlq'.includes(kind) && name !== 'openObject' && name !== 'openObjectByWalk'
          ? ['[object Promise]']
          : ['-9', '-2', '-22', 'undefined'];
      };
      const outcome = (run: () => unknown): string => {
        try {
          return String(run());
        } catch (error) {
          return (error as Error).constructor.name;
        }
      };

      const functions = native as unknown as Record<string, (...args: unknown[]) => unknown>;
      const wrong: string[] = [];
      const variantNames = String(native.verityVariants(1));
      for (const [name, signature] of Object.entries(signatures)) {
        const call = functions[name]!;
        const kinds = signature.split('');
        for (const [i, kind] of kinds.entries()) {
          for (const [title, value] of values) {
            if (kind === 'f' && title === 'a BigUint64Array') continue;
            const args = kinds.map(usual);
            args[i] = value;
            const got = outcome(() => call(...args));
            // mount with no device at all asks the kernel, which knows no such file (or refuses).
            if (
              !expected(kind, 'fgku'.includes(kind) ? title : name, value).includes(got) &&
              !(name === 'mount' && got === '-1')
            ) {
              wrong.push(`${name}, argument ${i + 1}, ${title}: ${got}`);
            }
          }
          const short = kinds.slice(0, i).map(usual);
          const got = outcome(() => call(...short));
          if (got !== 'TypeError') wrong.push(`${name} with ${i} arguments: ${got}`);
        }
        const foreign = outcome(() => call.apply(Symbol('this'), kinds.map(usual)));
        const usualResults = ['-9', '-2', '-1', 'undefined', '[object Promise]', variantNames];
        const succeeds = ['forgetObjects', 'releaseProgramPages', 'useHugePages'];
        if (succeeds.includes(name)) usualResults.splice(0, Infinity, '0');
        if (name === 'createFileTable') usualResults.splice(0, Infinity, String(++tables));
        if (!usualResults.includes(foreign)) {
          wrong.push(`${name} with a foreign this: ${foreign}`);
        }
      }
      return wrong;
    });
    expect(wrong).toEqual([]);
  });

  it('leave the descriptors of the process alone', () => {
    const counts = runInChild((native, { countDescriptors }) => {
      const before = countDescriptors();
      for (let fd = 0; fd < 5000; fd++) {
        native.closeDescriptor(fd);
        native.duplicate(fd);
      }
      return [before, countDescriptors()];
    });
    expect(counts[1]).toBe(counts[0]);
  });

  it('of a path: more bytes than the array has, or a detached array', () => {
    const results = runInChild((native) => {
      const path = new Uint8Array(64);
      structuredClone(path.buffer, { transfer: [path.buffer] });
      const base = native.openBasedir('/');
      const facts = new BigInt64Array(6);
      const attempt = (length: number): string => {
        try {
          return String(native.openObject(base, path, length, facts));
        } catch (error) {
          return (error as Error).name;
        }
      };
      return [attempt(1), attempt(0)];
    });
    expect(results).toEqual(['RangeError', '-2']);
  });
});

describe('descriptors', () => {
  const native = loadNative();

  it('close once', () => {
    const wake = native.createWake();
    expect(wake).toBeGreaterThan(2);
    expect(native.closeDescriptor(wake)).toBe(0);
    expect(native.closeDescriptor(wake)).toBe(EBADF);
  });

  it('keep their kind when duplicated', () => {
    const wake = native.createWake();
    const copy = native.duplicate(wake);
    expect(copy).not.toBe(wake);
    expect(native.wake(copy)).toBe(0);
    expect(native.seek(copy, 0, 0)).toBe(EBADF);
    expect(native.closeDescriptor(wake)).toBe(0);
    expect(native.wake(copy)).toBe(0);
    expect(native.closeDescriptor(copy)).toBe(0);
  });

  it('are refused where another kind belongs', () => {
    const wake = native.createWake();
    const base = native.openBasedir(folder);
    const facts = new BigInt64Array(OBJECT_FACTS.WORDS);
    expect(native.openObject(wake, new Uint8Array([97]), 1, facts)).toBe(EBADF);
    expect(native.wake(base)).toBe(EBADF);
    expect(native.receiveDescriptor(base)).toBe(EBADF);
    expect(native.cloneDevice(wake)).toBe(EBADF);
    expect(native.measureVerity(base, new Uint8Array(64))).toBe(EBADF);
    expect(native.mount('x', '/nonexistent', 'fuse', 0, '', wake)).toBe(EBADF);
    native.closeDescriptor(wake);
    native.closeDescriptor(base);
  });

  it('are close-on-exec', () => {
    const base = native.openBasedir('/proc/self');
    const path = Buffer.from('status');
    const facts = new BigInt64Array(OBJECT_FACTS.WORDS);
    const numbers = [base, native.createWake(), native.duplicate(base)];
    numbers.push(...(native.socketPair() as [number, number]));
    numbers.push(native.openObject(base, path, path.length, facts));
    numbers.push(native.openObjectByWalk(base, path, path.length, facts));
    if (needsFuse.isMet()) numbers.push(native.openDevice());
    for (const fd of numbers) {
      const flags = /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
      expect(Number.parseInt(flags![1]!, 8) & 0o2000000).not.toBe(0);
      expect(native.closeDescriptor(fd)).toBe(0);
    }
  });

  it('opened in a worker are valid in the main thread after the worker has ended', () => {
    const result = runInChild(async (addon, { addonPath, require }) => {
      const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
      const code = `const native = require(${JSON.stringify(addonPath)});
        require('node:worker_threads').parentPort.postMessage(native.createWake());`;
      const worker = new Worker(code, { eval: true });
      const fd = await new Promise<number>((resolve) => worker.once('message', resolve));
      await new Promise((resolve) => worker.once('exit', resolve));
      return [addon.wake(fd), addon.closeDescriptor(fd), addon.closeDescriptor(fd)];
    });
    expect(result).toEqual([0, 0, -9]);
  });
});

describe('fs-verity', () => {
  it('refuses wrong lengths of arrays', () => {
    const names = runInChild((native) => {
      const salt = new Uint8Array(0);
      const detached = new Uint8Array(8);
      structuredClone(detached.buffer, { transfer: [detached.buffer] });
      const measure = (paths: Uint8Array, ownSalt: Uint8Array): unknown =>
        native.measurePaths(paths, 1, 4096, ownSalt, 0, 10);
      const good = new Uint8Array([47, 0]);
      return [
        () => measure(new Uint8Array(0), salt),
        () => measure(detached, salt),
        () => measure(new Uint8Array([47]), salt),
        () => measure(new Uint8Array((1 << 20) + 1), salt),
        () => measure(good, new Uint8Array(33)),
        () => native.hashRange(0, 0, 0, 1, 4096, new Uint8Array(33), 0),
        () => new native.BlockHasher(1, 128, salt, 0, good, good),
        () => new native.BlockHasher(3, 4096, salt, 0, good, good),
        () => new native.BlockHasher(1, 4096, new Uint8Array(33), 0, good, good),
        () => new native.BlockHasher(1, 4096, salt, 99, good, good),
      ].map((run) => {
        try {
          return String(run());
        } catch (error) {
          return (error as Error).name;
        }
      });
    });
    expect(names).toEqual(Array<string>(10).fill('RangeError'));
  });

  it('answers for descriptors and paths that cannot be read', async () => {
    const native = loadNative();
    const salt = new Uint8Array(0);
    const range = (fd: number): Promise<Uint8Array | number> =>
      native.hashRange(fd, 0, 4096, 1, 4096, salt, 0);
    for (const fd of [-1, 0.5, Number.NaN, 2 ** 31, 999_999]) expect(await range(fd)).toBe(EBADF);
    const wake = native.createWake();
    expect(await range(wake)).toBe(-29); // ESPIPE
    expect(native.enableVerity(wake, 1, 4096)).toBe(EBADF);
    native.closeDescriptor(wake);
    const paths = Buffer.from('\0/nonexistent\0/\0/dev/null\0');
    const records = await native.measurePaths(paths, 1, 4096, salt, 0, 10);
    const statuses = new BigInt64Array(records.buffer);
    expect([0, 9, 18, 27].map((i) => Number(statuses[i]))).toEqual([-2, -2, -21, -22]);
  });

  it('checks the arguments of a BlockHasher and keeps to its arrays', () => {
    const wrong = runInChild<string[]>((native) => {
      const wrong: string[] = [];
      const Hasher = native.BlockHasher as unknown as new (...args: unknown[]) => unknown;
      const attempt = (name: string, run: () => unknown): void => {
        let got: string;
        try {
          got = String(run());
        } catch (error) {
          got = (error as Error).name;
        }
        if (got !== name) wrong.push(`${String(run)}: ${got}, not ${name}`);
      };
      const input = new Uint8Array(4096 * 3 + 5);
      const digests = new Uint8Array(128);
      const salt = new Uint8Array(0);
      const call = native.BlockHasher as unknown as (...args: unknown[]) => unknown;
      attempt('TypeError', () => call(1, 4096, salt, 0, input, digests));
      attempt('TypeError', () => new Hasher());
      attempt('TypeError', () => new Hasher(1, 4096, salt, 0, input));
      attempt('TypeError', () => new Hasher(1, 4096, salt, 0, input.buffer, digests));
      attempt('TypeError', () => new Hasher(1, 4096, 'salt', 0, input, digests));
      const hasher = new native.BlockHasher(1, 4096, salt, 0, input, digests);
      const hash = hasher.hash.bind(hasher) as (...args: unknown[]) => unknown;
      attempt('TypeError', () => hash(0, 4096));
      attempt('TypeError', () => hash(0, '4096', 0));
      attempt('TypeError', () => hash(0n, 4096, 0));
      for (const bad of [-1, 0.5, Number.NaN, 2 ** 53, Infinity, 12_294]) {
        attempt('RangeError', () => hash(bad, 0, 0));
        attempt('RangeError', () => hash(0, bad, 0));
        attempt('RangeError', () => hash(0, 1, bad));
      }
      attempt('RangeError', () => hash(1, 12_293, 0));
      attempt('RangeError', () => hash(0, 12_293, 1));
      attempt('RangeError', () => hash(0, 1, 97));
      attempt('4', () => hash(0, 12_293, 0));
      attempt('1', () => hash(12_292, 1, 96));
      attempt('0', () => hash(12_293, 0, 128));
      const receivers = [{}, null, native, native.BlockHasher.prototype, Object.create(hasher)];
      for (const receiver of receivers) {
        attempt('TypeError', () => Reflect.apply(hasher.hash, receiver, [0, 1, 0]));
      }
      const empty = new native.BlockHasher(2, 256, salt, 0, new Uint8Array(0), new Uint8Array(0));
      attempt('0', () => empty.hash(0, 0, 0));
      attempt('RangeError', () => empty.hash(0, 1, 0));
      return wrong;
    });
    expect(wrong).toEqual([]);
  });

  it('ends quietly with work under way, in a worker that is terminated and in the process', () => {
    const result = runInChild(
      async (native, { addonPath, countDescriptors, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const fs = require('node:fs') as typeof import('node:fs');
        const path = `${input}/large`;
        fs.writeFileSync(path, '');
        fs.truncateSync(path, 1 << 25);
        // The first worker makes Node open a descriptor for good.
        const first = new Worker('', { eval: true });
        await new Promise((resolve) => first.once('exit', resolve));
        const before = countDescriptors();
        for (let round = 0; round < 3; round++) {
          const code = `const native = require(${JSON.stringify(addonPath)});
            const fd = require('node:fs').openSync(${JSON.stringify(path)}, 'r');
            for (let i = 0; i < 9; i++) native.hashRange(fd, 0, 1 << 25, 1, 4096, new Uint8Array(0), 0);
            require('node:worker_threads').parentPort.postMessage(fd);`;
          const worker = new Worker(code, { eval: true, trackUnmanagedFds: true });
          await new Promise((resolve) => worker.once('message', resolve));
          await worker.terminate();
        }
        const leaked = countDescriptors() - before;
        const fd = fs.openSync(path, 'r');
        void native.hashRange(fd, 0, 1 << 25, 1, 4096, new Uint8Array(0), 0);
        return leaked;
      },
      { input: folder },
    );
    expect(result).toBe(0);
  });
});

describe('an ObjectVerifier', () => {
  it('checks every argument of its constructor', () => {
    const wrong = runInChild<string[]>((native) => {
      const Verifier = native.ObjectVerifier as unknown as new (...args: unknown[]) => unknown;
      const plain = native.ObjectVerifier as unknown as (...args: unknown[]) => unknown;
      const wrong: string[] = [];
      const attempt = (name: string, title: string, run: () => unknown): void => {
        let got: string;
        try {
          got = String(run());
        } catch (error) {
          got = (error as Error).constructor.name;
        }
        if (got !== name) wrong.push(`${title}: ${got}, not ${name}`);
      };
      const detached = <T extends Uint8Array | BigInt64Array>(array: T): T => {
        structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
        return array;
      };
      const good = (): unknown[] => [
        new Uint8Array(64),
        new BigInt64Array(6),
        new Uint8Array(65),
        0,
        4096,
      ];
      const with_ = (i: number, value: unknown): unknown[] => {
        const args = good();
        args[i] = value;
        return args;
      };
      const nothing = [undefined, null, true, Symbol('x'), {}, [1], () => 1, 3n, 'x', Object(3)];
      const views = [
        new DataView(new ArrayBuffer(64)),
        new ArrayBuffer(64),
        new SharedArrayBuffer(64),
        new Float64Array(64),
        new Uint8ClampedArray(64),
        new BigUint64Array(6),
        new Proxy(new Uint8Array(65), {}),
      ];
      for (let i = 0; i < 5; i++) {
        const others: unknown[] = i < 3 ? [4096, ...views] : [...views];
        if (i === 1) others.push(new Uint8Array(64));
        if (i === 0 || i === 2) others.push(new BigInt64Array(64));
        for (const value of [...nothing, ...others]) {
          attempt('TypeError', `argument ${i + 1} ${Object.prototype.toString.call(value)}`, () => {
            return new Verifier(...with_(i, value));
          });
        }
        attempt('TypeError', `${i} arguments`, () => new Verifier(...good().slice(0, i)));
      }
      for (const value of [
        new BigInt64Array(5),
        new BigInt64Array(0),
        detached(new BigInt64Array(6)),
      ]) {
        attempt('RangeError', `facts of ${value.length}`, () => new Verifier(...with_(1, value)));
      }
      for (const value of [new Uint8Array(64), new Uint8Array(0), detached(new Uint8Array(65))]) {
        attempt('RangeError', `found of ${value.length}`, () => new Verifier(...with_(2, value)));
      }
      for (const value of [-1, 3, 0.5, 256, 2 ** 32, Number.NaN, Infinity]) {
        attempt('RangeError', `engine ${value}`, () => new Verifier(...with_(3, value)));
      }
      for (const value of [-1, 0.5, 2 ** 53 + 2, 1e308, Number.NaN, Infinity, -Infinity]) {
        attempt('RangeError', `limit ${value}`, () => new Verifier(...with_(4, value)));
      }
      attempt('TypeError', 'without new', () => plain(...good()));
      attempt('TypeError', 'with a receiver', () => Reflect.apply(plain, {}, good()));
      for (const [i, value] of [
        [0, new Uint8Array(0)],
        [0, new Uint8Array(new SharedArrayBuffer(64))],
        [1, new BigInt64Array(new SharedArrayBuffer(48))],
        [1, new BigInt64Array(100)],
        [2, new Uint8Array(100)],
        [3, 2],
        [4, 2 ** 53],
        [4, 0],
      ] as const) {
        attempt('[object Object]', `argument ${i + 1}`, () => new Verifier(...with_(i, value)));
      }
      return wrong;
    });
    expect(wrong).toEqual([]);
  });

  it('checks the arguments of verify, and its receiver', () => {
    const wrong = runInChild<string[]>(
      (native, { addonPath, input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const wrong: string[] = [];
        const attempt = (name: string, title: string, run: () => unknown): void => {
          let got: string;
          try {
            got = String(run());
          } catch (error) {
            got = (error as Error).constructor.name;
          }
          if (got !== name) wrong.push(`${title}: ${got}, not ${name}`);
        };
        const make = (size: number): { verify: (...args: unknown[]) => unknown } =>
          new native.ObjectVerifier(
            new Uint8Array(size),
            new BigInt64Array(6),
            new Uint8Array(65),
            0,
            4096,
          ) as unknown as { verify: (...args: unknown[]) => unknown };
        const verifier = make(100);
        const nothing = [undefined, null, true, Symbol('x'), {}, [1], () => 1, 3n, '1', Object(1)];
        const good = [999_999, 1, 0];
        for (let i = 0; i < 3; i++) {
          for (const value of nothing) {
            const title = `argument ${i + 1} ${Object.prototype.toString.call(value)}`;
            attempt('TypeError', title, () => verifier.verify(...good.with(i, value as number)));
          }
          attempt('TypeError', `${i} arguments`, () => verifier.verify(...good.slice(0, i)));
        }
        for (const fd of [-1, -2, 0.5, Number.NaN, 2 ** 20, 2 ** 31, 2 ** 40, 1e308, Infinity]) {
          attempt('-9', `descriptor ${fd}`, () => verifier.verify(fd, 1, 0));
        }
        for (let fd = 0; fd < 40; fd++) {
          attempt('-9', `descriptor ${fd}`, () => verifier.verify(fd, 1, 0));
        }
        for (const algorithm of [-1, 0, 3, 1.5, 257, 2 ** 32 + 1, Number.NaN, Infinity]) {
          attempt('RangeError', `algorithm ${algorithm}`, () => verifier.verify(9, algorithm, 0));
        }
        for (const at of [-1, 0.5, Number.NaN, 2 ** 53, 2 ** 64, Infinity, -Infinity, 100, 69]) {
          attempt('RangeError', `digest at ${at}`, () => verifier.verify(999_999, 1, at));
        }
        attempt('-9', 'the last place', () => verifier.verify(999_999, 1, 68));
        attempt('-9', 'the last place of SHA-512', () => verifier.verify(999_999, 2, 36));
        attempt('RangeError', 'one further', () => verifier.verify(999_999, 2, 37));
        attempt('RangeError', 'a short image', () => make(31).verify(999_999, 1, 0));
        attempt('-9', 'an image that is a digest', () => make(32).verify(999_999, 1, 0));
        attempt('RangeError', 'an image too short', () => make(63).verify(999_999, 2, 0));
        attempt('RangeError', 'no image', () => make(0).verify(999_999, 1, 0));

        // A copy of the library under another name is another addon with classes of its own.
        const copyPath = `${input}/copy-for-verifier.node`;
        fs.copyFileSync(addonPath, copyPath);
        const copy = require(copyPath) as typeof native;
        const foreign = new copy.ObjectVerifier(
          new Uint8Array(100),
          new BigInt64Array(6),
          new Uint8Array(65),
          0,
          4096,
        );
        const prototype = native.ObjectVerifier.prototype;
        const bytes = new Uint8Array(64);
        const hasher = new native.BlockHasher(1, 4096, new Uint8Array(0), 0, bytes, bytes);
        const receivers: unknown[] = [{}, null, undefined, 1, native, native.ObjectVerifier];
        receivers.push(foreign, hasher, prototype, Object.create(prototype));
        receivers.push(Object.create(verifier), new Proxy(verifier, {}));
        for (const [i, receiver] of receivers.entries()) {
          attempt('TypeError', `receiver ${i}`, () => {
            return Reflect.apply(prototype.verify, receiver, [999_999, 1, 0]);
          });
        }
        attempt('TypeError', 'a hasher’s method', () => {
          return Reflect.apply(hasher.hash, verifier, [0, 1, 0]);
        });
        class Derived extends native.ObjectVerifier {}
        const derived = new Derived(
          new Uint8Array(32),
          new BigInt64Array(6),
          new Uint8Array(65),
          0,
          1,
        );
        attempt('-9', 'a subclass', () => derived.verify(999_999, 1, 0));
        return wrong;
      },
      { input: folder },
    );
    expect(wrong).toEqual([]);
  });

  it('keeps its arrays as long as it lives, and no longer', () => {
    const [held, collected] = runInChild<[number, number]>(
      async (native) => {
        const refs: WeakRef<object>[] = [];
        const make = (): unknown => {
          const image = new Uint8Array(1 << 16).fill(5);
          const facts = new BigInt64Array(6);
          const found = new Uint8Array(65);
          refs.push(new WeakRef(image), new WeakRef(facts), new WeakRef(found));
          return new native.ObjectVerifier(image, facts, found, 0, 4096);
        };
        const alive = (): number => refs.filter((ref) => ref.deref() !== undefined).length;
        const idle = async (): Promise<void> => {
          for (let i = 0; i < 5; i++) {
            globalThis.gc!();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        };
        const kept = Array.from({ length: 100 }, make);
        await idle();
        const held = alive();
        kept.length = 0;
        await idle();
        return [held, alive()];
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(held).toBe(300);
    expect(collected).toBe(0);
  });

  it('ends with its worker, in use or not, whatever is remembered', () => {
    const result = runInChild<number[]>(
      async (native, { addonPath, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/verified`, 'x'.repeat(100_000));
        const code = `const native = require(${JSON.stringify(addonPath)});
          const facts = new BigInt64Array(6);
          const verifier = new native.ObjectVerifier(
            new Uint8Array(32), facts, new Uint8Array(65), 2, 1 << 20);
          const base = native.openBasedir(${JSON.stringify(input)});
          const fd = native.openObject(base, Buffer.from('verified'), 8, facts);
          const { parentPort } = require('node:worker_threads');
          parentPort.postMessage(verifier.verify(fd, 1, 0));
          for (;;) verifier.verify(fd, 1, 0);`;
        const results: number[] = [];
        for (let i = 0; i < 3; i++) {
          const worker = new Worker(code, { eval: true });
          results.push(await new Promise((resolve) => worker.once('message', resolve)));
          await worker.terminate();
        }
        results.push(native.forgetObjects());
        return results;
      },
      { input: folder },
    );
    // The digest is never the one of zeros.
    expect(result).toEqual([-4101, -4101, -4101, 1]);
  });
});

describe('an OpenFiles', () => {
  it('checks every argument of its constructor, and its table', () => {
    const wrong = runInChild<string[]>((native) => {
      const Files = native.OpenFiles as unknown as new (...args: unknown[]) => unknown;
      const plain = native.OpenFiles as unknown as (...args: unknown[]) => unknown;
      const wrong: string[] = [];
      const attempt = (name: string, title: string, run: () => unknown): void => {
        let got: string;
        try {
          got = String(run());
        } catch (error) {
          got = (error as Error).constructor.name;
        }
        if (got !== name) wrong.push(`${title}: ${got}, not ${name}`);
      };
      const detached = (array: BigInt64Array): BigInt64Array => {
        structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
        return array;
      };
      const table = native.createFileTable(1, 1);
      const good = (): unknown[] => [table, new BigInt64Array(6), new BigInt64Array(1)];
      const nothing = [undefined, null, true, Symbol('x'), {}, [1], () => 1, 3n, 'x', Object(3)];
      const views = [
        new DataView(new ArrayBuffer(64)),
        new ArrayBuffer(64),
        new SharedArrayBuffer(64),
        new Float64Array(64),
        new Uint8Array(64),
        new BigUint64Array(6),
        new Proxy(new BigInt64Array(6), {}),
      ];
      for (let i = 0; i < 3; i++) {
        for (const value of [
          ...nothing,
          ...views,
          ...(i === 0 ? [new BigInt64Array(6)] : [4096]),
        ]) {
          attempt('TypeError', `argument ${i + 1} ${Object.prototype.toString.call(value)}`, () => {
            return new Files(...good().with(i, value));
          });
        }
        attempt('TypeError', `${i} arguments`, () => new Files(...good().slice(0, i)));
      }
      for (const number of [
        0,
        table + 1,
        -1,
        0.5,
        2 ** 32,
        2 ** 32 + table,
        Number.NaN,
        Infinity,
      ]) {
        attempt('RangeError', `table ${number}`, () => new Files(...good().with(0, number)));
      }
      for (const [i, size] of [
        [1, 5],
        [1, 0],
        [2, 0],
      ] as const) {
        const short = new BigInt64Array(size);
        attempt('RangeError', `${size} words`, () => new Files(...good().with(i, short)));
        const gone = detached(new BigInt64Array(6));
        attempt('RangeError', 'detached words', () => new Files(...good().with(i, gone)));
      }
      attempt('TypeError', 'without new', () => plain(...good()));
      attempt('TypeError', 'with a receiver', () => Reflect.apply(plain, {}, good()));
      for (const [i, value] of [
        [1, new BigInt64Array(new SharedArrayBuffer(48))],
        [1, new BigInt64Array(100)],
        [2, new BigInt64Array(new SharedArrayBuffer(8))],
        [2, new BigInt64Array(100)],
      ] as const) {
        attempt('[object Object]', `argument ${i + 1}`, () => new Files(...good().with(i, value)));
      }
      native.destroyFileTable(table);
      attempt('RangeError', 'a table that was destroyed', () => new Files(...good()));
      return wrong;
    });
    expect(wrong).toEqual([]);
  });

  it('checks the arguments of its methods, and their receiver', () => {
    const wrong = runInChild<string[]>(
      (native, { addonPath, input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const wrong: string[] = [];
        const attempt = (name: string, title: string, run: () => unknown): void => {
          let got: string;
          try {
            got = String(run());
          } catch (error) {
            got = (error as Error).constructor.name;
          }
          if (got !== name) wrong.push(`${title}: ${got}, not ${name}`);
        };
        type Methods = Record<string, (...args: unknown[]) => unknown>;
        const make = (addon: typeof native): Methods => {
          const [facts, backing] = [new BigInt64Array(6), new BigInt64Array(1)];
          const table = addon.createFileTable(1, 1);
          return new addon.OpenFiles(table, facts, backing) as unknown as Methods;
        };
        const files = make(native);
        // The arguments of each method with what it says of them.
        const methods: Record<string, [string, ...number[]]> = {
          acquire: ['-2', 1],
          acquireAny: ['-2', 1],
          insert: ['-9', 1, 999_999, 1],
          release: ['-9', 1],
          preload: ['0', 1, 1, 1],
          unload: ['undefined', 1],
          forget: ['undefined'],
          trim: ['0'],
          backingError: ['0'],
        };
        const nothing = [undefined, null, true, Symbol('x'), {}, [1], () => 1, 3n, '1', Object(1)];
        for (const [name, [result, ...good]] of Object.entries(methods)) {
          const call = (...args: unknown[]): unknown => files[name]!(...args);
          attempt(result, name, () => call(...good));
          attempt(result, `${name} with more arguments`, () => call(...good, {}, 'x', Symbol('x')));
          for (let i = 0; i < good.length; i++) {
            for (const value of nothing) {
              const title = `${name}, argument ${i + 1} ${Object.prototype.toString.call(value)}`;
              attempt('TypeError', title, () => call(...good.with(i, value as number)));
            }
            attempt('TypeError', `${name}, ${i} arguments`, () => call(...good.slice(0, i)));
          }
          if (good.length === 0) continue;
          for (const nid of [-1, 0.5, Number.NaN, 2 ** 53 + 2, 1e308, Infinity, -Infinity]) {
            attempt('RangeError', `${name} of ${nid}`, () => call(...good.with(0, nid)));
          }
          for (const nid of [0, 2 ** 53]) {
            attempt(result, `${name} of ${nid}`, () => call(...good.with(0, nid)));
          }
        }
        for (const passthrough of [-1, 2, 0.5, 256, 2 ** 32, Number.NaN]) {
          attempt('RangeError', `${passthrough}`, () => files['insert']!(1, 999_999, passthrough));
        }
        for (const fd of [-1, -2, 0.5, Number.NaN, 2 ** 20, 2 ** 31, 2 ** 40, 1e308, Infinity]) {
          attempt('-9', `descriptor ${fd}`, () => files['insert']!(1, fd, 0));
        }
        for (const size of [-1, 0, 0.5, 2 ** 20 + 1, 2 ** 32, Number.NaN, Infinity]) {
          attempt('RangeError', `${size} bytes`, () => files['preload']!(1, 1, size));
        }
        for (const nodeid of [-1, 0.5, 2 ** 53 + 2, Number.NaN]) {
          attempt('RangeError', `nodeid ${nodeid}`, () => files['preload']!(1, nodeid, 1));
        }
        for (let fd = 0; fd < 40; fd++) {
          attempt('-9', `descriptor ${fd}`, () => files['insert']!(1, fd, 0));
        }

        // A copy of the library under another name is another addon with classes of its own.
        const copyPath = `${input}/copy-for-files.node`;
        fs.copyFileSync(addonPath, copyPath);
        const foreign = make(require(copyPath) as typeof native);
        const prototype = native.OpenFiles.prototype as unknown as Methods;
        const bytes = new Uint8Array(64);
        const hasher = new native.BlockHasher(1, 4096, new Uint8Array(0), 0, bytes, bytes);
        const verifier = new native.ObjectVerifier(
          bytes,
          new BigInt64Array(6),
          new Uint8Array(65),
          0,
          1,
        );
        const receivers: unknown[] = [{}, null, undefined, 1, native, native.OpenFiles];
        receivers.push(foreign, hasher, verifier, prototype, Object.create(prototype));
        receivers.push(Object.create(files), new Proxy(files, {}));
        for (const [name, [, ...good]] of Object.entries(methods)) {
          for (const [i, receiver] of receivers.entries()) {
            attempt('TypeError', `${name}, receiver ${i}`, () => {
              return Reflect.apply(prototype[name]!, receiver, good);
            });
          }
        }
        attempt('TypeError', 'a verifier’s method', () => {
          return Reflect.apply(verifier.verify, files, [999_999, 1, 0]);
        });
        class Derived extends native.OpenFiles {}
        const derived = new Derived(
          native.createFileTable(1, 1),
          new BigInt64Array(6),
          new BigInt64Array(1),
        );
        attempt('-2', 'a subclass', () => derived.acquire(1));
        return wrong;
      },
      { input: folder },
    );
    expect(wrong).toEqual([]);
  });

  it('leaves descriptors alone that are none of objects, however often they are inserted', () => {
    const outcome = runInChild<unknown>(
      (native, { countDescriptors, input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/inserted`, 'content');
        const facts = new BigInt64Array(6);
        const table = native.createFileTable(10, 10);
        const files = new native.OpenFiles(table, facts, new BigInt64Array(1));
        const base = native.openBasedir(input);
        const before = countDescriptors();
        for (let fd = 0; fd < 5000; fd++) files.insert(fd, fd, 1);
        const after = countDescriptors();
        // One that the caller has closed in spite of having given it away, or gives away twice.
        const open = (): number => native.openObject(base, Buffer.from('inserted'), 8, facts);
        const fd = open();
        const answers = [files.insert(1, fd, 0) === fd, native.closeDescriptor(fd)];
        answers.push(files.acquire(1), files.insert(1, fd, 0), files.release(1));
        const other = open();
        answers.push(files.insert(2, other, 0) === other, files.insert(2, other, 0) === other);
        files.forget();
        files.release(2);
        files.release(2);
        native.closeDescriptor(base);
        native.destroyFileTable(table);
        return [after - before, answers];
      },
      { input: folder },
    );
    expect(outcome).toEqual([0, [true, 0, -2, -9, 0, true, true]]);
  });

  it('keeps its arrays and its table as long as it lives, and no longer', () => {
    const [held, collected, open, closed] = runInChild<[number, number, number, number]>(
      async (native, { countDescriptors, input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/held-file`, 'content');
        const base = native.openBasedir(input);
        const before = countDescriptors();
        const refs: WeakRef<object>[] = [];
        const make = (): unknown => {
          const [facts, backing] = [new BigInt64Array(6), new BigInt64Array(1)];
          refs.push(new WeakRef(facts), new WeakRef(backing));
          const table = native.createFileTable(10, 10);
          const files = new native.OpenFiles(table, facts, backing);
          native.destroyFileTable(table);
          files.insert(1, native.openObject(base, Buffer.from('held-file'), 9, facts), 0);
          return files;
        };
        const alive = (): number => refs.filter((ref) => ref.deref() !== undefined).length;
        const idle = async (): Promise<void> => {
          for (let i = 0; i < 5; i++) {
            globalThis.gc!();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        };
        const kept = Array.from({ length: 100 }, make);
        await idle();
        const [held, open] = [alive(), countDescriptors() - before];
        kept.length = 0;
        await idle();
        return [held, alive(), open, countDescriptors() - before];
      },
      { input: folder, nodeArgs: ['--expose-gc'] },
    );
    expect([held, collected]).toEqual([200, 0]);
    expect([open, closed]).toEqual([100, 0]);
  });

  it('ends with its worker, in use or not', () => {
    const result = runInChild<number[]>(
      async (native, { addonPath, countDescriptors, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/in-use`, 'content');
        const first = new Worker('', { eval: true });
        await new Promise((resolve) => first.once('exit', resolve));
        const before = countDescriptors();
        const base = native.openBasedir(input);
        const table = native.createFileTable(10, 10);
        const code = `const native = require(${JSON.stringify(addonPath)});
          const facts = new BigInt64Array(6);
          const files = new native.OpenFiles(${table}, facts, new BigInt64Array(1));
          const open = () => native.openObject(${base}, Buffer.from('in-use'), 6, facts);
          const { parentPort } = require('node:worker_threads');
          parentPort.postMessage(files.insert(1, open(), 0) > 2 ? 0 : 1);
          for (;;) {
            files.acquire(1);
            files.release(1);
          }`;
        const results: number[] = [];
        for (let i = 0; i < 3; i++) {
          const worker = new Worker(code, { eval: true });
          results.push(await new Promise((resolve) => worker.once('message', resolve)));
          await worker.terminate();
        }
        results.push(native.destroyFileTable(table), native.closeDescriptor(base));
        return [...results, countDescriptors() - before];
      },
      { input: folder },
    );
    expect(result).toEqual([0, 0, 0, 0, 0, 0]);
  });
});

describe('measuring an object', () => {
  it('refuses a word of progress too few, and detached words', () => {
    const names = runInChild((native) => {
      const facts = new BigInt64Array(6);
      const detached = new BigInt64Array(6);
      structuredClone(detached.buffer, { transfer: [detached.buffer] });
      const attempt = (progress: BigInt64Array): string => {
        try {
          return String(native.measureObject(1, facts, 1, progress));
        } catch (error) {
          return (error as Error).name;
        }
      };
      return [1, 0].map((words) => attempt(new BigInt64Array(words))).concat(attempt(detached));
    });
    expect(names).toEqual(['RangeError', 'RangeError', 'RangeError']);
  });

  it('holds its words of progress, which nobody else does', () => {
    const statuses = runInChild<number[]>(
      async (native, { input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/held`, '');
        fs.truncateSync(`${input}/held`, 1 << 26);
        const base = native.openBasedir(input);
        const facts = new BigInt64Array(6);
        const started = Array.from({ length: 12 }, () => {
          const fd = native.openObject(base, Buffer.from('held'), 4, facts);
          const words = new BigInt64Array(new SharedArrayBuffer(16));
          const done = native.measureObject(fd, facts, 1, words);
          native.closeDescriptor(fd);
          return done;
        });
        for (let i = 0; i < 20; i++) {
          globalThis.gc!();
          // Would be where the words were.
          void new BigInt64Array(new SharedArrayBuffer(16)).fill(-1n);
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
        return Promise.all(started);
      },
      { input: folder, nodeArgs: ['--expose-gc'] },
    );
    expect(statuses).toEqual(Array(12).fill(0));
  });

  it('ends quietly with work under way, in a worker that is terminated and in the process', () => {
    const result = runInChild(
      async (native, { addonPath, countDescriptors, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const fs = require('node:fs') as typeof import('node:fs');
        fs.writeFileSync(`${input}/sparse`, '');
        fs.truncateSync(`${input}/sparse`, 1 << 25);
        const base = native.openBasedir(input);
        const facts = new BigInt64Array(6);
        const fd = native.openObject(base, Buffer.from('sparse'), 6, facts);
        // The first worker makes Node open a descriptor for good.
        const first = new Worker('', { eval: true });
        await new Promise((resolve) => first.once('exit', resolve));
        const before = countDescriptors();
        for (let round = 0; round < 3; round++) {
          const code = `const native = require(${JSON.stringify(addonPath)});
            const { parentPort, workerData } = require('node:worker_threads');
            for (let i = 0; i < 9; i++) {
              const words = new BigInt64Array(new SharedArrayBuffer(16));
              native.measureObject(${fd}, workerData, 1, words);
            }
            parentPort.postMessage('started');`;
          const worker = new Worker(code, { eval: true, workerData: facts });
          await new Promise((resolve) => worker.once('message', resolve));
          await worker.terminate();
        }
        const leaked = countDescriptors() - before;
        for (let i = 0; i < 9; i++) {
          const words = new BigInt64Array(new SharedArrayBuffer(16));
          void native.measureObject(fd, facts, 2, words);
        }
        setImmediate(() => process.exit(0));
        return leaked;
      },
      { input: folder },
    );
    expect(result).toBe(0);
  });
});

describeWith([needsFuse], 'a session on an unmounted device', () => {
  it('answers -EPERM, and WRITE_FAILED - EPERM to a reply', () => {
    const results = runInChild((native) => {
      const buffer = (): Uint8Array => new Uint8Array(8192);
      const wake = native.createWake();
      const session = new native.Session(native.openDevice(), buffer(), buffer(), wake);
      session.setPolling(1000);
      return [session.exchange(0), session.exchange(16), session.reply(16)];
    });
    expect(results).toEqual([-1, -4097, -1]);
  });

  it('checks every argument of its constructor and takes nothing when it throws', () => {
    const { names, closed } = runInChild((native) => {
      const names: string[] = [];
      const Session = native.Session as unknown as new (...args: unknown[]) => unknown;
      const attempt = (run: () => unknown): void => {
        try {
          names.push(String(run()));
        } catch (error) {
          names.push((error as Error).name);
        }
      };
      const device = native.openDevice();
      const wake = native.createWake();
      const good = new Uint8Array(8192);
      const detached = new Uint8Array(8192);
      structuredClone(detached.buffer, { transfer: [detached.buffer] });
      attempt(() =>
        (Session as unknown as (...args: unknown[]) => unknown)(device, good, good, wake),
      );
      attempt(() => new Session());
      attempt(() => new Session(device, good, good));
      attempt(() => new Session('3', good, good, wake));
      attempt(() => new Session(device, [], good, wake));
      attempt(() => new Session(device, good, new ArrayBuffer(8192), wake));
      attempt(() => new Session(device, new Float64Array(8192), good, wake));
      attempt(() => new Session(device, good, new Uint8Array(8191), wake));
      attempt(() => new Session(device, detached, good, wake));
      for (const fd of [0, 1, 2, -1, Number.NaN, 0.5, 2 ** 40, wake]) {
        attempt(() => new Session(fd, good, good, wake));
      }
      for (const fd of [0, 1, 2, -1, Number.NaN, 0.5, 2 ** 40, device]) {
        attempt(() => new Session(device, good, good, fd));
      }
      return { names, closed: native.closeDescriptor(device) };
    });
    expect(names.slice(0, 7)).toEqual(Array<string>(7).fill('TypeError'));
    expect(names.slice(7)).toEqual(Array<string>(18).fill('RangeError'));
    expect(closed).toBe(0);
  });

  it('checks the arguments of its methods', () => {
    const wrong = runInChild<string[]>((native) => {
      const wake = native.createWake();
      const buffers = [new Uint8Array(8192), new Uint8Array(8192)] as const;
      const session = new native.Session(native.openDevice(), ...buffers, wake);
      const methods = session as unknown as Record<string, (...args: unknown[]) => unknown>;
      const wrong: string[] = [];
      const expectName = (name: string, method: string, ...args: unknown[]): void => {
        let got: string;
        try {
          got = String(methods[method]!(...args));
        } catch (error) {
          got = (error as Error).name;
        }
        if (got !== name) wrong.push(`${method}(${args.map(String).join()}): ${got}, not ${name}`);
      };
      // replyOn takes a descriptor first.
      methods['replyOnIt'] = (...args) => methods['replyOn']!(999_999, ...args);
      for (const method of ['exchange', 'reply', 'setPolling', 'replyOnIt']) {
        for (const value of [undefined, null, '1', {}, 1n, Symbol('x'), true, [1]]) {
          expectName('TypeError', method, value);
        }
        for (const value of [-1, 0.5, Number.NaN, 8193, 2 ** 32, 2 ** 32 + 16, 1e308, Infinity]) {
          expectName('RangeError', method, value);
        }
        expectName('TypeError', method);
      }
      expectName('TypeError', 'readObject', 1, 0, 0);
      expectName('TypeError', 'readObject', '1', 0, 0, 0);
      expectName('RangeError', 'readObject', 1, -1, 0, 0);
      expectName('RangeError', 'readObject', 1, 2 ** 53 + 2, 0, 0);
      expectName('RangeError', 'readObject', 1, 0, 8193, 0);
      expectName('RangeError', 'readObject', 1, 0, 8192, 1);
      expectName('RangeError', 'readObject', 1, 0, 1, 8192);
      expectName('RangeError', 'readObject', 1, 0, 1, -1);
      expectName('RangeError', 'readObject', 1, 0, Number.NaN, 0);
      expectName('RangeError', 'readObject', 1, 0, 0, Number.NaN);
      for (const value of [undefined, null, '1', {}, 1n, Symbol('x'), true, [1]]) {
        expectName('TypeError', 'replyOn', value, 16);
      }
      expectName('TypeError', 'replyOn');
      const device = native.openDevice();
      const base = native.openBasedir('/');
      for (const fd of [0, 1, 2, -1, -2, 0.5, Number.NaN, 2 ** 40, Infinity, wake, device, base]) {
        expectName('-9', 'readObject', fd, 0, 16, 0);
        expectName('-9', 'replyOn', fd, 16);
      }
      const other = new native.Session(device, buffers[0], new Uint8Array(8192), wake);
      // Not mounted: what write(2) says.
      expectName('-1', 'replyOn', device, 16);
      expectName('-1', 'replyOn', device, 8192);
      other.close();
      expectName('-9', 'replyOn', device, 16);
      session.close();
      session.close();
      expectName('-9', 'exchange', 0);
      expectName('-9', 'exchange', 16);
      expectName('-9', 'reply', 16);
      expectName('-9', 'readObject', 1, 0, 16, 0);
      const open = native.openDevice();
      const third = new native.Session(open, buffers[0], buffers[1], wake);
      expectName('-9', 'replyOn', open, 16);
      expectName('RangeError', 'replyOn', open, 8193);
      third.close();
      expectName('undefined', 'setPolling', 10);
      return wrong;
    });
    expect(wrong).toEqual([]);
  });

  it('refuses every receiver that is not a session, also one that another addon wrapped', () => {
    const names = runInChild<string[]>(
      (native, { addonPath, input, require }) => {
        // A copy of the library under another name is another addon with classes of its own.
        const fs = require('node:fs') as typeof import('node:fs');
        const copyPath = `${input}/copy.node`;
        fs.copyFileSync(addonPath, copyPath);
        const copy = require(copyPath) as typeof native;
        const buffer = (): Uint8Array => new Uint8Array(8192);
        const device = copy.openDevice();
        const foreign = new copy.Session(device, buffer(), buffer(), copy.createWake());
        const prototype = native.Session.prototype;
        const receivers = [{}, foreign, Object.create(prototype), prototype, null, undefined, 1];
        receivers.push(new Proxy(foreign, {}), native.Session, native);
        return receivers.flatMap((receiver) =>
          (['exchange', 'reply', 'replyOn', 'setPolling', 'close', 'readObject'] as const).map(
            (method) => {
              try {
                return String(Reflect.apply(prototype[method], receiver, [0, 0, 0, 0]));
              } catch (error) {
                return (error as Error).name;
              }
            },
          ),
        );
      },
      { input: folder },
    );
    expect(names).toEqual(Array<string>(60).fill('TypeError'));
  });

  it('works for a subclass and over shared memory', () => {
    const results = runInChild((native) => {
      class Derived extends native.Session {}
      const shared = (): Uint8Array => new Uint8Array(new SharedArrayBuffer(8192));
      const wake = native.createWake();
      const session = new Derived(native.openDevice(), shared(), shared(), wake);
      return session.exchange(0);
    });
    expect(results).toBe(-1);
  });

  it('owns its descriptor, of which duplicates stay free', () => {
    const results = runInChild((native) => {
      const buffer = (): Uint8Array => new Uint8Array(8192);
      const device = native.openDevice();
      const wake = native.createWake();
      const session = new native.Session(device, buffer(), buffer(), wake);
      const refused = native.closeDescriptor(device);
      let second = '';
      try {
        new native.Session(device, buffer(), buffer(), wake);
      } catch (error) {
        second = (error as Error).name;
      }
      const copy = native.duplicate(device);
      const other = new native.Session(copy, buffer(), buffer(), wake);
      const clone = native.cloneDevice(device);
      native.closeDescriptor(wake);
      session.close();
      const afterClose = native.closeDescriptor(device);
      return [refused, second, other.exchange(0), clone, afterClose];
    });
    expect(results).toEqual([-9, 'RangeError', -1, -1, -9]);
  });

  it('closes its descriptor when it is collected and when its worker ends', () => {
    const [before, collected, ended] = runInChild(
      async (native, { addonPath, countDescriptors, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const wake = native.createWake();
        const idle = async (): Promise<void> => {
          for (let i = 0; i < 5; i++) {
            globalThis.gc!();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        };
        const runWorker = async (body: string): Promise<void> => {
          const code = `const native = require(${JSON.stringify(addonPath)}); ${body}`;
          const worker = new Worker(code, { eval: true });
          await new Promise((resolve) => worker.once('exit', resolve));
        };
        await runWorker('');
        const before = countDescriptors();
        for (let i = 0; i < 50; i++) {
          new native.Session(native.openDevice(), new Uint8Array(8192), new Uint8Array(8192), wake);
        }
        await idle();
        const collected = countDescriptors();
        await runWorker(`globalThis.kept = new native.Session(native.openDevice(),
          new Uint8Array(8192), new Uint8Array(8192), ${wake});`);
        return [before, collected, countDescriptors()];
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(collected).toBe(before);
    expect(ended).toBe(before);
  });
});

describeWith([needsRoot, needsFuse], 'a session on a mount', () => {
  it('reads INIT, reports refused replies, and is woken while it waits', () => {
    const target = join(folder, 'mounted');
    mkdirSync(target);
    try {
      const results = runInChild(
        async (native, { addonPath, input, require }) => {
          const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
          const device = native.openDevice();
          const options = 'rootmode=40000,user_id=0,group_id=0';
          const mounted = native.mount('test', input, 'fuse.test', 1, options, device);
          const wake = native.createWake();
          const duplicate = native.duplicate(device);
          const reply = new Uint8Array(8192);
          const request = new Uint8Array(8192);
          const session = new native.Session(device, request, reply, wake);
          const initLength = session.exchange(0);
          const opcode = new DataView(request.buffer).getUint32(4, true);
          const words = new DataView(reply.buffer);
          words.setUint32(0, 99, true);
          const malformed = session.exchange(16) + 4096;
          words.setUint32(0, 16, true);
          words.setUint32(8, 4242, true);
          const unknown = session.reply(16);

          const code = `const native = require(${JSON.stringify(addonPath)});
            const { parentPort } = require('node:worker_threads');
            const session = new native.Session(${duplicate},
              new Uint8Array(8192), new Uint8Array(8192), ${wake});
            parentPort.postMessage('ready');
            parentPort.postMessage(session.exchange(0));
            session.close();`;
          const worker = new Worker(code, { eval: true });
          const woken = await new Promise((resolve) => {
            worker.on('message', (message) => {
              if (message !== 'ready') resolve(message);
              // Most likely the worker sleeps in poll by then; if not, the result must be the same.
              else setTimeout(() => native.wake(wake), 50);
            });
          });
          session.setPolling(1000);
          const again = session.exchange(16);
          const unmounted = native.unmount(input, 2);
          const other = native.createWake();
          const late = new native.Session(native.duplicate(device), request, reply, other);
          const gone = late.exchange(0);
          late.close();
          session.close();
          return {
            mounted,
            isInit: initLength >= 56 && opcode === 26,
            malformed,
            unknown,
            woken,
            again,
            unmounted,
            gone,
          };
        },
        { input: target },
      );
      expect(results).toEqual({
        mounted: 0,
        isInit: true,
        malformed: -22,
        unknown: -2,
        woken: -125,
        again: -125,
        unmounted: 0,
        gone: -19,
      });
    } finally {
      spawnSync('umount', ['-l', target]);
    }
  });

  it('replies to what another session has read, until that one is closed', () => {
    const target = join(folder, 'replied-on');
    mkdirSync(target);
    try {
      const results = runInChild(
        (native, { input }) => {
          const wake = native.createWake();
          const device = native.openDevice();
          native.mount(
            'test',
            input,
            'fuse.test',
            1,
            'rootmode=40000,user_id=0,group_id=0',
            device,
          );
          const request = new Uint8Array(8192);
          const reader = new native.Session(device, request, new Uint8Array(8192), wake);
          const reply = new Uint8Array(8192);
          const other = native.openDevice();
          const writer = new native.Session(other, new Uint8Array(8192), reply, wake);
          const length = reader.exchange(0);
          const init = new DataView(request.buffer);
          const words = new DataView(reply.buffer);
          words.setUint32(0, 80, true);
          words.setBigUint64(8, init.getBigUint64(8, true), true);
          words.setUint32(16, 7, true);
          words.setUint32(20, 31, true);
          words.setUint32(36, 4096, true);
          const statuses = [writer.replyOn(other, 80), writer.replyOn(device, 80)];
          // The request is answered: the kernel knows it no more.
          statuses.push(writer.replyOn(device, 80));
          reader.close();
          statuses.push(writer.replyOn(device, 80));
          native.unmount(input, 2);
          return [length > 0, init.getUint32(4, true), ...statuses];
        },
        { input: target },
      );
      expect(results).toEqual([true, 26, -1, 0, -2, -9]);
    } finally {
      spawnSync('umount', ['-l', target]);
    }
  });

  it('ends when another thread unmounts while it waits', () => {
    const target = join(folder, 'unmounted');
    mkdirSync(target);
    try {
      const result = runInChild(
        async (native, { addonPath, input, require }) => {
          const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
          const device = native.openDevice();
          const options = 'rootmode=40000,user_id=0,group_id=0';
          native.mount('test', input, 'fuse.test', 1, options, device);
          const code = `const native = require(${JSON.stringify(addonPath)});
            const { parentPort } = require('node:worker_threads');
            const session = new native.Session(${device},
              new Uint8Array(8192), new Uint8Array(8192), native.createWake());
            session.exchange(0);
            parentPort.postMessage('ready');
            parentPort.postMessage(session.exchange(0));`;
          const worker = new Worker(code, { eval: true });
          return await new Promise((resolve) => {
            worker.on('message', (message) => {
              if (message !== 'ready') resolve(message);
              else setTimeout(() => native.unmount(input, 2), 50);
            });
          });
        },
        { input: target },
      );
      expect(result).toBe(-19);
    } finally {
      spawnSync('umount', ['-l', target]);
    }
  });
});

describeWith([needsCompiler, needsFuse], 'receiving a descriptor', () => {
  let sender: string;
  beforeAll(() => {
    sender = join(folder, 'sender');
    // Sends argv[1] copies of its standard input over descriptor 3 and ends.
    const source = `
      #include <stdlib.h>
      #include <string.h>
      #include <sys/socket.h>
      int main(int argc, char **argv) {
        int count = argc > 1 ? atoi(argv[1]) : 0;
        char byte = 0;
        struct iovec bytes = {&byte, 1};
        char control[CMSG_SPACE(4 * sizeof(int))] __attribute__((aligned(8))) = {0};
        struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
        if (count < 0) return 0;
        if (count > 0) {
          message.msg_control = control;
          message.msg_controllen = CMSG_SPACE(count * sizeof(int));
          struct cmsghdr *item = CMSG_FIRSTHDR(&message);
          item->cmsg_level = SOL_SOCKET;
          item->cmsg_type = SCM_RIGHTS;
          item->cmsg_len = CMSG_LEN(count * sizeof(int));
          memset(CMSG_DATA(item), 0, count * sizeof(int));
        }
        return sendmsg(3, &message, 0) < 0;
      }`;
    const compiler = spawnSync('cc', ['-x', 'c', '-o', sender, '-'], { input: source });
    expect(String(compiler.stderr)).toBe('');
  });

  it.each([
    ['one', '1', 'device', 1],
    ['the first of three and closes the others', '3', 'device', 1],
    ['none, as -EBADMSG', '0', -74, 0],
    ['end of file, as -ENODATA', '-1', -61, 0],
  ])('gives %s', (_title, count, expected, growth) => {
    const result = runInChild(
      async (native, { input, countDescriptors, require }) => {
        const { spawn } = require('node:child_process') as typeof import('node:child_process');
        const fs = require('node:fs') as typeof import('node:fs');
        const [path, argument] = JSON.parse(input) as [string, string];
        const device = fs.openSync('/dev/fuse', 'r+');
        const [ours, theirs] = native.socketPair() as [number, number];
        const child = spawn(path, [argument], { stdio: [device, 'ignore', 'ignore', theirs] });
        native.closeDescriptor(theirs);
        await new Promise((resolve) => child.once('exit', resolve));
        const before = countDescriptors();
        const fd = native.receiveDescriptor(ours);
        const growth = countDescriptors() - before;
        if (fd < 0) return { got: fd, growth };
        // It counts as a device: cloning finds that it is not mounted.
        return { got: native.cloneDevice(fd) === -1 ? 'device' : 'other', growth };
      },
      { input: JSON.stringify([sender, count]) },
    );
    expect(result).toEqual({ got: expected, growth });
  });
});

describe.each(['openObject', 'openObjectByWalk'] as const)('%s', (variant) => {
  const native = loadNative();
  const isRoot = process.getuid?.() === 0;
  const facts = new BigInt64Array(OBJECT_FACTS.WORDS);
  let root: string;
  let base: number;
  let server: Server;

  const open = (path: string | Uint8Array): number => {
    const bytes = typeof path === 'string' ? Buffer.from(path) : path;
    return native[variant](base, bytes, bytes.length, facts);
  };

  beforeAll(async () => {
    root = join(folder, variant);
    const objects = join(root, 'objects');
    mkdirSync(join(objects, 'ab/deep'), { recursive: true });
    writeFileSync(join(root, 'outside'), 'secret');
    writeFileSync(join(objects, 'ab/object'), 'content');
    writeFileSync(join(objects, 'ab/deep/object'), 'deep');
    writeFileSync(Buffer.concat([Buffer.from(`${objects}/`), Buffer.from([0xff, 0xfe])]), 'bytes');
    writeFileSync(join(objects, 'x'.repeat(255)), 'long');
    spawnSync('mkfifo', [join(objects, 'fifo')]);
    symlinkSync('ab/object', join(objects, 'link'));
    symlinkSync('missing', join(objects, 'dangling'));
    symlinkSync('../outside', join(objects, 'escape'));
    symlinkSync('ab', join(objects, 'linked-folder'));
    symlinkSync('/proc/self', join(objects, 'proc'));
    server = createServer().listen(join(objects, 'socket'));
    await once(server, 'listening');
    if (isRoot) spawnSync('mknod', [join(objects, 'device'), 'c', '1', '3']);
    base = native.openBasedir(objects);
    expect(base).toBeGreaterThan(2);
  });
  afterAll(() => {
    native.closeDescriptor(base);
    server.close();
  });

  it('opens a regular file and tells its facts', () => {
    const fd = open('ab/object');
    expect(fd).toBeGreaterThan(2);
    expect(facts[OBJECT_FACTS.SIZE]).toBe(7n);
    expect(Number(facts[OBJECT_FACTS.MODE]) & 0o170000).toBe(0o100000);
    const stat = spawnSync('stat', ['-c', '%d %i %.9Y %.9Z', join(root, 'objects/ab/object')]);
    const [dev, ino, mtime, ctime] = String(stat.stdout).trim().split(' ');
    expect(facts[OBJECT_FACTS.DEV]).toBe(BigInt(dev!));
    expect(facts[OBJECT_FACTS.INO]).toBe(BigInt(ino!));
    expect(facts[OBJECT_FACTS.MTIME_NS]).toBe(BigInt(mtime!.replace('.', '')));
    expect(facts[OBJECT_FACTS.CTIME_NS]).toBe(BigInt(ctime!.replace('.', '')));
    expect(native.seek(fd, 3, 0)).toBe(3);
    expect(native.seek(fd, 0, 2)).toBe(7);
    expect(native.seek(fd, -1, 0)).toBe(-22);
    expect(native.seek(fd, 7, 4)).toBe(-6);
    expect(native.measureVerity(fd, new Uint8Array(64))).toBeLessThan(0);
    expect(native.closeDescriptor(fd)).toBe(0);
  });

  it.each([
    ['ab/deep/object'],
    ['x'.repeat(255)],
    [new Uint8Array([0xff, 0xfe])],
    [Buffer.from('xab/objectx').subarray(1, -1)],
  ])('opens %s', (path) => {
    const fd = open(path);
    expect(fd).toBeGreaterThan(2);
    expect(native.closeDescriptor(fd)).toBe(0);
  });

  it.each([
    ['an empty path', '', -2],
    ['a missing file', 'ab/missing', -2],
    ['a missing folder', 'cd/object', -2],
    ['a folder', 'ab', -21],
    ['a file as a folder', 'ab/object/x', -20],
    ['a FIFO', 'fifo', -22],
    ['a symlink', 'link', -40],
    ['a dangling symlink', 'dangling', -40],
    ['a symlink that leaves', 'escape', -40],
    ['a symlink in the middle', 'linked-folder/object', -40],
    ['a symlink to another filesystem', 'proc/cmdline', -40],
    ['a path that leaves', '../outside', -18],
    ['a path that leaves later', 'ab/../../outside', -18],
    ['the parent', '..', -18],
    ['an absolute path', '/etc/passwd', -18],
    ['the root', '/', -18],
    ['the basedir', '.', -22],
    ['a dot inside', 'ab/./object', -22],
    ['an empty component', 'ab//object', -22],
    ['a slash at the end', 'ab/object/', -22],
    ['a NUL inside', 'ab/object\0x', -22],
    ['a NUL at the end', 'ab/object\0', -22],
    ['a name that is too long', 'x'.repeat(256), -36],
    ['a path that is too long', 'x/'.repeat(2048), -36],
  ])('refuses %s', (_title, path, expected) => {
    facts.fill(77n);
    expect(open(path)).toBe(expected);
    expect(facts).toEqual(new BigInt64Array(OBJECT_FACTS.WORDS).fill(77n));
  });

  it('refuses magic links', () => {
    const proc = native.openBasedir('/proc/self');
    for (const path of ['cwd/package.json', 'exe', 'fd/0']) {
      expect(native[variant](proc, Buffer.from(path), path.length, facts)).toBe(-40);
    }
    native.closeDescriptor(proc);
  });

  it('refuses a socket', () => {
    expect(open('socket')).toBe(-22);
  });

  it.runIf(isRoot)('refuses a character device [needs root]', () => {
    expect(open('device')).toBe(-22);
  });

  it('leaks no descriptor in 10,000 opens, nor in refused ones', () => {
    const counts = runInChild(
      (addon, { input, countDescriptors }) => {
        const [name, objects] = JSON.parse(input) as ['openObject', string];
        const basedir = addon.openBasedir(objects);
        const words = new BigInt64Array(6);
        const paths = ['ab/deep/object', 'ab/missing', 'link', 'fifo', 'linked-folder/object'];
        const before = countDescriptors();
        for (let i = 0; i < 10_000; i++) {
          const path = Buffer.from(paths[i % 2 === 0 ? 0 : (i >> 1) % paths.length]!);
          const fd = addon[name](basedir, path, path.length, words);
          if (fd >= 0) addon.closeDescriptor(fd);
        }
        return [before, countDescriptors()];
      },
      { input: JSON.stringify([variant, join(root, 'objects')]) },
    );
    expect(counts[1]).toBe(counts[0]);
  });

  it.runIf(needsFuse.isMet())('reads objects into the reply buffer [needs /dev/fuse]', () => {
    const device = native.openDevice();
    const reply = new Uint8Array(8192);
    const wake = native.createWake();
    const session = new native.Session(device, new Uint8Array(8192), reply, wake);
    const fd = open('ab/object');
    expect(session.readObject(fd, 0, 7, 16)).toBe(7);
    expect(Buffer.from(reply.subarray(15, 25)).toString()).toBe('\0content\0\0');
    expect(session.readObject(fd, 3, 100, 8092)).toBe(4);
    expect(Buffer.from(reply.subarray(8092, 8096)).toString()).toBe('tent');
    expect(session.readObject(fd, 7, 10, 0)).toBe(0);
    expect(session.readObject(fd, 2 ** 53, 10, 0)).toBe(0);
    expect(session.readObject(fd, 0, 0, 8192)).toBe(0);
    native.closeDescriptor(fd);
    expect(session.readObject(fd, 0, 7, 16)).toBe(EBADF);
    session.close();
    native.closeDescriptor(wake);
  });
});
