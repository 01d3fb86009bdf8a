// --data overlay: the kernel's overlayfs over our mount opens and reads the objects.

import { spawn } from 'node:child_process';
import { mkdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { exitOf, mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
import { walkTree } from '../support/compare-trees.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { talkTo } from '../support/dialogue.ts';
import { guardsOf } from '../support/guard.ts';
import { directory } from '../support/image-nodes.ts';
import {
  detach,
  isRunning,
  mountAt,
  mountForeground,
  mountKernel,
  mountOurs,
  mountTable,
  type OurMount,
  ourCommand,
  runOurs,
} from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import {
  asNobody,
  describeWith,
  needsDataLayers,
  needsKernelComposefs,
  needsNobody,
  needsOurMount,
  needsUserDataLayers,
  needsUserNamespaces,
} from '../support/requirements.ts';
import { makeImage, sampleImage, type SampleImage } from '../support/sample-image.ts';
import { everyKind } from '../support/sample-trees.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { userNamespace } from '../support/user-namespace.ts';

const overlay = ['--data', 'overlay', '--verity', 'off'];
const modes = { background: mountOurs, foreground: mountForeground };

/** The requests that the daemon has been asked so far, by their names. */
const requestsOf = (mount: OurMount): string[] =>
  eventsOf(mount).flatMap(({ msg }) => /^#\d+ (\w+)/.exec(String(msg))?.[1] ?? []);

/** One line for the terminal, and an exit code that says what kind of failure it is. */
function expectRefusal(outcome: { code: number | null; stderr: string }, says: RegExp): void {
  expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]+\n$/);
  expect(outcome.stderr).toMatch(says);
  expect(outcome.code).toBe(4);
}

describeWith([...needsOurMount, needsDataLayers], 'an overlayfs over our mount', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  beforeEach(() => {
    sample = sampleImage(scope);
  });

  async function reads(mountpoint: string): Promise<void> {
    expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
    await mustRun('cmp', [join(mountpoint, 'big'), sample.objects.at('big')]);
  }

  test('is the only mount there, with the image as its source and safe options', async () => {
    const mount = await mountOurs(scope, { ...sample, args: overlay });
    const entries = mountTable().filter(({ mountpoint }) => mountpoint === mount.mountpoint);
    expect(entries).toHaveLength(1);
    expect(entries[0]).toMatchObject({ source: sample.image, type: 'overlay' });
    expect(entries[0]?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
    await reads(mount.mountpoint);
    const events = eventsOf(mount);
    expect(events.find(({ msg }) => msg === 'mounted')).toMatchObject({ data: 'overlay' });
  });

  test('takes its options from behind -o', async () => {
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const options = `data=overlay,verity=off,basedir=${sample.objects.path},noexec,suid,dev,fsname=my image`;
    const outcome = await runOurs([sample.image, '-o', options, mountpoint]);
    expect(outcome).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const entry = mountAt(mountpoint);
    expect(entry).toMatchObject({ source: 'my image', type: 'overlay' });
    expect(entry?.options).toContain('noexec');
    expect(entry?.options).not.toContain('nosuid');
    expect(entry?.options).not.toContain('nodev');
    await reads(mountpoint);
    await mustRun('umount', [mountpoint]);
  });

  test('shortens a name that is too long for its source, and only there', async () => {
    const args = [...overlay, '-o', `fsname=${'ä'.repeat(200)}end`];
    const { mountpoint } = await mountOurs(scope, { ...sample, args });
    const source = mountAt(mountpoint)?.source ?? '';
    expect(source).toMatch(/^…ä+end$/);
    expect(Buffer.byteLength(source)).toBeLessThanOrEqual(255);
    expect(Buffer.byteLength(source)).toBeGreaterThan(250);
  });

  test('asks us for nothing when an object is opened and read', async () => {
    const args = [...overlay, '--log-level', 'trace'];
    const mount = await mountForeground(scope, { ...sample, args });
    await reads(mount.mountpoint);
    await reads(mount.mountpoint);
    await delay(100);
    const before = requestsOf(mount);
    // `hello` is in the image.
    expect(before.filter((name) => name === 'READ')).toHaveLength(1);
    expect(before.filter((name) => name === 'OPEN').length).toBeLessThanOrEqual(1);
    await reads(mount.mountpoint);
    await delay(100);
    expect(requestsOf(mount)).toEqual(before);
    expect(await mount.unmount()).toBe(0);
  });

  test('takes base directories and mountpoints with every character in their names', async () => {
    const folder = scope.directory();
    const basedirs = ['a:b', 'c,d', 'e\\f', 'g h', 'i\nj', 'k=l', 'x'.repeat(250)].map((name) =>
      join(folder, name),
    );
    for (const basedir of basedirs.slice(1)) mkdirSync(basedir);
    symlinkSync(sample.objects.path, basedirs[0]!);
    const mountpoint = join(folder, 'm:n,o\\p q\nr');
    mkdirSync(mountpoint);
    const escaped = basedirs.map((path) => path.replaceAll('\\', '\\\\').replaceAll(':', '\\:'));
    const options = { image: sample.image, basedirs: escaped, mountpoint, args: overlay };
    const mount = await mountOurs(scope, options);
    await reads(mountpoint);
    expect(await mount.unmount()).toBe(0);
  });

  test('takes more base directories than fit into a line', async () => {
    const folder = scope.directory();
    const basedirs = Array.from({ length: 40 }, (_, i) => join(folder, `${i}`));
    for (const basedir of basedirs) mkdirSync(basedir);
    writeFileSync(join(basedirs[39]!, 'last'), 'from the last');
    const { image } = makeImage(scope, (objects) =>
      directory({ last: objects.addAt('last', 'from the last') }),
    );
    const mount = await mountOurs(scope, { image, basedirs, args: overlay });
    const { stdout } = await mustRun('cat', [join(mount.mountpoint, 'last')]);
    expect(stdout).toBe('from the last');
    expect(await mount.unmount()).toBe(0);
  });

  test('says ENOENT for an object that is missing, and finds it when it comes', async () => {
    const mount = await mountOurs(scope, { ...sample, args: overlay });
    const path = join(mount.mountpoint, 'big');
    unlinkSync(sample.objects.at('big'));
    const outcome = await runCommand('cat', [path], { env: { ...process.env, LC_ALL: 'C' } });
    expect(outcome.stderr).toContain('No such file or directory');
    writeFileSync(sample.objects.at('big'), patternBytes(3_000_000));
    await reads(mount.mountpoint);
    expect(await mount.unmount()).toBe(0);
  });

  test('is told what is to be verified, where no object says that the kernel cannot', async () => {
    // `big` has no digest.
    const loose = await mountOurs(scope, { ...sample, args: ['--data', 'overlay'] });
    expect(mountAt(loose.mountpoint)?.superOptions).toContain('verity=on');
    await reads(loose.mountpoint);
    expect(await loose.unmount()).toBe(0);
    const args = ['--data', 'overlay', '--verity', 'require'];
    const strict = await mountOurs(scope, { ...sample, args });
    expect(mountAt(strict.mountpoint)?.superOptions).toContain('verity=require');
    const env = { ...process.env, LC_ALL: 'C' };
    const outcome = await runCommand('cat', [join(strict.mountpoint, 'big')], { env });
    expect(outcome.stderr).toContain('Input/output error');
    expect(await strict.unmount()).toBe(0);
  });

  test('can be made where mounts propagate, and leaves nothing in any namespace', async () => {
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    const log = join(scope.directory(), 'log');
    const pid = join(scope.directory(), 'pid');
    const script = `set -e; mnt=$1; pid=$2; shift 2; "$@"
      test "$(grep -c " $mnt " /proc/self/mountinfo)" = 1
      cat "$mnt/hello"
      unshare --mount --propagation slave sleep 300 & slave=$!
      sleep 0.5
      umount "$mnt"
      while kill -0 "$(cat "$pid" 2>/dev/null)" 2>/dev/null; do sleep 0.1; done
      ! grep " $mnt " /proc/self/mountinfo /proc/$slave/mountinfo
      kill $slave`;
    const command = [
      ...[...ourCommand, ...overlay, '--basedir', sample.objects.path],
      ...['--log-file', log, '--pid-file', pid, sample.image, mountpoint],
    ];
    const namespace = ['--mount', '--propagation', 'shared', 'sh', '-c', script, 'sh'];
    const outcome = await runCommand('unshare', [...namespace, mountpoint, pid, ...command]);
    expect(outcome).toMatchObject({ code: 0, stdout: 'hello\n', stderr: '' });
  });

  for (const [mode, mountIn] of Object.entries(modes)) {
    describe(`in the ${mode}`, () => {
      const mounted = () => mountIn(scope, { ...sample, args: overlay });
      const expectNothing = async (mount: OurMount, guard: number | undefined): Promise<void> => {
        await waitUntil('the guard has ended', () => guard === undefined || !isRunning(guard));
        expect(mountAt(mount.mountpoint)).toBeUndefined();
        expect(isRunning(mount.pid)).toBe(false);
      };

      test('ends when umount(8) removes it', async () => {
        const mount = await mounted();
        const [guard] = guardsOf(mount.pid);
        expect(await mount.unmount()).toBe(0);
        await expectNothing(mount, guard);
      });

      test.each(['SIGTERM', 'SIGINT'] as const)('unmounts and ends on %s', async (signal) => {
        const mount = await mounted();
        const [guard] = guardsOf(mount.pid);
        process.kill(mount.pid, signal);
        expect(await within('its end', 10_000, mount.ended)).toBe(0);
        await expectNothing(mount, guard);
      });

      test('is removed when the daemon is killed, while files are open', async () => {
        const mount = await mounted();
        const [guard] = guardsOf(mount.pid);
        const script =
          'import sys; f = open(sys.argv[1], "rb"); print("open"); input(); print(len(f.read()))';
        const args = ['-u', '-c', script, join(mount.mountpoint, 'big')];
        const reader = talkTo(scope, python, args);
        expect(await reader.hear()).toBe('open');
        process.kill(mount.pid, 'SIGKILL');
        await mount.ended;
        await expectNothing(mount, guard);
        // The kernel needs nobody to read on.
        expect(await reader.ask('')).toBe('3000000');
        expect(await reader.ended).toBe(0);
      });

      test('leaves nothing in the mount table when stopped while in use', async () => {
        const mount = await mounted();
        const [guard] = guardsOf(mount.pid);
        const user = spawn('sleep', ['60'], { cwd: mount.mountpoint });
        scope.defer(() => void user.kill('SIGKILL'));
        await new Promise((resolve) => user.once('spawn', resolve));
        process.kill(mount.pid, 'SIGTERM');
        await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
        user.kill('SIGKILL');
        await exitOf(user);
        expect(await within('its end', 10_000, mount.ended)).toBe(0);
        await expectNothing(mount, guard);
      });
    });
  }

  test('ends without a trace when it is stopped or killed at any moment of its start', async () => {
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const args = [...overlay, '--basedir', sample.objects.path, sample.image, mountpoint];
    const [command = '', ...prefix] = ourCommand;
    let early = 0;
    for (let i = 0; i < 24; i++) {
      const child = spawn(command, [...prefix, '--foreground', ...args], { stdio: 'pipe' });
      scope.defer(() => void child.kill('SIGKILL'));
      let output = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
      await delay(100 + 15 * i);
      if (!output.includes('"mounted"')) early++;
      child.kill('SIGTERM');
      await within('its end', 15_000, exitOf(child));
      await waitUntil('nothing is mounted', () => mountAt(mountpoint) === undefined);
    }
    expect(early).toBeGreaterThan(0);
  });

  describe('that cannot be', () => {
    let mountpoint: string;
    beforeEach(() => {
      mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
    });
    const mountWith = (...args: string[]) => runOurs([...args, sample.image, mountpoint]);
    const expectNothing = () => expect(mountAt(mountpoint)).toBeUndefined();

    test('is refused when the kernel cannot check what is to be checked', async () => {
      sample = makeImage(scope, (objects) => directory({ object: objects.add('object') }));
      const basedir = ['--basedir', sample.objects.path];
      for (const policy of ['if-present', 'require']) {
        const outcome = await mountWith('--data', 'overlay', '--verity', policy, ...basedir);
        expectRefusal(outcome, new RegExp(`--verity ${policy}.*fs-verity.*--verity off.*--data`));
        expectNothing();
      }
    });

    test('leaves nothing behind when the kernel refuses it', async () => {
      const folder = scope.directory();
      const names = ['l', 'once', 'twice', 'inner'].map((name) => join(folder, name));
      const [lower = '', once = '', twice = ''] = names;
      for (const name of names) mkdirSync(name);
      for (const [layers, target] of [
        [`${sample.objects.path}:${lower}`, once],
        [`${once}:${lower}`, twice],
      ] as const) {
        await mustRun('mount', ['-t', 'overlay', '-o', `lowerdir=${layers}`, 'x', target]);
        scope.defer(() => detach(target));
      }
      const outcome = await mountWith(...overlay, '--basedir', twice);
      expectRefusal(outcome, /--data overlay is not possible.*stacked twice.*another --data/);
      expectNothing();
      // One below the other is one too few.
      expect((await mountWith(...overlay, '--basedir', once)).code).toBe(0);
      await reads(mountpoint);
    });

    test('says that a base directory is there twice', async () => {
      const basedir = ['--basedir', sample.objects.path];
      expectRefusal(await mountWith(...overlay, ...basedir, ...basedir), /given twice/);
      expectNothing();
    });

    test('is refused over another one of ours, unless nonempty is given', async () => {
      const basedir = ['--basedir', sample.objects.path];
      const first = await mountOurs(scope, { ...sample, mountpoint, args: overlay });
      for (const mode of [overlay, []]) {
        const outcome = await mountWith(...mode, ...basedir);
        expect(outcome.stderr).toMatch(/^composefs-fuse: mountpoint .* is busy: .*-o nonempty\n$/);
        expect(outcome.code).toBe(3);
      }
      const args = [...overlay, '-o', 'nonempty'];
      const second = await mountOurs(scope, { ...sample, mountpoint, args });
      await reads(mountpoint);
      expect(await second.unmount()).toBe(0);
      await reads(mountpoint);
      expect(await first.unmount()).toBe(0);
    });

    describeWith([needsNobody], 'for want of privilege', () => {
      test('says what it takes', async () => {
        const args = [...overlay, '--basedir', sample.objects.path, sample.image, mountpoint];
        expectRefusal(await runOurs(args, asNobody), /CAP_SYS_ADMIN.*unshare -Urm.*--data/);
        expectNothing();
      });
    });
  });
});

describeWith(
  [...needsOurMount, needsNobody, needsUserNamespaces, needsUserDataLayers],
  'an overlayfs over our mount in a user namespace',
  () => {
    const scope = scopeOfEachTest();

    const namespace = () => userNamespace(scope);

    test('looks like our mount without it', async () => {
      const sample = makeImage(scope, everyKind);
      const { enter } = await namespace();
      const plain = await mountForeground(scope, { ...sample, as: enter });
      const over = await mountForeground(scope, { ...sample, as: enter, args: overlay });
      const walk = { as: enter, parts: ['stat', 'dirent', 'xattr', 'link', 'read', 'access'] };
      const expected = await walkTree(plain.mountpoint, walk);
      expect(expected.size).toBeGreaterThan(1000);
      expect(await walkTree(over.mountpoint, walk)).toEqual(expected);
      const { stdout } = await mustRun('cat', [`/proc/${over.pid}/mountinfo`]);
      const line = stdout.split('\n').filter((text) => text.includes(` ${over.mountpoint} `));
      expect(line).toHaveLength(1);
      expect(line[0]).toContain(' - overlay ');
      for (const { pid: daemon } of [plain, over]) process.kill(daemon, 'SIGTERM');
      expect(await over.ended).toBe(0);
      expect(await plain.ended).toBe(0);
    });

    describeWith([needsKernelComposefs], 'and the kernel mount', () => {
      test('look the same from outside, but for trusted attributes', async () => {
        const sample = makeImage(scope, everyKind);
        const kernel = await mountKernel(scope, sample.image, sample.basedirs);
        const { pid, enter } = await namespace();
        const over = await mountForeground(scope, { ...sample, as: enter, args: overlay });
        // From outside the user namespace.
        const as = ['nsenter', '--target', String(pid), '--mount'];
        const parts = ['stat', 'dirent', 'xattr', 'link', 'read'];
        const expected = await walkTree(kernel, { parts });
        const seen = await walkTree(over.mountpoint, { as, parts });
        expect([...seen.keys()]).toEqual([...expected.keys()]);
        for (const [path, entry] of expected) {
          // Ids that the namespace has no name for are nobody's.
          for (const field of ['uid', 'gid']) {
            if (Number(entry[field]) > 65_535) entry[field] = 65_534;
          }
          // What overlayfs may do, its mounter must be permitted.
          const xattrs = (entry['xattrs'] ?? {}) as Record<string, unknown>;
          for (const name of Object.keys(xattrs)) {
            if (name.startsWith('trusted.')) delete xattrs[name];
          }
          expect(seen.get(path), path).toEqual(entry);
        }
        process.kill(over.pid, 'SIGTERM');
        expect(await over.ended).toBe(0);
      });
    });

    test('is removed there when the daemon is killed', async () => {
      const { pid, enter } = await namespace();
      const mount = await mountForeground(scope, {
        ...sampleImage(scope),
        as: enter,
        args: overlay,
      });
      const [guard = 0] = guardsOf(mount.pid);
      process.kill(mount.pid, 'SIGKILL');
      await mount.ended;
      await waitUntil('the guard has ended', () => !isRunning(guard));
      const { stdout } = await mustRun('cat', [`/proc/${pid}/mountinfo`]);
      expect(stdout).not.toContain(mount.mountpoint);
    });

    test('is refused where objects are to be verified', async () => {
      const { enter } = await namespace();
      const sample = sampleImage(scope);
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      const args = ['--data', 'overlay', '--basedir', sample.objects.path];
      const outcome = await runOurs([...args, sample.image, mountpoint], enter);
      expectRefusal(outcome, /--verity if-present.*user namespace.*--verity off/);
    });

    test('is possible for an ordinary user', async () => {
      const sample = sampleImage(scope);
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      const script = 'set -e; mnt=$1; shift; "$@"; cat "$mnt/hello"; umount "$mnt"';
      const command = [...ourCommand, ...overlay, '--basedir', sample.objects.path];
      const outcome = await runCommand('setpriv', [
        ...[...asNobody.slice(1), 'unshare', '--user', '--map-root-user', '--mount'],
        ...['sh', '-c', script, 'sh', mountpoint, ...command, sample.image, mountpoint],
      ]);
      expect(outcome).toMatchObject({ code: 0, stdout: 'hello\n', stderr: '' });
    });
  },
);
