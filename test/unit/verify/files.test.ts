// Files that change, cannot be read or are none; cancellation, progress and wrong options.

import { spawnSync } from 'node:child_process';
import { appendFileSync, closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FileChangedError, InputError } from '../../../src/errors.ts';
import { createNativeEngine } from '../../../src/verify/engine-native.ts';
import { nobleEngine } from '../../../src/verify/engine-noble.ts';
import { nodeEngine } from '../../../src/verify/engine-node.ts';
import type { DigestEngine } from '../../../src/verify/engine.ts';
import { measureBytes, measureFile, measureStream } from '../../../src/verify/measure.ts';
import { measureFiles } from '../../../src/verify/measure-files.ts';
import { describeWith } from '../../support/requirements.ts';
import { patterned, temporaryFolder, writeTo } from './content.ts';

const native = createNativeEngine();
const engines = [nobleEngine, nodeEngine, native];
const folder = temporaryFolder();
const MiB = 1 << 20;
/** A regular file of size 4096 whose content is shorter: it "ends early". */
const shortFile = '/sys/kernel/mm/transparent_hugepage/enabled';

/** The engine with something that happens once, before the first of a file's content is hashed. */
function meddling(engine: DigestEngine, meddle: () => void): DigestEngine {
  let isDone = false;
  const once = (): void => {
    if (!isDone) meddle();
    isDone = true;
  };
  const { files } = engine;
  return {
    name: engine.name,
    createHasher: (parameters) => {
      const hasher = engine.createHasher(parameters);
      return {
        hashDescriptor: (descriptor) => hasher.hashDescriptor(descriptor),
        hashBlocks: (...args) => {
          once();
          return hasher.hashBlocks(...args);
        },
      };
    },
    ...(files && {
      files: {
        measurePaths: files.measurePaths,
        hashRange: async (...args) => {
          once();
          return files.hashRange(...args);
        },
      },
    }),
  };
}

describe.each(engines)('a file that changes while it is read by $name', (engine) => {
  it.each([
    ['grows', (path: string) => appendFileSync(path, 'x')],
    ['is cut', (path: string) => truncateSync(path, 5000)],
    ['gets another mtime', (path: string) => utimesSync(path, 1, 1)],
  ])('is an error when it %s', async (_title, change) => {
    const path = writeTo(folder, 'changing', patterned(5 * MiB));
    const error: unknown = await measureFile(path, {
      engine: meddling(engine, () => change(path)),
    }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(FileChangedError);
    expect((error as FileChangedError).path).toBe(path);
    expect((error as FileChangedError).message).toContain(path);
  });
});

describeWith([{ what: shortFile, isMet: () => existsSync(shortFile) }], 'a short read', () => {
  it.each(engines)('is an error by $name, alone and in a batch', async (engine) => {
    await expect(measureFile(shortFile, { engine })).rejects.toThrow(FileChangedError);
    await expect(measureFiles([shortFile], { engine }).next()).rejects.toThrow(FileChangedError);
  });
});

describe.each(engines)('what is no readable file, by $name', (engine) => {
  const fifo = join(folder, 'fifo');
  spawnSync('mkfifo', [fifo]);

  it.each([
    ['a missing file', join(folder, 'missing'), 'missing: cannot be read (ENOENT)'],
    ['a folder', folder, 'not a regular file'],
    ['a FIFO without writer', fifo, 'not a regular file'],
    ['a device', '/dev/null', 'not a regular file'],
  ])('refuses %s and names it', async (_title, path, message) => {
    for (const run of [
      () => measureFile(path, { engine }),
      () => measureFiles([path], { engine }).next(),
    ]) {
      const error: unknown = await run().catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InputError);
      expect((error as InputError).path).toBe(path);
      expect((error as InputError).message).toContain(message);
    }
  });

  it('goes on with the other files where there is onError', async () => {
    const good = writeTo(folder, 'good', patterned(10));
    const failed: [string, string][] = [];
    const onError = (error: Error, path: unknown): number =>
      failed.push([error.name, String(path)]);
    const done = [];
    for await (const { path } of measureFiles([good, fifo, good], { engine, onError })) {
      done.push(path);
    }
    expect(done).toEqual([good, good]);
    expect(failed).toEqual([['InputError', fifo]]);
  });
});

describe.each(engines)('descriptors and names, by $name', (engine) => {
  const content = patterned(9 * MiB + 1);
  const path = writeTo(folder, 'described', content);
  const { hex } = measureBytes(content, { engine: 'native' });

  it('measures an open descriptor from its start and leaves it where it was', async () => {
    const fd = openSync(path, 'r');
    try {
      readSync(fd, new Uint8Array(10));
      expect((await measureFile(fd, { engine })).hex).toBe(hex);
      const next = new Uint8Array(1);
      readSync(fd, next);
      expect(next[0]).toBe(content[10]);
    } finally {
      closeSync(fd);
    }
  });

  it('refuses a descriptor that is not open, write-only, or a pipe', async () => {
    const fd = openSync(join(folder, 'write-only'), 'w');
    appendFileSync(fd, 'content');
    const message = /descriptor \d+: (cannot be read|not a regular file)/;
    await expect(measureFile(fd, { engine })).rejects.toThrow(message);
    closeSync(fd);
    await expect(measureFile(999_999, { engine })).rejects.toThrow(message);
  });

  it('takes names that are not UTF-8', async () => {
    const name = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe])]);
    writeFileSync(name, 'bytes');
    const expected = measureBytes(Buffer.from('bytes')).hex;
    expect((await measureFile(name, { engine })).hex).toBe(expected);
    for await (const measured of measureFiles([name], { engine })) {
      expect(measured.hex).toBe(expected);
      expect(measured.path).toBe(name);
    }
  });

  it('tells the progress in order up to the size', async () => {
    const calls: [number, number][] = [];
    await measureFile(path, { engine, onProgress: (done, size) => calls.push([done, size]) });
    expect(calls.length).toBe(3);
    expect(calls.map(([done]) => done)).toEqual([4 * MiB, 8 * MiB, content.length]);
    expect(calls.every(([, size]) => size === content.length)).toBe(true);
  });

  it('ends with the reason of its signal, before or within', async () => {
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    await expect(measureFile(path, { engine, signal })).rejects.toBe(reason);
    await expect(measureFiles([path], { engine, signal }).next()).rejects.toBe(reason);
    await expect(measureStream([content], { engine, signal })).rejects.toBe(reason);
    const controller = new AbortController();
    let calls = 0;
    const onProgress = (): void => {
      calls++;
      controller.abort(reason);
    };
    const options = { engine, signal: controller.signal, onProgress };
    await expect(measureFile(path, options)).rejects.toBe(reason);
    expect(calls).toBe(1);
  });
});

describe('many files', () => {
  const small = Array.from({ length: 700 }, (_, i) =>
    writeTo(folder, `small-${i}`, patterned((i * 7919) % 20_000)),
  );
  small.splice(300, 0, writeTo(folder, 'middle', patterned(3 * MiB)));
  const expected = small.map((path) => measureBytes(patterned(statSync(path).size)).hex);

  it.each([1, 2, 7])(
    'come in order from an async iterable, %i batches at a time',
    async (concurrency) => {
      async function* names(): AsyncGenerator<string> {
        yield* small;
      }
      const digests = [];
      for await (const { hex } of measureFiles(names(), { concurrency })) digests.push(hex);
      expect(digests).toEqual(expected);
    },
  );

  it('closes the iterable when the consumer stops or a file fails', async () => {
    let closed = 0;
    function* names(): Generator<string> {
      try {
        yield* small;
        yield join(folder, 'missing');
      } finally {
        closed++;
      }
    }
    for await (const { path } of measureFiles(names())) if (path === small[3]) break;
    expect(closed).toBe(1);
    const drain = async (): Promise<void> => {
      for await (const { sizeBytes } of measureFiles(names()))
        expect(sizeBytes).toBeLessThan(2 ** 30);
    };
    await expect(drain()).rejects.toThrow(/missing: cannot be read \(ENOENT\)/);
    expect(closed).toBe(2);
  });
});

describe('wrong options', () => {
  it.each([
    [{ blockSize: 512 }],
    [{ blockSize: 131_072 }],
    [{ blockSize: 4095 }],
    [{ blockSize: Number.NaN }],
    [{ salt: new Uint8Array(33) }],
    [{ algorithm: 'md5' as 'sha256' }],
    [{ engine: 'openssl' as 'node' }],
    [{ engine: createNativeEngine('no such variant') }],
    [{ concurrency: 0 }],
    [{ concurrency: 1.5 }],
  ])('%o are a RangeError', async (options) => {
    const path = writeTo(folder, 'any', patterned(10));
    await expect(measureFile(path, options)).rejects.toThrow(RangeError);
    await expect(measureFiles([path], options).next()).rejects.toThrow(RangeError);
    if (!('concurrency' in options)) {
      expect(() => measureBytes(patterned(10), options)).toThrow(RangeError);
    }
  });

  it('a salt or path of another type, or a path with NUL, is a TypeError', async () => {
    expect(() => measureBytes(patterned(1), { salt: 'x' as unknown as Uint8Array })).toThrow(
      TypeError,
    );
    for (const path of ['a\0b', 5, {}]) {
      await expect(measureFiles([path as string]).next()).rejects.toThrow(TypeError);
    }
    await expect(measureStream(['text' as unknown as Uint8Array])).rejects.toThrow(TypeError);
  });
});
