// Rootless podman containers on mounts of ours, and mounts of ours inside such containers.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { commandPath } from '../support/command.ts';
import { ourCommand } from '../support/mounts.ts';
import { needsPodman, Podman } from '../support/podman.ts';
import {
  describeWith,
  needsOpenFuse,
  needsOurMount,
  needsSubordinateIds,
} from '../support/requirements.ts';
import { scopeOfAllTests } from '../support/scope.ts';

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(' ');
const checkout = join(dirname(commandPath), '../..');
const infoPath = join(dirname(commandPath), 'composefs-info.js');

/**
 * Shell functions. The daemon ends with the script whatever happens in it, also when a container still
 * uses the mount.
 */
const prelude = `
  serve() { # NAME [OPTION...]: mounts NAME.cfs on NAME.mnt
    name=$1; shift
    mkdir -p $name.mnt
    trap 'umount -l $folder/*.mnt 2>/dev/null || true' EXIT
    ${quoted(ourCommand)} --basedir objects --log-file $folder/log "$@" $name.cfs $name.mnt
  }
  run() { podman run --rm "$@"; }
`;

describeWith(
  [...needsOurMount, needsOpenFuse, needsSubordinateIds, needsPodman],
  'a rootless podman container',
  () => {
    const scope = scopeOfAllTests();
    let podman: Podman;
    /** `containers` are the scripts that run in containers, by the name of the variable that holds each. */
    const inside = (script: string, containers: NodeJS.ProcessEnv = {}): Promise<string> =>
      podman.unshare(prelude + script, containers);

    /** Of the images and every object: nothing that a container does may change it. */
    function digestOfEverything(): string {
      const hash = createHash('sha256');
      const { folder } = podman;
      const objects = readdirSync(join(folder, 'objects'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name));
      for (const path of [join(folder, 'first.cfs'), join(folder, 'second.cfs'), ...objects.sort()])
        hash.update(`${path}\n`).update(readFileSync(path));
      return hash.digest('hex');
    }

    beforeAll(async () => {
      podman = await Podman.start(scope);
      await podman.makeRoot('first', ['/bin/cat']);
      const mkcomposefs = [process.execPath, join(dirname(commandPath), 'mkcomposefs.js')];
      await inside(`
        mkdir -m 700 first/home/user && echo mine >first/home/user/file
        chown -R 1000:1000 first/home/user
        chmod 4755 first/usr/local/bin/cat
        cp -a first second && echo second >second/etc/only && echo first >first/etc/only
        for name in first second; do
          ${quoted(mkcomposefs)} --digest-store=objects $name $name.cfs
        done`);
    });

    describe('on a mount of the same user namespace', () => {
      test('runs, with the owners and contents of the image, and cannot write', async () => {
        const before = digestOfEverything();
        const look = `
          stat -c "%a %u:%g %n" /home/user /home/user/file /bin/busybox
          grep " / " /proc/mounts | cut -d" " -f3
          cat /home/user/file
          for path in /etc/new /home/user/file; do (echo x >$path) 2>/dev/null || echo refused; done`;
        const script = 'serve first; run --rootfs $folder/first.mnt sh -c "$look"';
        expect((await inside(script, { look })).trimEnd().split('\n')).toEqual([
          '700 1000:1000 /home/user',
          '644 1000:1000 /home/user/file',
          '755 0:0 /bin/busybox',
          'fuse.composefs',
          'mine',
          'refused',
          'refused',
        ]);
        expect(digestOfEverything()).toBe(before);
      });

      test('reads every file as the image has it', async () => {
        const script = `serve second
          run -v $folder/second:/mnt:ro --rootfs $folder/second.mnt sh -c "$compare"`;
        const compare = `
          for path in $(cd /mnt && find bin home usr lib* -type f); do cmp /mnt/$path /$path && echo same; done`;
        const answers = (await inside(script, { compare })).trimEnd().split('\n');
        expect(answers.length).toBeGreaterThan(4);
        expect(new Set(answers)).toEqual(new Set(['same']));
      });

      test('with :O writes to an overlayfs that is gone afterwards', async () => {
        const before = digestOfEverything();
        const change = `
          echo new >/etc/new && rm /home/user/file && mv /etc/only /etc/moved
          chmod 711 /bin/busybox && chown 1:2 /etc/passwd && cat /etc/new /etc/moved
          stat -c "%u:%g %a" /etc/passwd /bin/busybox; grep -c "^overlay / .*userxattr" /proc/mounts`;
        const script = `serve first
          run --rootfs $folder/first.mnt:O sh -c "$change"
          run --rootfs $folder/first.mnt:O sh -c 'ls /etc; cat /home/user/file'`;
        const [first, second] = (await inside(script, { change })).split(/(?<=\n1\n)/);
        expect(first).toBe('new\nfirst\n1:2 644\n0:0 711\n1\n');
        expect(second).toMatch(/^only$/m);
        expect(second).not.toMatch(/new|moved/);
        expect(second?.endsWith('mine\n')).toBe(true);
        expect(digestOfEverything()).toBe(before);
      });

      // crun takes nosuid and nodev off a root filesystem; without -o suid it is the same there.
      test.each(['', ':O'])(
        'has set-user-ID programs of its own root, and none without new privileges (--rootfs DIR%s)',
        async (rootfs) => {
          /** The real and the effective user of such a program that user 1000 runs. */
          const users = (flags: string): Promise<string> =>
            inside(`serve first -o suid
              run --user 1000:1000 ${flags} --rootfs $folder/first.mnt${rootfs} \
                /usr/local/bin/cat /proc/self/status >status
              awk '/^Uid/ { print $2, $3 }' status`);
          expect(await users('')).toBe('1000 0\n');
          expect(await users('--security-opt no-new-privileges')).toBe('1000 1000\n');
          // That root is the user who started podman, and may not do more.
          const secret = join(scope.directory(), 'secret');
          writeFileSync(secret, 'of the machine', { mode: 0o600 });
          const outcome = await inside(`serve first -o suid
            run --user 1000:1000 -v ${secret}:/etc/only:ro --rootfs $folder/first.mnt${rootfs} \
              /usr/local/bin/cat /etc/only 2>&1 || echo refused`);
          expect(outcome).toMatch(/Permission denied\nrefused\n$/);
        },
      );
    });

    test('shares objects with another one from another image, at the same time', async () => {
      // Each waits until the other is there.
      const meet = `
        touch /mnt/$0; while ! test -e /mnt/$1; do sleep 0.1; done
        echo $0 reads $(cat /etc/only); cmp /bin/busybox /bin/cat; grep -c " / fuse.composefs" /proc/mounts`;
      const script = `mkdir meet; serve first; serve second
        common="-v $folder/meet:/mnt"
        run $common --rootfs $folder/first.mnt timeout 30 sh -c "$meet" a b >first.out & one=$!
        run $common --rootfs $folder/second.mnt timeout 30 sh -c "$meet" b a >second.out & two=$!
        wait $one; wait $two; cat first.out second.out`;
      expect(await inside(script, { meet })).toBe('a reads first\n1\nb reads second\n1\n');
      // busybox, cat and its libraries are there once.
      const listed = (name: string): Promise<string> =>
        podman.must([process.execPath, infoPath, 'objects', join(podman.folder, `${name}.cfs`)]);
      const [first, second] = [await listed('first'), await listed('second')];
      expect(first.trim().split('\n').length).toBeGreaterThan(3);
      expect(second).toBe(first);
    });

    describe('with a layer that stays', () => {
      const change = `echo more >>/usr/local/bin/cat; echo changed >/etc/only; rm /home/user/file
        mkdir /etc/dir; echo new >/etc/dir/new; chmod 700 /bin/busybox`;
      const look = `tail -c5 /usr/local/bin/cat; cat /etc/only /etc/dir/new; stat -c %a /bin/busybox
        test ! -e /home/user/file && echo gone`;
      const changed = 'more\nchanged\nnew\n700\ngone\n';

      test('of composefs-fuse (--upperdir): changes are there the next time, and only in it', async () => {
        const before = digestOfEverything();
        const script = `mkdir upper work
          for script in "$change" "$look" "$look"; do
            serve first --upperdir upper --workdir work
            run --rootfs $folder/first.mnt sh -ec "$script"
            umount first.mnt
          done
          cat upper/etc/dir/new`;
        expect(await inside(script, { change, look })).toBe(`${changed}${changed}new\n`);
        expect(digestOfEverything()).toBe(before);
      });

      test('of podman (-v …:O,upperdir=…): a volume has its changes in the next container', async () => {
        const before = digestOfEverything();
        const below = (script: string): string => script.replaceAll(/ (>*)\//g, ' $1/volume/');
        const script = `mkdir volume.upper volume.work
          for script in "$change" "$look" "$look"; do
            serve first
            run -v $folder/first.mnt:/volume:O,upperdir=$folder/volume.upper,workdir=$folder/volume.work \
              --rootfs $folder/second.mnt:O sh -ec "$script"
            umount first.mnt
          done`;
        const scripts = { change: below(change), look: below(look) };
        const twice = await inside(`serve second; ${script}`, scripts);
        expect(twice).toBe(`${changed}${changed}`);
        expect(digestOfEverything()).toBe(before);
      });
    });

    describe('in which composefs-fuse runs', () => {
      const mount = `/checkout/dist/cli/composefs-fuse --basedir /data/objects /data/first.cfs /mnt &&
        cat /mnt/etc/only && cmp /mnt/bin/busybox /bin/busybox && grep -o "/mnt [a-z.]*" /proc/mounts &&
        umount /mnt`;
      const mounted = 'first\n/mnt fuse.composefs\n';
      const volumes = `-v ${checkout}:/checkout:ro -v $folder:/data:ro`;

      beforeAll(() => podman.makeRoot('node', [process.execPath]));
      /** What the script says, with one line for each that went wrong. */
      const runWith = (flags: string, command: string): Promise<string> =>
        inside(`run ${volumes} ${flags} --rootfs $folder/node ${command} 2>&1 || echo "code $?"`, {
          mount,
        });

      test('needs --device /dev/fuse and --cap-add SYS_ADMIN', async () => {
        const flags = '--cap-drop all --security-opt no-new-privileges --read-only';
        const both = `${flags} --device /dev/fuse --cap-add SYS_ADMIN`;
        expect(await runWith(both, 'sh -c "$mount"')).toBe(mounted);
      });

      test('or the device alone, in a user namespace of its own, also as another user', async () => {
        const flags = '--cap-drop all --security-opt no-new-privileges --device /dev/fuse';
        const unshare = 'unshare -Urm sh -c "$mount"';
        // Who maps root needs that capability, which containers have by default.
        expect(await runWith(`${flags} --cap-add SETFCAP`, unshare)).toBe(mounted);
        expect(await runWith(`${flags} --user 1000:1000`, unshare)).toBe(mounted);
      });

      test('and says what is missing', async () => {
        expect(await runWith('--cap-add SYS_ADMIN', 'sh -c "$mount"')).toMatch(
          /^composefs-fuse: \/dev\/fuse [^\n]*--device \/dev\/fuse[^\n]*\ncode 4\n$/,
        );
        expect(await runWith('--device /dev/fuse', 'sh -c "$mount"')).toMatch(
          /^composefs-fuse: mounting on \/mnt [^\n]*--cap-add SYS_ADMIN[^\n]*\ncode 4\n$/,
        );
      });
    });
  },
);
