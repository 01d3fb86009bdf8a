// mount.composefs: every rung of its ladder for real, what each one guarantees, and what is refused.

import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { mustRun, runCommand } from '../support/command.ts';
import { compareTrees, showDifferences } from '../support/compare-trees.ts';
import {
  mountComposefs,
  mountpointIn,
  optionsFor,
  runHelper,
  verifiableImage,
} from '../support/mount-composefs.ts';
import { mountAt, mountKernel, mountTable } from '../support/mounts.ts';
import {
  describeWith,
  needsDataLayers,
  needsKernelComposefs,
  needsOurMount,
  needsPassthrough,
} from '../support/requirements.ts';
import { makeImage } from '../support/sample-image.ts';
import { everyKind } from '../support/sample-trees.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { mutate, mutationOf } from '../support/mutations.ts';

const types = {
  kernel: 'overlay',
  overlay: 'overlay',
  passthrough: 'fuse.composefs',
  fuse: 'fuse.composefs',
};
const backends = Object.keys(types) as (keyof typeof types)[];
const wrongDigest = `digest=${'0'.repeat(64)}`;

describeWith(
  [...needsOurMount, needsDataLayers, needsPassthrough, needsKernelComposefs],
  'mount.composefs',
  () => {
    const scope = scopeOfEachTest();
    let sample: ReturnType<typeof verifiableImage>;
    let mountpoint: string;
    beforeEach(() => {
      sample = verifiableImage(scope);
      mountpoint = mountpointIn(scope);
    });

    const mount = (...words: string[]): ReturnType<typeof runHelper> =>
      runHelper([...optionsFor(sample, ...words), sample.image, mountpoint]);
    const mountVerbosely = (...words: string[]): ReturnType<typeof runHelper> =>
      runHelper(['-v', ...optionsFor(sample, ...words), sample.image, mountpoint]);
    async function reads(): Promise<void> {
      expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
      await mustRun('cmp', [join(mountpoint, 'big'), sample.object]);
    }
    async function digestOf(image: string): Promise<string> {
      const info = join(mountComposefs, '../composefs-info.js');
      return (await mustRun('node', [info, 'measure-file', image])).stdout.trim();
    }

    for (const backend of backends) {
      test(`mounts by ${backend} alone, and one umount ends it`, async () => {
        const outcome = await mount(`backend=${backend}`);
        expect(outcome).toMatchObject({ code: 0, stdout: '', stderr: '' });
        const entries = mountTable().filter((entry) => entry.mountpoint === mountpoint);
        expect(entries).toHaveLength(1);
        expect(entries[0]).toMatchObject({ source: sample.image, type: types[backend] });
        expect(entries[0]?.options).toContain('ro');
        // As mount(8), not as FUSE.
        expect(entries[0]?.options).not.toContain('nosuid');
        await reads();
        await mustRun('umount', [mountpoint]);
        expect(mountAt(mountpoint)).toBeUndefined();
      });

      test(`shows by ${backend} what the kernel shows`, async () => {
        const made = makeImage(scope, everyKind);
        const kernel = await mountKernel(scope, made.image, made.basedirs);
        const args = [...optionsFor(made, `backend=${backend}`), made.image, mountpoint];
        expect(await runHelper(args)).toMatchObject({ code: 0 });
        const comparison = await compareTrees(kernel, mountpoint);
        expect(showDifferences(comparison.differences)).toBe('');
        expect(comparison.entries).toBeGreaterThan(1000);
      });

      test(`passes flags on to ${backend}, and covers what is mounted there`, async () => {
        expect(await mount('backend=fuse')).toMatchObject({ code: 0 });
        const outcome = await mount(`backend=${backend}`, 'nosuid,nodev,noexec,fsname=upper one');
        expect(outcome).toMatchObject({ code: 0, stderr: '' });
        const entry = mountAt(mountpoint);
        expect(entry).toMatchObject({ source: 'upper one', type: types[backend] });
        expect(entry?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec']));
        await reads();
        await mustRun('umount', [mountpoint]);
        expect(mountAt(mountpoint)?.source).toBe(sample.image);
      });
    }

    test('takes the kernel by itself, and says so with -v', async () => {
      const outcome = await mountVerbosely();
      expect(outcome.code).toBe(0);
      expect(outcome.stderr).toBe(
        `mount.composefs: ${sample.image} is mounted on ${mountpoint} by kernel ` +
          '(overlayfs over erofs from the image file; nothing is verified)\n',
      );
    });

    test('takes FUSE for objects without fs-verity that are to be verified', async () => {
      for (const wish of ['verity', 'tryverity', `digest=${await digestOf(sample.image)}`]) {
        const outcome = await mountVerbosely(wish);
        expect(outcome.code).toBe(0);
        const lines = outcome.stderr.trimEnd().split('\n');
        expect(lines).toHaveLength(3);
        expect(lines[0]).toMatch(/not by kernel: (?:verity: object \S+|digest: the image) has no/);
        expect(lines[1]).toMatch(/not by overlay: verity: object \S+ has no fs-verity/);
        expect(lines[2]).toMatch(/ by passthrough \(FUSE.*verified\)$/);
        await reads();
        await mustRun('umount', [mountpoint]);
      }
    });

    test('lets no wrong object be read with verity', async () => {
      expect(await mount('verity')).toMatchObject({ code: 0 });
      const object = sample.object;
      const bytes = readFileSync(object);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(object, bytes);
      const outcome = await runCommand('cat', [join(mountpoint, 'big')]);
      expect(outcome.stderr).toMatch(/Input\/output error/);
    });

    test('refuses a rung that is forced and cannot give what is asked for', async () => {
      const digest = `digest=${await digestOf(sample.image)}`;
      const refusals: [string, RegExp][] = [
        ['backend=kernel,verity', /kernel: verity: object \S+ has no fs-verity/],
        ['backend=overlay,verity', /overlay: verity: object \S+ has no fs-verity/],
        ['backend=overlay,tryverity', /overlay: verity: object \S+ has no fs-verity/],
        [`backend=kernel,${digest}`, /kernel: digest: the image has no fs-verity/],
        ['backend=kernel,noallow_other', /kernel: mount option noallow_other asks for FUSE/],
        ['backend=kernel,nfs_export', /kernel: mount option nfs_export asks for FUSE/],
        ['backend=overlay,verify_at=read', /overlay: mount option verify_at=read/],
        ['backend=passthrough,verify_at=read', /passthrough: verify_at=read/],
        ['backend=fuse,idmap=/proc/self/ns/user', /fuse: idmap: only the kernel maps owners/],
      ];
      for (const [words, says] of refusals) {
        const { code, stderr } = await mount(words);
        expect(stderr).toMatch(/^mount\.composefs: [^\n]*\n$/);
        expect(stderr).toMatch(says);
        expect(code).toBe(32);
        expect(mountAt(mountpoint)).toBeUndefined();
      }
    });

    test('verifies nothing by the kernel at last where tryverity allows no more', async () => {
      const outcome = await mountVerbosely('tryverity', 'backend=kernel');
      expect(outcome.code).toBe(0);
      expect(outcome.stderr).toMatch(
        /not by kernel: verity.*\n.* by kernel \(.*nothing is verified/,
      );
    });

    test('mounts no image with another digest', async () => {
      const { code, stderr } = await mount(wrongDigest);
      expect(stderr).toMatch(/^mount\.composefs: image \S+ has the fs-verity digest sha256:.*\n$/);
      expect(code).toBe(32);
      expect(
        await runHelper(['-f', ...optionsFor(sample, wrongDigest), sample.image, mountpoint]),
      ).toMatchObject({ code: 32 });
    });

    test.for(['kernel', 'overlay', 'passthrough', 'fuse'])(
      'has a writable layer by %s',
      async (rung) => {
        const [upper, work] = [join(scope.directory(), 'up,per'), join(scope.directory(), 'work')];
        mkdirSync(upper);
        // Both on one filesystem, and beside each other is not asked for.
        mkdirSync(work);
        const escaped = upper.replace(',', '\\,');
        const words = `backend=${rung},upperdir=${escaped},workdir=${work}`;
        expect(await mount(words)).toMatchObject({ code: 0, stderr: '' });
        expect(mountAt(mountpoint)?.options).toContain('rw');
        await mustRun('sh', ['-c', 'echo more >> "$1/hello"', 'sh', mountpoint]);
        expect(readFileSync(join(upper, 'hello'), 'utf8')).toBe('hello\nmore\n');
        await mustRun('umount', [mountpoint]);
        expect(await mount(`${words},ro`)).toMatchObject({ code: 0 });
        expect(mountAt(mountpoint)?.options).toContain('ro');
        expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\nmore\n');
      },
    );

    test('maps owners by a user namespace, in the kernel', async () => {
      const made = makeImage(scope, everyKind);
      const script = `
        unshare --user sleep 30 & holder=$!
        until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do
          kill -0 $holder || exit; sleep 0.02
        done
        echo 0 70000 4000 >/proc/$holder/uid_map
        echo 0 70000 4000 >/proc/$holder/gid_map
        "$1" -o "idmap=/proc/$holder/ns/user,basedir=$2" "$3" "$4"; code=$?
        kill $holder; stat -c '%u %g' "$4"; exit $code`;
      const paths = [mountComposefs, made.objects.path, made.image, mountpoint];
      const outcome = await runCommand('sh', ['-c', script, 'sh', ...paths]);
      expect(outcome.stderr).toBe('');
      expect(outcome.stdout).toBe('70000 70000\n');
      expect(outcome.code).toBe(0);
    });

    test('says of a file that is no user namespace that it is none', async () => {
      const wrong = await mount(`idmap=${readlinkSync('/proc/self/exe')}`, 'backend=kernel');
      expect(wrong.stderr).toMatch(/kernel: the layer cannot be idmapped \(EINVAL\)/);
      const missing = await mount('idmap=/nonexistent');
      expect(missing).toMatchObject({ code: 32 });
      expect(missing.stderr).toMatch(/idmap \/nonexistent cannot be opened \(ENOENT\)/);
    });

    describe('given what cannot be', () => {
      const expectFailure = (
        outcome: { code: number | null; stderr: string },
        code: number,
        says: RegExp,
      ): void => {
        expect(outcome.stderr).toMatch(/^mount\.composefs: [^\n]*\n$/);
        expect(outcome.stderr).toMatch(says);
        expect(outcome.code).toBe(code);
      };

      test('names it, in one line and with the exit code of mount(8)', async () => {
        const { image } = sample;
        const options = optionsFor(sample);
        const run = (...args: string[]): ReturnType<typeof runHelper> => runHelper(args);
        expectFailure(await run(), 1, /IMAGE and DIR are expected/);
        expectFailure(await run(...options, '-o', 'zzz', image, mountpoint), 1, /"zzz"/);
        expectFailure(await run(...options, '/none', mountpoint), 32, /\/none does not exist/);
        expectFailure(
          await run(...options, image, '/none'),
          32,
          /mountpoint \/none does not exist/,
        );
        expectFailure(await run(...options, image, image), 32, /is not a directory/);
        expectFailure(await run('-o', 'basedir=/none', image, mountpoint), 32, /\/none does not/);
        expectFailure(await run(image, mountpoint), 32, /name their directory with/);
        expectFailure(await run('-N', '/none', image, mountpoint), 32, /namespace \/none cannot/);
        expect(mountAt(mountpoint)).toBeUndefined();
      });

      test('mounts nothing that is no composefs image', async () => {
        const image = join(scope.directory(), 'image');
        writeFileSync(image, 'x'.repeat(8192));
        expectFailure(
          await runHelper([...optionsFor(sample), image, mountpoint]),
          32,
          /not a composefs image/,
        );
      });

      test('survives hostile images, on every rung', async () => {
        const good = readFileSync(sample.image);
        let mounted = 0;
        for (let seed = 0; seed < 12; seed++) {
          const image = join(scope.directory(), 'image');
          const { mutated, undo } = mutate(good, mutationOf(6, seed, good.length));
          writeFileSync(image, mutated);
          undo();
          const backend = backends[seed % backends.length]!;
          const outcome = await runHelper([
            ...optionsFor(sample, `backend=${backend}`),
            image,
            mountpoint,
          ]);
          expect([0, 32]).toContain(outcome.code);
          if (outcome.code !== 0) {
            expect(outcome.stderr).toMatch(/^mount\.composefs: [^\n]*\n$/);
            continue;
          }
          mounted++;
          await runCommand('timeout', ['10', 'find', mountpoint, '-ls']);
          await mustRun('umount', [mountpoint]);
        }
        expect(mounted).toBeGreaterThan(0);
      });
    });
  },
);
