// Mounting without being root: through fusermount3, and in a user namespace of one's own.

import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { mustRun, runCommand, within } from '../support/command.ts';
import { detach, mountAt, mountForeground, mountOurs, ourCommand } from '../support/mounts.ts';
import {
  asNobody,
  describeWith,
  needsAllowOtherForbidden,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsUserNamespaces,
} from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const [command = '', ...prefix] = asNobody;

function nobodyRuns(...args: string[]): ReturnType<typeof runCommand> {
  return runCommand(command, [...prefix, ...args], { env: { ...process.env, LC_ALL: 'C' } });
}

describeWith(
  [...needsOurMount, needsNobody, needsFusermount, needsOpenFuse],
  'an ordinary user',
  () => {
    const scope = scopeOfEachTest();
    let sample: SampleImage;
    let mountpoint: string;

    beforeEach(() => {
      sample = sampleImage(scope);
      mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      chownSync(mountpoint, 65534, 65534);
      scope.defer(() => detach(mountpoint));
    });

    test('mounts and unmounts through fusermount3', async () => {
      const mount = await mountOurs(scope, { ...sample, mountpoint, as: asNobody });
      expect(mountAt(mountpoint)).toMatchObject({ source: sample.image, type: 'fuse.composefs' });
      expect(mountAt(mountpoint)?.options).toEqual(expect.arrayContaining(['nosuid', 'nodev']));
      expect(mountAt(mountpoint)?.superOptions).toContain('user_id=65534');
      expect((await nobodyRuns('cat', join(mountpoint, 'hello'))).stdout).toBe('hello\n');
      expect(
        (await nobodyRuns('cmp', join(mountpoint, 'big'), sample.objects.at('big'))).code,
      ).toBe(0);
      expect((await nobodyRuns('fusermount3', '-u', mountpoint)).code).toBe(0);
      expect(await within('its end', 10_000, mount.ended)).toBe(0);
    });

    test('is not told to give nonempty, which fusermount3 does not have', async () => {
      await mountOurs(scope, { ...sample, mountpoint, as: asNobody });
      const outcome = await nobodyRuns(...ourCommand, sample.image, mountpoint);
      expect(outcome.stderr).toMatch(
        /^composefs-fuse: mountpoint .* is busy: .* unmount it first\n$/,
      );
      expect(outcome.code).toBe(3);
    });

    test('keeps the mount closed to other users, root among them', async () => {
      await mountOurs(scope, { ...sample, mountpoint, as: asNobody });
      const outcome = await runCommand('cat', [join(mountpoint, 'hello')]);
      expect(outcome.code).not.toBe(0);
    });

    test('ends the mount with a signal', async () => {
      const mount = await mountForeground(scope, { ...sample, mountpoint, as: asNobody });
      process.kill(mount.pid, 'SIGTERM');
      expect(await within('its end', 10_000, mount.ended)).toBe(0);
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    describeWith([needsAllowOtherForbidden], 'who may not let others in', () => {
      test('is told why', async () => {
        const args = [
          '-o',
          'allow_other',
          '--basedir',
          sample.objects.path,
          sample.image,
          mountpoint,
        ];
        const outcome = await nobodyRuns(...ourCommand, ...args);
        expect(outcome.code).toBe(4);
        expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]*user_allow_other[^\n]*\n$/);
      });
    });
  },
);

describeWith(
  [...needsOurMount, needsNobody, needsOpenFuse, needsUserNamespaces],
  'a user namespace',
  () => {
    const scope = scopeOfEachTest();

    test('mounts, reads and unmounts with no help from outside', async () => {
      const sample = sampleImage(scope);
      const folder = scope.directory();
      chmodSync(folder, 0o777);
      const script = `
      set -e
      mkdir "$1/mnt"
      folder="$1"; image="$2"; basedir="$3"; shift 3
      "$@" --log-file "$folder/log" --basedir "$basedir" "$image" "$folder/mnt"
      cat "$folder/mnt/hello"
      cmp "$folder/mnt/big" "$basedir/big"
      stat -c '%u %a' "$folder/mnt/hello"
      umount "$folder/mnt"
      test ! -e "$folder/mnt/hello"
    `;
      const namespace = [
        'unshare',
        '--user',
        '--map-root-user',
        '--mount',
        'sh',
        '-c',
        script,
        'sh',
      ];
      const args = [...namespace, folder, sample.image, sample.objects.path, ...ourCommand];
      const outcome = await nobodyRuns(...args);
      // Owners in the image are those of the namespace.
      expect(outcome).toMatchObject({ code: 0, stdout: 'hello\n0 644\n', stderr: '' });
      await mustRun('test', ['-e', join(folder, 'log')]);
    });
  },
);
