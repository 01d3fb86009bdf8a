// --upperdir and --workdir: the kernel's overlayfs over our mount takes what is written.

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { mount as libraryMount } from '../../dist/index.js';
import { mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
import { compareTrees, showDifferences } from '../support/compare-trees.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { talkTo } from '../support/dialogue.ts';
import { guardsOf } from '../support/guard.ts';
import {
  detach,
  isRunning,
  mountAt,
  mountForeground,
  mountOurs,
  mountTable,
  type OurMount,
  ourCommand,
  runOurs,
} from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import {
  asNobody,
  asSubordinateUser,
  describeWith,
  needsDataLayers,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsPassthrough,
  needsSubordinateIds,
  needsUserDataLayers,
  type Requirement,
} from '../support/requirements.ts';
import { makeImage, sampleImage, type SampleImage } from '../support/sample-image.ts';
import { everyKind } from '../support/sample-trees.ts';
import { type Scope, scopeOfEachTest } from '../support/scope.ts';
import { userNamespace } from '../support/user-namespace.ts';

/** upperdir, workdir, and the arguments that name them. */
function makeLayer(scope: Scope): { upperdir: string; workdir: string; args: string[] } {
  const folder = scope.directory();
  const [upperdir, workdir] = [join(folder, 'upper'), join(folder, 'work')];
  for (const path of [upperdir, workdir]) mkdirSync(path);
  return { upperdir, workdir, args: ['--upperdir', upperdir, '--workdir', workdir] };
}

const digestOf = (path: string): string =>
  createHash('sha256').update(readFileSync(path)).digest('hex');
const digests = ({ image, objects }: SampleImage): string[] => [
  digestOf(image),
  digestOf(objects.at('big')),
];

/** On a mount of `sampleImage`. */
const changes = `
  printf 'new\\n' > new
  mkdir -p directory/inner && printf 'deep\\n' > directory/inner/file
  printf 'HELLO' | dd of=hello conv=notrunc status=none
  printf 'CHANGED' | dd of=big conv=notrunc bs=1 seek=1500000 status=none
  mv sub moved && mv moved/inner moved/renamed && chmod 600 moved/renamed
  ln new linked
  rm link`;
/** Fails unless all of them are there. */
const changesAreThere = `
  test "$(cat new)" = new
  test "$(cat directory/inner/file)" = deep
  test "$(cat hello)" = HELLO
  test "$(cat moved/renamed)" = inner
  test "$(stat -c %a moved/renamed)" = 600
  test "$(stat -c %h new)" = 2
  test ! -e link && test ! -e sub
  ls -l . moved directory >/dev/null
  head -c 1500000 big > "$expected.head" && head -c 1500000 "$original" | cmp - "$expected.head"
  test "$(tail -c +1500001 big | head -c 7)" = CHANGED
  tail -c +1500008 "$original" > "$expected.tail" && tail -c +1500008 big | cmp - "$expected.tail"`;

const modes: readonly { data: string; more?: readonly string[]; requirements: Requirement[] }[] = [
  { data: 'auto', requirements: [] },
  { data: 'daemon', requirements: [] },
  { data: 'passthrough', requirements: [needsPassthrough] },
  { data: 'overlay', more: ['--verity', 'off'], requirements: [needsDataLayers] },
];

for (const { data, more = [], requirements } of modes)
  describeWith([...needsOurMount, ...requirements], `a writable layer, --data ${data}`, () => {
    const scope = scopeOfEachTest();
    const mode = ['--data', data, ...more];

    const check = (sample: SampleImage, mountpoint: string) =>
      mustRun('sh', ['-ec', changesAreThere], {
        cwd: mountpoint,
        env: {
          ...process.env,
          original: sample.objects.at('big'),
          expected: join(scope.directory(), 'part'),
        },
      });

    test('takes every kind of change, keeps it, and leaves image and objects alone', async () => {
      const sample = sampleImage(scope);
      const before = digests(sample);
      const layer = makeLayer(scope);
      const args = [...mode, ...layer.args];
      const first = await mountOurs(scope, { ...sample, args });
      const entries = mountTable().filter(({ mountpoint }) => mountpoint === first.mountpoint);
      expect(entries).toHaveLength(1);
      expect(entries[0]).toMatchObject({ type: 'overlay', source: sample.image });
      expect(entries[0]?.options).toEqual(expect.arrayContaining(['rw', 'nosuid', 'nodev']));
      await mustRun('sh', ['-ec', changes], { cwd: first.mountpoint });
      await check(sample, first.mountpoint);
      expect(await first.unmount()).toBe(0);
      expect(mountAt(first.mountpoint)).toBeUndefined();

      const second = await mountOurs(scope, { ...sample, args });
      await check(sample, second.mountpoint);
      process.kill(second.pid, 'SIGTERM');
      expect(await within('its end', 10_000, second.ended)).toBe(0);
      expect(mountAt(second.mountpoint)).toBeUndefined();

      // What was written does not depend on who reads the objects.
      const third = await mountOurs(scope, { ...sample, args: layer.args });
      await check(sample, third.mountpoint);
      expect(await third.unmount()).toBe(0);
      expect(digests(sample)).toEqual(before);
    });

    test('looks as without it, but for the directory that is its root', async () => {
      const sample = makeImage(scope, everyKind);
      const { args } = makeLayer(scope);
      const plain = await mountOurs(scope, { ...sample, args: mode });
      const over = await mountOurs(scope, { ...sample, args: [...mode, ...args] });
      const parts = ['stat', 'dirent', 'xattr', 'link', 'read', 'mmap'];
      const found = await compareTrees(plain.mountpoint, over.mountpoint, { parts });
      expect(found.entries).toBeGreaterThan(1000);
      expect(showDifferences(found.differences.filter((entry) => !isOfOverlayfs(entry)))).toBe('');
    });

    test('is removed when the daemon is killed, with nothing lost', async () => {
      const sample = sampleImage(scope);
      const { upperdir, args } = makeLayer(scope);
      const mount = await mountForeground(scope, { ...sample, args: [...mode, ...args] });
      const [guard = 0] = guardsOf(mount.pid);
      await mustRun('sh', ['-ec', changes], { cwd: mount.mountpoint });
      process.kill(mount.pid, 'SIGKILL');
      await mount.ended;
      await waitUntil('the guard has ended', () => !isRunning(guard));
      expect(mountAt(mount.mountpoint)).toBeUndefined();
      expect(readFileSync(join(upperdir, 'new'), 'utf8')).toBe('new\n');
      const again = await mountOurs(scope, { ...sample, args: [...mode, ...args] });
      await check(sample, again.mountpoint);
      expect(await again.unmount()).toBe(0);
    });
  });

/** What overlayfs makes up for directories where it merges layers, and for the root, which is the upper's. */
function isOfOverlayfs({ path, field }: { path: string; field: string }): boolean {
  return path === '' || ['ino', 'd_ino', 'dots.', 'dots..', 'dots...', 'blocks'].includes(field);
}

describeWith(needsOurMount, 'a writable layer', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  beforeEach(() => {
    sample = sampleImage(scope);
  });

  test('is read-only with ro, and shows what was written', async () => {
    const { args } = makeLayer(scope);
    const first = await mountOurs(scope, { ...sample, args });
    writeFileSync(join(first.mountpoint, 'new'), 'new');
    expect(await first.unmount()).toBe(0);
    const second = await mountOurs(scope, { ...sample, args: [...args, '-o', 'ro'] });
    expect(mountAt(second.mountpoint)?.options).toContain('ro');
    expect((await mustRun('cat', [join(second.mountpoint, 'new')])).stdout).toBe('new');
    const outcome = await runCommand('touch', [join(second.mountpoint, 'another')]);
    expect(outcome.stderr).toContain('Read-only file system');
    expect(await second.unmount()).toBe(0);
  });

  test('keeps what is written while the mount is taken away', async () => {
    const { upperdir, args } = makeLayer(scope);
    const mount = await mountForeground(scope, { ...sample, args });
    const script = `
import os, sys
f = open(sys.argv[1], "r+b")
f.write(b"first"); f.flush()
print("written"); input()
f.write(b"second"); f.flush(); os.fsync(f.fileno())
print("again")`;
    const writer = talkTo(scope, python, ['-u', '-c', script, join(mount.mountpoint, 'big')]);
    expect(await writer.hear()).toBe('written');
    process.kill(mount.pid, 'SIGTERM');
    await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
    expect(await writer.ask('')).toBe('again');
    expect(await writer.ended).toBe(0);
    expect(await within('its end', 10_000, mount.ended)).toBe(0);
    const kept = readFileSync(join(upperdir, 'big'));
    expect(kept.subarray(0, 11).toString()).toBe('firstsecond');
    expect(kept.subarray(11).equals(Buffer.from(patternBytes(3_000_000).subarray(11)))).toBe(true);
  });

  test('is the library’s too', async () => {
    const { upperdir, workdir } = makeLayer(scope);
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const settings = { basedir: sample.objects.path, upperdir, workdir };
    const mounted = await libraryMount(sample.image, mountpoint, settings);
    writeFileSync(join(mountpoint, 'new'), 'new');
    await mounted.unmount();
    expect(readFileSync(join(upperdir, 'new'), 'utf8')).toBe('new');
  });

  test('goes with other owners, which copies keep', async () => {
    const { upperdir, args } = makeLayer(scope);
    const owner = ['--squash', '1234:2345'];
    const mount = await mountOurs(scope, { ...sample, args: [...args, ...owner] });
    await mustRun('sh', ['-c', 'echo more >> hello'], { cwd: mount.mountpoint });
    const { stdout } = await mustRun('stat', ['-c', '%u:%g', join(upperdir, 'hello')]);
    expect(stdout).toBe('1234:2345\n');
    expect(await mount.unmount()).toBe(0);
  });

  describe('that cannot be is refused in one line, and nothing is mounted:', () => {
    let mountpoint: string;
    beforeEach(() => {
      mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
    });

    async function expectRefusal(
      code: number,
      says: RegExp,
      args: readonly string[],
      as: readonly string[] = [],
    ): Promise<void> {
      const all = ['--basedir', sample.objects.path, ...args, sample.image, mountpoint];
      const outcome = await runOurs(all, as);
      expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]+\n$/);
      expect(outcome.stderr).toMatch(says);
      expect(outcome.code).toBe(code);
      expect(mountAt(mountpoint)).toBeUndefined();
    }

    test('without a directory', async () => {
      const { upperdir, workdir } = makeLayer(scope);
      const dirs = (upper: string, work: string) => ['--upperdir', upper, '--workdir', work];
      await expectRefusal(3, /upperdir .*no does not exist/, dirs(`${upperdir}/no`, workdir));
      await expectRefusal(3, /workdir .*is not a directory/, dirs(upperdir, sample.image));
    });

    test('with one directory inside the other', async () => {
      const { upperdir } = makeLayer(scope);
      const inner = join(upperdir, 'inner');
      mkdirSync(inner);
      for (const [upper, work] of [
        [upperdir, upperdir],
        [upperdir, inner],
        [inner, upperdir],
      ] as const) {
        const args = ['--upperdir', upper, '--workdir', work];
        await expectRefusal(3, /one inside the other; give two separate/, args);
      }
    });

    test('with directories on different filesystems', async () => {
      const { upperdir, workdir } = makeLayer(scope);
      await mustRun('mount', ['-t', 'tmpfs', 'tmpfs', workdir]);
      scope.defer(() => detach(workdir));
      const args = ['--upperdir', upperdir, '--workdir', workdir];
      await expectRefusal(3, /not on the same mounted filesystem; put them side by side/, args);
    });

    test('while another mount writes to it', async () => {
      const { args } = makeLayer(scope);
      const other = await mountOurs(scope, { ...sample, args });
      if (mountAt(other.mountpoint)?.superOptions.includes(`upperdir=${args[1]}`) === true) {
        await expectRefusal(3, /upperdir .* is in use by the mount on/, args);
      } else {
        // Before Linux 6.13 the mount table does not say.
        expect(mountAt(other.mountpoint)?.superOptions.join()).toContain('upperdir=/proc/self/fd/');
      }
      expect(await other.unmount()).toBe(0);
    });

    test('on an overlayfs, which the kernel takes for no upper layer', async () => {
      const layer = makeLayer(scope);
      const over = scope.directory();
      const options = `lowerdir=${sample.objects.path},upperdir=${layer.upperdir},workdir=${layer.workdir}`;
      await mustRun('mount', ['-t', 'overlay', '-o', options, 'x', over]);
      scope.defer(() => detach(over));
      for (const name of ['u', 'w']) mkdirSync(join(over, name));
      const args = ['--upperdir', join(over, 'u'), '--workdir', join(over, 'w')];
      await expectRefusal(4, /--upperdir is not possible.*writable filesystem/, args);
    });

    test('over passthrough to an overlayfs, which is one too many', async () => {
      const [lower, twice] = [scope.directory(), scope.directory()];
      const options = `lowerdir=${sample.objects.path}:${lower}`;
      await mustRun('mount', ['-t', 'overlay', '-o', options, 'x', twice]);
      scope.defer(() => detach(twice));
      const { args } = makeLayer(scope);
      const deep = ['--data', 'passthrough', '--basedir', twice, ...args];
      await expectRefusal(4, /maximum fs stacking depth exceeded; choose another --data/, deep);
      const mount = await mountOurs(scope, { image: sample.image, basedirs: [twice], args });
      await mustRun('cmp', [join(mount.mountpoint, 'big'), sample.objects.at('big')]);
      expect(await mount.unmount()).toBe(0);
    });

    describeWith([needsNobody], 'for an ordinary user', () => {
      test('who is told where it can be had', async () => {
        const { upperdir, workdir, args } = makeLayer(scope);
        for (const path of [upperdir, workdir]) chmodSync(path, 0o777);
        await expectRefusal(4, /CAP_SYS_ADMIN.*unshare -Urm.*podman unshare/, args, asNobody);
      });
    });
  });
});

describeWith(
  [...needsOurMount, needsOpenFuse, needsUserDataLayers],
  'a writable layer in a user namespace',
  () => {
    const scope = scopeOfEachTest();

    for (const mode of [[], ['--data', 'overlay', '--verity', 'off']])
      test(`looks as without it, ${mode[1] ?? 'by the daemon'}`, async () => {
        const sample = makeImage(scope, everyKind);
        const { enter } = await userNamespace(scope);
        const { args } = makeLayer(scope);
        const mountWith = (more: string[]): Promise<OurMount> =>
          mountForeground(scope, { ...sample, as: enter, args: [...mode, ...more] });
        const plain = await mountWith([]);
        const over = await mountWith(args);
        const walk = { as: enter, parts: ['stat', 'dirent', 'xattr', 'link', 'read'] };
        const found = await compareTrees(plain.mountpoint, over.mountpoint, walk);
        expect(found.entries).toBeGreaterThan(1000);
        const differences = found.differences.filter((entry) => !isOfOverlayfs(entry));
        expect(showDifferences(differences)).toBe('');
        for (const { pid, ended } of [over, plain]) {
          process.kill(pid, 'SIGTERM');
          expect(await ended).toBe(0);
        }
        expect(eventsOf(over).at(-1)).toMatchObject({ msg: 'unmounted' });
      });
  },
);

describeWith(
  [...needsOurMount, needsOpenFuse, needsSubordinateIds, needsUserDataLayers],
  'a writable layer of an ordinary user in a namespace',
  () => {
    const scope = scopeOfEachTest();

    for (const mode of [[], ['--data', 'overlay', '--verity', 'off']])
      test(`keeps every kind of change, ${mode[1] ?? 'by the daemon'}`, async () => {
        const sample = sampleImage(scope);
        const before = digests(sample);
        const folder = scope.directory();
        chmodSync(folder, 0o777);
        const script = `set -e
          export original="$1" expected="$2/part" ; cd "$2"; shift 2
          mkdir mnt layer && mount -t tmpfs tmpfs layer && mkdir layer/upper layer/work
          for time in first second; do
            "$@" --upperdir layer/upper --workdir layer/work mnt
            ( cd mnt; if test $time = first; then ${changes}
            fi; ${changesAreThere} )
            umount mnt
          done
          echo done`;
        const command = [...ourCommand, ...mode, '--log-file', join(folder, 'log')];
        const outcome = await runCommand('setpriv', [
          ...[...asSubordinateUser.slice(1), 'unshare', '-Urm', '--map-auto', 'sh', '-c', script],
          ...['sh', sample.objects.at('big'), folder, ...command],
          ...['--basedir', sample.objects.path, sample.image],
        ]);
        expect(outcome).toMatchObject({ stderr: '', stdout: 'done\n', code: 0 });
        expect(digests(sample)).toEqual(before);
      });
  },
);
