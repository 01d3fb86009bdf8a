// `npm run install:system`: the commands run from where it has put them, mount(8) finds its helpers, what is
// not its own stays, and uninstalling leaves nothing.

import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { mustRun, runCommand, waitUntil } from '../support/command.ts';
import { detach, isRunning } from '../support/mounts.ts';
import { describeWith, needsOurMount, type Requirement } from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const root = join(import.meta.dirname, '../..');
const LIMIT_MS = 60_000;

const runInstaller = (args: readonly string[], from = root) =>
  runCommand(process.execPath, [join(from, 'scripts/install.mjs'), ...args], {
    timeoutMs: LIMIT_MS,
  });

/** The files and links below a folder. */
const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length));

describe('an installation below --destdir', () => {
  const scope = scopeOfEachTest();
  let destdir: string;
  let at: (path: string) => string;
  let options: string[];

  beforeEach(() => {
    destdir = join(scope.directory(), 'staging area');
    at = (path) => join(destdir, path);
    options = ['--prefix', '/usr', '--destdir', destdir];
  });

  test('has commands that run, pages, completions, the unit and the helpers of mount(8)', async () => {
    const outcome = await runInstaller(options);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      version: string;
    };
    const env = { PATH: process.env['PATH'] };
    for (const name of ['composefs-fuse', 'mkcomposefs', 'composefs-info']) {
      const said = await mustRun(at(`usr/bin/${name}`), ['--version'], { env });
      expect(said.stdout).toBe(`${name} ${version}\n`);
      for (const path of [
        `usr/share/man/man1/${name}.1`,
        `usr/share/bash-completion/completions/${name}`,
        `usr/share/zsh/site-functions/_${name}`,
        `usr/share/fish/vendor_completions.d/${name}.fish`,
      ])
        expect(statSync(at(path)).mode & 0o777).toBe(0o644);
    }
    const unit = readFileSync(at('usr/lib/systemd/system/composefs-fuse@.service'), 'utf8');
    expect(unit).toMatch(/^ExecStart=\/usr\/bin\/composefs-fuse /m);
    for (const type of ['fuse.composefs', 'fuse.composefs-fuse'])
      expect(readlinkSync(at(`sbin/mount.${type}`))).toBe('/usr/bin/composefs-fuse');
    const names = filesOf(destdir);
    expect(
      names.filter((name) => /node-gyp|node_modules\/fuse-native|\.d\.ts$|\.map$/.test(name)),
    ).toEqual([]);
  });

  test('makes images of directories, with the addon', async () => {
    await runInstaller(options);
    const folder = scope.directory();
    const store = `--digest-store=${join(folder, 'objects')}`;
    const image = join(folder, 'made.cfs');
    await mustRun(at('usr/bin/mkcomposefs'), [store, join(root, 'docs'), image]);
    const checked = await mustRun(at('usr/bin/composefs-info'), [
      ...['fsck', `--basedir=${join(folder, 'objects')}`, image],
    ]);
    expect(checked.stdout).toMatch(/^clean/i);
  });

  test('is the same with any umask', async () => {
    const script = 'umask 077; exec "$@"';
    const installer = [process.execPath, join(root, 'scripts/install.mjs'), ...options];
    await mustRun('sh', ['-c', script, 'sh', ...installer], { timeoutMs: LIMIT_MS });
    const modes = filesOf(destdir).map(
      (name) => statSync(at(name), { throwIfNoEntry: false })?.mode,
    );
    expect(modes.filter((mode) => mode !== undefined && (mode & 0o444) !== 0o444)).toEqual([]);
    expect(statSync(at('usr/lib/composefs-fuse/dist')).mode & 0o777).toBe(0o755);
  });

  test('is replaced by a later one, which takes away what is in it no more', async () => {
    await runInstaller(options);
    const record = at('usr/lib/composefs-fuse/installed.json');
    const before = readFileSync(record, 'utf8');
    const known = JSON.parse(before) as { files: Record<string, string> };
    known.files['/usr/bin/composefs-old'] = '';
    known.files['/usr/bin/composefs-moved'] = 'composefs-old';
    writeFileSync(record, JSON.stringify(known));
    writeFileSync(at('usr/bin/composefs-old'), '');
    symlinkSync('elsewhere', at('usr/bin/composefs-moved'));
    expect(await runInstaller(options)).toMatchObject({ code: 0, stderr: '' });
    expect(existsSync(at('usr/bin/composefs-old'))).toBe(false);
    // Somebody has made another link of it.
    expect(readlinkSync(at('usr/bin/composefs-moved'))).toBe('elsewhere');
    expect(readFileSync(record, 'utf8')).toBe(before);
  });

  test('goes away without a trace, but for what is not its own', async () => {
    mkdirSync(at('usr/share/man'), { recursive: true });
    await runInstaller(options);
    writeFileSync(at('usr/share/zsh/site-functions/_other'), '');
    const outcome = await runInstaller([...options, '--uninstall']);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(filesOf(destdir)).toEqual(['/usr/share/zsh/site-functions/_other']);
    expect(readdirSync(at('usr')).sort()).toEqual(['share']);
    expect(readdirSync(at('usr/share')).sort()).toEqual(['man', 'zsh']);
    expect(await runInstaller([...options, '--uninstall'])).toEqual({
      ...{ code: 1, signal: null, stdout: '' },
      stderr: `install: ${at('usr/lib/composefs-fuse/installed.json')} is not there: nothing is installed here\n`,
    });
  });

  test('touches nothing if something else is in its place', async () => {
    mkdirSync(at('usr/bin'), { recursive: true });
    writeFileSync(at('usr/bin/mkcomposefs'), 'the one of C');
    expect(await runInstaller(options)).toMatchObject({
      code: 1,
      stderr: `install: ${at('usr/bin/mkcomposefs')} is there and was not installed by this; remove it, or choose another --prefix or --helper-dir\n`,
    });
    expect(filesOf(destdir)).toEqual(['/usr/bin/mkcomposefs']);
    expect(readFileSync(at('usr/bin/mkcomposefs'), 'utf8')).toBe('the one of C');
  });

  test('puts commands for mount(8) where it looks for them', async () => {
    const checkout = scope.directory();
    cpSync(join(root, 'scripts'), join(checkout, 'scripts'), { recursive: true });
    for (const name of [
      'dist',
      'build',
      'node_modules',
      'docs',
      'completions',
      'systemd',
      'LICENSE',
    ])
      symlinkSync(join(root, name), join(checkout, name));
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      bin: Record<string, string>;
    };
    manifest.bin['mount.something'] = 'dist/cli/composefs-fuse';
    writeFileSync(join(checkout, 'package.json'), JSON.stringify(manifest));
    expect(await runInstaller(options, checkout)).toMatchObject({ code: 0, stderr: '' });
    expect(readlinkSync(at('sbin/mount.something'))).toBe(
      '/usr/lib/composefs-fuse/dist/cli/composefs-fuse',
    );
    expect(existsSync(at('usr/bin/mount.something'))).toBe(false);
  });

  test('needs what is to be installed', async () => {
    const checkout = scope.directory();
    cpSync(join(root, 'scripts'), join(checkout, 'scripts'), { recursive: true });
    cpSync(join(root, 'package.json'), join(checkout, 'package.json'));
    const refusal = async (): Promise<string> => {
      const { code, stderr } = await runInstaller(options, checkout);
      expect(code).toBe(1);
      expect(existsSync(destdir)).toBe(false);
      return stderr;
    };
    expect(await refusal()).toMatch(
      /^install: dist\/cli\/\S+ is missing; build it with: npm run build\n$/,
    );
    symlinkSync(join(root, 'dist'), join(checkout, 'dist'));
    expect(await refusal()).toBe(
      'install: there is no native addon; build it with: npm run build:native\n',
    );
    symlinkSync(join(root, 'build'), join(checkout, 'build'));
    expect(await refusal()).toMatch(/^install: the module \S+ is missing; get it with: npm ci\n$/);
  });

  test.each([
    [['--prefix', 'usr'], '--prefix is "usr"; expected an absolute path'],
    [['--helper-dir', 'sbin'], '--helper-dir is "sbin"; expected an absolute path'],
    [['--nonsense'], "Unknown option '--nonsense'; see --help"],
  ])('is refused with %j', async (args, message) => {
    const outcome = await runInstaller([...options, ...args]);
    expect(outcome).toMatchObject({ code: 1, stderr: `install: ${message}\n` });
    expect(existsSync(destdir)).toBe(false);
  });
});

/** Puts `$1` in front of what /sbin has, in a namespace of its own: nothing of it is seen outside. */
const FRONT =
  'mount -t overlay -o "ro,lowerdir=$1:$(readlink -f /sbin)" overlay "$(readlink -f /sbin)"';
const needsOwnHelpers: Requirement = {
  what: 'root and an overlayfs over /sbin in a mount namespace',
  isMet: () =>
    spawnSync('unshare', ['--mount', 'sh', '-ec', FRONT, 'sh', import.meta.dirname]).status === 0,
};

describeWith([...needsOurMount, needsOwnHelpers], 'mount(8), with an installation', () => {
  const scope = scopeOfEachTest();

  test('mounts the type of the mount table, from fstab too, and passes exit codes on', async () => {
    const prefix = join(scope.directory(), 'usr');
    const helpers = scope.directory();
    const installed = await runInstaller(['--prefix', prefix, '--helper-dir', helpers]);
    expect(installed).toMatchObject({ code: 0, stderr: '' });
    const sample = sampleImage(scope);
    const mountpoint = join(scope.directory(), 'mnt');
    const fstab = join(scope.directory(), 'fstab');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const basedir = `basedir=${sample.objects.path}`;
    writeFileSync(
      fstab,
      `${sample.image} ${mountpoint} fuse.composefs ${basedir},nofail,x-systemd.automount 0 0\n`,
    );
    const script = `
set -x
${FRONT}
for type in fuse.composefs fuse.composefs-fuse; do
  mount -t $type -o "$2,noexec" "$3" "$4"
  findmnt -no FSTYPE,VFS-OPTIONS "$4"
  cat "$4/hello"
  umount "$4"
done
mount -T "$5" -a
cat "$4/hello"
umount "$4"
mount -f -t fuse.composefs -o "$2" "$3" "$4"
! findmnt "$4"
code=0
mount -t fuse.composefs -o "$2" /nonexistent "$4" || code=$?
echo "code $code"
`;
    const args = ['-ec', script, 'sh', helpers, basedir, sample.image, mountpoint, fstab];
    const outcome = await mustRun('unshare', ['--mount', 'sh', ...args], { timeoutMs: LIMIT_MS });
    const shown = 'fuse.composefs ro,nosuid,nodev,noexec,relatime';
    expect(outcome.stdout.split('\n').map((line) => line.trim())).toEqual([
      ...[shown, 'hello', shown, 'hello', 'hello', 'code 2', ''],
    ]);
  });

  test('and a mount that serves outlives the next installation', async () => {
    const prefix = join(scope.directory(), 'usr');
    const options = ['--prefix', prefix, '--helper-dir', join(prefix, 'sbin')];
    expect(await runInstaller(options)).toMatchObject({ code: 0 });
    const sample = sampleImage(scope);
    const mountpoint = join(scope.directory(), 'mnt');
    const pidFile = join(scope.directory(), 'pid');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    await mustRun(join(prefix, 'bin/composefs-fuse'), [
      ...['--basedir', sample.objects.path, '--pid-file', pidFile, sample.image, mountpoint],
    ]);
    const pid = Number(readFileSync(pidFile, 'utf8'));
    expect(await runInstaller(options)).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(`/proc/${pid}/maps`, 'utf8')).toContain('composefs_native.node (deleted)');
    const read = await mustRun('cat', [join(mountpoint, 'sub/inner')]);
    expect(read.stdout).toBe('inner\n');
    const size = await mustRun('sh', ['-c', 'wc -c < "$1"', 'sh', join(mountpoint, 'big')]);
    expect(size.stdout.trim()).toBe('3000000');
    await mustRun('umount', [mountpoint]);
    await waitUntil('the daemon has ended', () => !isRunning(pid));
  });
});
