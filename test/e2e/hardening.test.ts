// What went wrong once: each test is a way in which somebody could hurt the daemon, or the daemon
// somebody else.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { mustRun, python, runCommand, waitUntil } from '../support/command.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, external, file, type TestDirectory } from '../support/image-nodes.ts';
import { detach, isRunning, mountAt, mountOurs, ourCommand, runOurs } from '../support/mounts.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage, sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

describeWith(needsOurMount, 'the daemon', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let folder: string;
  let mountpoint: string;
  let pidFile: string;

  beforeEach(() => {
    sample = sampleImage(scope);
    folder = scope.directory();
    mountpoint = join(folder, 'mnt');
    mkdirSync(mountpoint);
    pidFile = join(folder, 'pid');
    scope.defer(() => detach(mountpoint));
  });

  const start = (...more: string[]) =>
    runOurs([
      '--basedir',
      sample.objects.path,
      '--pid-file',
      pidFile,
      ...more,
      sample.image,
      mountpoint,
    ]);
  const pid = () => Number(readFileSync(pidFile, 'utf8'));
  const hasEnded = (id: number) => waitUntil('the daemon has ended', () => !isRunning(id));

  test('answers statfs when it is mounted over the directory of its own image', async () => {
    const image = join(mountpoint, 'image.cfs');
    writeFileSync(image, buildImage(directory({ hello: file('hello') })));
    expect((await runOurs([image, mountpoint])).code).toBe(0);
    const outcome = await runCommand('stat', ['-f', mountpoint], { timeoutMs: 5000 });
    expect(outcome.code).toBe(0);
    await mustRun('umount', [mountpoint]);
  });

  test('leaves a file system alone that is mounted right after its own was unmounted', async () => {
    for (let round = 0; round < 5; round++) {
      expect((await start()).code).toBe(0);
      const daemon = pid();
      const script = 'umount "$1" && mount -t tmpfs foreign "$1"';
      await mustRun('sh', ['-c', script, 'sh', mountpoint]);
      await hasEnded(daemon);
      expect(mountAt(mountpoint)?.source).toBe('foreign');
      await mustRun('umount', [mountpoint]);
    }
  });

  test('unmounts after a parent of the mountpoint was renamed', async () => {
    const parent = join(folder, 'parent');
    const renamed = join(folder, 'renamed');
    mkdirSync(join(parent, 'mnt'), { recursive: true });
    mountpoint = join(parent, 'mnt');
    scope.defer(() => detach(join(renamed, 'mnt')));
    expect((await start()).code).toBe(0);
    const daemon = pid();
    renameSync(parent, renamed);
    process.kill(daemon, 'SIGTERM');
    await hasEnded(daemon);
    expect(mountAt(join(renamed, 'mnt'))).toBeUndefined();
  });

  test('can be stopped when users have opened as many files as it allows', async () => {
    const many = makeImage(scope, (objects) => {
      const children = Array.from({ length: 200 }, (_, i) => {
        const name = `object-${i}`;
        return [name, objects.addAt(name, Buffer.from(`content of ${i}`))] as const;
      });
      return directory(Object.fromEntries(children));
    });
    const command = ['ulimit -n 120; exec "$@"', 'sh', ...ourCommand, '--pid-file', pidFile];
    const args = ['-c', ...command, '--basedir', many.objects.path, many.image, mountpoint];
    await mustRun('bash', args);
    const daemon = pid();
    const opener = `
import errno, os, sys
opened = refused = 0
for name in os.listdir('.'):
    try:
        os.open(name, os.O_RDONLY)
        opened += 1
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        refused += 1
print(opened, refused, flush=True)
sys.stdin.read()`;
    const holder = spawn(python, ['-I', '-c', opener], {
      cwd: mountpoint,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [line] = (await once(holder.stdout, 'data')) as [Buffer];
    const [opened, refused] = line.toString().split(' ').map(Number);
    expect(opened).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(10);
    process.kill(daemon, 'SIGTERM');
    await waitUntil('the mount is gone', () => mountAt(mountpoint) === undefined);
    holder.stdin.end();
    await hasEnded(daemon);
  });

  test('either serves or says that it cannot, whatever the limit of descriptors', async () => {
    for (const limit of [24, 32, 40, 48, 56, 64, 80, 96, 128]) {
      const args = [...ourCommand, '--basedir', sample.objects.path, sample.image, mountpoint];
      const outcome = await runCommand('bash', [
        '-c',
        `ulimit -n ${limit}; exec "$@"`,
        'sh',
        ...args,
      ]);
      if (outcome.code === 0) {
        // Not only names: an object must find a descriptor, too.
        await mustRun('cmp', [join(mountpoint, 'big'), sample.objects.at('big')]);
        await mustRun('umount', [mountpoint]);
      } else {
        expect(mountAt(mountpoint), `limit ${limit}`).toBeUndefined();
        expect(limit).toBeLessThan(128);
        // With less than that Node.js itself does not start.
        if (limit >= 64) expect(outcome.stderr).toContain('ulimit -n');
      }
    }
  });

  test('keeps log lines short for an image whose directories contain themselves', async () => {
    const log = join(folder, 'log');
    const inner: TestDirectory = directory();
    const outer: TestDirectory = directory({ ['n'.repeat(255)]: inner });
    const lost = Array.from({ length: 50 }, (_, i) => external(10, { redirect: `/lost-${i}` }));
    const deep = directory(Object.fromEntries(lost.map((node, i) => [`x${i}`, node])));
    inner.children.push(['again', outer], ['deep', deep]);
    const image = join(folder, 'loop.cfs');
    writeFileSync(image, buildImage(directory({ a: outer })));
    const args = ['--basedir', sample.objects.path, '--log-file', log, '--pid-file', pidFile];
    expect((await runOurs([...args, image, mountpoint])).code).toBe(0);
    const reader = 'for f in "$1"/a/n*/deep/x*; do cat "$f"; done';
    await runCommand('sh', ['-c', reader, 'sh', mountpoint]);
    const daemon = pid();
    await mustRun('umount', [mountpoint]);
    await hasEnded(daemon);
    const lines = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.includes('object not'));
    expect(lines).toHaveLength(50);
    for (const line of lines) expect(line.length).toBeLessThan(6000);
  });

  test.each([
    ['a device', '/dev/null'],
    ['a file with something in it', undefined],
  ])('does not take %s for a pid file', async (_, given) => {
    const path = given ?? join(folder, 'precious');
    if (given === undefined) writeFileSync(path, 'precious');
    pidFile = path;
    const outcome = await start();
    expect(outcome.code).toBe(3);
    expect(outcome.stderr).toMatch(/is no pid file/);
    expect(mountAt(mountpoint)).toBeUndefined();
    if (given === undefined) expect(readFileSync(path, 'utf8')).toBe('precious');
  });

  test('leaves the pid file of a living daemon to it', async () => {
    expect((await start()).code).toBe(0);
    const first = pid();
    const second = join(folder, 'second');
    mkdirSync(second);
    const args = ['--basedir', sample.objects.path, '--pid-file', pidFile, sample.image, second];
    const outcome = await runOurs(args);
    expect(outcome.code).toBe(3);
    expect(outcome.stderr).toContain(`belongs to the running process ${first}`);
    await mustRun('umount', [mountpoint]);
    await hasEnded(first);
    expect(existsSync(pidFile)).toBe(false);
  });

  test('opens no debugger on SIGUSR1, and its log anew on SIGHUP', async () => {
    const log = join(folder, 'log');
    expect((await start('--log-file', log)).code).toBe(0);
    const daemon = pid();
    process.kill(daemon, 'SIGUSR1');
    renameSync(log, `${log}.1`);
    process.kill(daemon, 'SIGHUP');
    await waitUntil('the log is there again', () => existsSync(log));
    const socket = connect(9229, '127.0.0.1');
    const [refusal] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(refusal.code).toBe('ECONNREFUSED');
    expect(isRunning(daemon)).toBe(true);
    await mustRun('umount', [mountpoint]);
    await hasEnded(daemon);
    expect(readFileSync(log, 'utf8')).toContain('unmounted');
  });

  test.each([[['', 'mnt']], [['image', '']]])('refuses empty arguments: %j', async (args) => {
    const outcome = await runOurs(args);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/is empty/);
  });

  test('refuses a FIFO as log file instead of waiting for its reader', async () => {
    const fifo = join(folder, 'fifo');
    await mustRun('mkfifo', [fifo]);
    const outcome = await start('--log-file', fifo);
    expect(outcome.code).toBe(3);
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test('serves the image that it has read, whatever happens to the file', async () => {
    const image = join(folder, 'copy.cfs');
    copyFileSync(sample.image, image);
    const { mountpoint: ours } = await mountOurs(scope, { image, basedirs: sample.basedirs });
    writeFileSync(image, '');
    const hello = await mustRun('cat', [join(ours, 'hello')]);
    expect(hello.stdout).toBe('hello\n');
  });
});
