// The life of a mount from outside: what the mount table says, every way to end it, and what is left
// when the daemon dies.

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { exitOf, mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
import { transportsUnderTest } from '../support/fuse-native.ts';
import {
  detach,
  isRunning,
  mountAt,
  mountForeground,
  mountOurs,
  openDescriptors,
  runOurs,
} from '../support/mounts.ts';
import { describeWith, needsFusermount, needsOurMount } from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

for (const transport of transportsUnderTest)
  describeWith([...needsOurMount, ...transport.requirements], `a mount ${transport.title}`, () => {
    const scope = scopeOfEachTest();
    let sample: SampleImage & { args: readonly string[] };
    beforeEach(() => {
      sample = { ...sampleImage(scope), args: transport.args };
    });

    const modes = { background: mountOurs, foreground: mountForeground };

    test('stands in the mount table with its image, its type and safe options', async () => {
      const { mountpoint } = await mountOurs(scope, sample);
      const entry = mountAt(mountpoint);
      expect(entry).toMatchObject({ source: sample.image, type: 'fuse.composefs' });
      expect(entry?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']));
      expect(entry?.superOptions).toEqual(
        expect.arrayContaining(['ro', 'user_id=0', 'default_permissions', 'allow_other']),
      );
    });

    test('takes source, flags and name from mount options', async () => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
      const options = `source=${sample.image},basedir=${sample.objects.path},noexec,suid,dev,fsname=my image`;
      const outcome = await runOurs([...transport.args, '-o', options, mountpoint]);
      expect(outcome).toMatchObject({ code: 0, stdout: '', stderr: '' });
      const entry = mountAt(mountpoint);
      expect(entry).toMatchObject({ source: 'my image', type: 'fuse.composefs' });
      expect(entry?.options).toContain('noexec');
      expect(entry?.options).not.toContain('nosuid');
      expect(entry?.options).not.toContain('nodev');
      await mustRun('umount', [mountpoint]);
    });

    test('can be made the way mount(8) calls its helpers', async () => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
      const options = `rw,nodev,basedir=${sample.objects.path}`;
      const outcome = await runOurs([
        ...transport.args,
        sample.image,
        mountpoint,
        '-n',
        '-v',
        '-t',
        'fuse.composefs',
        '-o',
        options,
      ]);
      expect(outcome).toMatchObject({ code: 0, stderr: '' });
      expect(mountAt(mountpoint)?.superOptions).toContain('ro');
      await mustRun('umount', [mountpoint]);
    });

    test('keeps neither its directory nor the terminal of its starter', async () => {
      const mount = await mountOurs(scope, sample);
      // The helper that started it waits for the end of its output; so would a shell's $(...).
      const { stdout } = await mustRun('readlink', [`/proc/${mount.pid}/cwd`]);
      expect(stdout).toBe('/\n');
      expect(openDescriptors(mount.pid).filter((target) => target.includes('pts'))).toEqual([]);
      expect((await mustRun('ps', ['-o', 'tty=', '-p', String(mount.pid)])).stdout.trim()).toBe(
        '?',
      );
    });

    test('writes its process id while it serves and removes it at the end', async () => {
      const pidFile = join(scope.directory(), 'pid');
      const mount = await mountForeground(scope, {
        ...sample,
        args: [...transport.args, '--pid-file', pidFile],
      });
      await waitUntil('the pid file is there', () => existsSync(pidFile));
      expect(readFileSync(pidFile, 'utf8')).toBe(`${mount.pid}\n`);
      await mount.unmount();
      expect(existsSync(pidFile)).toBe(false);
    });

    for (const [mode, mountIn] of Object.entries(modes)) {
      describe(`in the ${mode}`, () => {
        test('ends with exit code 0 when umount(8) removes it', async () => {
          const mount = await mountIn(scope, sample);
          expect(await mount.unmount()).toBe(0);
          expect(mountAt(mount.mountpoint)).toBeUndefined();
        });

        for (const signal of ['SIGTERM', 'SIGINT'] as const)
          test(`unmounts and ends with exit code 0 on ${signal}`, async () => {
            const mount = await mountIn(scope, sample);
            process.kill(mount.pid, signal);
            expect(await within('its end', 10_000, mount.ended)).toBe(0);
            expect(mountAt(mount.mountpoint)).toBeUndefined();
          });

        test('is served until the last file is closed after a lazy unmount', async () => {
          const mount = await mountIn(scope, sample);
          const reader = spawn('tail', ['-c', '+1', '-f', join(mount.mountpoint, 'hello')]);
          scope.defer(() => void reader.kill('SIGKILL'));
          await new Promise((resolve) => reader.stdout.once('data', resolve));
          await mustRun('umount', ['-l', mount.mountpoint]);
          expect(mountAt(mount.mountpoint)).toBeUndefined();
          expect(isRunning(mount.pid)).toBe(true);
          reader.kill('SIGKILL');
          expect(await within('its end', 10_000, mount.ended)).toBe(0);
        });

        test('refuses to be unmounted while it is in use, and goes on', async () => {
          const mount = await mountIn(scope, sample);
          const user = spawn('sleep', ['60'], { cwd: mount.mountpoint });
          scope.defer(() => void user.kill('SIGKILL'));
          await new Promise((resolve) => user.once('spawn', resolve));
          const outcome = await runCommand('umount', [mount.mountpoint]);
          expect(outcome.code).not.toBe(0);
          expect(outcome.stderr).toContain('busy');
          expect((await mustRun('cat', [join(mount.mountpoint, 'hello')])).stdout).toBe('hello\n');
          user.kill('SIGKILL');
          await exitOf(user);
          expect(await mount.unmount()).toBe(0);
        });

        test('leaves nothing in the mount table when stopped while in use', async () => {
          const mount = await mountIn(scope, sample);
          const user = spawn('sleep', ['60'], { cwd: mount.mountpoint });
          scope.defer(() => void user.kill('SIGKILL'));
          await new Promise((resolve) => user.once('spawn', resolve));
          process.kill(mount.pid, 'SIGTERM');
          await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
          user.kill('SIGKILL');
          expect(await within('its end', 10_000, mount.ended)).toBe(0);
        });

        test('ends at once on a second signal although files are open', async () => {
          const mount = await mountIn(scope, sample);
          const user = spawn('sleep', ['60'], { cwd: mount.mountpoint });
          scope.defer(() => void user.kill('SIGKILL'));
          await new Promise((resolve) => user.once('spawn', resolve));
          process.kill(mount.pid, 'SIGTERM');
          await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
          process.kill(mount.pid, 'SIGTERM');
          await within('its end', 2_000, mount.ended);
        });
      });
    }

    describeWith([needsFusermount], 'with fusermount3', () => {
      for (const [mode, mountIn] of Object.entries(modes))
        test(`ends with exit code 0 in the ${mode}`, async () => {
          const mount = await mountIn(scope, sample);
          await mustRun('fusermount3', ['-u', mount.mountpoint]);
          expect(await within('its end', 10_000, mount.ended)).toBe(0);
        });
    });

    test('can be made, used and removed many times over one directory', async () => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      for (let i = 0; i < 5; i++) {
        const mount = await mountOurs(scope, { ...sample, mountpoint });
        expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
        expect(await mount.unmount()).toBe(0);
      }
    });

    // fuse-native mounts over nothing that is a mount already: see fuse-native.test.ts.
    if (!transport.isFuseNative)
      test('takes another one on top when told so, and each ends by itself', async () => {
        const below = await mountOurs(scope, sample);
        const { mountpoint } = below;
        const above = await mountOurs(scope, { ...sample, mountpoint, args: ['-o', 'nonempty'] });
        expect(await above.unmount()).toBe(0);
        expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
        expect(await below.unmount()).toBe(0);
      });

    describe('whose daemon was killed', () => {
      test('answers ENOTCONN, and can be replaced after umount', async () => {
        const mount = await mountForeground(scope, sample);
        const { mountpoint } = mount;
        await mustRun('cat', [join(mountpoint, 'hello')]);
        process.kill(mount.pid, 'SIGKILL');
        await mount.ended;
        const outcome = await runCommand('ls', [mountpoint], {
          env: { ...process.env, LC_ALL: 'C' },
        });
        expect(outcome.stderr).toContain('not connected');
        await mustRun('umount', [mountpoint]);
        const next = await mountOurs(scope, { ...sample, mountpoint });
        expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
        expect(await next.unmount()).toBe(0);
      });

      const readers: [title: string, data: string, outcome: RegExp][] = [
        ['fails its readers instead of hanging them', 'daemon', /errno (5|103|107)/],
      ];
      // The kernel needs nobody to go on.
      if (!transport.isFuseNative)
        readers.push([
          'leaves those alone whom the kernel serves',
          'passthrough',
          /read everything/,
        ]);
      test.each(readers)('%s', async (_what, data, outcome) => {
        const mount = await mountForeground(scope, {
          ...sample,
          args: [...transport.args, '--data', data],
        });
        const script = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
sys.stdin.readline()
try:
    for at in range(0, 3000000, 4096):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(fd, 4096, at)
    print("read everything")
except OSError as error:
    print("errno", error.errno)
`;
        const reader = spawn(python, ['-c', script, join(mount.mountpoint, 'big')]);
        scope.defer(() => void reader.kill('SIGKILL'));
        let output = '';
        reader.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
        await waitUntil('the file is open', () => output.includes('open'));
        process.kill(mount.pid, 'SIGKILL');
        await mount.ended;
        reader.stdin.end('\n');
        expect(await within('the end of the reader', 10_000, exitOf(reader))).toBe(0);
        expect(output).toMatch(outcome);
      });
    });

    test('serves the image that was opened, whatever happens to the file', async () => {
      const mount = await mountOurs(scope, sample);
      writeFileSync(sample.image, 'overwritten');
      await mustRun('sh', ['-c', 'echo 2 > /proc/sys/vm/drop_caches']);
      const { mountpoint } = mount;
      expect((await mustRun('cat', [join(mountpoint, 'sub/inner')])).stdout).toBe('inner\n');
      expect(await mount.unmount()).toBe(0);
    });
  });
