// Makes a fresh machine able to build and test: system packages, node modules, dist/, the native
// addon, kernels for virtual machines, each only when it is missing or out of date. Plain Node
// without dependencies, since it runs before `npm ci`. What cannot be installed is reported and left
// out; the tests that need it then skip by name.

import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureKernels } from './lib/kernels.mjs';
import { capture, run } from './lib/process.mjs';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * Debian packages: the command or file that proves each is there, and what cannot run without it.
 * `build` packages are the only ones a user of the daemon needs besides fuse3.
 */
const packages = [
  { name: 'g++', proof: 'g++', purpose: ['build', 'bench'] },
  { name: 'make', proof: 'make', purpose: ['build'] },
  { name: 'python3', proof: 'python3', purpose: ['build', 'differential', 'e2e', 'vm'] },
  { name: 'fuse3', proof: 'fusermount3', purpose: ['demo', 'e2e', 'differential', 'vm'] },
  { name: 'mount', proof: 'mount', purpose: ['differential', 'e2e', 'bench'] },
  { name: 'squashfuse', proof: 'squashfuse_ll', purpose: ['bench', 'e2e'] },
  { name: 'squashfs-tools', proof: 'mksquashfs', purpose: ['bench', 'e2e'] },
  { name: 'util-linux', proof: 'setpriv', purpose: ['differential', 'e2e', 'vm'] },
  { name: 'kmod', proof: 'modprobe', purpose: ['differential', 'e2e', 'vm'] },
  { name: 'erofs-utils', proof: 'fsck.erofs', purpose: ['differential'] },
  { name: 'attr', proof: 'getfattr', purpose: ['e2e'] },
  { name: 'acl', proof: 'getfacl', purpose: ['e2e'] },
  { name: 'qemu-system-x86', proof: 'qemu-system-x86_64', purpose: ['vm'] },
  { name: 'busybox-static', proof: 'busybox', purpose: ['vm', 'e2e'] },
  { name: 'podman', proof: 'podman', purpose: ['e2e'] },
  { name: 'crun', proof: 'crun', purpose: ['e2e'] },
  { name: 'uidmap', proof: 'newuidmap', purpose: ['e2e'] },
  { name: 'e2fsprogs', proof: 'mkfs.ext4', purpose: ['vm', 'e2e'] },
  { name: 'btrfs-progs', proof: 'mkfs.btrfs', purpose: ['e2e'] },
  { name: 'fsverity', proof: 'fsverity', purpose: ['vm', 'e2e'] },
  { name: 'xz-utils', proof: 'xz', purpose: ['vm'] },
  { name: 'clang-format', proof: 'clang-format', purpose: ['static'] },
];

const say = (line) => console.log(`setup: ${line}`);

/** A file of this name on PATH (or in the sbin folders, which a user's PATH often lacks). */
function findCommand(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Installs the missing packages that serve one of `purposes`. Returns the ones still missing. */
export async function ensurePackages(purposes) {
  const missing = packages.filter(
    (entry) =>
      entry.purpose.some((purpose) => purposes.includes(purpose)) && !findCommand(entry.proof),
  );
  if (missing.length === 0) return [];
  const names = missing.map((entry) => entry.name);
  if (process.getuid() !== 0 || !findCommand('apt-get')) {
    say(`missing: ${names.join(' ')} (install them: sudo apt-get install ${names.join(' ')})`);
    return missing;
  }
  say(`installing ${names.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => {
    const options = ['-q', '-o', 'DPkg::Lock::Timeout=120'];
    return run('apt-get', [...options, ...args], { env, timeoutMs: 600_000 });
  };
  const install = (list) => apt('install', '-y', '--no-install-recommends', ...list);
  if ((await install(names)) !== 0) {
    await apt('update');
    // One by one after a failure, so that a package this release lacks does not cost the others.
    if ((await install(names)) !== 0) for (const name of names) await install([name]);
  }
  const left = missing.filter((entry) => !findCommand(entry.proof));
  for (const entry of left)
    say(`could not install ${entry.name}, needed for: ${entry.purpose.join(', ')}`);
  return left;
}

/** True when node_modules holds what package-lock.json asks for on this platform. */
function modulesAreInstalled() {
  const installedLock = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(installedLock)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedLock, 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    if (installed[path] === undefined) return entry.optional === true;
    return installed[path].version === entry.version;
  });
}

/** `npm ci` when the installed modules are not the locked ones. Throws when npm fails. */
export async function ensureNodeModules() {
  if (modulesAreInstalled()) return;
  say('installing node modules');
  const args = ['ci', '--no-audit', '--no-fund'];
  const code = await run('npm', args, { cwd: root, timeoutMs: 600_000 });
  if (code !== 0) throw new Error(`npm ci failed with exit code ${code}`);
}

/** Every file under the given paths; folders too, whose times tell of removed files. */
function* entriesUnder(paths) {
  for (const path of paths) {
    if (!existsSync(path)) continue;
    yield path;
    if (!statSync(path).isDirectory()) continue;
    for (const name of readdirSync(path, { recursive: true })) yield join(path, name);
  }
}

/** True when `output` is missing or one of the sources has changed since it was written. */
function isOlder(output, sources) {
  if (!existsSync(output)) return true;
  const built = statSync(output).mtimeMs;
  for (const path of entriesUnder(sources.map((name) => join(root, name))))
    if (statSync(path).mtimeMs > built) return true;
  return false;
}

/** Builds dist/ and the addon where they are missing or older than their sources. */
export async function ensureBuilds() {
  const builds = [
    {
      script: 'build:ts',
      output: 'dist/cli/composefs-fuse.js',
      sources: ['src', 'scripts/bundle.mjs', 'tsconfig.json', 'tsconfig.build.json'],
    },
    {
      script: 'build:native',
      output: 'build/Release/composefs_native.node',
      sources: ['native', 'binding.gyp'],
    },
  ];
  for (const { script, output, sources } of builds) {
    if (!isOlder(join(root, output), sources)) continue;
    say(`npm run ${script}`);
    const code = await run('npm', ['run', '--silent', script], { cwd: root, timeoutMs: 600_000 });
    if (code !== 0) throw new Error(`npm run ${script} failed with exit code ${code}`);
  }
}

/** Loads what the kernel side needs when it is built as modules; best effort, only as root. */
function loadKernelModules() {
  if (process.getuid() !== 0 || !findCommand('modprobe')) return;
  const present = readFileSync('/proc/filesystems', 'utf8');
  for (const name of ['fuse', 'overlay', 'erofs'])
    if (!new RegExp(`\\t${name}$`, 'm').test(present)) capture('modprobe', ['-q', name]);
  if (!existsSync('/dev/loop-control')) capture('modprobe', ['-q', 'loop']);
}

/** Everything for the given purposes (see the package table). Throws when a build is impossible. */
export async function setup(purposes) {
  await ensurePackages(['build', ...purposes]);
  await ensureNodeModules();
  await ensureBuilds();
  loadKernelModules();
  if (purposes.includes('vm')) ensureKernels(say);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await setup(['static', 'unit', 'differential', 'e2e', 'vm', 'demo', 'bench']);
    say('ready');
  } catch (error) {
    say(error.message);
    process.exitCode = 1;
  }
}
