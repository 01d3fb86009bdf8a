// Everything that can be wrong when the command starts: one line on the terminal that says what, an
// exit code by kind, and nothing mounted; the same in the background and in the foreground.

import {
  chmodSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  detach,
  mountAt,
  mountForeground,
  mountOurs,
  ourCommand,
  runOurs,
} from '../support/mounts.ts';
import { launcherPath } from '../support/command.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, file } from '../support/image-nodes.ts';
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

const USAGE = 1;
const IMAGE = 2;
const INPUT = 3;
const MOUNT = 4;

for (const mode of ['in the background', 'in the foreground', 'through the shell']) {
  const modeFlags = mode === 'in the foreground' ? ['--foreground'] : [];
  const command = mode === 'through the shell' ? [launcherPath] : ourCommand;

  describeWith(needsOurMount, `starting ${mode}`, () => {
    const scope = scopeOfEachTest();
    let sample: SampleImage;
    let mountpoint: string;
    let folder: string;

    beforeEach(() => {
      sample = sampleImage(scope);
      folder = scope.directory();
      mountpoint = join(folder, 'mnt');
      mkdirSync(mountpoint);
      chmodSync(mountpoint, 0o777);
      scope.defer(() => detach(mountpoint));
    });

    interface Failure {
      code: number;
      /** What the one line must contain, besides the program's name. */
      says: readonly (string | RegExp)[];
    }

    /** Runs the command and holds what it says and leaves behind against `failure`. */
    async function expectFailure(
      args: readonly string[],
      failure: Failure,
      as: readonly string[] = [],
    ): Promise<void> {
      const before = mountAt(mountpoint);
      const outcome = await runOurs([...modeFlags, ...args], as, command);
      expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]+\n$/);
      for (const part of failure.says)
        if (typeof part === 'string') expect(outcome.stderr).toContain(part);
        else expect(outcome.stderr).toMatch(part);
      expect(outcome.stdout).toBe('');
      expect(outcome.code).toBe(failure.code);
      expect(mountAt(mountpoint)).toEqual(before);
    }

    const basedir = (): string[] => ['--basedir', sample.objects.path];

    describe('names what is wrong with the image', () => {
      const refuse = (path: string, ...says: (string | RegExp)[]): Promise<void> =>
        expectFailure([...basedir(), path, mountpoint], { code: IMAGE, says: [path, ...says] });

      test('that does not exist', () => refuse(join(folder, 'absent.cfs'), /not exist|ENOENT/));
      test('that is a directory', () => refuse(folder, /not a regular file/));
      test('that is empty', async () => {
        const path = join(folder, 'empty');
        writeFileSync(path, '');
        await refuse(path);
      });
      test('that is something else', async () => {
        const path = join(folder, 'text');
        writeFileSync(path, 'This is not an image.\n'.repeat(1000));
        await refuse(path, /not a composefs image/i);
      });
      test.each([100, 1024, 2000, 4096, 8192])('that is cut off after %d bytes', async (length) => {
        const path = join(folder, 'cut');
        writeFileSync(path, buildImage(directory({ a: file('x'.repeat(10_000)) })));
        truncateSync(path, length);
        await refuse(path, /truncated|too small|short|cut|beyond|outside|damaged/i);
      });
      test('that is plain EROFS without the header of composefs', async () => {
        const path = join(folder, 'plain');
        writeFileSync(path, readFileSync(sample.image).fill(0, 0, 32));
        await refuse(path, /not a composefs image/i);
      });
      test.each([
        ['header version 2', 4, 2],
        ['a block size of 8 KiB', 1024 + 12, 13],
        ['an unknown incompatible feature', 1024 + 80, 2],
        ['compression', 1024 + 84, 1],
        ['extra devices', 1024 + 86, 1],
      ])('that has %s', async (_what, offset, value) => {
        const path = join(folder, 'unsupported');
        const bytes = readFileSync(sample.image);
        bytes.writeUInt8(value, offset);
        writeFileSync(path, bytes);
        await refuse(path, /unsupported|not supported|support/i);
      });
      test('that may not be read', async () => {
        chmodSync(sample.image, 0o600);
        const says = [sample.image, /permi|EACCES|read/i];
        await expectFailure(
          [...basedir(), sample.image, mountpoint],
          { code: IMAGE, says },
          asNobody,
        );
      });
    });

    describe('names what is wrong with a base directory', () => {
      const refuse = (path: string, ...says: (string | RegExp)[]): Promise<void> =>
        expectFailure(['--basedir', path, sample.image, mountpoint], {
          code: INPUT,
          says: [path, ...says],
        });
      test('that does not exist', () => refuse(join(folder, 'absent'), 'does not exist'));
      test('that is a file', () => refuse(sample.image, 'not a directory'));
      test('that is needed and not given', () =>
        expectFailure([sample.image, mountpoint], { code: INPUT, says: ['--basedir'] }));
      test('that stands behind a good one', () => {
        const absent = join(folder, 'absent');
        const both = `${sample.objects.path}:${absent}`;
        return expectFailure(['--basedir', both, sample.image, mountpoint], {
          code: INPUT,
          says: [absent],
        });
      });
    });

    describe('names what is wrong with the mountpoint', () => {
      const refuse = (path: string, code: number, ...says: (string | RegExp)[]): Promise<void> =>
        expectFailure([...basedir(), sample.image, path], { code, says: [path, ...says] });

      test('that does not exist', () => refuse(join(folder, 'absent'), INPUT, 'does not exist'));
      test('that is a file', () => refuse(sample.image, INPUT, 'not a directory'));
      test('that is in use', async () => {
        await mountOurs(scope, { image: sample.image, basedirs: sample.basedirs, mountpoint });
        await refuse(mountpoint, INPUT, /busy/, sample.image);
      });
      test('that is a dead mount, with the way out', async () => {
        const mount = await mountForeground(scope, {
          image: sample.image,
          basedirs: sample.basedirs,
          mountpoint,
        });
        process.kill(mount.pid, 'SIGKILL');
        await mount.ended;
        await refuse(mountpoint, INPUT, /dead/, /fusermount3 -u|umount/);
      });
    });

    describe('names what is wrong with the command line', () => {
      test.each([
        ['no arguments', [], /missing/i],
        ['no mountpoint', ['IMAGE'], /MOUNTPOINT/],
        ['one argument too many', ['a', 'b', 'c'], /"c"/],
        ['an unknown option', ['--frobnicate', 'a', 'b'], /--frobnicate/],
        ['an unknown mount option', ['-o', 'ro,frobnicate', 'a', 'b'], /frobnicate/],
        ['a thread count that is none', ['--threads', 'two', 'a', 'b'], /--threads/],
        ['a thread count out of range', ['--threads', '0', 'a', 'b'], /--threads/],
        ['an unknown log level', ['--log-level', 'loud', 'a', 'b'], /loud/],
        ['two different images', ['-o', 'source=x', 'a', 'b'], /two images/],
      ])('with %s', async (_what, args, says) => {
        await expectFailure(args, { code: USAGE, says: [says] });
      });
    });

    test('names a log file that cannot be written', () => {
      const path = join(folder, 'absent/log');
      return expectFailure([...basedir(), '--log-file', path, sample.image, mountpoint], {
        code: INPUT,
        says: [path],
      });
    });

    test('names a pid file that cannot be written, and does not stay mounted', () => {
      const path = join(folder, 'absent/pid');
      const args = [...basedir(), '--log-level', 'silent', '--pid-file', path];
      return expectFailure([...args, sample.image, mountpoint], { code: INPUT, says: [path] });
    });

    test('says how to get a missing /dev/fuse', () => {
      const script =
        'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && ' +
        'mknod -m 666 /dev/urandom c 1 9 && exec "$@"';
      const as = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
      const says = ['/dev/fuse is missing', 'modprobe fuse'];
      return expectFailure([...basedir(), sample.image, mountpoint], { code: MOUNT, says }, as);
    });

    describeWith([needsNobody, needsFusermount, needsOpenFuse], 'without permission', () => {
      test('says that root needs its capability', () => {
        const as = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'];
        const says = [mountpoint, /not permitted/];
        return expectFailure([...basedir(), sample.image, mountpoint], { code: MOUNT, says }, as);
      });

      test('says that fusermount3 is missing', () => {
        const programs = scope.directory();
        chmodSync(programs, 0o755);
        // What the shell needs to get as far as that.
        symlinkSync(process.execPath, join(programs, 'node'));
        symlinkSync('/usr/bin/readlink', join(programs, 'readlink'));
        const as = [...asNobody, 'env', `PATH=${programs}`];
        const says = ['not permitted', 'fusermount3 is not installed', 'fuse3'];
        return expectFailure([...basedir(), sample.image, mountpoint], { code: MOUNT, says }, as);
      });

      test('passes on why fusermount3 refuses', () => {
        chmodSync(mountpoint, 0o755);
        const says = ['not permitted', 'fusermount3', mountpoint];
        return expectFailure(
          [...basedir(), sample.image, mountpoint],
          { code: MOUNT, says },
          asNobody,
        );
      });
    });
  });
}

describeWith(needsOurMount, 'an image without external files', () => {
  const scope = scopeOfEachTest();

  test('mounts without a base directory', async () => {
    const image = join(scope.directory(), 'image.cfs');
    writeFileSync(image, buildImage(directory({ hello: file('hello') })));
    const mount = await mountOurs(scope, { image });
    expect(await mount.unmount()).toBe(0);
  });
});
