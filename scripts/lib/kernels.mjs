// The kernels that the VM tier boots: Debian's cloud kernels of three releases, fetched with apt
// into a cache outside the repository and unpacked there. The sources are the machine's own with
// the release's name replaced, and apt keeps its state in a folder of its own: the machine's lists
// stay as they are. Nothing here needs root.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { capture } from './process.mjs';

export const kernelNames = ['bullseye', 'bookworm', 'trixie'];

/** A kernel that could not be had is asked for again after this time. */
const retryAfterMs = 6 * 3600_000;
const aptTimeoutMs = 180_000;

const cacheFolder = () =>
  process.env.COMPOSEFS_VM_CACHE ??
  join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'composefs-fuse/vm');

const factsPath = (name) => join(cacheFolder(), name, 'kernel.json');
const failurePath = (name) => join(cacheFolder(), `${name}.failure.json`);

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** What is in the cache of this kernel: `{ release, image, modules }`, or `{ reason }`. */
export function findKernel(name) {
  const facts = readJson(factsPath(name));
  if (facts === undefined)
    return { reason: readJson(failurePath(name))?.reason ?? 'not fetched (npm test fetches it)' };
  const folder = join(cacheFolder(), name);
  return {
    release: facts.release,
    image: join(folder, 'vmlinuz'),
    modules: join(folder, 'lib/modules', facts.release),
  };
}

/** What a command that did not succeed had to say. */
function failureOf(shown, result) {
  // apt warns a lot before it says what is wrong.
  const lines = result.stderr.trim().split('\n');
  const why = lines.find((line) => line.startsWith('E:')) ?? lines.at(-1);
  return new Error(`${shown}: ${why || 'not done within the time limit'}`);
}

function must(command, args, options) {
  const result = capture(command, args, options);
  if (result.code === 0) return result.stdout;
  throw failureOf(`${command} ${args.at(-1)}`, result);
}

/** The machine's apt sources that name its own release, as `[file name, text]` for another one. */
function sourcesFor(name) {
  const own = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  if (own === undefined) throw new Error('/etc/os-release names no Debian release');
  const parts = '/etc/apt/sources.list.d';
  const files = existsSync(parts) ? readdirSync(parts).map((file) => join(parts, file)) : [];
  const sources = ['/etc/apt/sources.list', ...files]
    .filter((file) => /\.(list|sources)$/.test(file) && existsSync(file))
    .map((file) => [basename(file), readFileSync(file, 'utf8')])
    .filter(([, text]) => new RegExp(`^[^#]*\\b${own}\\b`, 'm').test(text))
    .map(([file, text]) => [file, text.replaceAll(new RegExp(`\\b${own}\\b`, 'g'), name)]);
  if (sources.length === 0) throw new Error(`no apt source of this machine names ${own}`);
  return sources;
}

/** apt's options for a state of its own below `folder`. */
function aptState(folder, name) {
  const parts = join(folder, 'sources');
  for (const path of [parts, join(folder, 'lists/partial'), join(folder, 'archives/partial')])
    mkdirSync(path, { recursive: true });
  for (const [file, text] of sourcesFor(name)) writeFileSync(join(parts, file), text);
  writeFileSync(join(folder, 'status'), '');
  const settings = {
    'Dir::Etc::sourcelist': '/dev/null',
    'Dir::Etc::sourceparts': parts,
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': folder,
    // apt's own user may not be able to enter the cache folder.
    'APT::Sandbox::User': '',
    'Acquire::http::Timeout': '20',
    'Acquire::Retries': '1',
  };
  return ['-q', ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])];
}

/** The package that the release's metapackage stands for at present. */
function currentPackage(options) {
  // Fails when any source does, also one of no importance here; what counts is the kernel.
  const update = capture('apt-get', [...options, 'update'], { timeoutMs: aptTimeoutMs });
  try {
    const text = must('apt-cache', [...options, 'depends', 'linux-image-cloud-amd64']);
    const found = /Depends: (linux-image-\S+-cloud-amd64)/.exec(text)?.[1];
    if (found === undefined) throw new Error('this release has no cloud kernel');
    return found;
  } catch (error) {
    throw update.code === 0 ? error : failureOf('apt-get update', update);
  }
}

function fetchKernel(name) {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, `.${name}-`));
  try {
    const options = aptState(join(work, 'apt'), name);
    const download = [...options, 'download', currentPackage(options)];
    must('apt-get', download, { timeoutMs: aptTimeoutMs, cwd: work });
    const archive = readdirSync(work).find((file) => file.endsWith('.deb'));
    must('dpkg', ['-x', join(work, archive), join(work, 'package')], { timeoutMs: 60_000 });
    const modules = ['lib/modules', 'usr/lib/modules']
      .map((path) => join(work, 'package', path))
      .find((path) => existsSync(path));
    const [release] = readdirSync(modules);
    const kernel = join(work, 'kernel');
    mkdirSync(join(kernel, 'lib/modules'), { recursive: true });
    copyFileSync(join(work, 'package/boot', `vmlinuz-${release}`), join(kernel, 'vmlinuz'));
    renameSync(join(modules, release), join(kernel, 'lib/modules', release));
    // The package leaves this to its installation.
    must('depmod', ['-b', kernel, release]);
    writeFileSync(join(kernel, 'kernel.json'), JSON.stringify({ release }));
    rmSync(join(cache, name), { recursive: true, force: true });
    renameSync(kernel, join(cache, name));
    rmSync(failurePath(name), { force: true });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Fetches the kernels that the cache lacks. What fails is said, and noted for the tests' skips. */
export function ensureKernels(say) {
  if (process.arch !== 'x64') return;
  for (const name of kernelNames) {
    if (existsSync(factsPath(name))) continue;
    const failure = readJson(failurePath(name));
    if (failure !== undefined && Date.now() - failure.when < retryAfterMs) continue;
    say(`fetching the kernel of Debian ${name}`);
    try {
      fetchKernel(name);
    } catch (error) {
      say(`no kernel of Debian ${name}: ${error.message}`);
      mkdirSync(cacheFolder(), { recursive: true });
      const note = { reason: error.message, when: Date.now() };
      writeFileSync(failurePath(name), JSON.stringify(note));
    }
  }
}
