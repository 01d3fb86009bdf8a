// composefs-fuse doctor on this machine as it is, and on machines that lack something: what it says, its
// exit code, and that it leaves nothing behind.

import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  commandPath,
  exitOf,
  launcherPath,
  mustRun,
  type Outcome,
  runCommand,
  waitUntil,
  within,
} from '../support/command.ts';
import { tryLadder } from '../support/ladder.mjs';
import { mountComposefs, mountpointIn, verifiableImage } from '../support/mount-composefs.ts';
import { isRunning, mountOurs, mountTable } from '../support/mounts.ts';
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
  type Requirement,
} from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

interface Check {
  id: string;
  subject: string | null;
  state: 'ok' | 'warn' | 'fail' | 'skip';
  found: string;
  remedy: string | null;
}

interface Report {
  format: number;
  uid: number;
  admin: string;
  rung: string;
  verifiedRung: string | null;
  namespaceRung: string | null;
  checks: Check[];
}

const document = join(import.meta.dirname, '../../docs/doctor.md');
const tester = ['setpriv', '--reuid=tester', '--regid=tester', '--clear-groups'];
const inMounts = ['unshare', '--mount', '--propagation', 'private'];

const needsTester: Requirement = {
  what: 'a user called tester, with subordinate ids',
  isMet: () =>
    /^tester:/m.test(readFileSync('/etc/passwd', 'utf8')) &&
    existsSync('/etc/subuid') &&
    /^tester:/m.test(readFileSync('/etc/subuid', 'utf8')),
};

/** What a run leaves in these places is found in them. */
let temporary: string;

function runDoctor(args: readonly string[] = [], as: readonly string[] = []): Promise<Outcome> {
  const [program = '', ...rest] = [...as, launcherPath, 'doctor', ...args];
  const env = { ...process.env, TMPDIR: temporary };
  return runCommand(program, rest, { env, timeoutMs: 120_000 });
}

async function report(
  as: readonly string[] = [],
  args: readonly string[] = [],
): Promise<{ code: number | null; report: Report; states: Record<string, string> }> {
  const { code, stdout, stderr } = await runDoctor(['--json', ...args], as);
  expect(stderr).toBe('');
  const parsed = JSON.parse(stdout) as Report;
  const states = Object.fromEntries(parsed.checks.map(({ id, state }) => [id, state]));
  return { code, report: parsed, states };
}

const find = (from: Report, id: string): Check => from.checks.find((check) => check.id === id)!;

/** Runs a shell script as root in a mount namespace of its own, then the command in front of doctor. */
const behind = (script: string, as: readonly string[] = []): string[] => [
  ...inMounts,
  ...['sh', '-ec', `${script}\nexec "$@"`, 'sh', ...as],
];

describeWith([...needsOurMount, needsSetpriv], 'doctor', () => {
  const scope = scopeOfEachTest();
  let objects: string;
  let mountsBefore: string[];

  const mountpoints = (): string[] => mountTable().map(({ mountpoint }) => mountpoint);

  beforeEach(() => {
    temporary = scope.directory();
    chmodSync(temporary, 0o1777);
    objects = join(scope.directory(), 'objects');
    mkdirSync(objects);
    mountsBefore = mountpoints();
    // Runs before the directories are removed, after the test.
    scope.defer(() => {
      expect(readdirSync(temporary)).toEqual([]);
      expect(readdirSync(objects)).toEqual([]);
      const added = mountpoints().filter((path) => !mountsBefore.includes(path));
      expect(added.filter((path) => path.startsWith(temporary))).toEqual([]);
    });
  });

  describeWith(
    [needsDataLayers, needsKernelComposefs, needsPassthrough],
    'as root of this machine',
    () => {
      test('finds every way to mount, and says the best one', async () => {
        const { code, report: found, states } = await report([], ['--basedir', objects]);
        expect(found).toMatchObject({ format: 1, uid: 0, admin: 'initial', rung: 'kernel' });
        expect(found.namespaceRung).toBeNull();
        expect(code).toBe(0);
        for (const id of ['addon', 'dev-fuse', 'fuse-mount', 'passthrough', 'overlay', 'basedir'])
          expect(find(found, id)).toMatchObject({ id, state: 'ok' });
        expect([states['erofs-file'], states['erofs-loop']]).toContain('ok');
        expect(find(found, 'basedir').subject).toBe(objects);
        // With verity the kernel's mount takes objects with fs-verity.
        const hasVerity = states['basedir-verity'] === 'ok' && states['overlay-verity'] === 'ok';
        expect(found.verifiedRung).toBe(hasVerity ? 'kernel' : 'passthrough');
      });

      test('has one line for each check on a pipe, without colours, and the rung last', async () => {
        const { code, stdout, stderr } = await runDoctor();
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
        const sample = verifiableImage(scope);
        const mountpoint = mountpointIn(scope);
        chownSync(mountpoint, 65534, 65534);
        const basedir = sample.objects.path;
        const identities = [
          { title: 'root', as: [] },
          { title: 'root of a namespace', as: [...asNobody, 'unshare', '-Urm'] },
          { title: 'a user', as: asNobody },
        ];
        const wanted = { image: sample.image, basedir, mountpoint, digest: '0'.repeat(64) };
        const rows = tryLadder([mountComposefs], wanted, identities);
        for (const { title, as } of identities) {
          const { report: found } = await report(as, ['--basedir', basedir]);
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
    const { report: found } = await report([], ['--basedir', objects]);
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
      const all = { ...process.env, TMPDIR: temporary, ...env };
      // A limit of its own, since all checks run.
      const options = { env: all, timeoutMs: 120_000 };
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
        const { code, report: found, states } = await report(tester);
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
        const { code, report: found } = await report(namespace);
        expect(found).toMatchObject({ uid: 0, admin: 'namespace', rung: 'overlay' });
        expect(found.namespaceRung).toBeNull();
        expect(code).toBe(10);
      });

      test('finds nothing but namespaces where setuid has no effect', async () => {
        const { code, report: found } = await report([...tester, '--no-new-privs']);
        expect(find(found, 'fusermount3')).toMatchObject({ state: 'fail' });
        expect(find(found, 'fusermount3').found).toContain('no_new_privs');
        expect(found).toMatchObject({ rung: 'none', namespaceRung: 'overlay' });
        expect(code).toBe(4);
      });
    });

    test('says which device it may not open', async () => {
      const script = `
        mount -t tmpfs -o mode=755 none "${temporary}"
        mknod "${temporary}/fuse" c 10 229
        chmod 000 "${temporary}/fuse"
        mount --bind "${temporary}/fuse" /dev/fuse
        umount -l "${temporary}"`;
      const { code, report: found } = await report(behind(script, tester));
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse may not be opened by this user',
        remedy: expect.stringContaining('0666'),
      });
      expect(found.rung).toBe('none');
      expect(code).toBe(4);
    });

    test('says that fusermount3 is missing', async () => {
      const programs = join(scope.directory(), 'bin');
      mkdirSync(programs);
      symlinkSync('/usr/bin/unshare', join(programs, 'unshare'));
      const asUser = [...tester, 'env', `PATH=${programs}`, process.execPath, commandPath];
      const [program = '', ...rest] = asUser;
      const env = { ...process.env, TMPDIR: temporary };
      const options = { env, timeoutMs: 120_000 };
      const { code, stdout } = await runCommand(program, [...rest, 'doctor', '--json'], options);
      const found = JSON.parse(stdout) as Report;
      expect(find(found, 'fusermount3')).toMatchObject({
        state: 'fail',
        remedy: 'install the package fuse3',
      });
      expect(found.rung).toBe('none');
      expect(code).toBe(4);
    });
  });

  describe('in a container', () => {
    /** A /dev with nothing of FUSE in it. */
    const bareDev = (more = ''): string => `
      mkdir "${temporary}/dev"
      mount -t tmpfs -o mode=755 none "${temporary}/dev"
      mknod -m 666 "${temporary}/dev/null" c 1 3
      mknod -m 666 "${temporary}/dev/urandom" c 1 9
      ${more}
      mount --move "${temporary}/dev" /dev
      rmdir "${temporary}/dev"`;

    test('without /dev/fuse tells so, and mounts nothing by it', async () => {
      const { report: found, states } = await report(behind(bareDev()));
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse is missing or without driver',
        remedy: expect.stringContaining('modprobe fuse'),
      });
      expect(states).toMatchObject({ 'fuse-mount': 'fail', overlay: 'skip', passthrough: 'skip' });
      expect(['kernel', 'none']).toContain(found.rung);
    });

    test('with another device of that name is not deceived', async () => {
      const { report: found } = await report(
        behind(bareDev(`mknod -m 666 "${temporary}/dev/fuse" c 1 3`)),
      );
      expect(find(found, 'dev-fuse')).toMatchObject({
        state: 'fail',
        found: '/dev/fuse is another device',
      });
    });

    test('without capabilities says that nobody there may mount', async () => {
      const bare = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'];
      const { report: found } = await report(bare);
      expect(found.admin).toBe('none');
      expect(find(found, 'fusermount3').state).toBe('fail');
    });
  });

  test('sees a low limit of open files, by what it does to a mount', async () => {
    const { report: found, states } = await report(['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh']);
    expect(find(found, 'open-files')).toMatchObject({
      state: 'warn',
      found: expect.stringMatching(/^64 /),
    });
    expect(states['fuse-mount']).toBe('fail');
    expect(find(found, 'fuse-mount').found).toContain('only 64 open files');
  });

  test('says what is wrong with a base directory, and that nothing mounts with it', async () => {
    const missing = join(objects, 'missing');
    const { code, report: found } = await report([], ['--basedir', missing]);
    expect(find(found, 'basedir')).toMatchObject({
      subject: missing,
      state: 'fail',
      found: 'does not exist',
    });
    expect(found).toMatchObject({ rung: 'none', verifiedRung: 'none' });
    expect(code).toBe(4);
  });

  test('asks an object of a base directory that it may not write to', async () => {
    const folder = join(scope.directory(), 'store');
    mkdirSync(join(folder, '5d'), { recursive: true });
    writeFileSync(join(folder, '5d', '9'.repeat(62)), 'content');
    const script = `mount --bind -o ro "${folder}" "${folder}"`;
    const { report: found } = await report(behind(script), ['--basedir', folder]);
    expect(find(found, 'basedir').found).toContain('not writable');
    expect(find(found, 'basedir-verity').state).toBe('warn');
    expect(find(found, 'basedir-reflink')).toMatchObject({
      state: 'skip',
      found: 'it is not writable',
    });
  });

  test('takes a base directory that the temporary directory is in', async () => {
    const outer = join(temporary, '..');
    const { report: found, states } = await report([], ['--basedir', outer]);
    expect(find(found, 'basedir').subject).toBe(outer);
    const { states: without } = await report();
    for (const id of ['fuse-mount', 'passthrough', 'overlay', 'erofs-file', 'erofs-loop'])
      expect(`${id} ${states[id]}`).toBe(`${id} ${without[id]}`);
  });

  test('gives up on a base directory that hangs', async () => {
    const sample = sampleImage(scope);
    const mount = await mountOurs(scope, { image: sample.image, basedirs: sample.basedirs });
    process.kill(mount.pid, 'SIGSTOP');
    try {
      const { code, report: found } = await report([], ['--basedir', mount.mountpoint]);
      expect(find(found, 'basedir')).toMatchObject({ state: 'fail', found: 'no answer in time' });
      expect(find(found, 'fuse-mount').state).toBe('ok');
      expect(code).toBe(4);
    } finally {
      process.kill(mount.pid, 'SIGCONT');
    }
  });

  test('gives up on a program that hangs', async () => {
    const programs = join(scope.directory(), 'bin');
    mkdirSync(programs);
    const fake = join(programs, 'fusermount3');
    writeFileSync(fake, '#!/bin/sh\necho $$ >"$0.pid"\nexec sleep 600\n');
    chmodSync(fake, 0o755);
    const { report: found } = await report(['env', `PATH=${programs}:${process.env['PATH']}`]);
    expect(find(found, 'fusermount3')).toMatchObject({
      state: 'warn',
      found: expect.stringContaining('no answer in time'),
    });
    expect(isRunning(Number(readFileSync(`${fake}.pid`, 'utf8')))).toBe(false);
  });

  /** Programs on whose command line its temporary directory is. */
  const helpers = (): string[] =>
    readdirSync('/proc').filter((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(temporary);
      } catch {
        return false;
      }
    });

  test.each([
    ['has only begun', () => readdirSync(temporary).length > 0],
    ['has a mount made', () => helpers().length > 1],
  ])('leaves nothing when it is interrupted when it %s', async (_when, isThere) => {
    const env = { ...process.env, TMPDIR: temporary };
    const child = spawn(process.execPath, [commandPath, 'doctor'], { stdio: 'ignore', env });
    scope.defer(() => void child.kill('SIGKILL'));
    await waitUntil('it is so far', isThere);
    child.kill('SIGTERM');
    expect(await within('its end', 20_000, exitOf(child))).toBe(128);
    expect(readdirSync(temporary)).toEqual([]);
    await waitUntil('what it started has ended', () => helpers().length === 0);
  });

  test.each([
    ['an image', ['image.cfs', '/mnt'], 'to mount an image of the name doctor say ./doctor'],
    ['an unknown option', ['--jsn'], 'see composefs-fuse doctor --help'],
  ])('refuses %s', async (_what, args, expected) => {
    const { code, stdout, stderr } = await runDoctor(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^composefs-fuse: .*\n$/);
    expect(stderr).toContain(expected);
  });

  test('is another command as the first argument only', async () => {
    const help = await runDoctor(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/^Usage: composefs-fuse doctor/);
    const { stdout } = await mustRun(launcherPath, ['--help']);
    expect(stdout).toContain('composefs-fuse doctor [--basedir DIR]… [--json]');
    for (const image of ['./doctor', '/nowhere/doctor']) {
      const mounting = await runCommand(launcherPath, [image, temporary]);
      expect(mounting).toMatchObject({ code: 2, stdout: '' });
    }
  });
});

describeWith([needsNobody], 'doctor as nobody', () => {
  const scope = scopeOfEachTest();
  test('runs for a user without a home', async () => {
    temporary = scope.directory();
    chmodSync(temporary, 0o1777);
    const { report: found } = await report([...asNobody, 'env', '-u', 'HOME', '-u', 'USER']);
    expect(found.uid).toBe(65534);
    expect(['fuse', 'none']).toContain(found.rung);
  });
});
