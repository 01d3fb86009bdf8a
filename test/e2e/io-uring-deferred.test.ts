// Requests over io_uring that have to wait for an object to be hashed keep a slot of their CPU's queue
// meanwhile; and every way in which a mount can end while they do.

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { exitOf, mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { type Dialogue, talkTo } from '../support/dialogue.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, external, file, type TestNode } from '../support/image-nodes.ts';
import { detach, mountAt, mountTable, type OurMount } from '../support/mounts.ts';
import { ObjectFolder, patternBytes, zerosDigest } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { storeKinds } from '../support/stores.ts';
import { mountOverRing, needsUring } from '../support/uring.ts';

const MIB = 1024 * 1024;
const LARGE = 256 * MIB;
/** Would be hashed for a minute. */
const ENDLESS = 128 * 1024 * MIB;
const SMALL_FILES = 100;
/** More than a queue has slots. */
const MANY = 40;
/** ECANCELED is what the kernel says of a request that it was about to put into the ring of a dying process. */
const GONE = ['ECONNABORTED', 'ENOTCONN', 'EIO', 'EINTR', 'ECANCELED'];

const needsTwoCpus = { what: 'two CPUs', isMet: () => availableParallelism() >= 2 };

describeWith([...needsOurMount, needsUring, needsTwoCpus], 'over io_uring', () => {
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
      hello: file('hello\n'),
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
    mountOverRing(scope, { image, basedirs, args: ['--verify-engine', 'user', ...args] });
  const support = (name: string): string => join(import.meta.dirname, '../support', name);
  const run = (cpu: number, ...args: string[]): Dialogue =>
    talkTo(scope, 'taskset', ['-c', String(cpu), python, '-I', support('waiter.py'), ...args]);

  /** Waits until the daemon has worked for a tenth of a second: by then it knows of the openers. */
  async function isHashing({ pid }: OurMount): Promise<void> {
    const ticks = (): number => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
      return Number(fields[11]) + Number(fields[12]);
    };
    const before = ticks();
    await waitUntil('an object is being hashed', () => ticks() > before + 10);
  }

  async function openers(mount: OurMount, cpu: number, name: string): Promise<Dialogue> {
    const path = join(mount.mountpoint, name);
    const opening = talkTo(scope, python, [
      '-I',
      support('openers.py'),
      String(MANY),
      String(cpu),
      path,
    ]);
    expect(await opening.hear()).toBe('begin');
    return opening;
  }

  async function told(opening: Dialogue): Promise<Record<string, number>> {
    return JSON.parse(await opening.hear(60_000)) as Record<string, number>;
  }

  const catOn = (mount: OurMount, cpu: number, name: string): ReturnType<typeof runCommand> =>
    runCommand('taskset', ['-c', String(cpu), 'cat', join(mount.mountpoint, name)]);

  describe.each([0, 1])('a large object, opened on CPU %i', (cpu) => {
    test.each(['1', '2'])('delays nobody else on that CPU with %s threads', async (threads) => {
      const mount = await mountWith('--threads', threads);
      const looking = run(cpu, 'others', mount.mountpoint, 'endless');
      const found = JSON.parse(await looking.hear()) as unknown;
      console.log('while a large object is verified:', found);
      expect(found).toMatchObject({ count: 2 * SMALL_FILES, waits: true });
      expect((found as { longestMs: number }).longestMs).toBeLessThan(1000);
      expect(await mount.unmount()).toBe(0);
    });

    test('is served to all who opened it at once, more than there are slots', async () => {
      const mount = await mountWith();
      expect(await told(await openers(mount, cpu, 'large'))).toEqual({ ok: MANY });
      expect((await catOn(mount, cpu, 'hello')).stdout).toBe('hello\n');
      expect(await mount.unmount()).toBe(0);
    });

    test('lets go of all who are killed, more than there are slots', async () => {
      const mount = await mountWith();
      const opening = await openers(mount, cpu, 'endless');
      await isHashing(mount);
      // On the other CPU nobody notices.
      expect((await catOn(mount, 1 - cpu, 'small 1')).code).toBe(0);
      opening.say('kill');
      expect(await told(opening)).toEqual({ killed: MANY });
      expect((await catOn(mount, cpu, 'hello')).stdout).toBe('hello\n');
      expect(await mount.unmount()).toBe(0);
      expect(eventsOf(mount).filter(({ level }) => Number(level) >= 50)).toEqual([]);
    });

    test('lets go of one that is interrupted', async () => {
      const mount = await mountWith();
      const reader = run(cpu, 'open', join(mount.mountpoint, 'endless'));
      expect(await reader.hear()).toBe('begin');
      await isHashing(mount);
      reader.kill('SIGINT');
      expect(await reader.hear(2000)).toBe('EINTR');
      expect(await mount.unmount()).toBe(0);
    });

    describe('with all slots of the CPU waiting, ends with the mount', () => {
      let mount: OurMount;
      let opening: Dialogue;
      beforeEach(async () => {
        mount = await mountWith();
        opening = await openers(mount, cpu, 'endless');
        await isHashing(mount);
      });

      const expectFailures = async (): Promise<void> => {
        const outcome = await told(opening);
        const count = Object.values(outcome).reduce((sum, part) => sum + part, 0);
        expect(count).toBe(MANY);
        expect(GONE).toEqual(expect.arrayContaining(Object.keys(outcome)));
      };

      test('on two SIGTERMs', async () => {
        process.kill(mount.pid, 'SIGTERM');
        await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
        process.kill(mount.pid, 'SIGTERM');
        expect(await within('its end', 3000, mount.ended)).toBe(0);
        await expectFailures();
      });

      test('when its connection is aborted', async () => {
        const connections = '/sys/fs/fuse/connections';
        if (!mountTable().some((entry) => entry.mountpoint === connections)) {
          scope.defer(() => detach(connections));
          await mustRun('mount', ['-t', 'fusectl', 'none', connections]);
        }
        const minor = await mustRun('stat', ['-c', '%d', mount.mountpoint]);
        const number = Number(minor.stdout);
        const own = `${connections}/${(number & 0xff) | ((number >> 12) & 0xfff00)}`;
        expect(statSync(own).isDirectory()).toBe(true);
        writeFileSync(`${own}/abort`, '1');
        expect(await within('its end', 3000, mount.ended)).toBe(0);
        await expectFailures();
        expect(mountAt(mount.mountpoint)).toBeUndefined();
      });

      test('on umount -f', async () => {
        await runCommand('umount', ['-f', mount.mountpoint]);
        await expectFailures();
        await detach(mount.mountpoint);
        expect(await within('its end', 3000, mount.ended)).toBe(0);
      });

      test('with SIGKILL of the daemon', async () => {
        process.kill(mount.pid, 'SIGKILL');
        await within('its end', 3000, mount.ended);
        await expectFailures();
      });
    });
  });

  test('SIGKILL of the daemon fails those who read', async () => {
    const mount = await mountWith();
    const script = `
import errno, os, sys
sys.stdout.write("reading\\n"); sys.stdout.flush()
try:
    while True:
        for i in range(${SMALL_FILES}):
            fd = os.open(f"{sys.argv[1]}/small {i}", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.read(fd, 10000)
            os.close(fd)
except OSError as error:
    print(errno.errorcode[error.errno])`;
    const readers = Array.from({ length: 8 }, (_, i) =>
      talkTo(scope, 'taskset', ['-c', String(i % 2), python, '-c', script, mount.mountpoint]),
    );
    for (const reader of readers) expect(await reader.hear()).toBe('reading');
    await delay(300);
    process.kill(mount.pid, 'SIGKILL');
    for (const reader of readers) {
      expect(await reader.hear(10_000)).toMatch(/^E(CONNABORTED|NOTCONN|IO|CANCELED)$/);
      await within('the end of a reader', 5000, reader.ended);
    }
    await mustRun('umount', ['-l', mount.mountpoint]);
  });

  test('files are served after umount -l until the last is closed', async () => {
    const mount = await mountWith();
    const script = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for line in sys.stdin:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    print(len(os.pread(fd, 4096, 0)), flush=True)`;
    const reader = talkTo(scope, python, ['-c', script, join(mount.mountpoint, 'small 1')]);
    expect(await reader.ask('read')).toBe('4096');
    await mustRun('umount', ['-l', mount.mountpoint]);
    expect(await reader.ask('read')).toBe('4096');
    reader.kill();
    expect(await within('its end', 10_000, mount.ended)).toBe(0);
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s unmounts and ends it', async (signal) => {
    const mount = await mountWith();
    expect((await catOn(mount, 1, 'hello')).stdout).toBe('hello\n');
    process.kill(mount.pid, signal);
    expect(await within('its end', 10_000, mount.ended)).toBe(0);
    expect(mountAt(mount.mountpoint)).toBeUndefined();
    expect(eventsOf(mount).filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });

  test('it can be mounted, used and unmounted many times', async () => {
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    for (let i = 0; i < 5; i++) {
      const mount = await mountOverRing(scope, { image, basedirs, mountpoint });
      const user = spawn('ls', ['-lR', mountpoint], { stdio: 'ignore' });
      expect(await within('ls', 10_000, exitOf(user))).toBe(0);
      expect(await mount.unmount()).toBe(0);
    }
  });
});
