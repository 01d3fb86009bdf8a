// The table of open objects, over real files: what is found again, what is closed and when, and that
// it stays so when many threads use it at once.

import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { type Negotiated, negotiate } from '../../../src/fuse/init.ts';
import { Reply } from '../../../src/fuse/reply.ts';
import { Request } from '../../../src/fuse/request.ts';
import { loadNative, VERIFIED, VERITY_STATUS } from '../../../src/native.ts';
import { createFileTable, OpenFiles } from '../../../src/objects/open-files.ts';
import { digestOf, GuardedObjects, noise, overwrite } from '../../support/guarded-objects.ts';
import { detach } from '../../support/mounts.ts';
import { runInChild } from '../../support/native-child.ts';
import {
  describeWith,
  needsFuse,
  needsPassthrough,
  needsRoot,
} from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';

const native = loadNative();
const scope = scopeOfEachTest();
const { EBADF, EBUSY, EMFILE, ENOENT } = Errno;
/** Longer than the clock of file times takes to move on any kernel. */
const TICK_MS = 20;

let objects: GuardedObjects;
beforeEach(() => {
  objects = new GuardedObjects(scope.directory());
  scope.defer(() => objects.close());
});

interface Table extends OpenFiles {
  number: number;
}

function makeTable(openMax = 100, idleMax = openMax): Table {
  const number = native.createFileTable(openMax, idleMax);
  const files = new OpenFiles(native, number, objects.facts);
  scope.defer(() => {
    files.forget();
    native.destroyFileTable(number);
  });
  return Object.assign(files, { number });
}

/** Opens an object, writing it if it is new, and inserts it. What insert says. */
function insert(
  files: OpenFiles,
  nid: number,
  name = `object-${nid}`,
  passthrough = false,
): number {
  if (!readdirSync(objects.folder).includes(name)) objects.write(name, Buffer.from(name));
  return files.insert(nid, objects.open(name), passthrough);
}

/** Has them open and lets go of them, in this order. */
function visit(files: OpenFiles, ...nids: number[]): void {
  for (const nid of nids) {
    expect(insert(files, nid)).toBeGreaterThan(2);
    expect(files.release(nid)).toBe(0);
  }
}

/** Which of the files are known. The last one is the one used last then. */
function known(files: OpenFiles, ...nids: number[]): number[] {
  return nids.filter((nid) => {
    const fd = files.acquire(nid);
    if (fd >= 0) expect(files.release(nid)).toBe(0);
    return fd >= 0;
  });
}

/** The objects that are open in this process, by name; a name for each descriptor. */
function openNames(): string[] {
  const names: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      if (path.startsWith(`${objects.folder}/`)) names.push(path.slice(objects.folder.length + 1));
    } catch {
      // Closed by now, as the one of the listing is.
    }
  }
  return names.sort();
}

function contentOf(fd: number): string {
  const bytes = Buffer.alloc(100);
  return bytes.toString('utf8', 0, readSync(fd, bytes, 0, 100, 0));
}

describe('a file', () => {
  it('that was never opened is not known', () => {
    const files = makeTable();
    expect(files.acquire(7)).toBe(-ENOENT);
    expect(files.acquireAny(7)).toBe(-ENOENT);
    expect(files.release(7)).toBe(-EBADF);
    expect(files.trim()).toBe(false);
    expect(files.backingId).toBe(0);
    expect(files.backingError).toBe(0);
  });

  it('is open as long as it has users, then idle, and is found again', () => {
    const files = makeTable();
    const fd = insert(files, 7);
    expect(fd).toBeGreaterThan(2);
    expect(files.acquire(7)).toBe(fd);
    expect(files.acquireAny(7)).toBe(fd);
    for (let i = 0; i < 3; i++) expect(files.release(7)).toBe(0);
    expect(files.release(7)).toBe(-EBADF);
    expect(openNames()).toEqual(['object-7']);
    expect(files.acquire(7)).toBe(fd);
    expect(contentOf(fd)).toBe('object-7');
    expect(files.release(7)).toBe(0);
    expect(files.acquireAny(7)).toBe(fd);
    expect(files.release(7)).toBe(0);
    expect(files.trim()).toBe(true);
    expect(files.trim()).toBe(false);
    expect(openNames()).toEqual([]);
    expect(files.acquire(7)).toBe(-ENOENT);
    expect(files.release(7)).toBe(-EBADF);
  });

  it('is told apart from others by all bits of its number', () => {
    const files = makeTable();
    const nids = [0, 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 40, Number.MAX_SAFE_INTEGER, 2 ** 53];
    const fds = nids.map((nid) => insert(files, nid));
    expect(new Set(fds).size).toBe(nids.length);
    for (const [i, nid] of nids.entries()) {
      expect(files.acquire(nid)).toBe(fds[i]);
      expect([files.release(nid), files.release(nid), files.release(nid)]).toEqual([0, 0, -EBADF]);
    }
  });

  it('may have the same object as another one', () => {
    const files = makeTable();
    expect(insert(files, 1, 'object')).not.toBe(insert(files, 2, 'object'));
    expect(openNames()).toEqual(['object', 'object']);
    files.release(1);
    expect(files.trim()).toBe(true);
    expect(openNames()).toEqual(['object']);
    expect(known(files, 1, 2)).toEqual([2]);
  });

  it('is not the same in another table', () => {
    const [one, other] = [makeTable(), makeTable()];
    insert(one, 1);
    expect(other.acquire(1)).toBe(-ENOENT);
    expect(other.release(1)).toBe(-EBADF);
    insert(other, 1);
    one.release(1);
    expect(one.trim()).toBe(true);
    expect(known(other, 1)).toEqual([1]);
    expect(one.acquireAny(1)).toBe(-ENOENT);
  });

  it('is known to all who use the table', () => {
    const files = makeTable();
    const other = new OpenFiles(native, files.number, new BigInt64Array(6));
    const fd = insert(files, 1);
    expect(other.acquire(1)).toBe(fd);
    expect(files.release(1)).toBe(0);
    expect(other.release(1)).toBe(0);
    expect(other.release(1)).toBe(-EBADF);
    expect(other.trim()).toBe(true);
    expect(files.acquire(1)).toBe(-ENOENT);
  });

  it('is not made of a descriptor that is no object, which stays what it is', () => {
    const files = makeTable();
    const wake = native.createWake();
    objects.open((objects.write('object', noise(10)), 'object'));
    for (const fd of [wake, objects.basedir, 0, 1, 2, -1, 999_999]) {
      expect(files.insert(1, fd, false)).toBe(-EBADF);
    }
    expect(native.wake(wake)).toBe(0);
    expect(native.closeDescriptor(wake)).toBe(0);
    expect(files.acquireAny(1)).toBe(-ENOENT);
  });
});

describeWith([needsFuse], 'an object that is guarded', () => {
  it('is guarded for everybody, and its descriptor is a new one after it was closed', () => {
    const files = makeTable();
    const content = noise(10_000);
    const path = objects.write('guarded', content);
    const opened = objects.open('guarded');
    expect(objects.verify(opened, digestOf(content))).toBe(VERIFIED.COMPUTED);
    const fd = files.insert(1, opened, false);
    expect(fd).toBe(opened);
    files.release(1);
    expect(files.acquire(1)).toBe(fd);
    overwrite(path, 5, noise(1, 'other'));
    expect(objects.read(fd, 0, 10)).toBe(VERITY_STATUS.DIFFERS);
    expect(objects.read(fd, 4096, 10)).toEqual(content.subarray(4096, 4106));
    files.release(1);
    files.trim();
    expect(objects.read(fd, 4096, 10)).toBe(-EBADF);
    expect(objects.open('guarded')).toBe(fd);
    expect(objects.read(fd, 5, 1)).toEqual(noise(1, 'other'));
    native.closeDescriptor(fd);
  });
});

describe('the limit of idle files', () => {
  it('closes the oldest and the newest in turn', () => {
    const files = makeTable(100, 3);
    visit(files, 1, 2, 3, 4);
    expect(openNames()).toEqual(['object-2', 'object-3', 'object-4']);
    visit(files, 5);
    expect(openNames()).toEqual(['object-2', 'object-3', 'object-4']);
    expect(known(files, 2)).toEqual([2]);
    visit(files, 6);
    expect(openNames()).toEqual(['object-2', 'object-4', 'object-6']);
    visit(files, 7);
    expect(openNames()).toEqual(['object-2', 'object-4', 'object-6']);
  });

  it('leaves something to be found for who goes round more files than there is room for', () => {
    const files = makeTable(100, 6);
    let found = 0;
    for (let i = 0; i < 50; i++) {
      if (files.acquire(i % 10) >= 0) {
        found++;
        files.release(i % 10);
      } else {
        visit(files, i % 10);
      }
      expect(openNames().length).toBeLessThanOrEqual(6);
    }
    expect(found).toBeGreaterThan(10);
  });

  it('does not count those that are open', () => {
    const files = makeTable(100, 1);
    for (const nid of [1, 2, 3, 4]) insert(files, nid);
    expect(openNames()).toHaveLength(4);
    for (const [i, nid] of [4, 3, 2, 1].entries()) {
      files.release(nid);
      expect(openNames()).toHaveLength(Math.max(4 - i, 1));
    }
  });

  it('may be none', () => {
    const files = makeTable(100, 0);
    const fd = insert(files, 1);
    files.acquire(1);
    files.release(1);
    expect(contentOf(fd)).toBe('object-1');
    files.release(1);
    expect(openNames()).toEqual([]);
    expect(files.acquire(1)).toBe(-ENOENT);
  });

  it('is none of its own for a mount that may have few open', () => {
    for (const openMax of [1, 7, 8]) {
      const number = createFileTable(native, openMax);
      const files = new OpenFiles(native, number, objects.facts);
      visit(files, ...Array.from({ length: 9 }, (_, i) => i));
      expect(openNames()).toHaveLength(openMax);
      files.trim();
      native.destroyFileTable(number);
    }
  });
});

describe('the limit of open files', () => {
  it('closes idle ones for new ones, the oldest and the newest in turn', () => {
    const files = makeTable(3);
    visit(files, 1, 2, 3);
    expect(known(files, 1)).toEqual([1]);
    visit(files, 4);
    expect(openNames()).toEqual(['object-1', 'object-3', 'object-4']);
    insert(files, 5);
    expect(openNames()).toEqual(['object-1', 'object-3', 'object-5']);
    insert(files, 6);
    expect(openNames()).toEqual(['object-1', 'object-5', 'object-6']);
  });

  it('is EMFILE when all are in use, and the new one is closed', () => {
    const files = makeTable(2);
    insert(files, 1);
    insert(files, 2);
    for (let i = 0; i < 3; i++) {
      expect(insert(files, 3)).toBe(-EMFILE);
      expect(openNames()).toEqual(['object-1', 'object-2']);
    }
    expect(files.backingId).toBe(0);
    expect(files.release(3)).toBe(-EBADF);
    // Those that are open can be opened again.
    expect(files.acquire(1)).toBeGreaterThan(2);
    files.release(1);
    expect(insert(files, 3)).toBe(-EMFILE);
    files.release(1);
    expect(insert(files, 3)).toBeGreaterThan(2);
    expect(openNames()).toEqual(['object-2', 'object-3']);
  });

  it('counts what was replaced as long as somebody reads it', () => {
    const files = makeTable(2);
    insert(files, 1, 'a');
    expect(insert(files, 1, 'b')).toBeGreaterThan(2);
    expect(insert(files, 1, 'c')).toBe(-EMFILE);
    expect(insert(files, 2)).toBe(-EMFILE);
    expect(openNames()).toEqual(['a', 'b']);
    expect(contentOf(files.acquireAny(1))).toBe('b');
    for (let i = 0; i < 3; i++) expect(files.release(1)).toBe(0);
    expect(openNames()).toEqual(['b']);
    expect(insert(files, 2)).toBeGreaterThan(2);
    expect(insert(files, 3)).toBeGreaterThan(2);
    expect(openNames()).toEqual(['object-2', 'object-3']);
  });

  it('makes room for what replaces another one', () => {
    const files = makeTable(2);
    visit(files, 2);
    insert(files, 1, 'a');
    expect(insert(files, 1, 'b')).toBeGreaterThan(2);
    expect(openNames()).toEqual(['a', 'b']);
  });
});

describe('an object that was opened twice at a time', () => {
  it('stays open once', () => {
    const files = makeTable();
    objects.write('object', Buffer.from('content'));
    const [one, other] = [objects.open('object'), objects.open('object')];
    expect(files.insert(1, one, false)).toBe(one);
    expect(files.insert(1, other, false)).toBe(one);
    expect(openNames()).toEqual(['object']);
    expect(native.closeDescriptor(other)).toBe(-EBADF);
    expect(contentOf(one)).toBe('content');
    expect([files.release(1), files.release(1), files.release(1)]).toEqual([0, 0, -EBADF]);
  });

  it('also when it is idle by then', () => {
    const files = makeTable();
    const fd = insert(files, 1);
    files.release(1);
    expect(insert(files, 1)).toBe(fd);
    expect(openNames()).toEqual(['object-1']);
    expect([files.release(1), files.release(1)]).toEqual([0, -EBADF]);
  });
});

describe('an object that takes the place of another one', () => {
  it('leaves those who read the old one alone, until the last has gone', () => {
    const files = makeTable();
    const a = insert(files, 1, 'a');
    const b = insert(files, 1, 'b');
    const c = insert(files, 1, 'c');
    expect([a, b, c].map(contentOf)).toEqual(['a', 'b', 'c']);
    expect(files.acquire(1)).toBe(c);
    expect(openNames()).toEqual(['a', 'b', 'c']);
    for (let i = 0; i < 3; i++) {
      expect(files.release(1)).toBe(0);
      expect([a, b, c].map(contentOf)).toEqual(['a', 'b', 'c']);
    }
    expect(files.release(1)).toBe(0);
    expect(openNames()).toEqual(['c']);
    expect(files.acquire(1)).toBe(c);
  });

  it('closes an idle one at once', () => {
    const files = makeTable();
    insert(files, 1, 'a');
    files.release(1);
    const b = insert(files, 1, 'b');
    expect(openNames()).toEqual(['b']);
    expect(contentOf(b)).toBe('b');
    expect([files.release(1), files.release(1)]).toEqual([0, -EBADF]);
  });
});

describe('an object that has changed', () => {
  const changes: [string, (path: string) => void][] = [
    ['written to', (path) => overwrite(path, 0, Buffer.from('O'))],
    ['written the same bytes', (path) => overwrite(path, 0, Buffer.from('o'))],
    ['cut', (path) => truncateSync(path, 3)],
    ['added to', (path) => appendFileSync(path, '!')],
    ['given other times', (path) => utimesSync(path, 1, 1)],
    ['given another mode', (path) => chmodSync(path, 0o600)],
    ['linked to', (path) => linkSync(path, `${path}-link`)],
    ['removed', (path) => rmSync(path)],
    [
      'replaced',
      (path) => {
        writeFileSync(`${path}-next`, 'object-1');
        renameSync(`${path}-next`, path);
      },
    ],
  ];

  it.each(changes)('because it was %s is closed when it is found out', async (_title, change) => {
    const files = makeTable();
    visit(files, 1);
    await sleep(TICK_MS);
    change(objects.path('object-1'));
    expect(openNames()).toHaveLength(1);
    expect(files.acquire(1)).toBe(-ENOENT);
    expect(openNames()).toEqual([]);
    expect(files.acquireAny(1)).toBe(-ENOENT);
  });

  it.each(changes)('because it was %s is only for its readers', async (_title, change) => {
    const files = makeTable();
    const fd = insert(files, 1);
    await sleep(TICK_MS);
    change(objects.path('object-1'));
    expect(files.acquire(1)).toBe(-ENOENT);
    expect(openNames()).toHaveLength(1);
    // Who checks what is read may still have it.
    expect(files.acquireAny(1)).toBe(fd);
    expect([files.release(1), files.release(1), files.release(1)]).toEqual([0, 0, -EBADF]);
    expect(files.acquireAny(1)).toBe(fd);
    files.release(1);
  });

  it('is known again when it was opened anew', async () => {
    const files = makeTable();
    const fd = insert(files, 1);
    await sleep(TICK_MS);
    utimesSync(objects.path('object-1'), 1, 1);
    expect(files.acquire(1)).toBe(-ENOENT);
    const again = insert(files, 1);
    expect(again).not.toBe(fd);
    expect(files.acquire(1)).toBe(again);
    expect(openNames()).toEqual(['object-1', 'object-1']);
    for (let i = 0; i < 3; i++) files.release(1);
    expect(openNames()).toEqual(['object-1']);
  });

  it('is not one that was read, nor one below a renamed folder', async () => {
    const files = makeTable();
    mkdirSync(objects.path('folder'));
    writeFileSync(objects.path('folder/object'), 'content');
    const fd = files.insert(1, objects.open('folder/object'), false);
    files.release(1);
    await sleep(TICK_MS);
    expect(contentOf(fd)).toBe('content');
    renameSync(objects.path('folder'), objects.path('other'));
    expect(files.acquire(1)).toBe(fd);
  });
});

describe('forgetting', () => {
  it('closes what is idle now and what is open as soon as it is released', () => {
    const files = makeTable();
    visit(files, 1, 2);
    const fd = insert(files, 3);
    files.acquire(3);
    files.forget();
    expect(openNames()).toEqual(['object-3']);
    expect(contentOf(fd)).toBe('object-3');
    expect([files.release(3), files.release(3), files.release(3)]).toEqual([0, 0, -EBADF]);
    expect(openNames()).toEqual([]);
    files.forget();
  });

  it('makes what is open unknown, until it was opened anew', () => {
    const files = makeTable();
    const fd = insert(files, 1);
    files.forget();
    expect(files.acquire(1)).toBe(-ENOENT);
    expect(files.acquireAny(1)).toBe(-ENOENT);
    expect(openNames()).toEqual(['object-1']);
    expect(insert(files, 1)).toBe(fd);
    expect(files.acquire(1)).toBe(fd);
    for (let i = 0; i < 3; i++) expect(files.release(1)).toBe(0);
    expect(openNames()).toEqual(['object-1']);
    expect(known(files, 1)).toEqual([1]);
  });

  it('the same when another object is found then', () => {
    const files = makeTable();
    insert(files, 1, 'a');
    files.forget();
    const b = insert(files, 1, 'b');
    expect(files.acquire(1)).toBe(b);
    for (let i = 0; i < 3; i++) files.release(1);
    expect(openNames()).toEqual(['b']);
  });
});

describe('trimming', () => {
  it('closes what is idle and leaves alone what is open', () => {
    const files = makeTable();
    visit(files, 1, 2, 3);
    const fd = files.acquire(2);
    expect(files.trim()).toBe(true);
    expect(openNames()).toEqual(['object-2']);
    expect(files.trim()).toBe(false);
    expect(files.acquire(2)).toBe(fd);
    files.release(2);
    files.release(2);
    expect(known(files, 2)).toEqual([2]);
  });
});

describe('a table that is destroyed', () => {
  it('can be used by nobody new, but by who has it', () => {
    const number = native.createFileTable(10, 10);
    const files = new OpenFiles(native, number, objects.facts);
    const fd = insert(files, 1);
    expect(native.destroyFileTable(number)).toBe(0);
    expect(native.destroyFileTable(number)).toBe(-EBADF);
    expect(native.allowPassthrough(number, 0)).toBe(-EBADF);
    expect(() => new OpenFiles(native, number, objects.facts)).toThrow(RangeError);
    expect(files.acquire(1)).toBe(fd);
    expect(contentOf(fd)).toBe('object-1');
    visit(files, 2);
    files.release(1);
    files.release(1);
    expect(files.trim()).toBe(true);
    expect(openNames()).toEqual([]);
  });

  it('has a number that no other one gets', () => {
    const numbers = Array.from({ length: 5 }, () => {
      const number = native.createFileTable(1, 1);
      native.destroyFileTable(number);
      return number;
    });
    expect(new Set(numbers).size).toBe(5);
    expect(numbers).not.toContain(0);
  });

  it('closes everything when the last thread has let go, whatever is still open', () => {
    for (const name of ['a', 'b', 'c']) objects.write(name, Buffer.from(name));
    const outcome = runInChild<Record<string, unknown>>(
      async (addon, { addonPath, countDescriptors, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        // The first worker makes Node open a descriptor for good.
        const first = new Worker('', { eval: true });
        await new Promise((resolve) => first.once('exit', resolve));
        const before = countDescriptors();
        const table = addon.createFileTable(10, 10);
        const code = `
          const native = require(${JSON.stringify(addonPath)});
          const { parentPort } = require('node:worker_threads');
          const facts = new BigInt64Array(6);
          const files = new native.OpenFiles(${table}, facts, new BigInt64Array(1));
          const base = native.openBasedir(${JSON.stringify(input)});
          const open = (name) => native.openObject(base, Buffer.from(name), 1, facts);
          files.insert(1, open('a'), 0);
          files.insert(2, open('b'), 0);
          files.insert(2, open('c'), 0);
          native.closeDescriptor(base);
          parentPort.postMessage('ready');
          parentPort.once('message', () => {
            parentPort.postMessage([files.acquire(1) > 2, files.release(1), files.release(2)]);
            parentPort.once('message', () => process.exit());
          });`;
        const hear = (worker: InstanceType<typeof Worker>): Promise<unknown> =>
          new Promise((resolve) => worker.once('message', resolve));
        const workers = [new Worker(code, { eval: true })];
        await hear(workers[0]!);
        workers.push(new Worker(code, { eval: true }));
        await hear(workers[1]!);
        // The second worker’s a and b were there already; its c is what is open, so it is as well.
        const open = countDescriptors() - before;
        const destroyed = [addon.destroyFileTable(table), addon.destroyFileTable(table)];
        const answers: unknown[] = [];
        for (const worker of workers) {
          const heard = hear(worker);
          worker.postMessage('', []);
          answers.push(await heard);
        }
        const ends: number[] = [];
        for (const worker of workers) {
          const ended = new Promise((resolve) => worker.once('exit', resolve));
          worker.postMessage('', []);
          await ended;
          ends.push(countDescriptors() - before);
        }
        return { open, destroyed, answers, left: ends[1] };
      },
      { input: objects.folder },
    );
    expect(outcome).toMatchObject({
      destroyed: [0, -EBADF],
      answers: [
        [true, 0, 0],
        [true, 0, 0],
      ],
      left: 0,
    });
    expect(outcome['open']).toBeGreaterThan(3);
  });
});

describe('threads that open, replace, release and forget all the time', () => {
  it.each([
    ['few files, with room', 3, 100, 50],
    ['many files, with little room', 40, 12, 4],
    ['one file', 1, 100, 0],
  ])('read nothing wrong and leave nothing open: %s', (_title, nids, openMax, idleMax) => {
    for (let nid = 0; nid < nids; nid++)
      objects.write(`object-${nid}`, Buffer.from(`object-${nid}`));
    const outcome = runInChild<Record<string, unknown>>(
      async (addon, { addonPath, countDescriptors, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const fs = require('node:fs') as typeof import('node:fs');
        const given = JSON.parse(input) as { folder: string; limits: number[]; count: number };
        const { folder, limits, count } = given;
        const first = new Worker('', { eval: true });
        await new Promise((resolve) => first.once('exit', resolve));
        const before = countDescriptors();
        const table = addon.createFileTable(limits[0]!, limits[1]!);
        const stop = new SharedArrayBuffer(4);
        const code = `
          const { parentPort, workerData } = require('node:worker_threads');
          const fs = require('node:fs');
          const native = require(workerData.addonPath);
          const facts = new BigInt64Array(6);
          const files = new native.OpenFiles(workerData.table, facts, new BigInt64Array(1));
          const base = native.openBasedir(workerData.folder);
          const stop = new Int32Array(workerData.stop);
          const bytes = Buffer.alloc(100);
          const held = [];
          const errors = {};
          const counts = { opens: 0, hits: 0, full: 0 };
          const count = (what) => { errors[what] = (errors[what] ?? 0) + 1; };
          const look = ({ nid, fd }) => {
            try {
              const text = bytes.toString('utf8', 0, fs.readSync(fd, bytes, 0, 100, 0));
              if (text !== 'object-' + nid) count('object-' + nid + ' is ' + text);
            } catch (error) {
              count(error.code);
            }
          };
          const letGo = () => {
            const one = held.splice(Math.floor(Math.random() * held.length), 1)[0];
            look(one);
            const status = files.release(one.nid);
            if (status !== 0) count('release ' + status);
          };
          while (Atomics.load(stop, 0) === 0) {
            for (let i = 0; i < 50; i++) {
              const nid = Math.floor(Math.random() * workerData.count);
              let fd = Math.random() < 0.1 ? files.acquireAny(nid) : files.acquire(nid);
              if (fd >= 0) counts.hits++;
              else if (fd !== -2) count('acquire ' + fd);
              if (fd === -2) {
                const name = Buffer.from('object-' + nid);
                const opened = native.openObject(base, name, name.length, facts);
                if (opened < 0) count('open ' + opened);
                fd = opened < 0 ? opened : files.insert(nid, opened, 0);
                if (fd === -24) counts.full++;
                else if (fd < 0) count('insert ' + fd);
              }
              if (fd >= 0) {
                counts.opens++;
                held.push({ nid, fd });
                look(held.at(-1));
              }
              while (held.length > 5) letGo();
              if (Math.random() < 0.01) files.trim();
              if (Math.random() < 0.01) files.forget();
            }
          }
          while (held.length > 0) letGo();
          native.closeDescriptor(base);
          parentPort.postMessage({ errors, counts });`;
        const workerData = { addonPath, table, stop, folder, count };
        const workers = [0, 1, 2].map(() => new Worker(code, { eval: true, workerData }));
        const ended = workers.map(
          (worker) => new Promise((resolve) => worker.once('exit', resolve)),
        );
        const reports = Promise.all(
          workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))),
        );
        const until = Date.now() + 1500;
        for (let i = 0; Date.now() < until; i++) {
          const path = `${folder}/object-${i % count}`;
          if (i % 2 === 0) {
            fs.writeFileSync(`${path}-next`, `object-${i % count}`);
            fs.renameSync(`${path}-next`, path);
          } else {
            fs.utimesSync(path, i, i);
          }
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        Atomics.store(new Int32Array(stop), 0, 1);
        const results = await reports;
        const mine = new addon.OpenFiles(table, new BigInt64Array(6), new BigInt64Array(1));
        const busy = Array.from({ length: count }, (_, nid) => mine.release(nid));
        addon.destroyFileTable(table);
        await Promise.all(ended);
        mine.trim();
        return { results, busy: [...new Set(busy)], left: countDescriptors() - before };
      },
      {
        input: JSON.stringify({ folder: objects.folder, limits: [openMax, idleMax], count: nids }),
      },
    );
    const results = outcome['results'] as { errors: object; counts: Record<string, number> }[];
    expect(outcome).toMatchObject({ busy: [-EBADF], left: 0 });
    for (const { errors, counts } of results) {
      expect(errors).toEqual({});
      expect(counts['opens']).toBeGreaterThan(100);
      expect(counts['hits']).toBeGreaterThan(0);
    }
  });
});

describe('passthrough', () => {
  it('is not tried without a device', () => {
    const files = makeTable();
    expect(insert(files, 1, 'object', true)).toBeGreaterThan(2);
    expect(files.backingId).toBe(0);
    expect(files.backingError).toBe(0);
  });

  it('needs a device', () => {
    const files = makeTable();
    const wake = native.createWake();
    objects.write('object', noise(1));
    const object = objects.open('object');
    for (const fd of [wake, object, objects.basedir, 0, -1, 999_999]) {
      expect(native.allowPassthrough(files.number, fd)).toBe(-EBADF);
    }
    native.closeDescriptor(object);
    native.closeDescriptor(wake);
  });
});

describeWith([needsFuse], 'passthrough that the kernel refuses', () => {
  it('leaves the file readable, and tells why', () => {
    const files = makeTable();
    const device = native.openDevice();
    expect(native.allowPassthrough(files.number, device)).toBe(0);
    // The table has its own.
    expect(native.closeDescriptor(device)).toBe(0);
    expect(insert(files, 1)).toBeGreaterThan(2);
    expect(files.backingError).toBe(0);
    const fd = insert(files, 2, 'object-2', true);
    expect(contentOf(fd)).toBe('object-2');
    expect(files.backingId).toBe(0);
    expect(files.backingError).toBeLessThan(0);
    expect(files.acquire(2)).toBe(fd);
    expect(files.backingId).toBe(0);
    for (const nid of [1, 2, 2]) expect(files.release(nid)).toBe(0);
    files.trim();
    expect(openNames()).toEqual([]);
  });

  it('keeps one device, which goes with the table', () => {
    const [before, after] = runInChild<[number, number]>(
      async (addon, { countDescriptors }) => {
        const count = async (): Promise<number> => {
          for (let i = 0; i < 5; i++) {
            globalThis.gc!();
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          return countDescriptors();
        };
        const begin = await count();
        for (let i = 0; i < 50; i++) {
          const table = addon.createFileTable(1, 1);
          for (let j = 0; j < 3; j++) {
            const device = addon.openDevice();
            addon.allowPassthrough(table, device);
            addon.closeDescriptor(device);
          }
          void new addon.OpenFiles(table, new BigInt64Array(6), new BigInt64Array(1));
          addon.destroyFileTable(table);
        }
        return [begin, await count()];
      },
      { nodeArgs: ['--expose-gc'] },
    );
    expect(after).toBe(before);
  });
});

describeWith([needsRoot, needsFuse, needsPassthrough], 'passthrough that the kernel grants', () => {
  /** A table whose device is that of a mount, of which nothing is ever asked. */
  function connected(): Table & { device: number } {
    const mountpoint = join(scope.directory(), 'mount');
    mkdirSync(mountpoint);
    const device = native.openDevice();
    const options = 'rootmode=40000,user_id=0,group_id=0';
    expect(native.mount('test', mountpoint, 'fuse.test', 1, options, device)).toBe(0);
    scope.defer(() => detach(mountpoint));
    const request = new Request(new Uint8Array(8192));
    const reply = new Reply(new Uint8Array(8192));
    const wake = native.createWake();
    const session = new native.Session(device, request.bytes, reply.bytes, wake);
    scope.defer(() => {
      session.close();
      native.closeDescriptor(wake);
    });
    expect(request.loadAdjacent(session.exchange(0))).toBe(0);
    const negotiated: Negotiated = { minor: 0, flags: 0, flags2: 0 };
    const wishes = {
      posixAcl: false,
      stackDepth: 2,
      overIoUring: false,
      withoutHandles: false,
    };
    const length = negotiate(request, reply, wishes, negotiated);
    expect(session.reply(reply.finish(request, length))).toBe(0);
    const files = makeTable();
    // Taken over by a session, it is a device all the same.
    expect(native.allowPassthrough(files.number, device)).toBe(0);
    return Object.assign(files, { device });
  }

  it('names the object, the same for all files that have it', () => {
    const files = connected();
    insert(files, 1, 'object', true);
    const { backingId } = files;
    expect(backingId).toBeGreaterThan(0);
    expect(files.backingError).toBe(0);
    insert(files, 2, 'object', true);
    expect(files.backingId).toBe(backingId);
    insert(files, 3, 'other', true);
    expect(files.backingId).toBeGreaterThan(0);
    expect(files.backingId).not.toBe(backingId);
    insert(files, 4, 'object', false);
    expect(files.backingId).toBe(0);
    files.acquire(1);
    expect(files.backingId).toBe(backingId);
    expect(files.acquire(99)).toBe(-ENOENT);
    expect(files.backingId).toBe(0);
  });

  it('keeps the name while one of them is known, and lets it go with the last', () => {
    const files = connected();
    for (let round = 0; round < 3; round++) {
      const ids = ['a', 'b'].map((name, i) => {
        insert(files, i, name, true);
        return files.backingId;
      });
      insert(files, 9, 'a', true);
      expect(files.backingId).toBe(ids[0]);
      files.release(0);
      expect(files.trim()).toBe(true);
      insert(files, 0, 'a', true);
      expect(files.backingId).toBe(ids[0]);
      for (const nid of [0, 1, 9]) files.release(nid);
      expect(files.trim()).toBe(true);
      for (const id of ids) expect(native.closeBacking(files.device, id)).toBe(-ENOENT);
    }
    expect(openNames()).toEqual([]);
  });

  it('binds an open file to its object', async () => {
    const files = connected();
    insert(files, 1, 'object', true);
    const { backingId } = files;
    expect(insert(files, 1, 'other', true)).toBe(-EBUSY);
    expect(insert(files, 1, 'other', false)).toBe(-EBUSY);
    expect(files.backingId).toBe(0);
    expect(openNames()).toEqual(['object']);
    // The same one, after a change.
    await sleep(TICK_MS);
    utimesSync(objects.path('object'), 1, 1);
    expect(files.acquire(1)).toBe(-ENOENT);
    expect(insert(files, 1, 'object', true)).toBeGreaterThan(2);
    expect(files.backingId).toBe(backingId);
    for (let i = 0; i < 2; i++) expect(files.release(1)).toBe(0);
    expect(openNames()).toEqual(['object']);
    expect(insert(files, 1, 'other', true)).toBeGreaterThan(2);
    expect(files.backingId).toBeGreaterThan(0);
    expect(openNames()).toEqual(['other']);
  });

  it('is for no file that is read by the daemon already', () => {
    const files = connected();
    insert(files, 1, 'object', false);
    expect(insert(files, 1, 'object', true)).toBeGreaterThan(2);
    expect(files.backingId).toBe(0);
    expect(insert(files, 1, 'other', true)).toBeGreaterThan(2);
    expect(files.backingId).toBe(0);
  });
});
