// The package as `npm pack` makes it, installed into an empty folder: its commands run without a compiler
// where the prebuilt addon fits, and elsewhere say what builds it, which is then done.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { mustRun, runCommand, waitUntil } from '../support/command.ts';
import type { Outcome } from '../support/command.ts';
import { detach, isRunning } from '../support/mounts.ts';
import { describeWith, needsOurMount, type Requirement } from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfAllTests } from '../support/scope.ts';

const root = join(import.meta.dirname, '../..');
const MISSING_ADDON = 69;
/** Compiling the addon on a busy machine. */
const BUILD_MS = 240_000;

const canRun = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
const needsCompiler: Requirement = {
  what: 'npm, g++ and make',
  isMet: () => ['npm', 'g++', 'make'].every(canRun),
};

describeWith([...needsOurMount, needsCompiler], 'the package, installed', () => {
  const scope = scopeOfAllTests();
  let packed: string[];
  let modules: string;
  let installed: string;
  let sample: SampleImage;
  let mountpoint: string;
  let pidFile: string;
  /** A PATH with node and what a mount takes, and neither npm nor a compiler. */
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    const folder = scope.directory();
    await mustRun('npm', ['pack', '--pack-destination', folder], {
      cwd: root,
      timeoutMs: BUILD_MS,
    });
    const [tarball = ''] = readdirSync(folder);
    const list = await mustRun('tar', ['-tzf', join(folder, tarball)]);
    packed = list.stdout.trimEnd().split('\n');
    // Blanks and quotes in paths are what launchers stumble over.
    const place = join(folder, "it's a place");
    mkdirSync(place);
    writeFileSync(join(place, 'package.json'), '{}');
    // The modules are in npm's cache since this project's own were installed.
    const flags = ['--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];
    await mustRun('npm', ['install', ...flags, join(folder, tarball)], {
      cwd: place,
      timeoutMs: 120_000,
    });
    modules = join(place, 'node_modules');
    installed = join(modules, 'composefs-fuse');
    sample = sampleImage(scope);
    mountpoint = join(folder, 'mnt');
    pidFile = join(folder, 'pid');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    const programs = join(folder, 'bin');
    mkdirSync(programs);
    symlinkSync(process.execPath, join(programs, 'node'));
    for (const name of ['env', 'sh', 'readlink', 'setsid', 'stat'])
      symlinkSync((await mustRun('which', [name])).stdout.trim(), join(programs, name));
    env = { PATH: programs };
  }, BUILD_MS);

  const command = (name: string): string => join(modules, '.bin', name);
  const mountArgs = (): string[] => [
    ...['--basedir', sample.objects.path, '--pid-file', pidFile, sample.image, mountpoint],
  ];

  /** Mounts, reads `hello` and unmounts; the addon's file. */
  async function mountAndRead(launcher: string): Promise<string> {
    const outcome = await runCommand(launcher, mountArgs(), { env });
    expect(outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' });
    const pid = Number(readFileSync(pidFile, 'utf8'));
    const read = await mustRun('cat', [join(mountpoint, 'hello'), join(mountpoint, 'sub/inner')]);
    expect(read.stdout).toBe('hello\ninner\n');
    const maps = readFileSync(`/proc/${pid}/maps`, 'utf8');
    await mustRun('umount', [mountpoint]);
    await waitUntil('the daemon has ended', () => !isRunning(pid));
    return /\S* \S* \S* \S* \S* *(\/.*composefs_native\.node)/.exec(maps)?.[1] ?? '';
  }

  test('has what an installation needs, and nothing of the build', () => {
    for (const name of [
      'dist/cli/composefs-fuse',
      'dist/cli/command.cjs',
      'binding.gyp',
      'LICENSE',
    ])
      expect(packed).toContain(`package/${name}`);
    const prebuilt = packed.filter((name) => name.endsWith('.node'));
    expect(prebuilt).toEqual([
      expect.stringMatching(
        /^package\/prebuilds\/linux-\w+-(?:glibc|musl)\/composefs_native\.node$/,
      ),
    ]);
    const { scripts } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    for (const name of ['preinstall', 'install', 'postinstall'])
      expect(scripts[name]).toBeUndefined();
  });

  test('mounts without a compiler, by the prebuilt addon', async () => {
    expect(await mountAndRead(command('composefs-fuse'))).toContain(
      "it's a place/node_modules/composefs-fuse/prebuilds/",
    );
  });

  test('mounts through a symlink somewhere else', async () => {
    const link = join(dirname(mountpoint), 'composefs-fuse');
    symlinkSync(command('composefs-fuse'), link);
    expect(await mountAndRead(link)).toContain('/prebuilds/');
  });

  test('makes images and looks into them', async () => {
    const folder = scope.directory();
    const image = join(folder, 'made.cfs');
    const store = `--digest-store=${join(folder, 'objects')}`;
    await mustRun(command('mkcomposefs'), [store, join(installed, 'docs'), image], { env });
    const listed = await mustRun(command('composefs-info'), ['ls', image], { env });
    expect(listed.stdout).toContain('/architecture.md\t');
  });

  test('installs itself into a system, where it needs neither npm nor the package', async () => {
    for (const name of ['docs/man/mkcomposefs.1', 'completions/bash/mkcomposefs'])
      expect(packed).toContain(`package/${name}`);
    const destdir = join(scope.directory(), 'system');
    const args = [join(installed, 'scripts/install.mjs'), '--destdir', destdir];
    await mustRun(process.execPath, args, { timeoutMs: 60_000 });
    expect(await mountAndRead(join(destdir, 'usr/local/bin/composefs-fuse'))).toContain(
      `${destdir}/usr/local/lib/composefs-fuse/prebuilds/`,
    );
    const made = ['--from-file', '--print-digest-only', '-'];
    const input = '/ 0 40755 2 0 0 0 0.0 - - -\n';
    await mustRun(join(destdir, 'usr/local/bin/mkcomposefs'), made, { env, input });
  });

  test('without an addon that fits says the one command that builds it, which does', async () => {
    const folder = scope.directory();
    const store = `--digest-store=${join(folder, 'objects')}`;
    const image = join(folder, 'made.cfs');
    const runAll = async (): Promise<Outcome[]> => [
      await runCommand(command('composefs-fuse'), mountArgs(), { env }),
      await runCommand(command('composefs-fuse'), ['-f', ...mountArgs()], { env }),
      await runCommand(command('mkcomposefs'), [store, join(installed, 'docs'), image], { env }),
      await runCommand(
        command('composefs-info'),
        ['fsck', `--basedir=${sample.objects.path}`, sample.image],
        { env },
      ),
    ];
    const [prebuild = ''] = readdirSync(join(installed, 'prebuilds'));
    const file = join(installed, 'prebuilds', prebuild, 'composefs_native.node');
    writeFileSync(file, 'for another machine');
    for (const { code, stderr } of await runAll()) {
      expect(code).toBe(MISSING_ADDON);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
      expect(stderr).toMatch(/ \(.*composefs_native\.node.*\)\n$/);
    }
    rmSync(file);
    const quoted = `'${installed.replaceAll("'", String.raw`'\''`)}'`;
    const remedy = `npm --prefix ${quoted} run build:native`;
    for (const { code, stderr } of await runAll()) {
      expect(code).toBe(MISSING_ADDON);
      expect(stderr).toMatch(
        /^(?:composefs-fuse|mkcomposefs|composefs-info): no native addon for /,
      );
      expect(stderr.endsWith(`; build it with: ${remedy}\n`)).toBe(true);
    }
    await mustRun('sh', ['-c', remedy], { timeoutMs: BUILD_MS });
    expect(await mountAndRead(command('composefs-fuse'))).toContain('/build/Release/');
  });
});
