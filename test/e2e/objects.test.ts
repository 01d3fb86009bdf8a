// Objects that are missing or not what the image says: the reader gets an errno, the log one line
// with file and object, and every other file goes on being served.

import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { mustRun, runCommand } from '../support/command.ts';
import { directory } from '../support/image-nodes.ts';
import { mountForeground, mountOurs } from '../support/mounts.ts';
import type { OurMount } from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const messages: Readonly<Record<string, string>> = {
  ENOENT: 'No such file or directory',
  EIO: 'Input/output error',
};

describeWith(needsOurMount, 'an object', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let mount: OurMount;

  beforeEach(async () => {
    sample = makeImage(scope, (objects) =>
      directory({
        sub: directory({
          file: objects.addAt('ab/object', patternBytes(10_000)),
          'with "quotes"\n': objects.addAt('ab/quoted', 'quoted'),
        }),
        good: objects.addAt('good', 'good\n'),
      }),
    );
    mount = await mountForeground(scope, sample);
  });

  /** Puts something else in the object's place, reads the file, and returns the log lines. */
  async function readWith(change: (object: string) => unknown, errno: string): Promise<string[]> {
    await change(sample.objects.at('ab/object'));
    const path = join(mount.mountpoint, 'sub/file');
    for (let i = 0; i < 3; i++) {
      const outcome = await runCommand('cat', [path], { env: { ...process.env, LC_ALL: 'C' } });
      expect(outcome).toMatchObject({ code: 1, stdout: '' });
      expect(outcome.stderr).toContain(messages[errno]);
    }
    expect((await mustRun('cat', [join(mount.mountpoint, 'good')])).stdout).toBe('good\n');
    expect((await mustRun('stat', ['-c', '%s', path])).stdout).toBe('10000\n');
    await mount.unmount();
    return mount
      .log()
      .split('\n')
      .filter((line) => line.includes('ab/object'));
  }

  const remove = (object: string): void => rmSync(object);
  const replaced = (make: (object: string) => unknown) => (object: string) => {
    remove(object);
    return make(object);
  };

  test.each<[string, (object: string) => unknown, string]>([
    ['that is missing', remove, 'ENOENT'],
    ['that is too short', (object) => truncateSync(object, 9_999), 'EIO'],
    ['that is too long', (object) => truncateSync(object, 10_001), 'EIO'],
    ['that is empty', (object) => truncateSync(object, 0), 'EIO'],
    ['that is a directory', replaced((object) => mkdirSync(object)), 'EIO'],
    ['that is a FIFO', replaced((object) => mustRun('mkfifo', [object])), 'EIO'],
    ['that is a device', replaced((object) => mustRun('mknod', [object, 'c', '1', '5'])), 'EIO'],
    ['that is a symlink', replaced((object) => symlinkSync('../good', object)), 'EIO'],
    [
      'that is a symlink out of the base directory',
      replaced((object) => {
        writeFileSync(join(sample.objects.path, '../outside'), patternBytes(10_000));
        symlinkSync('../../outside', object);
      }),
      'EIO',
    ],
  ])('%s fails the open and is logged once with file and object', async (_what, change, errno) => {
    const lines = await readWith(change, errno);
    expect(lines).toHaveLength(1);
    const event = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    expect(event).toMatchObject({ level: 40, path: '/sub/file', errno });
    expect(event['objectPath']).toContain('ab/object');
  });

  test('is found again when it has been put back', async () => {
    const object = sample.objects.at('ab/object');
    const content = readFileSync(object);
    const path = join(mount.mountpoint, 'sub/file');
    remove(object);
    expect((await runCommand('cat', [path])).code).toBe(1);
    writeFileSync(object, content);
    await mustRun('cmp', [path, object]);
  });

  test('that is removed while a file of it is open goes on being read', async () => {
    const path = join(mount.mountpoint, 'sub/file');
    const script = 'exec 3< "$1"; rm "$2"; echo 1 > /proc/sys/vm/drop_caches; cat <&3';
    const outcome = await mustRun('sh', ['-c', script, 'sh', path, sample.objects.at('ab/object')]);
    expect(outcome.stdout.length).toBeGreaterThan(0);
  });

  test('of a file with a hostile name is logged on one line', async () => {
    rmSync(sample.objects.at('ab/quoted'));
    const path = join(mount.mountpoint, 'sub/with "quotes"\n');
    expect((await runCommand('cat', [path])).code).toBe(1);
    await mount.unmount();
    const lines = mount
      .log()
      .split('\n')
      .filter((line) => line.includes('ab/quoted'));
    expect(lines).toHaveLength(1);
    expect(() => JSON.parse(lines[0] ?? '')).not.toThrow();
  });
});

describeWith(needsOurMount, 'several base directories', () => {
  const scope = scopeOfEachTest();

  describe.each([
    ['given one by one', (a: string, b: string) => ['--basedir', a, '--basedir', b]],
    ['given as a list', (a: string, b: string) => ['--basedir', `${a}:${b}`]],
    ['given as a mount option', (a: string, b: string) => ['-o', `basedir=${a}:${b}`]],
    ['given in two mount options', (a: string, b: string) => ['-o', `basedir=${a},basedir=${b}`]],
  ])('%s', (_how, argumentsFor) => {
    test('are searched in order', async () => {
      const second = makeImage(scope, (objects) =>
        directory({
          both: objects.addAt('both', 'no 2'),
          second: objects.addAt('second', 'second'),
        }),
      );
      const first = makeImage(scope, (objects) =>
        directory({ both: objects.addAt('both', 'no 1') }),
      );
      const args = argumentsFor(first.objects.path, second.objects.path);
      const { mountpoint } = await mountOurs(scope, { image: second.image, args });
      expect((await mustRun('cat', [join(mountpoint, 'both')])).stdout).toBe('no 1');
      expect((await mustRun('cat', [join(mountpoint, 'second')])).stdout).toBe('second');
    });
  });

  test('may have a colon in the name when it is quoted', async () => {
    const sample = makeImage(scope, (objects) =>
      directory({ file: objects.addAt('object', 'content') }),
    );
    const folder = join(scope.directory(), 'a:b');
    mkdirSync(folder);
    writeFileSync(join(folder, 'object'), 'content');
    const args = ['--basedir', folder.replace(':', '\\:')];
    const { mountpoint } = await mountOurs(scope, { image: sample.image, args });
    expect((await mustRun('cat', [join(mountpoint, 'file')])).stdout).toBe('content');
  });
});
