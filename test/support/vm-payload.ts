// What a guest finds when it boots: busybox, node, the built project with the packages it needs at
// run time, a few programs, kernel modules, and what the test adds. Collected in a folder, packed
// as an initramfs. Nothing here starts a guest.

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { mustRun, python, runCommand } from './command.ts';
import { findProgram } from './vm-requirements.ts';

const projectRoot: string = join(import.meta.dirname, '../..');
const walkScript = 'test/support/tree-walk.py';

/** What guests run, and of test/support what is plain JavaScript for that. */
const guestModules = [
  'test/vm/guest',
  'test/support/ladder.mjs',
  'test/support/record-init.mjs',
] as const;

/** Where the project lies in the guest. */
export const guestProject = '/project';

/** Dependencies that only a build needs. */
const buildDependencies = new Set(['node-addon-api', 'node-gyp']);

/**
 * Beside node: a userland, what makes filesystems with fs-verity, the oracle that measures, and for mounting as
 * others than root what busybox has not or not in full.
 */
const programs = [
  'busybox',
  'mkfs.ext4',
  'fsverity',
  'fusermount3',
  'setpriv',
  'setsid',
  'unshare',
];

/** busybox links its own programs to /bin; what is not from it goes before them. */
const folderOf = (path: string): string => (basename(path) === 'busybox' ? '/bin' : '/usr/bin');

/** Built into some kernels and modules of others. Loaded in this order, after what they need. */
const wantedModules = ['fuse', 'loop', 'erofs', 'overlay', 'ext4', 'sha512_generic'];

const readJson = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;

/** Puts a file or folder into the guest. Links will do: the archive gets what they lead to. */
function place(root: string, hostPath: string, guestPath: string): void {
  const target = join(root, guestPath);
  if (statSync(hostPath).isDirectory()) {
    mkdirSync(target, { recursive: true });
    for (const name of readdirSync(hostPath))
      place(root, join(hostPath, name), join(guestPath, name));
  } else {
    mkdirSync(dirname(target), { recursive: true });
    symlinkSync(hostPath, target);
  }
}

/** The shared libraries that programs or libraries need, where these look for them. */
async function placeLibraries(root: string, users: readonly string[]): Promise<void> {
  // Its exit code only says that one of them is static, as busybox is.
  const { stdout } = await runCommand('ldd', users);
  for (const [, library = ''] of stdout.matchAll(/(\/\S+) \(0x/g))
    if (!existsSync(join(root, library))) place(root, library, library);
}

/** The oracle that walks trees, its Python, and of Python's library just what it loads. */
async function placeWalker(root: string): Promise<void> {
  const script = join(projectRoot, walkScript);
  const report = `
import runpy, sys
runpy.run_path(sys.argv.pop(1), run_name="__main__")
files = {getattr(module, "__file__", None) for module in sys.modules.values()}
print(sys.executable, *filter(None, files), sep="\\n", file=sys.stderr)`;
  const { stderr } = await mustRun(python, ['-I', '-c', report, script, join(root, 'mnt')]);
  const [interpreter = '', ...library] = stderr.trimEnd().split('\n');
  for (const path of library) if (path !== script) place(root, path, path);
  place(root, script, join(guestProject, walkScript));
  place(root, interpreter, interpreter);
  await placeLibraries(root, [interpreter, ...library.filter((path) => path.endsWith('.so'))]);
}

/** The folders of all packages that the project needs at run time, as Node resolves them. */
function runtimePackages(): string[] {
  const found = new Set<string>();
  const visit = (folder: string): void => {
    const { dependencies = {} } = readJson(join(folder, 'package.json'));
    for (const name of Object.keys(dependencies as object)) {
      if (folder === projectRoot && buildDependencies.has(name)) continue;
      let above = folder;
      while (above !== '/' && !existsSync(join(above, 'node_modules', name)))
        above = dirname(above);
      const dependency = join(above, 'node_modules', name);
      if (found.has(dependency)) continue;
      found.add(dependency);
      visit(dependency);
    }
  };
  visit(projectRoot);
  return [...found];
}

/** The first import that leads nowhere in a copy of dist/, which a build may be writing. */
function danglingImport(dist: string): string | undefined {
  for (const path of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.js')) continue;
    const text = readFileSync(join(dist, path), 'utf8');
    for (const [, specifier = ''] of text.matchAll(/(?:from|import\() ?'(\.[^']+)'/g))
      if (!existsSync(join(dist, dirname(path), specifier))) return `${path} imports ${specifier}`;
  }
  return undefined;
}

async function placeProject(root: string): Promise<void> {
  const addon = 'build/Release/composefs_native.node';
  const end = performance.now() + 30_000;
  for (;;) {
    try {
      for (const path of ['package.json', 'dist', addon])
        cpSync(join(projectRoot, path), join(root, guestProject, path), { recursive: true });
      const dangling = danglingImport(join(root, guestProject, 'dist'));
      if (dangling === undefined) break;
      throw new Error(`dist/ is not whole (npm run build): ${dangling}`);
    } catch (error) {
      if (performance.now() > end) throw error;
      rmSync(join(root, guestProject, 'dist'), { recursive: true, force: true });
      await delay(500);
    }
  }
  for (const folder of runtimePackages())
    place(root, folder, join(guestProject, folder.slice(projectRoot.length)));
  for (const path of guestModules) place(root, join(projectRoot, path), join(guestProject, path));
}

/** Copies the modules that are not built in, and lists them in the order of loading. */
async function placeModules(root: string, modules: string): Promise<void> {
  const needs = new Map<string, string[]>();
  for (const line of readFileSync(join(modules, 'modules.dep'), 'utf8').trimEnd().split('\n')) {
    const [path = '', after = ''] = line.split(':');
    needs.set(path, after.split(' ').filter(Boolean).toReversed());
  }
  const order = new Set<string>();
  for (const name of wantedModules) {
    const path = [...needs.keys()].find((key) => basename(key).split('.')[0] === name);
    // modules.dep has indirect needs too, the deepest last.
    if (path !== undefined) for (const each of [...needs.get(path)!, path]) order.add(each);
  }
  const folder = join(root, 'vm/modules');
  mkdirSync(folder, { recursive: true });
  for (const path of order) {
    const copy = join(folder, basename(path));
    copyFileSync(join(modules, path), copy);
    if (copy.endsWith('.xz')) await mustRun('xz', ['--decompress', copy]);
  }
  const names = [...order].map((path) => basename(path).replace(/\.xz$/, ''));
  writeFileSync(join(root, 'vm/modules.order'), `${names.join('\n')}\n`);
}

/**
 * The first process: mounts, modules, the test's part, and off. Its console is the first port. udev, which is not
 * here, opens /dev/fuse to everybody; fusermount3 reads the two files of /etc.
 */
const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin HOME=/root LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
stty -F /dev/ttyS1 raw 115200
while read -r module; do insmod "/vm/modules/$module"; done </vm/modules.order
chmod 666 /dev/fuse
echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >/etc/passwd
ln -s /proc/self/mounts /etc/mtab
ln -s ${guestProject}/dist/cli/composefs-fuse /usr/bin/composefs-fuse
cd /tmp
sh /vm/script
echo "exit $?" >/dev/ttyS1
sync
poweroff -f
`;

export interface Payload {
  /** The folder with the modules of the kernel that will boot. */
  modules: string;
  /** Shell script that runs as the test's part; its exit status is the run's. */
  script: string;
  /** Files and folders by their place in the guest. */
  files: Readonly<Record<string, string>>;
}

/** Collects and packs the initramfs of a guest below `folder`. Returns its path. */
export async function packInitramfs(folder: string, payload: Payload): Promise<string> {
  const root = join(folder, 'root');
  for (const path of ['bin', 'usr/bin', 'etc', 'dev', 'proc', 'sys', 'tmp', 'root', 'mnt'])
    mkdirSync(join(root, path), { recursive: true });
  const executables = [process.execPath, ...programs.map((name) => findProgram(name)!)];
  for (const path of executables) place(root, path, join(folderOf(path), basename(path)));
  await placeLibraries(root, executables);
  await placeWalker(root);
  await placeProject(root);
  await placeModules(root, payload.modules);
  for (const [guestPath, hostPath] of Object.entries(payload.files))
    place(root, hostPath, guestPath);
  writeFileSync(join(root, 'vm/script'), payload.script);
  writeFileSync(join(root, 'init'), init, { mode: 0o755 });
  const initramfs = join(folder, 'initramfs');
  // Not compressed: gunzip in an emulated guest costs seconds, reading 130 MB more costs none.
  const pack = 'cd "$1" && find . | busybox cpio -o -H newc -L -R 0:0 >"$2"';
  await mustRun('sh', ['-c', pack, 'sh', root, initramfs], { timeoutMs: 120_000 });
  return initramfs;
}
