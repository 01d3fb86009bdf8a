// docker/: the image is built without network on a base of this machine's own programs, and its container
// serves a mount to others, is checked, and stopped. The machine's podman does it, rootless.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { mustRun } from '../support/command.ts';
import { needsPodman, Podman } from '../support/podman.ts';
import {
  describeWith,
  needsOpenFuse,
  needsOurMount,
  needsSubordinateIds,
  type Requirement,
} from '../support/requirements.ts';
import { scopeOfAllTests } from '../support/scope.ts';

const root = join(import.meta.dirname, '../..');
/** Packing compiles the addon. */
const BUILD_MS = 240_000;
const needsCompiler: Requirement = {
  what: 'npm, g++ and make',
  isMet: () =>
    ['npm', 'g++', 'make'].every(
      (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0,
    ),
};

describeWith(
  [...needsOurMount, needsOpenFuse, needsSubordinateIds, needsPodman, needsCompiler],
  'the image of docker/Containerfile',
  () => {
    const scope = scopeOfAllTests();
    let podman: Podman;
    const image = 'localhost/composefs-fuse';
    const run = (script: string): Promise<string> => podman.unshare(script);

    beforeAll(async () => {
      const made = join(scope.directory(), 'context');
      await mustRun('sh', [join(root, 'docker/make-context.sh'), made], { timeoutMs: BUILD_MS });
      podman = await Podman.start(scope);
      await podman.makeRoot('base', [process.execPath]);
      await run(`
        cp -r ${made} context; cp -r ${root}/docker/rootless-example .
        tar -C base -c . | podman import - localhost/base >log 2>&1
        podman build --quiet --network=none --format docker \
          --build-arg BASE=localhost/base --tag ${image} context
        mkdir tree images share && echo hello >tree/hello && head -c 300000 /dev/urandom >tree/big
        podman run --rm -v $folder/tree:/tree:ro -v $folder/images:/images --user 0 \
          --entrypoint mkcomposefs ${image} --digest-store=/images/objects /tree /images/tree.cfs`);
    }, BUILD_MS);

    test('has every command, none of them as root, and no compiler', async () => {
      const answers = await run(`
        for name in composefs-fuse mkcomposefs composefs-info mount.composefs; do
          podman run --rm --entrypoint $name ${image} --help | head -n 1
        done
        podman run --rm --entrypoint id ${image} -u
        podman run --rm -v $folder/images:/images:ro --entrypoint composefs-info ${image} \
          fsck --basedir=/images/objects /images/tree.cfs >report && echo sound`);
      expect(answers.split('\n').slice(0, 4).join('\n')).toMatch(
        /^Usage: composefs-fuse .*\nUsage: mkcomposefs .*\nUsage: composefs-info .*\nUsage: mount.composefs /,
      );
      expect(answers.split('\n').slice(4)).toEqual(['1000', 'sound', '']);
    });

    test('serves other containers, and is healthy as long as the mount answers', async () => {
      // As the quadlets have it. The directory is a mount that propagates.
      const answers = await run(`
        mount --bind share share; mount --make-rshared share
        mkdir share/tree
        podman run -d --name server --cap-drop all --cap-add SYS_ADMIN --read-only \
          --security-opt no-new-privileges --device /dev/fuse -e MOUNTPOINT=/share/tree \
          -v $folder/images:/images:ro -v $folder/share:/share:rshared \
          ${image} --basedir /images/objects -o allow_other /images/tree.cfs /share/tree >log
        trap 'podman rm -f -t 1 server >/dev/null; umount -l share/tree share 2>/dev/null || true' EXIT
        for i in $(seq 100); do podman healthcheck run server >log 2>&1 && break; sleep 0.2; done
        podman inspect server --format '{{.State.Health.Status}}'
        reader() {
          podman run --rm --network=none -v $folder/share:/share:ro,rslave --user 0 --entrypoint "$@"
        }
        reader cat ${image} /share/tree/hello
        reader wc ${image} -c /share/tree/big
        podman kill --signal STOP server >log
        podman healthcheck run server || echo "stopped: $?"
        podman kill --signal CONT server >log
        podman healthcheck run server && echo "again: $?"
        podman exec server /usr/local/lib/composefs-fuse/healthcheck /share || echo "elsewhere: $?"
        umount share/tree
        podman wait server`);
      const [status, hello, big, ...rest] = answers.trimEnd().split('\n');
      expect([status, hello, big]).toEqual(['healthy', 'hello', '300000 /share/tree/big']);
      expect(rest.join('\n')).toMatch(
        /stopped: 1\nagain: 0\n\/share: no composefs mount\nelsewhere: 1\n0$/,
      );
    });

    test('unmounts and ends when it is stopped', async () => {
      const answers = await run(`
        podman run -d --name stopped --cap-add SYS_ADMIN --device /dev/fuse \
          -v $folder/images:/images:ro ${image} --basedir /images/objects /images/tree.cfs /mnt >log
        for i in $(seq 100); do podman healthcheck run stopped >log 2>&1 && break; sleep 0.2; done
        podman exec stopped cat /mnt/hello
        podman stop -t 20 stopped >log
        podman inspect stopped --format '{{.State.ExitCode}}'; podman rm stopped >log`);
      expect(answers).toBe('hello\n0\n');
    });

    test('mounts by the rootless example, with no capability', async () => {
      const script = './rootless-example/mount-inside.sh images tree.cfs';
      expect(await run(`${script} cat /mnt/hello; ${script} stat -c %s /mnt/big`)).toBe(
        'hello\n300000\n',
      );
    });
  },
);
