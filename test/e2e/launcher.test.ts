// The command as it is on a user's path: a shell script, which starts ordinary mounts by itself and
// leaves the rest to composefs-fuse.js. How it reports failures is in start-failures.test.ts.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import {
  commandPath,
  exitOf,
  launcherPath,
  mustRun,
  runCommand,
  waitUntil,
  within,
} from '../support/command.ts';
import { detach, isRunning, mountAt } from '../support/mounts.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

describeWith(needsOurMount, 'the shell in front of the command', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let folder: string;
  let mountpoint: string;
  let pidFile: string;

  beforeEach(() => {
    sample = sampleImage(scope);
    folder = scope.directory();
    mountpoint = join(folder, 'mnt');
    pidFile = join(folder, 'pid');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
  });

  const mountArgs = (): string[] => [
    ...['--basedir', sample.objects.path, '--pid-file', pidFile, sample.image, mountpoint],
  ];
  const daemonPid = (): number => Number(readFileSync(pidFile, 'utf8'));

  async function unmount(pid: number): Promise<void> {
    await mustRun('umount', [mountpoint]);
    await waitUntil('the daemon has ended', () => !isRunning(pid));
  }

  test('returns without a word when the mount can be used', async () => {
    const outcome = await runCommand(launcherPath, mountArgs());
    expect(outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
    expect(mountAt(mountpoint)?.type).toBe('fuse.composefs');
    const pid = daemonPid();
    // A session of its own, with nothing of the terminal.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
    expect(Number(stat[5])).toBe(pid);
    await unmount(pid);
  });

  test('works through a symlink, whatever the current directory and the name', async () => {
    const link = join(folder, 'a name');
    symlinkSync(launcherPath, link);
    const outcome = await runCommand('../a name', mountArgs(), { cwd: mountpoint });
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    await unmount(daemonPid());
  });

  test('gives the daemon no descriptor of its caller', async () => {
    const file = join(folder, 'held');
    writeFileSync(file, '');
    const script = 'exec 5<"$1" 9<"$1"; shift; exec "$@"';
    await mustRun('sh', ['-c', script, 'sh', file, launcherPath, ...mountArgs()]);
    const pid = daemonPid();
    const held = await runCommand('sh', ['-c', 'ls -l "/proc/$1/fd"', 'sh', String(pid)]);
    expect(held.stdout).toContain('/dev/fuse');
    expect(held.stdout).not.toContain(file);
    await unmount(pid);
  });

  test.each([
    ['help', ['--help']],
    ['its version', ['-V']],
    ['a missing argument', ['image.cfs']],
    ['no argument', []],
    ['an unknown option', ['--nonsense', 'image.cfs', '/mnt']],
    ['an unknown mount option', ['-o', 'nonsense', 'image.cfs', '/mnt']],
    ['words with blanks and quotes', ['a "b\' $c', '--verity=\n', '/mnt']],
  ])('says of %s what composefs-fuse.js says', async (_what, args) => {
    const [script, shell] = await Promise.all([
      runCommand(process.execPath, [commandPath, ...args]),
      runCommand(launcherPath, args),
    ]);
    expect(shell).toEqual(script);
    expect(shell.stdout + shell.stderr).not.toBe('');
  });

  test('stays in the foreground as the daemon itself', async () => {
    const args = [...mountArgs(), '-o', 'debug'];
    const daemon = spawn(launcherPath, args, { stdio: 'ignore' });
    scope.defer(() => void daemon.kill('SIGKILL'));
    await waitUntil('its number is known', () => existsSync(pidFile));
    expect(daemonPid()).toBe(daemon.pid);
    daemon.kill('SIGTERM');
    expect(await within('the end', 10_000, exitOf(daemon))).toBe(0);
  });

  test('is the helper of mount(8) under a name of that kind: -f mounts nothing', async () => {
    const helper = join(folder, 'mount.composefs-fuse');
    symlinkSync(launcherPath, helper);
    const args = [sample.image, mountpoint, '-f', '-o', `basedir=${sample.objects.path}`];
    expect(await runCommand(helper, args)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test('mounts where there is no setsid', async () => {
    const programs = join(folder, 'bin');
    mkdirSync(programs);
    symlinkSync(process.execPath, join(programs, 'node'));
    symlinkSync('/usr/bin/readlink', join(programs, 'readlink'));
    const env = { ...process.env, PATH: programs };
    const outcome = await runCommand(launcherPath, mountArgs(), { env });
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    await unmount(daemonPid());
  });

  test('reports a daemon that ends without a word', async () => {
    const preload = join(folder, 'dies.cjs');
    writeFileSync(
      preload,
      "if (process.env.COMPOSEFS_FUSE_READY_FD !== undefined) process.kill(process.pid, 'SIGKILL');",
    );
    const env = { ...process.env, NODE_OPTIONS: `--require=${preload}` };
    const outcome = await runCommand(launcherPath, mountArgs(), { env });
    expect(outcome).toMatchObject({
      code: 70,
      stderr: 'composefs-fuse: the daemon ended before the mount was ready (SIGKILL)\n',
    });
  });
});
