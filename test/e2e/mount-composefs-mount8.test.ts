// mount.composefs as mount(8) calls it: the type composefs, fstab, mount -a, -f, -N. In a private mount
// namespace where /sbin has the helper, so that nothing of this machine changes.

import { chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { type Outcome, runCommand } from '../support/command.ts';
import { mountComposefs } from '../support/mount-composefs.ts';
import { ObjectFolder, patternBytes } from '../support/object-folder.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, file } from '../support/image-nodes.ts';
import {
  asNobody,
  describeWith,
  needsDataLayers,
  needsFusermount,
  needsKernelComposefs,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
} from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';

describeWith(
  [...needsOurMount, needsDataLayers, needsKernelComposefs],
  'mount(8) with the type composefs',
  () => {
    const scope = scopeOfEachTest();
    let folder: string;
    beforeEach(() => {
      folder = scope.directory();
      for (const name of ['sbin', 'mnt']) mkdirSync(join(folder, name));
      symlinkSync(mountComposefs, join(folder, 'sbin/mount.composefs'));
      // Names that every list of options has to quote.
      const objects = new ObjectFolder(join(folder, 'the objects, all'));
      const tree = directory({ hello: file('hello\n'), big: objects.add(patternBytes(100_000)) });
      writeFileSync(join(folder, 'image.cfs'), buildImage(tree));
    });

    const basedir = (): string => `basedir=${folder}/the objects\\, all`;
    /** In `script`, the working directory has image.cfs and mnt. */
    function inNamespace(script: string, ...args: string[]): Promise<Outcome> {
      const prepared = `
        set -e
        mount -t overlay overlay -o "lowerdir=$1/sbin:/usr/sbin" /usr/sbin
        cd "$1"; shift
        trap 'umount -l mnt 2>/dev/null || :' EXIT
        ${script}`;
      const shell = ['--propagation', 'private', 'sh', '-c', prepared, 'sh', folder, ...args];
      return runCommand('unshare', ['--mount', ...shell]);
    }
    const shown = 'findmnt -rno SOURCE,FSTYPE mnt; cat mnt/hello; cat mnt/big | wc -c';

    test('mounts by the kernel, and umount ends it', async () => {
      const script = `mount -t composefs -o "$1" image.cfs mnt; ${shown}; umount mnt; ls mnt`;
      const outcome = await inNamespace(script, basedir());
      expect(outcome.stderr).toBe('');
      expect(outcome.stdout).toBe(`${folder}/image.cfs overlay\nhello\n100000\n`);
      expect(outcome.code).toBe(0);
    });

    test('mounts by FUSE when that is asked for', async () => {
      const script = `mount -t composefs -o "$1" image.cfs mnt; ${shown}; umount mnt; ls mnt`;
      const outcome = await inNamespace(script, `${basedir()},backend=fuse,noexec`);
      expect(outcome.stderr).toBe('');
      expect(outcome.stdout).toBe(`${folder}/image.cfs fuse.composefs\nhello\n100000\n`);
    });

    test('mounts from fstab, and mount -a mounts nothing twice', async () => {
      for (const more of ['', ',backend=overlay', ',backend=fuse']) {
        const escaped = basedir().replaceAll(' ', '\\040');
        const options = `${escaped},nofail,x-systemd.automount,_netdev${more}`;
        const line = `${folder}/image.cfs ${folder}/mnt composefs ${options} 0 0\n`;
        writeFileSync(join(folder, 'fstab'), line);
        const script = `
          mount -T fstab "$PWD/mnt"; cat mnt/hello
          mount -a -T fstab; mount -a -T fstab
          findmnt -rno TARGET | grep -c "$PWD/mnt"; umount mnt; ls mnt`;
        const outcome = await inNamespace(script);
        expect(outcome.stderr).toBe('');
        expect(outcome.stdout).toBe('hello\n1\n');
        expect(outcome.code).toBe(0);
      }
    });

    describeWith([needsNobody, needsFusermount, needsOpenFuse], 'by an ordinary user', () => {
      test('mounts by FUSE what fstab lets users mount, and that user unmounts it', async () => {
        const options = `${basedir().replaceAll(' ', '\\040')},user,noauto`;
        const line = `${folder}/image.cfs ${folder}/mnt composefs ${options} 0 0\n`;
        writeFileSync(join(folder, 'fstab'), line);
        chownSync(join(folder, 'mnt'), 65534, 65534);
        const script = `
          mount --bind fstab /etc/fstab
          exec ${asNobody.join(' ')} sh -ec '
            mount "$PWD/mnt"; findmnt -rno FSTYPE,OPTIONS mnt; cat mnt/hello; umount "$PWD/mnt"'`;
        const outcome = await inNamespace(script);
        expect(outcome.stderr).toBe('');
        expect(outcome.stdout).toMatch(/^fuse\.composefs ro,nosuid,nodev,noexec\S*\nhello\n$/);
        expect(outcome.code).toBe(0);
      });
    });

    test('checks with -f and mounts nothing, also where something is wrong', async () => {
      const script = 'mount -f -v -t composefs -o "$1" image.cfs mnt; ls mnt';
      expect(await inNamespace(script, basedir())).toMatchObject({ code: 0, stderr: '' });
      const outcome = await inNamespace(script, 'basedir=/nonexistent');
      expect(outcome.stderr).toMatch(/^mount\.composefs: base directory \/nonexistent does not/);
      expect(outcome.code).toBe(32);
    });

    test('says with -v which way was taken, and with -s minds no unknown option', async () => {
      const script = 'mount -v -s -t composefs -o "$1,zzz=1" image.cfs mnt';
      const outcome = await inNamespace(script, basedir());
      expect(outcome.stderr).toMatch(/^mount\.composefs: \S+ is mounted on \S+ by kernel \(/m);
      expect(outcome.code).toBe(0);
      const strict = await inNamespace('mount -t composefs -o "$1,zzz=1" image.cfs mnt', basedir());
      expect(strict.stderr).toMatch(/^mount\.composefs: unknown mount option "zzz"/);
      expect(strict.code).toBe(1);
    });

    test('mounts in another mount namespace with -N', async () => {
      const script = `
        unshare --mount --propagation private sleep 30 & other=$!
        while [ "$(readlink /proc/$other/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do
          sleep 0.02
        done
        code=0
        mount -N $other -t composefs -o "$1" "$PWD/image.cfs" "$PWD/mnt" || code=$?
        ls mnt
        nsenter -t $other -m cat "$PWD/mnt/hello" || true
        kill $other; exit $code`;
      const outcome = await inNamespace(script, basedir());
      expect(outcome.stderr).toBe('');
      expect(outcome.stdout).toBe('hello\n');
      expect(outcome.code).toBe(0);
    });
  },
);
