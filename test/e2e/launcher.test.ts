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
  python,
  runCommand,
  waitUntil,
  within,
} from '../support/command.ts';
import { detach, isRunning, mountAt, openDescriptors } from '../support/mounts.ts';
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

  test.each([
    ['the shell script', [launcherPath]],
    ['Node.js', [process.execPath, commandPath]],
  ])('started by %s, the daemon has no descriptor of its caller', async (_who, command) => {
    const file = join(folder, 'held');
    writeFileSync(file, '');
    // The numbers of one digit, those that Node.js marks close-on-exec, and those beyond a gap. The last
    // is a pipe, as of $(...): reading it ends when nobody has it open any more.
    const script = `
import os, subprocess, sys
held = os.open(sys.argv[1], os.O_RDONLY)
numbers = [4, 9, 10, 12, 20, 63]
reader, writer = (os.dup(fd) for fd in os.pipe())
for number in numbers: os.dup2(held, number)
code = subprocess.run(sys.argv[2:], pass_fds=[*numbers, writer]).returncode
os.close(writer)
for number in range(3, 64):
    if number != reader:
        try: os.close(number)
        except OSError: pass
print(code, len(os.read(reader, 1)))
`;
    const outcome = await mustRun(python, [
      ...['-I', '-c', script, file, ...command, ...mountArgs()],
    ]);
    expect(outcome.stdout).toBe('0 0\n');
    const pid = daemonPid();
    const held = openDescriptors(pid);
    expect(held).toContain('/dev/fuse');
    expect(held).not.toContain(file);
    await unmount(pid);
  });

  test('mounts in a current directory that has been removed', async () => {
    const script = 'cd "$(mktemp -d)" && rmdir "$PWD" && exec "$@"';
    await mustRun('sh', ['-c', script, 'sh', launcherPath, ...mountArgs()]);
    await unmount(daemonPid());
    const relative = ['--basedir', 'objects', sample.image, mountpoint];
    const refused = await runCommand('sh', ['-c', script, 'sh', launcherPath, ...relative]);
    expect(refused.code).toBe(3);
    expect(refused.stderr).toMatch(
      /^composefs-fuse: the current directory does not exist any more; give absolute paths\n$/m,
    );
  });

  test.each([
    ['/nonexistent', { PATH: '/nonexistent' }],
    // Where the system has a node of its own, it is found.
    ['empty', { PATH: '' }],
    ['missing', {}],
  ])('with a PATH that is %s, through a symlink', async (_what, env) => {
    const link = join(folder, 'composefs-fuse');
    symlinkSync(launcherPath, link);
    const usual = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
    const path = 'PATH' in env && env.PATH !== '' ? env.PATH : usual.join(':');
    const isFound = path.split(':').some((entry) => existsSync(join(entry, 'node')));
    const refusal =
      `composefs-fuse: node is not on PATH (${path}); ` +
      'install Node.js 20 or newer, or add its directory to PATH\n';
    const expected = isFound ? { code: 0, stderr: '' } : { code: 69, stderr: refusal };
    expect(await runCommand(link, ['--version'], { env })).toMatchObject(expected);
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
