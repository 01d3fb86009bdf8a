// composefs-fuse doctor on machines that lack something, or where something hangs: it says what, and leaves
// nothing behind.

import { spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { commandPath, exitOf, runCommand, waitUntil, within } from '../support/command.ts';
import { DoctorRoom, find, LIMIT_MS, needsTester, type Report, tester } from '../support/doctor.ts';
import { isRunning, mountOurs } from '../support/mounts.ts';
import {
  describeWith,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsSetpriv,
} from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';

const inMounts = ['unshare', '--mount', '--propagation', 'private'];

/** Runs a shell script as root in a mount namespace of its own, then the command in front of doctor. */
const behind = (script: string, as: readonly string[] = []): string[] => [
  ...inMounts,
  ...['sh', '-ec', `${script}\nexec "$@"`, 'sh', ...as],
];

describeWith([...needsOurMount, needsSetpriv], 'doctor says what is missing', () => {
  const room = new DoctorRoom();

  describeWith([needsNobody, needsTester, needsFusermount, needsOpenFuse], 'to a user', () => {
    test('says which device it may not open', async () => {
      const script = `
        mount -t tmpfs -o mode=755 none "${room.temporary}"
        mknod "${room.temporary}/fuse" c 10 229
        chmod 000 "${room.temporary}/fuse"
        mount --bind "${room.temporary}/fuse" /dev/fuse
        umount -l "${room.temporary}"`;
      const { code, report: found } = await room.report(behind(script, tester));
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse may not be opened by this user',
        remedy: expect.stringContaining('0666'),
      });
      expect(found.rung).toBe('none');
      expect(code).toBe(4);
    });

    test('says that fusermount3 is missing', async () => {
      const programs = join(room.scope.directory(), 'bin');
      mkdirSync(programs);
      symlinkSync('/usr/bin/unshare', join(programs, 'unshare'));
      const asUser = [...tester, 'env', `PATH=${programs}`, process.execPath, commandPath];
      const [program = '', ...rest] = asUser;
      const env = room.env;
      const options = { env, timeoutMs: LIMIT_MS };
      const { code, stdout } = await runCommand(program, [...rest, 'doctor', '--json'], options);
      const found = JSON.parse(stdout) as Report;
      expect(find(found, 'fusermount3')).toMatchObject({
        state: 'fail',
        remedy: 'install the package fuse3',
      });
      expect(found.rung).toBe('none');
      expect(code).toBe(4);
    });
  });

  describe('in a container', () => {
    /** A /dev with nothing of FUSE in it. */
    const bareDev = (more = ''): string => `
      mkdir "${room.temporary}/dev"
      mount -t tmpfs -o mode=755 none "${room.temporary}/dev"
      mknod -m 666 "${room.temporary}/dev/null" c 1 3
      mknod -m 666 "${room.temporary}/dev/urandom" c 1 9
      ${more}
      mount --move "${room.temporary}/dev" /dev
      rmdir "${room.temporary}/dev"`;

    test('without /dev/fuse tells so, and mounts nothing by it', async () => {
      const { report: found, states } = await room.report(behind(bareDev()));
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse is missing or without driver',
        remedy: expect.stringContaining('modprobe fuse'),
      });
      expect(states).toMatchObject({ 'fuse-mount': 'fail', overlay: 'skip', passthrough: 'skip' });
      expect(['kernel', 'none']).toContain(found.rung);
    });

    test('with another device of that name is not deceived', async () => {
      const { report: found } = await room.report(
        behind(bareDev(`mknod -m 666 "${room.temporary}/dev/fuse" c 1 3`)),
      );
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse is another device',
      });
    });

    test('without capabilities says that nobody there may mount', async () => {
      const bare = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'];
      const { report: found } = await room.report(bare);
      expect(found.admin).toBe('none');
      expect(find(found, 'fusermount3').state).toBe('fail');
    });
  });

  test('sees a low limit of open files, by what it does to a mount', async () => {
    const { report: found, states } = await room.report([
      'sh',
      '-c',
      'ulimit -n 64; exec "$@"',
      'sh',
    ]);
    expect(find(found, 'open-files')).toMatchObject({
      state: 'warn',
      found: expect.stringMatching(/^64 /),
    });
    expect(states['fuse-mount']).toBe('fail');
    expect(find(found, 'fuse-mount').found).toContain('only 64 open files');
  });

  test('says what is wrong with a base directory, and that nothing mounts with it', async () => {
    const missing = join(room.objects, 'missing');
    const { code, report: found } = await room.report([], ['--basedir', missing]);
    expect(find(found, 'basedir')).toMatchObject({
      subject: missing,
      state: 'fail',
      found: 'does not exist',
    });
    expect(found).toMatchObject({ rung: 'none', verifiedRung: 'none' });
    expect(code).toBe(4);
  });

  test('asks an object of a base directory that it may not write to', async () => {
    const folder = join(room.scope.directory(), 'store');
    mkdirSync(join(folder, '5d'), { recursive: true });
    writeFileSync(join(folder, '5d', '9'.repeat(62)), 'content');
    const script = `mount --bind -o ro "${folder}" "${folder}"`;
    const { report: found } = await room.report(behind(script), ['--basedir', folder]);
    expect(find(found, 'basedir').found).toContain('not writable');
    expect(find(found, 'basedir-verity').state).toBe('warn');
    expect(find(found, 'basedir-reflink')).toMatchObject({
      state: 'skip',
      found: 'it is not writable',
    });
  });

  test('takes a base directory that the temporary directory is in', async () => {
    const outer = join(room.temporary, '..');
    const { report: found, states } = await room.report([], ['--basedir', outer]);
    expect(find(found, 'basedir').subject).toBe(outer);
    const { states: without } = await room.report();
    for (const id of ['fuse-mount', 'passthrough', 'overlay', 'erofs-file', 'erofs-loop'])
      expect(`${id} ${states[id]}`).toBe(`${id} ${without[id]}`);
  });

  test('gives up on a base directory that hangs', async () => {
    const sample = sampleImage(room.scope);
    const mount = await mountOurs(room.scope, { image: sample.image, basedirs: sample.basedirs });
    process.kill(mount.pid, 'SIGSTOP');
    try {
      const { code, report: found } = await room.report([], ['--basedir', mount.mountpoint]);
      expect(find(found, 'basedir')).toMatchObject({ state: 'fail', found: 'no answer in time' });
      expect(find(found, 'fuse-mount').state).toBe('ok');
      expect(code).toBe(4);
    } finally {
      process.kill(mount.pid, 'SIGCONT');
    }
  });

  test('gives up on a program that hangs', async () => {
    const programs = join(room.scope.directory(), 'bin');
    mkdirSync(programs);
    const fake = join(programs, 'fusermount3');
    writeFileSync(fake, '#!/bin/sh\necho $$ >"$0.pid"\nexec sleep 600\n');
    chmodSync(fake, 0o755);
    const { report: found } = await room.report(['env', `PATH=${programs}:${process.env['PATH']}`]);
    expect(find(found, 'fusermount3')).toMatchObject({
      state: 'warn',
      found: expect.stringContaining('no answer in time'),
    });
    expect(isRunning(Number(readFileSync(`${fake}.pid`, 'utf8')))).toBe(false);
  });

  /** Programs on whose command line its temporary directory is. */
  const helpers = (): string[] =>
    readdirSync('/proc').filter((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(room.temporary);
      } catch {
        return false;
      }
    });

  test.each([
    ['has only begun', () => readdirSync(room.temporary).length > 0],
    ['has a mount made', () => helpers().length > 1],
  ])('leaves nothing when it is interrupted when it %s', async (_when, isThere) => {
    const env = room.env;
    const child = spawn(process.execPath, [commandPath, 'doctor'], { stdio: 'ignore', env });
    room.scope.defer(() => void child.kill('SIGKILL'));
    await waitUntil('it is so far', isThere);
    child.kill('SIGTERM');
    expect(await within('its end', 20_000, exitOf(child))).toBe(128);
    expect(readdirSync(room.temporary)).toEqual([]);
    await waitUntil('what it started has ended', () => helpers().length === 0);
  });

  test('without the addon says how to build it', async () => {
    const folder = room.scope.directory();
    const project = join(import.meta.dirname, '../..');
    cpSync(join(project, 'dist'), join(folder, 'dist'), { recursive: true });
    cpSync(join(project, 'package.json'), join(folder, 'package.json'));
    symlinkSync(join(project, 'node_modules'), join(folder, 'node_modules'));
    const command = join(folder, 'dist/cli/composefs-fuse.js');
    const { code, stdout } = await runCommand(process.execPath, [command, 'doctor', '--json']);
    const found = JSON.parse(stdout) as Report;
    expect(find(found, 'addon')).toMatchObject({
      state: 'fail',
      remedy: expect.stringContaining('npm run build:native'),
    });
    expect(find(found, 'fuse-mount').state).toBe('skip');
    expect(found.rung).toBe('none');
    expect(code).toBe(4);
  });
});
