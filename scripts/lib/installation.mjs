// Puts files into a system and takes them away again. A record lies among them, of every path with the target of
// a link (empty for a file), so that only what was installed is ever replaced or removed.

import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Said as one line, without a stack. */
export class InstallError extends Error {}

/** The files below a folder, relative to it, in order. */
export function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1))
    .sort();
}

/**
 * Puts `entries` below `destdir`: files of `source` or `text`, and links. What an earlier installation with the
 * same record has put there and this one has not is removed. Throws InstallError before anything is changed if
 * there is something that was not installed.
 */
export function install(destdir, record, entries) {
  const before = readRecord(destdir, record) ?? { files: {}, folders: [] };
  const foreign = entries.filter(
    (entry) => before.files[entry.path] === undefined && exists(destdir, entry),
  );
  if (foreign.length > 0) {
    throw new InstallError(
      `${join(destdir, foreign[0].path)} is there and was not installed by this; ` +
        'remove it, or choose another --prefix or --helper-dir',
    );
  }
  const files = Object.fromEntries(entries.map(({ path, target = '' }) => [path, target]));
  const folders = new Set(before.folders);
  const write = (path, make) => {
    for (const made of makeFolder(destdir, dirname(path))) folders.add(made);
    // Under its own name only when complete: a daemon may be running from the file that is there.
    const target = join(destdir, path);
    const temporary = `${target}.new-${process.pid}`;
    make(temporary);
    renameSync(temporary, target);
  };
  const remember = (known) =>
    write(record, (path) => {
      writeFileSync(path, `${JSON.stringify({ files: known, folders: [...folders] }, null, 1)}\n`);
      chmodSync(path, 0o644);
    });
  // Before and after: an installation that was interrupted can be removed, too.
  remember({ ...before.files, ...files });
  for (const entry of entries) write(entry.path, (path) => put(entry, path));
  for (const [path, target] of Object.entries(before.files)) {
    if (files[path] === undefined) remove(destdir, path, target);
  }
  remember(files);
}

/** Removes what the record says, and the folders that were made for it if they are empty. How many files. */
export function uninstall(destdir, record) {
  const installed = readRecord(destdir, record);
  if (installed === undefined) {
    throw new InstallError(`${join(destdir, record)} is not there: nothing is installed here`);
  }
  const files = Object.entries(installed.files);
  for (const [path, target] of files) remove(destdir, path, target);
  remove(destdir, record, '');
  // What is inside a folder first.
  for (const path of installed.folders.sort((a, b) => b.length - a.length)) {
    unlessGone(() => rmdirSync(join(destdir, path)));
  }
  return files.length;
}

/** A link that leads somewhere else by now is somebody else's. */
function remove(destdir, path, target) {
  const place = join(destdir, path);
  unlessGone(() => {
    if (target === '' || readlinkSync(place) === target) unlinkSync(place);
  });
}

function put(entry, path) {
  if (entry.kind === 'link') return symlinkSync(entry.target, path);
  writeFileSync(path, entry.text ?? readFileSync(entry.source));
  const isProgram = entry.source !== undefined && (statSync(entry.source).mode & 0o100) !== 0;
  // Whatever umask and checkout have made of it: every user may run it.
  chmodSync(path, isProgram ? 0o755 : 0o644);
}

/** Makes a folder and those above it that are missing; which ones, without `destdir`. */
function makeFolder(destdir, path) {
  const made = [];
  for (let at = path; at !== '/' && !isFolder(join(destdir, at)); at = dirname(at)) made.push(at);
  mkdirSync(join(destdir, path), { recursive: true });
  for (const at of made) chmodSync(join(destdir, at), 0o755);
  return made;
}

function readRecord(destdir, record) {
  const path = join(destdir, record);
  let text;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw new InstallError(`${path}: ${error.code}`);
  }
  try {
    const { files, folders } = JSON.parse(text);
    return { files: { ...files }, folders: [...folders] };
  } catch {
    throw new InstallError(`${path} is damaged; remove what it names, and it, by hand`);
  }
}

/** Whether something else is there: a link that says the same does no harm. */
function exists(destdir, { path, kind, target }) {
  const place = join(destdir, path);
  const found = lstatSync(place, { throwIfNoEntry: false });
  if (found === undefined) return false;
  return !(kind === 'link' && found.isSymbolicLink() && readlinkSync(place) === target);
}

function isFolder(path) {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** EINVAL is said of what is no link any more. */
function unlessGone(act) {
  try {
    act();
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST', 'EINVAL'].includes(error.code)) throw error;
  }
}
