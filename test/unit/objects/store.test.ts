// The object store class on real directories: what goes in, what is told of it, and what is refused.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { FileChangedError, StoreError } from '../../../src/errors.ts';
import type { ObjectDigest } from '../../../src/objects/object-name.ts';
import { ObjectStore } from '../../../src/objects/store.ts';
import { measureFile } from '../../../src/verify/index.ts';
import { exitOf } from '../../support/command.ts';
import { toHex } from '../../support/image-nodes.ts';
import { addonPath } from '../../support/native-child.ts';
import { patternBytes, verityDigest } from '../../support/object-folder.ts';
import { describeWith, needsRoot } from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';

/** A regular file of size 4096 whose content is shorter: it ends early. */
const shortFile = '/sys/kernel/mm/transparent_hugepage/enabled';
const MiB = 1 << 20;

const scope = scopeOfEachTest();
let folder: string;
let store: ObjectStore;

beforeEach(() => {
  folder = scope.directory();
  store = ObjectStore.create(join(folder, 'objects'));
  scope.defer(() => store.close());
});

function write(name: string, content: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** So many files, each of another size and so with another content. */
const writeMany = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => write(`file-${i}`, patternBytes(65 + i)));

/**
 * Paths for so many batches of 1024. One file of each batch is new, so that the objects tell which
 * batches were stored; the others are one that is in the store already, which costs little.
 */
async function fillBatches(count: number): Promise<string[]> {
  const present = write('present', patternBytes(1));
  await store.addFile(present);
  return writeMany(count).flatMap((path) => [path, ...Array<string>(1023).fill(present)]);
}

const countObjects = async (): Promise<number> => (await collect(store.list())).length;

const hexOf = (content: Uint8Array): string => toHex(verityDigest(content));
const objectFile = (hex: string): string => join(store.directory, ObjectStore.pathOf(hex));

/** Puts a file where the object of a digest belongs. */
function writeObject(hex: string, content: Uint8Array): string {
  mkdirSync(join(store.directory, hex.slice(0, 2)), { recursive: true });
  writeFileSync(objectFile(hex), content);
  return objectFile(hex);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const added = { outcome: 'added' } as const;

/** What the action rejects with. */
const failure = (action: Promise<unknown>): Promise<unknown> =>
  action.then(
    () => 'no failure',
    (error: unknown) => error,
  );

describe('an object path', () => {
  const bytes = verityDigest(patternBytes(100));
  const hex = toHex(bytes);

  test.each<[string, ObjectDigest]>([
    ['lower-case hex', hex],
    ['upper-case hex', hex.toUpperCase()],
    ['bytes', bytes],
  ])('is made of %s', (_title, digest) => {
    expect(ObjectStore.pathOf(digest)).toBe(`${hex.slice(0, 2)}/${hex.slice(2)}`);
  });

  test.each<[string, unknown]>([
    ['no digits', ''],
    ['one digit too few', hex.slice(1)],
    ['one digit too many', `${hex}0`],
    ['a line end behind it', `${hex}\n`],
    ['a path', `${hex.slice(0, 2)}/${hex.slice(2)}`],
    ['a way out of the store', `../${hex.slice(3)}`],
    ['the name of the algorithm in front', `sha256:${hex}`],
    ['a SHA-512 digest', new Uint8Array(64)],
    ['nothing', undefined],
  ])('is not made of %s', async (_title, digest) => {
    const wrong = digest as ObjectDigest;
    expect(() => ObjectStore.pathOf(wrong)).toThrow(TypeError);
    expect(() => store.has(wrong)).toThrow(TypeError);
    await expect(store.verify(wrong)).rejects.toThrow(TypeError);
  });
});

describe('opening a store', () => {
  test('makes the directory and those above it only when asked to', () => {
    const path = join(folder, 'a/b/objects');
    expect(() => ObjectStore.open(path)).toThrow(
      new StoreError(`cannot open store: ${path}: No such file or directory`, path),
    );
    expect(existsSync(path)).toBe(false);
    ObjectStore.create(path).close();
    expect(statSync(path).mode & 0o7777).toBe(0o755);
    ObjectStore.open(path).close();
  });

  test('refuses what is no directory', () => {
    const path = write('file', patternBytes(1));
    expect(() => ObjectStore.open(path)).toThrow(`cannot open store: ${path}: Not a directory`);
    expect(() => ObjectStore.create(path)).toThrow(
      new StoreError(`cannot fill store: ${path} cannot be made (EEXIST)`, path),
    );
  });

  test('keeps to the directory it opened when another takes its name', async () => {
    const content = patternBytes(500);
    await store.addFile(write('file', content));
    renameSync(store.directory, join(folder, 'moved'));
    mkdirSync(store.directory);
    expect(store.has(hexOf(content))).toBe(true);
    expect(await store.verify(hexOf(content))).toEqual({ verdict: 'ok', sizeBytes: 500 });
    expect(await collect(store.list())).toHaveLength(1);
    expect(await store.addFile(write('other', patternBytes(501)))).toMatchObject(added);
    expect(readdirSync(store.directory)).toEqual([]);
  });

  test('ends with close() or the end of a block, after which nothing works', async () => {
    const hex = hexOf(patternBytes(100));
    store.close();
    store.close();
    const closed = new StoreError(`store is closed: ${store.directory}`, store.directory);
    expect(() => store.has(hex)).toThrow(closed);
    await expect(store.verify(hex)).rejects.toThrow(closed);
    await expect(collect(store.list())).rejects.toThrow(closed);
    await expect(store.addFile(write('file', patternBytes(100)))).rejects.toThrow(closed);
    const other = ObjectStore.open(store.directory);
    other[Symbol.dispose]();
    expect(() => other.has(hex)).toThrow(closed);
  });
});

describe('adding a file', () => {
  test('makes an object of its content and tells about it', async () => {
    const content = patternBytes(5000);
    const source = write('file', content);
    const digest = verityDigest(content);
    const hex = toHex(digest);
    const stored = await store.addFile(source);
    expect(stored).toEqual({
      source,
      digest: new Uint8Array(digest),
      hex,
      objectPath: `${hex.slice(0, 2)}/${hex.slice(2)}`,
      sizeBytes: 5000,
      outcome: 'added',
    });
    expect(Buffer.compare(readFileSync(objectFile(hex)), content)).toBe(0);
    expect(statSync(objectFile(hex)).mode & 0o7777).toBe(0o644);
  });

  test('leaves an object that is there alone', async () => {
    const source = write('file', patternBytes(5000));
    const { hex } = await store.addFile(source);
    const before = statSync(objectFile(hex), { bigint: true });
    expect(await store.addFile(source)).toMatchObject({ hex, outcome: 'present' });
    const after = statSync(objectFile(hex), { bigint: true });
    expect([after.ino, after.ctimeNs]).toEqual([before.ino, before.ctimeNs]);
  });

  test('takes files that images keep inside, and empty ones', async () => {
    for (const content of [new Uint8Array(0), patternBytes(1), patternBytes(64)]) {
      const { hex, sizeBytes } = await store.addFile(write('file', content));
      expect([hex, sizeBytes]).toEqual([hexOf(content), content.length]);
    }
  });

  test('takes names that are not UTF-8, and symlinks to files', async () => {
    const source = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe])]);
    writeFileSync(source, patternBytes(99));
    symlinkSync(source, join(folder, 'link'));
    expect(await store.addFile(source)).toMatchObject({ source, ...added });
    expect(await store.addFile(join(folder, 'link'))).toMatchObject({ outcome: 'present' });
  });
});

describe('adding files', () => {
  test.each([1, 3])('gives one result for each, %i batches at a time', async (concurrency) => {
    const paths = [...(await fillBatches(4)), write('last', patternBytes(5000))];
    const files = paths.map((path, index) => ({ path, index, sizeBytes: statSync(path).size }));
    const results = await collect(store.addFiles(files, { concurrency }));
    results.sort((a, b) => a.source.index - b.source.index);
    expect(results.map(({ source }) => source)).toEqual(files);
    for (const [batch, size] of [65, 66, 67, 68, 5000].entries()) {
      const content = patternBytes(size);
      const stored = results[batch * 1024]!;
      expect(stored).toMatchObject({ hex: hexOf(content), sizeBytes: size, ...added });
      expect(Buffer.compare(readFileSync(objectFile(stored.hex)), content)).toBe(0);
    }
    expect(results.filter(({ outcome }) => outcome === 'added')).toHaveLength(5);
    expect(await countObjects()).toBe(6);
  });

  test('adds one object for files of one content', async () => {
    const sources = ['a', 'b', 'c'].map((name) => write(name, patternBytes(700)));
    const results = await collect(store.addFiles(sources));
    expect(results.map(({ source }) => source)).toEqual(sources);
    const outcomes = results.map(({ outcome }) => outcome);
    expect(outcomes.sort()).toEqual(['added', 'present', 'present']);
    expect(await collect(store.list())).toHaveLength(1);
  });

  test('takes paths as they come', async () => {
    async function* find(): AsyncGenerator<string> {
      for (const path of writeMany(3)) {
        await new Promise(setImmediate);
        yield path;
      }
    }
    const results = await collect(store.addFiles(find()));
    expect(results.map(({ sizeBytes }) => sizeBytes)).toEqual([65, 66, 67]);
    expect(await collect(store.addFiles([]))).toEqual([]);
  });

  test('does not let a large file hold up the others', async () => {
    // It fills a batch. Both objects are there, so that nothing waits for the disk.
    const large = write('large', new Uint8Array(0));
    truncateSync(large, 64 * MiB);
    const object = writeObject((await measureFile(large)).hex, new Uint8Array(0));
    truncateSync(object, 64 * MiB);
    const small = write('small', patternBytes(100));
    await store.addFile(small);
    const results = await collect(store.addFiles([large, small], { concurrency: 2 }));
    expect(results.map(({ source, outcome }) => [source, outcome])).toEqual([
      [small, 'present'],
      [large, 'present'],
    ]);
  });

  test('finishes what it began when the loop is left, and then takes no more', async () => {
    const paths = await fillBatches(4);
    let isReturned = false;
    function* watched(): Generator<string> {
      try {
        yield* paths;
      } finally {
        isReturned = true;
      }
    }
    for await (const { sizeBytes } of store.addFiles(watched(), { concurrency: 2 })) {
      expect(sizeBytes).toBeLessThan(100);
      break;
    }
    expect(isReturned).toBe(true);
    expect(await countObjects()).toBe(1 + 2);
    const rest = await collect(store.addFiles(paths));
    expect(rest.filter(({ outcome }) => outcome === 'added')).toHaveLength(2);
  });

  test('ends with the reason of a signal, between batches', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const options = { concurrency: 1, signal: controller.signal };
    const iterated = store.addFiles(await fillBatches(3), options);
    let results = 0;
    await expect(async () => {
      for await (const _ of iterated) if (++results === 1) controller.abort(reason);
    }).rejects.toBe(reason);
    expect(results).toBe(1024);
    expect(await countObjects()).toBe(1 + 1);
  });

  test('stops at the next batch when the store is closed meanwhile', async () => {
    const iterated = store.addFiles(await fillBatches(2), { concurrency: 1 });
    let results = 0;
    await expect(async () => {
      for await (const _ of iterated) if (++results === 1) store.close();
    }).rejects.toThrow(`store is closed: ${store.directory}`);
    expect(results).toBe(1024);
  });

  test('rejects with what the source of the paths throws', async () => {
    const thrown = new Error('no more paths');
    const paths = await fillBatches(1);
    function* broken(): Generator<string> {
      yield* paths;
      throw thrown;
    }
    expect(await failure(collect(store.addFiles(broken())))).toBe(thrown);
    expect(await countObjects()).toBe(1 + 1);
  });

  test.each([0, -1, 1.5, Number.NaN])('refuses %d batches at a time', async (concurrency) => {
    await expect(collect(store.addFiles([], { concurrency }))).rejects.toThrow(RangeError);
  });

  test.each([['a\0b'], [{ path: 1 as unknown as string }]])('refuses %j', async (source) => {
    await expect(store.addFile(source)).rejects.toThrow(TypeError);
    await expect(collect(store.addFiles([source]))).rejects.toThrow(TypeError);
  });
});

describe('a file that cannot be stored', () => {
  test.each([
    ['is missing', () => join(folder, 'missing'), 'No such file or directory'],
    ['is a directory', () => folder, 'Illegal operation on a directory'],
    ['is a device', () => '/dev/null', 'Invalid argument'],
  ])('is an error when it %s', async (_title, make, reason) => {
    const path = make();
    const expected = new StoreError(`cannot fill store: ${path}: ${reason}`, path);
    expect(await failure(store.addFile(path))).toEqual(expected);
    expect(await failure(collect(store.addFiles([path])))).toEqual(expected);
    expect(await countObjects()).toBe(0);
  });

  test('is an error when it has another size than was stated', async () => {
    const path = write('file', patternBytes(100));
    await expect(store.addFile({ path, sizeBytes: 100 })).resolves.toMatchObject(added);
    appendFileSync(path, 'x');
    const text = `${path} changed while it was read; run again when nothing writes to it`;
    expect(await failure(store.addFile({ path, sizeBytes: 100 }))).toEqual(
      new StoreError(text, path),
    );
  });

  describeWith([{ what: shortFile, isMet: () => existsSync(shortFile) }], 'that changes', () => {
    test('is an error and leaves nothing behind', async () => {
      await expect(store.addFile(shortFile)).rejects.toThrow(`${shortFile} changed while it was`);
      expect(readdirSync(store.directory)).toEqual([]);
    });
  });

  test('ends the iteration, and the others stay; or is left out where there is onError', async () => {
    const [a, b] = [write('a', patternBytes(100)), write('b', patternBytes(200))];
    const missing = join(folder, 'missing');
    const error = await failure(collect(store.addFiles([a, missing, b])));
    expect(error).toBeInstanceOf(StoreError);
    expect(await collect(store.list())).toHaveLength(2);
    const failed: [string, string][] = [];
    const results = await collect(
      store.addFiles([a, missing, b], {
        onError: ({ path }, source) => failed.push([path, source]),
      }),
    );
    expect(results.map(({ source }) => source)).toEqual([a, b]);
    expect(failed).toEqual([[missing, missing]]);
  });

  test.each<[string, (hex: string) => void]>([
    ['has another content', (hex) => writeObject(hex, patternBytes(5000, 1))],
    ['has another size', (hex) => writeObject(hex, patternBytes(4999))],
    ['is a directory', (hex) => mkdirSync(objectFile(hex), { recursive: true })],
    [
      'is a symlink to the content',
      (hex) => {
        rmSync(writeObject(hex, new Uint8Array(0)));
        symlinkSync(join(folder, 'file'), objectFile(hex));
      },
    ],
  ])('is an error when the object that is there %s', async (_title, spoil) => {
    const content = patternBytes(5000);
    const hex = hexOf(content);
    const path = write('file', content);
    spoil(hex);
    const object = ObjectStore.pathOf(hex);
    const text =
      `cannot fill store: object ${object} is there with another content than ${path}; ` +
      'remove the object and run again';
    expect(await failure(store.addFile(path))).toEqual(new StoreError(text, object));
  });
});

describe('looking for an object', () => {
  test('finds a regular file of that name and nothing else', async () => {
    const { hex, digest } = await store.addFile(write('file', patternBytes(100)));
    for (const form of [hex, hex.toUpperCase(), digest]) expect(store.has(form)).toBe(true);
    const others = [101, 102, 103].map((size) => hexOf(patternBytes(size)));
    const [absent, directory, link] = others as [string, string, string];
    mkdirSync(objectFile(directory), { recursive: true });
    rmSync(writeObject(link, new Uint8Array(0)));
    symlinkSync(objectFile(hex), objectFile(link));
    for (const other of [absent, directory, link]) {
      expect(store.has(other)).toBe(false);
      expect(await store.verify(other)).toEqual({ verdict: 'missing' });
    }
  });

  test('does not follow a symlink in place of the first directory', async () => {
    const { hex } = await store.addFile(write('file', patternBytes(100)));
    const first = join(store.directory, hex.slice(0, 2));
    renameSync(first, join(folder, 'elsewhere'));
    symlinkSync(join(folder, 'elsewhere'), first);
    expect(store.has(hex)).toBe(false);
    expect(await collect(store.list())).toEqual([]);
  });
});

describe('verifying an object', () => {
  test('tells good content from wrong, by its digest', async () => {
    for (const size of [0, 100, 5 * MiB]) {
      const content = patternBytes(size);
      const { hex } = await store.addFile(write('file', content));
      expect(await store.verify(hex)).toEqual({ verdict: 'ok', sizeBytes: size });
    }
    const wrong = patternBytes(100, 1);
    const hex = hexOf(patternBytes(300));
    writeObject(hex, wrong);
    expect(await store.verify(hex)).toEqual({
      verdict: 'wrong',
      sizeBytes: 100,
      actual: hexOf(wrong),
    });
  });

  test('is an error when the object is written meanwhile', async () => {
    // Written here: one of the store may be protected by the kernel.
    const hex = hexOf(patternBytes(1));
    const object = writeObject(hex, patternBytes(5 * MiB));
    const verdict = store.verify(hex);
    appendFileSync(object, 'x');
    expect(await failure(verdict)).toEqual(new FileChangedError(ObjectStore.pathOf(hex)));
  });
});

describe('a list of objects', () => {
  test('has those that are named as objects, in order, with their sizes', async () => {
    const results = await collect(store.addFiles(writeMany(50)));
    const expected = results
      .map(({ hex, objectPath, sizeBytes }) => ({ hex, objectPath, sizeBytes }))
      .sort((a, b) => (a.hex < b.hex ? -1 : 1));
    const { hex } = expected[0]!;
    const first = join(store.directory, hex.slice(0, 2));
    writeFileSync(join(store.directory, '.tmp-1-1'), 'a temporary');
    writeFileSync(join(store.directory, 'zz'), 'a file');
    writeFileSync(join(first, 'short'), 'another name');
    writeFileSync(join(first, hex.slice(2).toUpperCase()), 'not lower case');
    mkdirSync(join(first, 'f'.repeat(62)));
    symlinkSync(objectFile(hex), join(first, 'e'.repeat(62)));
    expect(await collect(store.list())).toEqual(expected);
  });

  test('goes on when the store is closed meanwhile, and past objects that go', async () => {
    // The first three are in one directory, which is read as a whole.
    const [first, gone, third, last] = ['aa00', 'aa11', 'aa22', 'bb00'].map((digits) =>
      digits.padEnd(64, '0'),
    ) as [string, string, string, string];
    for (const hex of [first, gone, third, last]) writeObject(hex, patternBytes(1));
    const listed: string[] = [];
    for await (const { hex } of store.list()) {
      listed.push(hex);
      rmSync(objectFile(gone), { force: true });
      store.close();
    }
    expect(listed).toEqual([first, third, last]);
  });

  test('is empty where the directory is gone', async () => {
    rmSync(store.directory, { recursive: true });
    expect(await collect(store.list())).toEqual([]);
  });
});

describeWith([needsRoot], 'without permission', () => {
  /** Files of other users are no obstacle to root. */
  async function asNobody<T>(action: () => Promise<T>): Promise<T> {
    process.seteuid!(65534);
    try {
      return await action();
    } finally {
      process.seteuid!(0);
    }
  }

  test('neither directories nor objects nor files are read, which is told', async () => {
    const source = write('file', patternBytes(100));
    const { hex, objectPath } = await store.addFile(source);
    const unreadable = new StoreError(
      `object ${objectPath} cannot be read: Permission denied`,
      objectPath,
    );
    const { directory } = store;
    chmodSync(objectFile(hex), 0);
    chmodSync(source, 0);
    await asNobody(async () => {
      expect(await countObjects()).toBe(1);
      expect(() => store.has(hex)).toThrow(unreadable);
      expect(await failure(store.verify(hex))).toEqual(unreadable);
      expect(await failure(store.addFile(source))).toEqual(
        new StoreError(`cannot fill store: ${source}: Permission denied`, source),
      );
    });
    chmodSync(join(directory, hex.slice(0, 2)), 0);
    expect(await asNobody(() => failure(collect(store.list())))).toEqual(
      new StoreError(`cannot read store: ${directory}: Permission denied`, directory),
    );
  });
});

/**
 * Stores files by the addon alone, 20 at a time, in both stores at once; prints how many objects it
 * added to each. In the child's words, since it cannot load TypeScript.
 */
const CHILD = `
  const [addonPath, filesFolder, ...stores] = process.argv.slice(1);
  const native = require(addonPath);
  const files = require('node:fs').readdirSync(filesFolder).sort().reverse();
  async function fill(store) {
    const fd = native.openBasedir(store);
    let added = 0;
    for (let at = 0; at < files.length; at += 20) {
      const names = files.slice(at, at + 20).map((name) => filesFolder + '/' + name + '\\0');
      const records = await native.storeObjects(fd, Buffer.from(names.join('')));
      for (let i = 0; i < names.length; i++) if (records[i * 48 + 8] === 1) added++;
    }
    return added;
  }
  process.stdout.write('ready\\n');
  Promise.all(stores.map(fill)).then((added) => process.stdout.write(JSON.stringify(added)));
`;

test('two processes may fill two stores at once', async () => {
  const files = join(folder, 'files');
  mkdirSync(files);
  // Every content twice.
  for (let i = 0; i < 400; i++) {
    writeFileSync(join(files, `${i}`), patternBytes(65 + (i % 200)));
  }
  const stores = [store, ObjectStore.create(join(folder, 'other'))];
  scope.defer(() => stores[1]!.close());
  const directories = stores.map(({ directory }) => directory);
  const child = spawn(process.execPath, ['-e', CHILD, addonPath, files, ...directories], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 25_000,
  });
  const ended = exitOf(child);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  await once(child.stdout, 'data');
  const sources = readdirSync(files).map((name) => join(files, name));
  const results = await Promise.all(stores.map((each) => collect(each.addFiles(sources))));
  expect(await ended).toBe(0);
  const addedByChild = JSON.parse(output.replace('ready\n', '')) as number[];

  for (const [i, each] of stores.entries()) {
    const addedHere = results[i]!.filter(({ outcome }) => outcome === 'added').length;
    expect(addedHere + addedByChild[i]!).toBe(200);
    const listed = await collect(each.list());
    expect(listed).toHaveLength(200);
    for (const { hex } of listed) expect(await each.verify(hex)).toMatchObject({ verdict: 'ok' });
    const names = readdirSync(each.directory, { recursive: true, withFileTypes: true });
    expect(names.filter((entry) => entry.isFile())).toHaveLength(200);
  }
});
