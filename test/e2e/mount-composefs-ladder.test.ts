// The ladder of mount.composefs: who gets which rung on this machine, as docs/mounting.md says; the ways
// in which older kernels make the first rung; and that killing it leaves nothing behind.

import { spawn } from 'node:child_process';
import { chownSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { exitOf, mustRun, waitUntil } from '../support/command.ts';
import { ladderTable, tryLadder } from '../support/ladder.mjs';
import {
  mountComposefs,
  mountpointIn,
  optionsFor,
  verifiableImage,
} from '../support/mount-composefs.ts';
import { detach, mountAt, type MountEntry, mountTable } from '../support/mounts.ts';
import { runInChild } from '../support/native-child.ts';
import {
  asNobody,
  describeWith,
  needsDataLayers,
  needsFusermount,
  needsKernelComposefs,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsPassthrough,
  needsUserDataLayers,
  needsUserNamespaces,
} from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const document = join(import.meta.dirname, '../../docs/mounting.md');
/** As the table is written, without the padding. */
const unpadded = (text: string): string => text.replaceAll(/ +/g, ' ');

describeWith(
  [
    ...needsOurMount,
    needsUserDataLayers,
    needsPassthrough,
    needsKernelComposefs,
    needsNobody,
    needsFusermount,
    needsOpenFuse,
    needsUserNamespaces,
  ],
  'the ladder of mount.composefs, with objects without fs-verity',
  () => {
    const scope = scopeOfEachTest();

    test('gives everybody the best rung, as docs/mounting.md has it', async () => {
      const sample = verifiableImage(scope);
      const mountpoint = mountpointIn(scope);
      chownSync(mountpoint, 65534, 65534);
      const info = join(mountComposefs, '../composefs-info.js');
      const measured = await mustRun('node', [info, 'measure-file', sample.image]);
      const rows = await tryLadder(
        [mountComposefs],
        {
          image: sample.image,
          basedir: sample.objects.path,
          mountpoint,
          digest: measured.stdout.trim(),
        },
        [
          { title: 'root', as: [] },
          {
            title: 'root of a user namespace',
            as: [...asNobody, 'unshare', '--user', '--map-root-user', '--mount'],
          },
          { title: 'an ordinary user', as: asNobody },
        ],
      );
      expect(rows).toHaveLength(12);
      console.log(ladderTable(rows));
      const documented = unpadded(readFileSync(document, 'utf8'));
      for (const line of ladderTable(rows).split('\n')) expect(documented).toContain(line);
      // Every row that is not the first rung says why.
      for (const { rung, refused } of rows) {
        if (rung !== 'kernel') expect(Object.keys(refused)).toContain('kernel');
      }
      const reasons = rows.map(({ refused }) => refused['kernel'] ?? '');
      expect(reasons[1]).toMatch(/^verity: object \S+ has no fs-verity/);
      expect(reasons[3]).toMatch(/^digest: the image has no fs-verity/);
      expect(reasons[4]).toBe('erofs cannot be mounted in a user namespace');
      expect(reasons[8]).toBe('it takes root (CAP_SYS_ADMIN)');
    });
  },
);

describeWith(
  [...needsOurMount, needsDataLayers, needsKernelComposefs],
  "the kernel's rung of mount.composefs",
  () => {
    const scope = scopeOfEachTest();
    let sample: ReturnType<typeof verifiableImage>;
    let mountpoint: string;
    beforeEach(() => {
      sample = verifiableImage(scope);
      mountpoint = mountpointIn(scope);
    });

    const loopDevices = async (): Promise<string> =>
      (await mustRun('losetup', ['-n', '-j', sample.image])).stdout;

    /** Of KERNEL_WAYS of src/native.ts; what kernels before 6.12 and before 6.15 are left with. */
    const ways: [string, number, string][] = [
      ['from a loop device, layers mounted nowhere', 2 + 4, 'loop'],
      ['from the file, layers in a namespace', 1 + 8, 'file'],
      ['from a loop device, layers in a namespace', 2 + 8, 'loop'],
    ];
    for (const [title, bits, from] of ways) {
      test(`works ${title}, and umount leaves nothing`, async () => {
        const input = JSON.stringify({ ...sample, base: sample.objects.path, mountpoint, bits });
        const outcome = runInChild<{ errno: number; step: string }>(
          (native, tools) => {
            const plan = JSON.parse(tools.input);
            const { openSync } = tools.require('node:fs') as typeof import('node:fs');
            const pack = (list: string[]): Uint8Array =>
              Buffer.from(list.map((text) => `${text}\0`).join(''));
            const options = ['source=x', 'ro', 'metacopy=on', 'redirect_dir=on'];
            return native.mountKernel(
              openSync(plan.image, 'r'),
              plan.mountpoint,
              pack(['noacl']),
              pack(options),
              pack([plan.base]),
              pack([]),
              -1,
              1,
              plan.bits,
            ) as Promise<{ errno: number; step: string }>;
          },
          { input },
        );
        expect(outcome).toMatchObject({ errno: 0, step: from });
        await mustRun('cmp', [join(mountpoint, 'big'), sample.object]);
        expect((await loopDevices()) !== '').toBe(from === 'loop');
        await mustRun('umount', [mountpoint]);
        await waitUntil('the loop device is free', async () => (await loopDevices()) === '');
        expect(mountAt(mountpoint)).toBeUndefined();
      });
    }

    /** Processes that name the image in their command line. */
    function usersOfImage(): number[] {
      return readdirSync('/proc')
        .map(Number)
        .filter((pid) => {
          try {
            return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(sample.image);
          } catch {
            return false; // Gone meanwhile.
          }
        });
    }

    /** Whether a mount has to do with this test's image. */
    const isOurs = (entry: MountEntry): boolean =>
      [entry.source, entry.mountpoint, ...entry.superOptions].some((text) =>
        [sample.image, sample.objects.path, mountpoint].some((path) => text.includes(path)),
      );

    for (const backend of ['kernel', 'overlay', 'fuse']) {
      test(`leaves a mount or nothing when it is killed at any time, by ${backend}`, async () => {
        const folder = join(mountpoint, '..');
        const before = readdirSync(folder);
        const temporary = scope.directory();
        const ends = { mounted: 0, nothing: 0 };
        for (let ms = 10; ms <= 220; ms += 15) {
          const args = [...optionsFor(sample, `backend=${backend}`), sample.image, mountpoint];
          const child = spawn(mountComposefs, args, {
            stdio: 'ignore',
            env: { ...process.env, TMPDIR: temporary },
          });
          await delay(ms);
          child.kill('SIGKILL');
          await exitOf(child);
          // A daemon that was being started sees that nobody waits for it.
          await waitUntil('it is over', () => {
            const isMounted = mountAt(mountpoint) !== undefined;
            return isMounted || usersOfImage().length === 0;
          });
          await delay(20);
          if (mountAt(mountpoint) === undefined) ends.nothing++;
          else ends.mounted++;
          await detach(mountpoint);
          await waitUntil('all processes are gone', () => usersOfImage().length === 0);
          expect(mountTable().filter(isOurs)).toEqual([]);
          expect(await loopDevices()).toBe('');
        }
        // Otherwise it was not killed at the times that matter.
        expect(ends.nothing).toBeGreaterThan(0);
        expect(ends.mounted).toBeGreaterThan(0);
        expect(readdirSync(folder)).toEqual(before);
        expect(readdirSync(temporary)).toEqual([]);
      });
    }
  },
);
