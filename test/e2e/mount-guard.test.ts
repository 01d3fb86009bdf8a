// What becomes of a mount whose daemon is killed: -o auto_unmount.

import { spawn } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { exitOf, mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
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
  openDescriptors,
  type OurMount,
  type OurMountOptions,
  ourCommand,
} from '../support/mounts.ts';
import {
  asNobody,
  describeWith,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
} from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const args = ['-o', 'auto_unmount'];

/** The one guard that a mount has. */
function guardOf(mount: OurMount): number {
  const guards = guardsOf(mount.pid);
  expect(guards).toHaveLength(1);
  return guards[0]!;
}

async function kill(mount: OurMount): Promise<void> {
  process.kill(mount.pid, 'SIGKILL');
  await mount.ended;
}

const gone = (pid: number): Promise<void> =>
  waitUntil('the guard has ended', () => !isRunning(pid));

describeWith(needsOurMount, 'a mount with auto_unmount', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  beforeEach(() => {
    sample = sampleImage(scope);
  });
  const mount = (options: Partial<OurMountOptions> = {}) =>
    mountForeground(scope, { ...sample, args, ...options });

  test('is removed when its daemon is killed', async () => {
    const mounted = await mount();
    const guard = guardOf(mounted);
    await kill(mounted);
    await gone(guard);
    expect(mountAt(mounted.mountpoint)).toBeUndefined();
  });

  test('is removed in the background too, and while it is in use', async () => {
    const mounted = await mountOurs(scope, { ...sample, args });
    const guard = guardOf(mounted);
    const script = 'import os, sys; os.chdir(sys.argv[1]); print("in"); input()';
    const user = talkTo(scope, python, ['-u', '-c', script, mounted.mountpoint]);
    expect(await user.hear()).toBe('in');
    process.kill(mounted.pid, 'SIGKILL');
    await gone(guard);
    expect(mountAt(mounted.mountpoint)).toBeUndefined();
  });

  test.each(['a b', 'a\\b', 'a\nb\n', "it's $(touch x) `y` %s \\040", 'ä:,é'])(
    'is removed from a directory called %j',
    async (name) => {
      const mountpoint = join(scope.directory(), name);
      mkdirSync(mountpoint);
      const mounted = await mount({ mountpoint });
      const guard = guardOf(mounted);
      await kill(mounted);
      await gone(guard);
      expect(mountTable().filter((entry) => entry.mountpoint === mountpoint)).toEqual([]);
    },
  );

  test('has no guard any more when it has ended in another way', async () => {
    for (const end of ['umount', 'SIGTERM'] as const) {
      const mounted = await mount();
      const guard = guardOf(mounted);
      if (end === 'umount') await mounted.unmount();
      else process.kill(mounted.pid, end);
      expect(await mounted.ended).toBe(0);
      await gone(guard);
    }
  });

  test('is followed by a guard that no signal to the daemon or its group ends', async () => {
    const mounted = await mount();
    const guard = guardOf(mounted);
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) {
      process.kill(guard, signal);
    }
    const { stdout } = await mustRun('ps', ['-o', 'sid=', '-p', String(guard)]);
    expect(Number(stdout)).toBe(guard);
    await kill(mounted);
    await gone(guard);
    expect(mountAt(mounted.mountpoint)).toBeUndefined();
  });

  test('says when its guard is gone, and goes on', async () => {
    const mounted = await mount();
    const guard = guardOf(mounted);
    process.kill(guard, 'SIGKILL');
    const warned = (): boolean =>
      eventsOf(mounted).some(({ msg }) => /nobody will remove/.test(String(msg)));
    await waitUntil('it says so', warned);
    await mustRun('cat', [join(mounted.mountpoint, 'hello')]);
    expect(await mounted.unmount()).toBe(0);
  });

  test('whose guard leaves alone what is mounted in its place or over it', async () => {
    const first = await mount();
    const { mountpoint } = first;
    const guard = guardOf(first);
    await mustRun('mount', ['-t', 'tmpfs', 'above', mountpoint]);
    scope.defer(() => detach(mountpoint));
    await kill(first);
    await gone(guard);
    expect(mountAt(mountpoint)).toMatchObject({ source: 'above' });
    await mustRun('umount', [mountpoint]);
    // Nobody could remove what was below.
    expect(mountAt(mountpoint)).toMatchObject({ type: 'fuse.composefs' });
    await mustRun('umount', ['-l', mountpoint]);

    const second = await mount({ mountpoint });
    await mustRun('umount', ['-l', mountpoint]);
    await mustRun('mount', ['-t', 'tmpfs', 'instead', mountpoint]);
    await second.ended;
    await delay(100);
    expect(mountAt(mountpoint)).toMatchObject({ source: 'instead' });
  });

  test('is followed when it is moved', async () => {
    const mounted = await mount();
    const guard = guardOf(mounted);
    const elsewhere = join(scope.directory(), 'elsewhere');
    mkdirSync(elsewhere);
    const moved = await runCommand('mount', ['--move', mounted.mountpoint, elsewhere]);
    if (moved.code !== 0) {
      // Not below a mount that propagates.
      expect(moved.stderr).toMatch(/bad option|not allowed|wrong fs type/i);
    } else {
      scope.defer(() => detach(elsewhere));
    }
    await kill(mounted);
    await gone(guard);
    expect(mountAt(elsewhere)).toBeUndefined();
    expect(mountAt(mounted.mountpoint)).toBeUndefined();
  });

  test('gives its guard nothing to keep open', async () => {
    const mounted = await mount();
    const open = openDescriptors(guardOf(mounted));
    expect(open.filter((target) => !/^(?:socket|pipe):|^\/dev\/null$/.test(target))).toEqual([]);
    expect(open.filter((target) => target.startsWith('socket:'))).toHaveLength(1);
    expect(await mounted.unmount()).toBe(0);
  });

  test.each([
    ['auto_unmount', args],
    ['an overlay', ['--data', 'overlay', '--verity', 'off']],
  ])('with %s leaves nothing when it is killed at any moment of its start', async (_what, more) => {
    const mountpoint = join(scope.directory(), 'a b');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const [command = '', ...prefix] = ourCommand;
    const rest = ['--basedir', sample.objects.path, ...more, sample.image, mountpoint];
    const starts = { early: 0, mounted: 0 };
    for (let i = 0; i < 24; i++) {
      const child = spawn(command, [...prefix, '--foreground', ...rest], { stdio: 'pipe' });
      scope.defer(() => void child.kill('SIGKILL'));
      let output = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text));
      // The moments that count are those about the mounting: it is seen, then it is waited a little.
      if (i % 2 === 0) await delay(80 + 10 * i);
      else {
        await waitUntil('something is mounted', () => mountAt(mountpoint) !== undefined);
        await delay(i / 2);
      }
      const guards = guardsOf(child.pid!);
      child.kill('SIGKILL');
      await within('its end', 15_000, exitOf(child));
      if (output.includes('"mounted"')) starts.mounted++;
      else starts.early++;
      const left = () => mountTable().filter((entry) => entry.mountpoint === mountpoint);
      await waitUntil('nothing is left', () => left().length === 0);
      await waitUntil('the guard has ended', () => !guards.some(isRunning));
      expect(left(), `after ${i}`).toEqual([]);
    }
    expect(starts.early).toBeGreaterThan(5);
  });

  test('killed during its start leaves alone the one that is started after it', async () => {
    const mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const [command = '', ...prefix] = ourCommand;
    const rest = ['--basedir', sample.objects.path, ...args, sample.image, mountpoint];
    const child = spawn(command, [...prefix, '--foreground', ...rest], { stdio: 'ignore' });
    scope.defer(() => void child.kill('SIGKILL'));
    await waitUntil('something is mounted', () => mountAt(mountpoint) !== undefined);
    const guards = guardsOf(child.pid!);
    child.kill('SIGKILL');
    await waitUntil('nothing is mounted', () => mountAt(mountpoint) === undefined);
    const next = await mount({ mountpoint });
    await waitUntil('the first guard has ended', () => !guards.some(isRunning));
    await mustRun('cat', [join(mountpoint, 'hello')]);
    expect(await next.unmount()).toBe(0);
  });

  test('is the only one that has a guard', async () => {
    const mounted = await mount({ args: [] });
    expect(guardsOf(mounted.pid)).toEqual([]);
    expect(await mounted.unmount()).toBe(0);
  });
});

describeWith([...needsOurMount], 'a guard that has been told what to expect', () => {
  const scope = scopeOfEachTest();
  const source = 'a\\b c,d#e';
  let place: string;
  let mountOverlay: (name: string) => Promise<unknown>;

  /** Ends the process that the guard watches, in the middle of a mount's start as it were. */
  async function afterItsEnd(expected: readonly [string, string]): Promise<void> {
    const library = join(import.meta.dirname, '../../dist/fuse/mount-guard.js');
    const script = `
      import { MountGuard } from ${JSON.stringify(library)};
      const guard = new MountGuard('x', () => {});
      process.stdin.once('data', () => {
        guard.expect(${JSON.stringify({ place, sources: expected })});
        console.log(guard.pid);
      });
      console.log('ready');`;
    const child = talkTo(scope, process.execPath, ['--input-type=module', '-e', script]);
    expect(await child.hear()).toBe('ready');
    const guard = Number(await child.ask(''));
    await mountOverlay(source);
    child.kill();
    await child.ended;
    await gone(guard);
  }
  const sourcesThere = (): string[] =>
    mountTable().flatMap((entry) => (entry.mountpoint === place ? [entry.source] : []));

  beforeEach(() => {
    const folder = scope.directory();
    place = join(folder, 'a b\\c');
    for (const path of [place, join(folder, 'one'), join(folder, 'two')]) mkdirSync(path);
    scope.defer(() => detach(place));
    const layers = `lowerdir=${join(folder, 'one')}:${join(folder, 'two')}`;
    mountOverlay = (name) => mustRun('mount', ['-t', 'overlay', '-o', layers, name, place]);
  });

  test('removes what has come, by either of its names', async () => {
    await afterItsEnd([source, 'other']);
    expect(sourcesThere()).toEqual([]);
    await afterItsEnd(['other', source]);
    expect(sourcesThere()).toEqual([]);
  });

  test('leaves alone what was there before, and what has another name or type', async () => {
    await mountOverlay(source);
    await afterItsEnd([source, source]);
    expect(sourcesThere()).toEqual([source]);
    await afterItsEnd(['a', 'b']);
    expect(sourcesThere()).toEqual([source, source]);
    mountOverlay = (name) => mustRun('mount', ['-t', 'tmpfs', name, place]);
    await afterItsEnd([source, source]);
    expect(sourcesThere()).toEqual([source, source, source]);
  });
});

describeWith(
  [...needsOurMount, needsNobody, needsFusermount, needsOpenFuse],
  "an ordinary user's mount with auto_unmount",
  () => {
    const scope = scopeOfEachTest();

    test('is removed when its daemon is killed', async () => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      chownSync(mountpoint, 65534, 65534);
      const options = { ...sampleImage(scope), mountpoint, as: asNobody, args };
      const mounted = await mountForeground(scope, options);
      const guard = guardOf(mounted);
      await kill(mounted);
      await gone(guard);
      expect(mountAt(mountpoint)).toBeUndefined();
    });
  },
);
