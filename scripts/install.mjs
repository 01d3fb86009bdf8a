// `npm run install:system -- [--prefix DIR] [--destdir DIR]`: puts the built commands, their manual pages,
// completions and the systemd unit where a system looks for them, and mount(8)'s helpers; with --uninstall
// takes away what it has put there. docs/packaging.md says what goes where.

import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { filesBelow, install, InstallError, uninstall } from './lib/installation.mjs';

const HELP = `Usage: npm run install:system -- [options]
       npm run uninstall:system -- [options]

  --prefix DIR      where commands, pages, completions and the unit go (default /usr/local)
  --destdir DIR     put in front of every path, for packages; links stay as if it were not there
  --helper-dir DIR  where mount(8) looks for its helpers (default /sbin)
  --uninstall       take away what an installation with the same options has put there
  --help            show this text

Exit codes: 0 done, 1 not: nothing was changed, or the message says what was.
`;

const root = join(import.meta.dirname, '..');
const ADDON = 'composefs_native.node';
/** Dependencies that only building the addon takes. */
const BUILD_ONLY = new Set(['node-gyp', 'node-addon-api']);
/** The type that the mount table shows, and the one by which mount.fuse finds the command by itself. */
const MOUNT_TYPES = ['fuse.composefs', 'fuse.composefs-fuse'];

function options() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        prefix: { type: 'string', default: '/usr/local' },
        destdir: { type: 'string', default: '' },
        'helper-dir': { type: 'string', default: '/sbin' },
        uninstall: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new InstallError(`${error.message.split('. ')[0]}; see --help`);
  }
  for (const name of ['prefix', 'helper-dir']) {
    if (isAbsolute(values[name])) continue;
    throw new InstallError(
      `--${name} is ${JSON.stringify(values[name])}; expected an absolute path`,
    );
  }
  return {
    ...values,
    prefix: resolve(values.prefix),
    helperDir: resolve(values['helper-dir']),
    // Nothing stands in front of a path where none is given.
    destdir: values.destdir === '' ? '/' : resolve(values.destdir),
  };
}

const file = (path, source) => ({ path, kind: 'file', source });
const link = (path, target) => ({ path, kind: 'link', target });

/** Every file of a folder, below another one. */
const copies = (from, to, keep = () => true) =>
  filesBelow(from)
    .filter(keep)
    .map((name) => file(join(to, name), join(from, name)));

/** The package itself: commands, addon, and what they import. */
function libraryFiles(library, manifest) {
  const isNeeded = (name) => !/\.(?:d\.ts|map)$/.test(name);
  return [
    ...copies(join(root, 'dist'), join(library, 'dist'), isNeeded),
    ...addonFiles(library),
    ...runtimeModules(manifest).flatMap(([folder, name]) =>
      copies(folder, join(library, 'node_modules', name), isNeeded),
    ),
    file(join(library, 'package.json'), join(root, 'package.json')),
    file(join(library, 'LICENSE'), join(root, 'LICENSE')),
  ];
}

function addonFiles(library) {
  const built = join('build/Release', ADDON);
  const prebuilt = existsSync(join(root, 'prebuilds')) ? filesBelow(join(root, 'prebuilds')) : [];
  const names = [
    ...(existsSync(join(root, built)) ? [built] : []),
    ...prebuilt.map((name) => join('prebuilds', name)),
  ];
  if (names.length === 0) {
    throw new InstallError('there is no native addon; build it with: npm run build:native');
  }
  return names.map((name) => file(join(library, name), join(root, name)));
}

/** All modules that the package needs to run, each once: folder and name. */
function runtimeModules(manifest) {
  const found = new Map();
  const visit = (from, { dependencies = {} }) => {
    for (const name of Object.keys(dependencies)) {
      if (BUILD_ONLY.has(name)) continue;
      const folder = moduleFolder(from, name);
      if (found.has(folder)) continue;
      found.set(folder, name);
      visit(folder, readJson(join(folder, 'package.json')));
    }
  };
  visit(root, manifest);
  // What lies inside another module's folder is copied with it.
  const isInside = (folder) => [...found.keys()].some((other) => folder.startsWith(`${other}/`));
  return [...found].filter(([folder]) => !isInside(folder));
}

function moduleFolder(from, name) {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name);
    if (existsSync(folder)) return folder;
    // As a dependency itself, this package shares the folder of those who depend on it.
    if (at === '/') throw new InstallError(`the module ${name} is missing; get it with: npm ci`);
  }
}

const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));

function plan({ prefix, helperDir }) {
  const manifest = readJson(join(root, 'package.json'));
  const library = join(prefix, 'lib/composefs-fuse');
  const bin = join(prefix, 'bin');
  const share = join(prefix, 'share');
  const commands = Object.entries(manifest.bin);
  for (const [, target] of commands) {
    if (existsSync(join(root, target))) continue;
    throw new InstallError(`${target} is missing; build it with: npm run build`);
  }
  const entries = libraryFiles(library, manifest);
  for (const [name, target] of commands) {
    const installed = join(library, target);
    // Absolute where it leads from one place of a system to another, which /sbin may be a link to.
    if (name.startsWith('mount.')) entries.push(link(join(helperDir, name), installed));
    else entries.push(link(join(bin, name), relative(bin, installed)));
  }
  for (const type of MOUNT_TYPES) {
    entries.push(link(join(helperDir, `mount.${type}`), join(bin, 'composefs-fuse')));
  }
  for (const page of manifest.man) {
    const section = page.slice(page.lastIndexOf('.') + 1);
    entries.push(file(join(share, `man/man${section}`, basename(page)), join(root, page)));
  }
  for (const [shell, folder] of [
    ['bash', 'bash-completion/completions'],
    ['zsh', 'zsh/site-functions'],
    ['fish', 'fish/vendor_completions.d'],
  ]) {
    entries.push(...copies(join(root, 'completions', shell), join(share, folder)));
  }
  entries.push(unitFile(prefix, bin));
  return { record: join(library, 'installed.json'), entries };
}

/** The unit names its command by its path. */
function unitFile(prefix, bin) {
  const name = 'composefs-fuse@.service';
  const text = readFileSync(join(root, 'systemd', name), 'utf8');
  const path = join(prefix, 'lib/systemd/system', name);
  return {
    path,
    kind: 'file',
    text: text.replaceAll('/usr/local/bin/composefs-fuse', join(bin, 'composefs-fuse')),
  };
}

try {
  const chosen = options();
  if (chosen.help) {
    process.stdout.write(HELP);
  } else if (chosen.uninstall) {
    const record = join(chosen.prefix, 'lib/composefs-fuse/installed.json');
    const count = uninstall(chosen.destdir, record);
    console.log(
      `${count} files of composefs-fuse are gone from ${join(chosen.destdir, chosen.prefix)}`,
    );
  } else {
    const { record, entries } = plan(chosen);
    install(chosen.destdir, record, entries);
    console.log(
      `composefs-fuse is in ${join(chosen.destdir, chosen.prefix)} (${entries.length} files), ` +
        `mount(8)'s helpers are in ${join(chosen.destdir, chosen.helperDir)}`,
    );
  }
} catch (error) {
  console.error(`install: ${error instanceof InstallError ? error.message : error.stack}`);
  process.exitCode = 1;
}
