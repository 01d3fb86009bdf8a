// Large objects, which take seconds to verify: nobody but their own readers waits for them, and those
// only as long as they want to.

import { join } from 'node:path';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { mustRun, python, waitUntil, within } from '../support/command.ts';
import { countsOf, eventsOf, refusalsOf } from '../support/daemon-log.ts';
import { type Dialogue, talkTo } from '../support/dialogue.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, external, type TestNode } from '../support/image-nodes.ts';
import { mountAt, mountOurs, type OurMount } from '../support/mounts.ts';
import { ObjectFolder, patternBytes, zerosDigest } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { storeKinds } from '../support/stores.ts';

const MIB = 1024 * 1024;
/** Hashed in less than a second or two. */
const LARGE = 512 * MIB;
/** Would be hashed for a minute. */
const ENDLESS = 128 * 1024 * MIB;
const SMALL_FILES = 200;
/** User and system time of a process, of which a second has 100. */
const TICKS = { utime: 11, stime: 12 };

describeWith(needsOurMount, 'a large object that is being verified', () => {
  const scope = scopeOfEachTest();
  let image: string;
  let basedirs: string[];

  beforeEach(async () => {
    // Reading the holes of a file takes no memory on tmpfs.
    const store = await storeKinds.find(({ name }) => name === 'tmpfs')!.make(scope);
    const objects = new ObjectFolder(join(store, 'objects'));
    const sparse = (path: string, size: number): TestNode => {
      objects.addSparse(path, size, []);
      return external(size, { redirect: `/${path}`, digest: zerosDigest(size) });
    };
    const children: Record<string, TestNode> = {
      large: sparse('large', LARGE),
      endless: sparse('endless', ENDLESS),
    };
    for (let i = 0; i < SMALL_FILES; i++) {
      children[`small ${i}`] = objects.add(patternBytes(10_000, i));
      children[`sub ${i}`] = directory({ file: objects.add(patternBytes(100, i)) });
    }
    image = join(scope.directory(), 'image.cfs');
    writeFileSync(image, buildImage(directory(children)));
    basedirs = [objects.path];
  });

  const mountWith = (...args: string[]): Promise<OurMount> =>
    mountOurs(scope, { image, basedirs, args: ['--verify-engine', 'user', ...args] });
  const run = (...args: string[]): Dialogue =>
    talkTo(scope, python, ['-I', join(import.meta.dirname, '../support/waiter.py'), ...args]);

  /** CPU time of the daemon in hundredths of a second. */
  function ticksOf({ pid }: OurMount): number {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[TICKS.utime]) + Number(fields[TICKS.stime]);
  }

  const isHashing = (mount: OurMount): Promise<void> => {
    const before = ticksOf(mount);
    return waitUntil('the object is being hashed', () => ticksOf(mount) > before + 10);
  };

  /** A reader that has been waiting long enough for the object to be hashed meanwhile. */
  async function waiter(mount: OurMount, what: 'open' | 'read' = 'open'): Promise<Dialogue> {
    const reader = run(what, join(mount.mountpoint, 'endless'));
    expect(await reader.hear()).toBe('begin');
    await isHashing(mount);
    return reader;
  }

  /** Control-C. */
  async function interrupt(reader: Dialogue): Promise<void> {
    reader.kill('SIGINT');
    expect(await reader.hear(2000)).toBe('EINTR');
    await reader.ended;
  }

  const isIdle = async (mount: OurMount): Promise<boolean> => {
    const before = ticksOf(mount);
    await delay(200);
    return ticksOf(mount) - before <= 4;
  };

  const expectServing = async ({ mountpoint }: OurMount): Promise<void> => {
    await mustRun('cat', [join(mountpoint, 'small 1')]);
  };

  test('does not delay anybody else, even with one thread', async () => {
    const mount = await mountWith('--threads', '1');
    const found = JSON.parse(await run('others', mount.mountpoint, 'endless').hear()) as unknown;
    console.log('while a large object is verified:', found);
    expect(found).toMatchObject({ count: 2 * SMALL_FILES, waits: true });
    const { longestMs } = found as { longestMs: number };
    expect(longestMs).toBeLessThan(1000);
  });

  test.each(['open', 'read'] as const)(
    'is hashed once for all who %s it at the same time',
    async (what) => {
      const mount = await mountWith('--verify-at', what);
      const path = join(mount.mountpoint, 'large');
      const readers = Array.from({ length: 8 }, () => run(what, path));
      for (const reader of readers) {
        expect(await reader.hear()).toBe('begin');
        expect(await reader.hear()).toBe('ok');
        await reader.ended;
      }
      expect(await countsOf(mount)).toMatchObject({ computed: 1, refusedObjects: 0 });
      const { stdout } = await mustRun('head', ['-c', '100000', path]);
      expect(stdout).toBe('\0'.repeat(100_000));
      expect(await countsOf(mount)).toMatchObject({ computed: 1, refusedObjects: 0 });
      expect(await mount.unmount()).toBe(0);
      expect(refusalsOf(mount)).toEqual([]);
    },
  );

  test('lets go of a reader that is interrupted, and is not hashed any longer', async () => {
    const mount = await mountWith();
    const first = await waiter(mount);
    const second = await waiter(mount);
    await interrupt(first);
    await isHashing(mount);
    await interrupt(second);
    await waitUntil('nothing is hashed', () => isIdle(mount));
    await expectServing(mount);
    expect(await mount.unmount()).toBe(0);
    expect(eventsOf(mount).filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });

  test('lets go of a reader that is killed in open(2), and is not hashed any longer', async () => {
    const mount = await mountWith();
    const reader = await waiter(mount);
    reader.kill();
    await within('its end', 2000, reader.ended);
    await waitUntil('nothing is hashed', () => isIdle(mount));
    await expectServing(mount);
    expect(await mount.unmount()).toBe(0);
  });

  // The kernel reads ahead, and nothing interrupts what it reads ahead.
  test('lets go of a reader that is killed in read(2), and is hashed on', async () => {
    const mount = await mountWith('--verify-at', 'read');
    const reader = await waiter(mount, 'read');
    reader.kill();
    await within('its end', 2000, reader.ended);
    await isHashing(mount);
    await expectServing(mount);
    expect(await mount.unmount()).toBe(0);
  });

  test('can be waited for again after everybody had given up', async () => {
    const mount = await mountWith();
    for (let round = 0; round < 3; round++) {
      await interrupt(await waiter(mount));
    }
    expect(await mount.unmount()).toBe(0);
  });

  describe('ends with the mount', () => {
    test('on SIGTERM', async () => {
      const mount = await mountWith('--verify-at', 'read');
      const reader = await waiter(mount, 'read');
      process.kill(mount.pid, 'SIGTERM');
      await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
      expect(await within('its end', 8000, mount.ended)).toBe(0);
      expect(await reader.hear(2000)).toMatch(/^(ECONNABORTED|ENOTCONN|EIO|EINTR)$/);
      // Open files are served for five seconds more, after which the work is also reported.
      const report = eventsOf(mount).find(({ msg }) => String(msg).startsWith('verifying'));
      expect(report).toMatchObject({ objectPath: 'endless', sizeBytes: ENDLESS });
      expect(report!['doneBytes']).toBeGreaterThan(0);
    });

    test('on a second SIGTERM at once', async () => {
      const mount = await mountWith();
      const reader = await waiter(mount);
      process.kill(mount.pid, 'SIGTERM');
      await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
      process.kill(mount.pid, 'SIGTERM');
      await within('its end', 2000, mount.ended);
      expect(await reader.hear(2000)).toMatch(/^(ECONNABORTED|ENOTCONN|EIO|EINTR)$/);
    });

    test('after a lazy unmount, when its reader has given up', async () => {
      const mount = await mountWith();
      const reader = await waiter(mount);
      await mustRun('umount', ['-l', mount.mountpoint]);
      await isHashing(mount);
      reader.kill();
      expect(await within('its end', 3000, mount.ended)).toBe(0);
    });
  });
});
