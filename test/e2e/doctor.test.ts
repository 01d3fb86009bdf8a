// composefs-fuse doctor on this machine as it is: what it says to whom, its exit code, its command line. What
// it says where something is missing is in doctor-lacks.test.ts.

import { chownSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcherPath, mustRun, runCommand } from '../support/command.ts';
import { DoctorRoom, find, LIMIT_MS, needsTester, tester } from '../support/doctor.ts';
import { tryLadder } from '../support/ladder.mjs';
import { mountComposefs, mountpointIn, verifiableImage } from '../support/mount-composefs.ts';
import {
  asNobody,
  describeWith,
  needsDataLayers,
  needsFusermount,
  needsKernelComposefs,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsPassthrough,
  needsSetpriv,
  needsUserDataLayers,
  needsUserNamespaces,
} from '../support/requirements.ts';

const document = join(import.meta.dirname, '../../docs/doctor.md');

describeWith([...needsOurMount, needsSetpriv], 'doctor', () => {
  const room = new DoctorRoom();

  describeWith(
    [needsDataLayers, needsKernelComposefs, needsPassthrough],
    'as root of this machine',
    () => {
      test('finds every way to mount, and says the best one', async () => {
        const { code, report: found, states } = await room.report([], ['--basedir', room.objects]);
        expect(found).toMatchObject({ format: 1, uid: 0, admin: 'initial', rung: 'kernel' });
        expect(found.namespaceRung).toBeNull();
        expect(code).toBe(0);
        for (const id of ['addon', 'dev-fuse', 'fuse-mount', 'passthrough', 'overlay', 'basedir'])
          expect(find(found, id)).toMatchObject({ id, state: 'ok' });
        expect([states['erofs-file'], states['erofs-loop']]).toContain('ok');
        expect(find(found, 'basedir').subject).toBe(room.objects);
        // With verity the kernel's mount takes objects with fs-verity.
        const hasVerity = states['basedir-verity'] === 'ok' && states['overlay-verity'] === 'ok';
        expect(found.verifiedRung).toBe(hasVerity ? 'kernel' : 'passthrough');
      });

      test('has one line for each check on a pipe, without colours, and the rung last', async () => {
        const { code, stdout, stderr } = await room.run();
        expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
        const lines = stdout.split('\n');
        expect(lines.splice(-3)).toEqual(['', 'best rung: kernel', '']);
        for (const line of lines)
          expect(line).toMatch(/^(?:(?:ok {2}|warn|fail|skip) {2}[a-z\d-]+ +\S.*| +-> \S.*)$/);
      });
    },
  );

  describeWith(
    [
      needsNobody,
      needsUserDataLayers,
      needsKernelComposefs,
      needsUserNamespaces,
      needsFusermount,
      needsOpenFuse,
    ],
    'beside mount.composefs',
    () => {
      test('names the rung that is taken, with verity and without', async () => {
        const sample = verifiableImage(room.scope);
        const mountpoint = mountpointIn(room.scope);
        chownSync(mountpoint, 65534, 65534);
        const basedir = sample.objects.path;
        const identities = [
          { title: 'root', as: [] },
          { title: 'root of a namespace', as: [...asNobody, 'unshare', '-Urm'] },
          { title: 'a user', as: asNobody },
        ];
        const wanted = { image: sample.image, basedir, mountpoint, digest: '0'.repeat(64) };
        const rows = await tryLadder([mountComposefs], wanted, identities);
        for (const { title, as } of identities) {
          const { report: found } = await room.report(as, ['--basedir', basedir]);
          const taken = (wish: string): string | undefined =>
            rows.find(({ who, asked }) => who === title && asked === wish)?.rung;
          expect({ title, plain: found.rung, verity: found.verifiedRung }).toEqual({
            title,
            plain: taken('nothing'),
            verity: taken('verity'),
          });
        }
      });
    },
  );

  test('documents every check and every field of its JSON', async () => {
    const { report: found } = await room.report([], ['--basedir', room.objects]);
    const text = readFileSync(document, 'utf8');
    const [, table = ''] = text.split(/^## .*$/m);
    const documented = [...table.matchAll(/^\| `([a-z\d-]+)` +\|/gm)].map((match) => match[1]!);
    const ids = found.checks.map(({ id }) => id);
    expect(documented).toEqual(ids);
    for (const field of Object.keys(found)) expect(text).toContain(`| \`${field}\``);
    for (const field of Object.keys(found.checks[0]!)) expect(text).toContain(`\`${field}\``);
  });

  test('has colours on a terminal, and none with NO_COLOR', async () => {
    const onTerminal = async (env: NodeJS.ProcessEnv): Promise<string> => {
      const line = `'${launcherPath}' doctor`;
      const all = { ...room.env, ...env };
      // A limit of its own, since all checks run.
      const options = { env: all, timeoutMs: LIMIT_MS };
      return (await runCommand('script', ['-qec', line, '/dev/null'], options)).stdout;
    };
    const green = '\u001b[32mok  \u001b[0m';
    expect(await onTerminal({ NO_COLOR: '' })).toContain(green);
    const plain = await onTerminal({ NO_COLOR: '1' });
    expect(plain).toContain('ok    kernel');
    expect(plain).not.toContain('\u001b[32m');
  });

  describeWith([needsNobody, needsTester, needsFusermount, needsOpenFuse], 'as a user', () => {
    describeWith([needsUserNamespaces, needsUserDataLayers], 'with user namespaces', () => {
      test('finds FUSE, and more in a user namespace', async () => {
        const { code, report: found, states } = await room.report(tester);
        expect(found).toMatchObject({ admin: 'none', rung: 'fuse', namespaceRung: 'overlay' });
        expect(code).toBe(12);
        expect(states).toMatchObject({
          fusermount3: 'ok',
          'user-namespaces': 'ok',
          subids: 'ok',
          'fuse-mount': 'ok',
          'overlay-userns': 'ok',
          passthrough: 'skip',
          'erofs-file': 'skip',
        });
      });

      test('finds overlay as root of one', async () => {
        const namespace = [...tester, 'unshare', '-Urm', '--map-auto'];
        const { code, report: found } = await room.report(namespace);
        expect(found).toMatchObject({ uid: 0, admin: 'namespace', rung: 'overlay' });
        expect(found.namespaceRung).toBeNull();
        expect(code).toBe(10);
      });

      test('finds nothing but namespaces where setuid has no effect', async () => {
        const { code, report: found } = await room.report([...tester, '--no-new-privs']);
        expect(find(found, 'fusermount3')).toMatchObject({ state: 'fail' });
        expect(find(found, 'fusermount3').found).toContain('no_new_privs');
        expect(found).toMatchObject({ rung: 'none', namespaceRung: 'overlay' });
        expect(code).toBe(4);
      });
    });
  });

  test.each([
    ['an image', ['image.cfs', '/mnt'], 'to mount an image of the name doctor say ./doctor'],
    ['an unknown option', ['--jsn'], 'see composefs-fuse doctor --help'],
  ])('refuses %s', async (_what, args, expected) => {
    const { code, stdout, stderr } = await room.run(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^composefs-fuse: .*\n$/);
    expect(stderr).toContain(expected);
  });

  test('is another command as the first argument only', async () => {
    const help = await room.run(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/^Usage: composefs-fuse doctor/);
    const { stdout } = await mustRun(launcherPath, ['--help']);
    expect(stdout).toContain('composefs-fuse doctor [--basedir DIR]…');
    for (const image of ['./doctor', '/nowhere/doctor']) {
      const mounting = await runCommand(launcherPath, [image, room.temporary]);
      expect(mounting).toMatchObject({ code: 2, stdout: '' });
    }
  });
});

describeWith([needsNobody], 'doctor as nobody', () => {
  const room = new DoctorRoom();

  test('runs for a user without a home', async () => {
    const { report: found } = await room.report([...asNobody, 'env', '-u', 'HOME', '-u', 'USER']);
    expect(found.uid).toBe(65534);
    expect(['fuse', 'none']).toContain(found.rung);
  });
});
