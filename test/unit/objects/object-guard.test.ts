// Verification in the addon, over real files: what it says of an object, and that from then on not
// one byte is read that it has not seen.

import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import {
  FOUND_DIGEST,
  loadNative,
  OBJECT_FACTS,
  VERIFIED,
  VERIFY_ENGINE,
  VERITY_STATUS,
} from '../../../src/native.ts';
import type { DigestAlgorithm } from '../../../src/verify/index.ts';
import { digestOf, GuardedObjects, noise, overwrite } from '../../support/guarded-objects.ts';
import { runInChild } from '../../support/native-child.ts';
import { describeWith, needsFuse } from '../../support/requirements.ts';
import { seeded } from '../verify/content.ts';

const native = loadNative();
const BLOCK = 4096;
const KiB = 1024;
const algorithms: DigestAlgorithm[] = ['sha256', 'sha512'];
/** Bytes of content below one hash block. */
const groupSizes = { sha256: 512 * KiB, sha512: 256 * KiB };

let objects: GuardedObjects;
beforeAll(() => {
  objects = new GuardedObjects(mkdtempSync(join(tmpdir(), 'cfs-guard-')));
});
afterAll(() => {
  objects.close();
  rmSync(objects.folder, { recursive: true });
});

/** A sparse file, which takes a moment to be hashed. */
function sparse(name: string, size: number): string {
  const path = objects.write(name, new Uint8Array(0));
  truncateSync(path, size);
  return path;
}

function progressWords(): BigInt64Array {
  return new BigInt64Array(new SharedArrayBuffer(16));
}

/** Opens, measures and closes at once. */
function measure(name: string, algorithm = 1, progress = progressWords()): Promise<number> {
  const fd = objects.open(name);
  const done = native.measureObject(fd, objects.facts, algorithm, progress);
  native.closeDescriptor(fd);
  return done;
}

async function untilUnderWay(progress: BigInt64Array): Promise<void> {
  while (Atomics.load(progress, 0) === 0n) await sleep(1);
}

describe.each(algorithms)('%s', (algorithm) => {
  const group = groupSizes[algorithm];
  const sizes = [
    0,
    1,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    2 * BLOCK,
    8 * BLOCK,
    8 * BLOCK + 1,
    128 * KiB,
    256 * KiB - 1,
    256 * KiB,
    256 * KiB + 1,
    512 * KiB - 1,
    512 * KiB,
    512 * KiB + 1,
    3 * 512 * KiB + 77,
  ];

  describeWith([needsFuse], 'a good object', () => {
    it.each(sizes)('of %i bytes is computed, then remembered, and read as it is', (size) => {
      const content = noise(size);
      const digest = digestOf(content, algorithm);
      objects.write('good', content);
      objects.found.fill(7);
      const fd = objects.open('good');
      expect(objects.verify(fd, digest)).toBe(VERIFIED.COMPUTED);
      expect([...objects.found]).toEqual(Array(FOUND_DIGEST.SIZE).fill(0));
      expect(objects.verify(fd, digest)).toBe(VERIFIED.REMEMBERED);
      expect(objects.verifyName('good', digest)).toBe(VERIFIED.REMEMBERED);

      const random = seeded(size + 1);
      const below = (limit: number): number => Math.floor(random() * limit);
      const ranges: [number, number][] = [
        [0, size],
        [0, size + 100],
        [0, 0],
        [size, 1],
        [size + 1, 10],
        [2 ** 53, 10],
        [Math.max(size - 1, 0), 10],
        [Math.max(size - 5000, 0), 6000],
        [group - 1, 2],
        [group - BLOCK, 2 * BLOCK],
        [group, BLOCK],
      ];
      for (let i = 0; i < 40; i++) {
        ranges.push([below(size + 10), below(size + 10)]);
        ranges.push([below(size / BLOCK + 1) * BLOCK, BLOCK * (1 + below(4))]);
        ranges.push([below(size + 10), below(200)]);
      }
      for (const [offset, length] of ranges) {
        const got = objects.read(fd, offset, length);
        const wanted = content.subarray(offset, offset + length);
        const isSame = typeof got !== 'number' && Buffer.compare(got, wanted) === 0;
        expect(isSame, `${length} bytes at ${offset}: ${String(got).slice(0, 20)}`).toBe(true);
      }
      native.closeDescriptor(fd);
    });
  });

  describeWith([needsFuse], 'a byte changed after the object was verified', () => {
    it.each(sizes.filter((size) => size > 0))('is never read, of %i bytes', (size) => {
      const content = noise(size, 'flips');
      const path = objects.write('flipped', content);
      const fd = objects.open('flipped');
      expect(objects.verify(fd, digestOf(content, algorithm))).toBe(VERIFIED.COMPUTED);

      const lastBlock = Math.floor((size - 1) / BLOCK) * BLOCK;
      const lastGroup = Math.floor((size - 1) / group) * group;
      const positions = new Set([0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 3 * BLOCK + 100]);
      for (const at of [group - 1, group, lastGroup - 1, lastGroup]) positions.add(at);
      for (const at of [lastBlock - 1, lastBlock, size - 1]) positions.add(at);
      const blocks = Math.ceil(size / BLOCK);
      for (const position of positions) {
        if (position < 0 || position >= size) continue;
        overwrite(path, position, Uint8Array.of(content[position]! ^ 0x10));
        const block = Math.floor(position / BLOCK);
        const wrong: string[] = [];
        for (let i = 0; i < blocks; i++) {
          const got = objects.read(fd, i * BLOCK, BLOCK);
          if (i === block) {
            if (got !== VERITY_STATUS.DIFFERS) wrong.push(`block ${i} is read`);
          } else if (
            typeof got === 'number' ||
            Buffer.compare(got, content.subarray(i * BLOCK, (i + 1) * BLOCK)) !== 0
          ) {
            wrong.push(`block ${i} is not read`);
          }
        }
        expect(wrong, `position ${position}`).toEqual([]);
        const ranges: [number, number][] = [
          [position, 1],
          [0, size],
          [Math.max(position - 5000, 0), 10_000],
          // Every block is checked whole, also when only other bytes of it are asked for.
          [position % BLOCK === 0 ? position + 1 : block * BLOCK, 1],
        ];
        for (const [offset, length] of ranges) {
          if (offset >= size) continue;
          const got = objects.read(fd, offset, length);
          expect(got, `${length} bytes at ${offset}`).toBe(VERITY_STATUS.DIFFERS);
        }
        overwrite(path, position, content.subarray(position, position + 1));
        expect(objects.read(fd, position, 1)).toEqual(content.subarray(position, position + 1));
      }
      native.closeDescriptor(fd);
    });
  });

  it('a wrong digest is told with the right one, and nothing is guarded', () => {
    const content = noise(300_000, 'other');
    const actual = digestOf(content, algorithm);
    objects.write('other', content);
    const wanted = actual.slice();
    wanted[wanted.length - 1]! ^= 1;
    for (let i = 0; i < 2; i++) {
      const fd = objects.open('other');
      objects.found.fill(7);
      expect(objects.verify(fd, wanted)).toBe(VERIFIED.DIFFERS_COMPUTED);
      expect(objects.found[FOUND_DIGEST.ALGORITHM]).toBe(algorithm === 'sha512' ? 2 : 1);
      const bytes = objects.found.subarray(FOUND_DIGEST.BYTES);
      expect(bytes.subarray(0, actual.length)).toEqual(actual);
      expect([...bytes.subarray(actual.length)]).toEqual(Array(64 - actual.length).fill(0));
      // A guarded descriptor cannot be duplicated.
      const copy = native.duplicate(fd);
      expect(copy).toBeGreaterThan(0);
      native.closeDescriptor(copy);
      native.closeDescriptor(fd);
    }
    expect(objects.verifyName('other', actual)).toBe(VERIFIED.REMEMBERED);
  });

  it('an object over the limit is measured elsewhere, then remembered', async () => {
    const size = 3 * group + 5;
    const content = noise(size, 'large');
    const digest = digestOf(content, algorithm);
    objects.write('large', content);
    const atLimit = objects.verifier(VERIFY_ENGINE.ANY, size);
    const below = objects.verifier(VERIFY_ENGINE.ANY, size - 1);
    expect(objects.verifyName('large', digest, below)).toBe(VERITY_STATUS.TOO_LARGE);
    const progress = progressWords();
    expect(await measure('large', digest.length / 32, progress)).toBe(0);
    expect(progress).toEqual(BigInt64Array.of(BigInt(size), 0n));
    expect(objects.verifyName('large', digest, below)).toBe(VERIFIED.REMEMBERED);
    native.forgetObjects();
    expect(objects.verifyName('large', digest, below)).toBe(VERITY_STATUS.TOO_LARGE);
    expect(objects.verifyName('large', digest, atLimit)).toBe(VERIFIED.COMPUTED);
  });

  it('what was measured is remembered also where it is not what was expected', async () => {
    const content = noise(BLOCK, 'unexpected');
    const actual = digestOf(content, algorithm);
    objects.write('unexpected', content);
    expect(await measure('unexpected', actual.length / 32)).toBe(0);
    const verifier = objects.verifier(VERIFY_ENGINE.ANY, 0);
    const wanted = new Uint8Array(actual.length);
    expect(objects.verifyName('unexpected', wanted, verifier)).toBe(VERIFIED.DIFFERS_COMPUTED);
    expect(objects.found.subarray(1, 1 + actual.length)).toEqual(actual);
  });
});

describeWith([needsFuse], 'an object that is cut or grows after it was verified', () => {
  it('serves what is left of whole blocks, and never less than was verified', () => {
    const size = 100 * BLOCK + 904;
    const content = noise(size, 'cut');
    const path = objects.write('cut', content);
    const fd = objects.open('cut');
    expect(objects.verify(fd, digestOf(content))).toBe(VERIFIED.COMPUTED);
    truncateSync(path, 50 * BLOCK + 1);
    const first = objects.read(fd, 0, 50 * BLOCK);
    expect(Buffer.compare(first as Buffer, content.subarray(0, 50 * BLOCK))).toBe(0);
    for (const [offset, length] of [
      [50 * BLOCK, 1],
      [49 * BLOCK, 2 * BLOCK],
      [51 * BLOCK, BLOCK],
      [size - 1, 1],
    ] as const) {
      expect(objects.read(fd, offset, length)).toBe(VERITY_STATUS.DIFFERS);
    }
    truncateSync(path, 0);
    expect(objects.read(fd, 0, 1)).toBe(VERITY_STATUS.DIFFERS);
    expect(objects.read(fd, size, 1)).toHaveLength(0);
    native.closeDescriptor(fd);
  });

  it.each([0, 10, 5000, BLOCK, 512 * KiB])('keeps its %i bytes when some are added', (size) => {
    const content = noise(size, 'grows');
    const path = objects.write('grows', content);
    const fd = objects.open('grows');
    expect(objects.verify(fd, digestOf(content))).toBe(VERIFIED.COMPUTED);
    appendFileSync(path, noise(10_000, 'added'));
    expect(Buffer.compare(objects.read(fd, 0, size + 10_000) as Buffer, content)).toBe(0);
    expect(objects.read(fd, size, 10)).toHaveLength(0);
    native.closeDescriptor(fd);
  });
});

describe('what is remembered', () => {
  const content = noise(20_000, 'remembered');
  const digest = digestOf(content);

  it('holds for the same file under another name', () => {
    const path = objects.write('first-name', content);
    rmSync(objects.path('second-name'), { force: true });
    linkSync(path, objects.path('second-name'));
    expect(objects.verifyName('first-name', digest)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('second-name', digest)).toBe(VERIFIED.REMEMBERED);
  });

  it('does not hold for a copy, nor for another algorithm', () => {
    objects.write('original', content);
    objects.write('copy', content);
    expect(objects.verifyName('original', digest)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('copy', digest)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('copy', digestOf(content, 'sha512'))).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('copy', digest)).toBe(VERIFIED.REMEMBERED);
  });

  it.each([
    ['its mtime', (path: string) => utimesSync(path, 1, 1)],
    [
      'its name, and with it its ctime',
      (path: string) => {
        renameSync(path, `${path}-away`);
        renameSync(`${path}-away`, path);
      },
    ],
    ['nothing but being written to', (path: string) => overwrite(path, 5, content.subarray(5, 6))],
  ])('does not hold after a change of %s', async (_title, change) => {
    const path = objects.write('touched', content);
    expect(objects.verifyName('touched', digest)).toBe(VERIFIED.COMPUTED);
    // Longer than the clock of file times takes to move on any kernel.
    await sleep(20);
    change(path);
    expect(objects.verifyName('touched', digest)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('touched', digest)).toBe(VERIFIED.REMEMBERED);
  });

  it('is gone after forgetObjects, which counts it', () => {
    native.forgetObjects();
    expect(native.forgetObjects()).toBe(0);
    for (const name of ['a', 'b']) {
      objects.write(name, content);
      expect(objects.verifyName(name, digest)).toBe(VERIFIED.COMPUTED);
    }
    expect(objects.verifyName('a', digestOf(content, 'sha512'))).toBe(VERIFIED.COMPUTED);
    expect(native.forgetObjects()).toBe(3);
    expect(objects.verifyName('a', digest)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('a', digest)).toBe(VERIFIED.REMEMBERED);
    expect(native.forgetObjects()).toBe(1);
  });

  it('has a bound: the files used last stay', () => {
    const folder = objects.path('bounded');
    mkdirSync(folder);
    for (const name of ['kept', 'dropped', 'many']) writeFileSync(join(folder, name), 'x');
    const digestOfX = Buffer.from(digestOf(Buffer.from('x'))).toString('hex');
    const results = runInChild<number[]>(
      (addon, { input, require }) => {
        const fs = require('node:fs') as typeof import('node:fs');
        const image = Buffer.from(input.split(' ')[1]!, 'hex');
        const basedir = addon.openBasedir(input.split(' ')[0]!);
        const facts = new BigInt64Array(6);
        const found = new Uint8Array(65);
        const verifier = new addon.ObjectVerifier(image, facts, found, 0, 2 ** 20);
        const names = ['kept', 'dropped', 'many'].map((name) => Buffer.from(name));
        const [kept, dropped, many] = names as [Buffer, Buffer, Buffer];
        const verify = (name: Buffer): number => {
          const fd = addon.openObject(basedir, name, name.length, facts);
          const result = verifier.verify(fd, 1, 0);
          addon.closeDescriptor(fd);
          return result;
        };
        const results = [verify(kept), verify(dropped), verify(dropped)];
        // Another time makes it another file. With 300 bytes each, 64 MiB take 220,000 of them.
        const path = `${input.split(' ')[0]!}/many`;
        const count = 240_000;
        let computed = 0;
        for (let i = 1; i <= count; i++) {
          fs.utimesSync(path, i, i);
          if (verify(many) === 3) computed++;
          if (i % 100_000 === 0) results.push(verify(kept));
        }
        results.push(computed, verify(kept), verify(dropped), verify(many));
        const forgotten = addon.forgetObjects();
        results.push(Number(forgotten > 100_000 && forgotten < count));
        return results;
      },
      { input: `${folder} ${digestOfX}`, timeoutMs: 120_000 },
    );
    expect(results).toEqual([3, 3, 2, 2, 2, 240_000, 2, 3, 2, 1]);
  }, 120_000);
});

describe('an object that changes', () => {
  const content = noise(200_000, 'changes');

  it.each([
    ['gets another mtime', (path: string) => utimesSync(path, 1, 1)],
    ['grows', (path: string) => appendFileSync(path, 'x')],
    ['is cut', (path: string) => truncateSync(path, 5000)],
  ])('between opening and verifying is refused when it %s', async (_title, change) => {
    const path = objects.write('late', content);
    const fd = objects.open('late');
    change(path);
    expect(objects.verify(fd, digestOf(content))).toBe(VERITY_STATUS.CHANGED);
    const facts = objects.facts.slice();
    expect(await native.measureObject(fd, facts, 1, progressWords())).toBe(VERITY_STATUS.CHANGED);
    native.closeDescriptor(fd);
  });

  it.each([
    ['is written to', (path: string) => overwrite(path, 100, Uint8Array.of(1))],
    ['grows', (path: string) => appendFileSync(path, 'x')],
    ['is cut', (path: string) => truncateSync(path, 5000)],
  ])('while it is measured is not remembered when it %s', async (_title, change) => {
    native.forgetObjects();
    const path = sparse('measured', 512 << 20);
    await sleep(20);
    const progress = progressWords();
    const done = measure('measured', 1, progress);
    await untilUnderWay(progress);
    change(path);
    expect(await done).toBe(VERITY_STATUS.CHANGED);
    expect(native.forgetObjects()).toBe(0);
  });

  const shortFile = '/sys/kernel/mm/transparent_hugepage/enabled';
  it.skipIf(!existsSync(shortFile))('is told when it has less content than its size', () => {
    const sys = new GuardedObjects('/sys/kernel/mm/transparent_hugepage');
    expect(sys.verifyName('enabled', new Uint8Array(32))).toBe(VERITY_STATUS.CHANGED);
    sys.close();
  });
});

describe('measuring', () => {
  it('is cancelled before it begins', async () => {
    native.forgetObjects();
    objects.write('cancelled', noise(10 * BLOCK));
    const progress = progressWords();
    progress[1] = 1n;
    expect(await measure('cancelled', 1, progress)).toBe(-Errno.ECANCELED);
    expect(progress[0]).toBe(0n);
    expect(native.forgetObjects()).toBe(0);
  });

  it('is cancelled under way', async () => {
    native.forgetObjects();
    const size = 1024 << 20;
    sparse('cancelled-later', size);
    const progress = progressWords();
    const done = measure('cancelled-later', 1, progress);
    await untilUnderWay(progress);
    Atomics.store(progress, 1, -1n);
    expect(await done).toBe(-Errno.ECANCELED);
    expect(progress[0]).toBeGreaterThan(0n);
    expect(progress[0]).toBeLessThan(BigInt(size));
    expect(native.forgetObjects()).toBe(0);
  });

  it('is -EBADF for what is no object, or no longer one', async () => {
    const attempt = (fd: number): Promise<number> =>
      native.measureObject(fd, objects.facts, 1, progressWords());
    objects.write('closed', noise(10));
    const fd = objects.open('closed');
    native.closeDescriptor(fd);
    expect(await attempt(fd)).toBe(-Errno.EBADF);
    const wake = native.createWake();
    expect(await attempt(wake)).toBe(-Errno.EBADF);
    native.closeDescriptor(wake);
    // Standard input and others of the process are none of the addon's.
    for (const foreign of [0, 1, 2]) expect(await attempt(foreign)).toBe(-Errno.EBADF);
    expect(await attempt(objects.basedir)).toBe(-Errno.EBADF);
  });

  it('takes a descriptor that is guarded already', async () => {
    const content = noise(10);
    objects.write('guarded', content);
    const fd = objects.open('guarded');
    expect(objects.verify(fd, digestOf(content))).toBe(VERIFIED.COMPUTED);
    expect(await native.measureObject(fd, objects.facts, 1, progressWords())).toBe(0);
    native.closeDescriptor(fd);
  });
});

describe('the kernel as the one to vouch', () => {
  it('is demanded by its engine, whatever is remembered and however large the object is', () => {
    const content = noise(10_000, 'kernel');
    const digest = digestOf(content);
    objects.write('kernel', content);
    const kernel = objects.verifier(VERIFY_ENGINE.KERNEL, 0);
    expect(objects.verifyName('kernel', digest, kernel)).toBe(VERIFIED.NO_KERNEL_VERITY);
    const user = objects.verifier(VERIFY_ENGINE.USER_SPACE);
    expect(objects.verifyName('kernel', digest, user)).toBe(VERIFIED.COMPUTED);
    expect(objects.verifyName('kernel', digest, kernel)).toBe(VERIFIED.NO_KERNEL_VERITY);
  });
});

describeWith([needsFuse], 'the guard of a descriptor', () => {
  const content = noise(3 * BLOCK, 'guard');
  const digest = digestOf(content);

  it('stays when everything is forgotten', () => {
    const path = objects.write('stays', content);
    const fd = objects.open('stays');
    expect(objects.verify(fd, digest)).toBe(VERIFIED.COMPUTED);
    native.forgetObjects();
    overwrite(path, 0, noise(BLOCK));
    expect(objects.read(fd, 0, BLOCK)).toBe(VERITY_STATUS.DIFFERS);
    native.closeDescriptor(fd);
  });

  it('forbids a duplicate, which would be read without checks', () => {
    objects.write('single', content);
    const fd = objects.open('single');
    const copy = native.duplicate(fd);
    expect(copy).toBeGreaterThan(fd);
    expect(objects.verify(fd, digest)).toBe(VERIFIED.COMPUTED);
    expect(native.duplicate(fd)).toBe(-Errno.EBADF);
    // The earlier duplicate is an unverified object like any other.
    expect(native.duplicate(copy)).toBeGreaterThan(fd);
    native.closeDescriptor(fd);
    native.closeDescriptor(copy);
  });

  it('hides holes, also those made later, and the end where it is cut off', () => {
    const [SEEK_DATA, SEEK_HOLE] = [3, 4];
    const size = 1 << 20;
    const path = sparse('holes', size);
    overwrite(path, size / 2, noise(10));
    const bytes = Buffer.alloc(size);
    bytes.set(noise(10), size / 2);
    const plain = objects.open('holes');
    const fd = objects.open('holes');
    expect(objects.verify(fd, digestOf(bytes))).toBe(VERIFIED.COMPUTED);
    expect(native.seek(plain, 0, SEEK_DATA)).toBe(size / 2);
    expect(native.seek(plain, 0, SEEK_HOLE)).toBe(0);
    for (const change of [size, size / 2, 0, 2 * size]) {
      truncateSync(path, change);
      for (const offset of [0, 1, size / 2, size - 1]) {
        expect(native.seek(fd, offset, SEEK_DATA)).toBe(offset);
        expect(native.seek(fd, offset, SEEK_HOLE)).toBe(size);
      }
      for (const offset of [-1, size, size + 1, 2 * size - 1, 2 ** 53]) {
        for (const whence of [SEEK_DATA, SEEK_HOLE])
          expect(native.seek(fd, offset, whence)).toBe(-Errno.ENXIO);
      }
    }
    native.closeDescriptor(plain);
    native.closeDescriptor(fd);
    expect(native.seek(fd, 0, SEEK_DATA)).toBe(-Errno.EBADF);
  });

  it('still lets the object be sought in and measured by the kernel', () => {
    objects.write('sought', content);
    const fd = objects.open('sought');
    expect(objects.verify(fd, digest)).toBe(VERIFIED.COMPUTED);
    expect(native.seek(fd, 0, 2)).toBe(content.length);
    expect(native.measureVerity(fd, new Uint8Array(64))).not.toBe(-Errno.EBADF);
    native.closeDescriptor(fd);
  });

  it('ends when the descriptor is closed: the next one of that number has none', () => {
    const path = objects.write('numbered', content);
    const fd = objects.open('numbered');
    expect(objects.verify(fd, digest)).toBe(VERIFIED.COMPUTED);
    expect(native.closeDescriptor(fd)).toBe(0);
    expect(native.closeDescriptor(fd)).toBe(-Errno.EBADF);
    expect(objects.read(fd, 0, 1)).toBe(-Errno.EBADF);
    overwrite(path, 0, Uint8Array.of(content[0]! ^ 1));
    expect(objects.open('numbered')).toBe(fd);
    expect(objects.read(fd, 0, 1)).toEqual(Buffer.of(content[0]! ^ 1));
    const copy = native.duplicate(fd);
    expect(copy).toBeGreaterThan(0);
    native.closeDescriptor(copy);
    native.closeDescriptor(fd);
  });

  it('is replaced with that of another object under the same number', () => {
    objects.write('one', content);
    objects.write('two', noise(5000, 'two'));
    const one = objects.open('one');
    expect(objects.verify(one, digest)).toBe(VERIFIED.COMPUTED);
    native.closeDescriptor(one);
    const two = objects.open('two');
    expect(two).toBe(one);
    expect(objects.verify(two, digestOf(noise(5000, 'two')))).toBe(VERIFIED.COMPUTED);
    expect(objects.read(two, 4000, 2000)).toEqual(noise(5000, 'two').subarray(4000));
    native.closeDescriptor(two);
  });

  it('serves nothing of a descriptor that was verified with the facts of another file', () => {
    objects.write('right', content);
    expect(objects.verifyName('right', digest)).toBe(VERIFIED.COMPUTED);
    const facts = objects.facts.slice();
    objects.write('wrong', noise(3 * BLOCK, 'wrong'));
    const fd = objects.open('wrong');
    objects.facts.set(facts);
    expect(objects.verify(fd, digest)).toBe(VERIFIED.REMEMBERED);
    for (let at = 0; at < 3 * BLOCK; at += BLOCK) {
      expect(objects.read(fd, at, 1)).toBe(VERITY_STATUS.DIFFERS);
    }
    native.closeDescriptor(fd);
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 31, 0, 1, 2])('is not given to %d', (fd) => {
    expect(objects.verify(fd, digest)).toBe(-Errno.EBADF);
  });

  it('is not given to what the addon opened as something else', () => {
    const wake = native.createWake();
    const device = native.openDevice();
    for (const fd of [wake, device, objects.basedir]) {
      expect(objects.verify(fd, digest)).toBe(-Errno.EBADF);
    }
    native.closeDescriptor(wake);
    native.closeDescriptor(device);
  });

  it('is not left behind by an object that is refused', () => {
    objects.write('refused', content);
    const fd = objects.open('refused');
    const other = digestOf(noise(1));
    expect(objects.verify(fd, other)).toBe(VERIFIED.DIFFERS_COMPUTED);
    expect(objects.read(fd, 0, 10)).toEqual(content.subarray(0, 10));
    native.closeDescriptor(fd);
  });
});

describeWith([needsFuse], 'blocks whose digests were dropped from the cache', () => {
  it('are checked with their whole group, and then are known again', () => {
    const size = 600 * KiB;
    const content = noise(size, 'dropped');
    const path = objects.write('dropped-leaves', content);
    const fd = objects.open('dropped-leaves');
    expect(objects.verify(fd, digestOf(content))).toBe(VERIFIED.COMPUTED);
    const flipped = 77 * BLOCK + 5;
    const flip = (): void => overwrite(path, flipped, Uint8Array.of(content[flipped]! ^ 1));
    const restore = (): void => overwrite(path, flipped, content.subarray(flipped, flipped + 1));

    flip();
    expect(objects.read(fd, 0, 10)).toEqual(content.subarray(0, 10));
    restore();
    // 32 MiB of SHA-512 digests, of 2 GiB of content.
    sparse('cache-filler', 32 << 20);
    const verifier = objects.verifier(VERIFY_ENGINE.USER_SPACE);
    for (let i = 0; i < 66; i++) {
      native.forgetObjects();
      const any = new Uint8Array(64);
      expect(objects.verifyName('cache-filler', any, verifier)).toBe(VERIFIED.DIFFERS_COMPUTED);
    }
    flip();
    expect(objects.read(fd, 0, 10)).toBe(VERITY_STATUS.DIFFERS);
    expect(objects.read(fd, flipped, 1)).toBe(VERITY_STATUS.DIFFERS);
    // The other group is whole.
    const last = objects.read(fd, 512 * KiB, BLOCK);
    expect(last).toEqual(content.subarray(512 * KiB, 512 * KiB + BLOCK));
    restore();
    expect(objects.read(fd, flipped, 1)).toEqual(content.subarray(flipped, flipped + 1));
    flip();
    expect(objects.read(fd, 0, 10)).toEqual(content.subarray(0, 10));
    expect(objects.read(fd, flipped, 1)).toBe(VERITY_STATUS.DIFFERS);
    native.closeDescriptor(fd);
  }, 60_000);
});

describeWith([needsFuse], 'many threads', () => {
  it('verify, measure, forget and read the same objects at once', () => {
    const folder = objects.path('threads');
    mkdirSync(folder);
    const sizes = [0, 1, 5000, 100_000, 600_000, 1_100_000];
    const list = sizes.map((size, i) => {
      const content = noise(size, 'threads');
      writeFileSync(join(folder, `object-${i}`), content);
      return { size, digest: Buffer.from(digestOf(content)).toString('hex') };
    });
    const outcome = runInChild<{ errors: string[]; reads: number; counts: number[] }>(
      async (_native, { addonPath, input, require }) => {
        const { Worker } = require('node:worker_threads') as typeof import('node:worker_threads');
        const code = `
          const { parentPort, workerData } = require('node:worker_threads');
          const fs = require('node:fs');
          const native = require(workerData.addonPath);
          const { folder, list } = JSON.parse(workerData.input);
          const image = Buffer.from(list.map(({ digest }) => digest).join(''), 'hex');
          const contents = list.map((_, i) => fs.readFileSync(folder + '/object-' + i));
          const basedir = native.openBasedir(folder);
          const facts = new BigInt64Array(6);
          const reply = new Uint8Array(2 << 20);
          const session = new native.Session(
            native.openDevice(), new Uint8Array(8192), reply, native.createWake());
          const verifier = new native.ObjectVerifier(image, facts, new Uint8Array(65), 2, 1 << 30);
          const errors = [];
          const counts = [0, 0];
          let reads = 0;
          const measured = [];
          for (let round = 0; round < 60; round++) {
            for (let n = 0; n < list.length; n++) {
              const i = (n + round + workerData.index) % list.length;
              const name = Buffer.from('object-' + i);
              const fd = native.openObject(basedir, name, name.length, facts);
              if (round % 10 === 3) {
                const words = new BigInt64Array(new SharedArrayBuffer(16));
                measured.push(native.measureObject(fd, facts, 1, words));
              }
              const result = verifier.verify(fd, 1, i * 32);
              if (result === 2 || result === 3) counts[result - 2]++;
              else errors.push('verify ' + i + ': ' + result);
              for (let k = 0; k < 4; k++) {
                const offset = Math.floor(Math.random() * list[i].size);
                const length = Math.floor(Math.random() * 300_000);
                const wanted = contents[i].subarray(offset, offset + length);
                const count = session.readObject(fd, offset, length, 0);
                reads++;
                if (count !== wanted.length || wanted.compare(reply, 0, count) !== 0) {
                  errors.push('read ' + i + ' at ' + offset + ': ' + count);
                }
              }
              native.closeDescriptor(fd);
            }
            if (round % 7 === workerData.index) native.forgetObjects();
          }
          Promise.all(measured).then((statuses) => {
            for (const status of statuses) if (status !== 0) errors.push('measure: ' + status);
            session.close();
            parentPort.postMessage({ errors, reads, counts });
          });`;
        const run = (
          index: number,
        ): Promise<{ errors: string[]; reads: number; counts: number[] }> =>
          new Promise((resolve, reject) => {
            const worker = new Worker(code, {
              eval: true,
              workerData: { addonPath, input, index },
            });
            worker.once('message', resolve);
            worker.once('error', reject);
          });
        const all = await Promise.all([0, 1, 2, 3].map(run));
        return {
          errors: all.flatMap(({ errors }) => errors).slice(0, 10),
          reads: all.reduce((sum, { reads }) => sum + reads, 0),
          counts: [0, 1].map((i) => all.reduce((sum, { counts }) => sum + counts[i]!, 0)),
        };
      },
      { input: JSON.stringify({ folder, list }) },
    );
    expect(outcome.errors).toEqual([]);
    expect(outcome.reads).toBe(4 * 60 * sizes.length * 4);
    // Each thread forgets 8 or 9 times: there is much of both.
    expect(outcome.counts[0]).toBeGreaterThan(100);
    expect(outcome.counts[1]).toBeGreaterThan(sizes.length);
  });
});

describe('facts', () => {
  it('are those that verification compares: words beyond them are not looked at', () => {
    const content = noise(10, 'facts');
    objects.write('facts', content);
    const facts = new BigInt64Array(OBJECT_FACTS.WORDS + 3).fill(-1n);
    const image = digestOf(content);
    const found = new Uint8Array(FOUND_DIGEST.SIZE + 5).fill(9);
    const verifier = new native.ObjectVerifier(image, facts, found, VERIFY_ENGINE.ANY, 10);
    const name = Buffer.from('facts');
    const fd = native.openObject(objects.basedir, name, name.length, facts);
    expect(verifier.verify(fd, 1, 0)).toBe(VERIFIED.COMPUTED);
    expect([...facts.subarray(OBJECT_FACTS.WORDS)]).toEqual([-1n, -1n, -1n]);
    expect([...found.subarray(FOUND_DIGEST.SIZE)]).toEqual([9, 9, 9, 9, 9]);
    native.closeDescriptor(fd);
  });
});
