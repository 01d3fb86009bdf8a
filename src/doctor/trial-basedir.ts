// Looks at the filesystem of a base directory, by small files in a directory of their own where that can be
// made. Runs in trial.ts.

import {
  accessSync,
  constants,
  copyFileSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isStacked } from '../fuse/data-mode.ts';
import { loadNative, type NativeAddon, OBJECT_FACTS } from '../native.ts';
import { openDirectory } from '../objects/basedirs.ts';
import type { BasedirFacts, BasedirOrder } from './trials.ts';

const SHA256 = 1;
const BLOCK_SIZE = 4096;
const CONTENT = 'composefs-fuse doctor\n';

/** Throws InputError if the directory cannot be used. */
export function tryBasedir({ path, scratch }: BasedirOrder): BasedirFacts {
  const native = loadNative();
  native.closeDescriptor(openDirectory(native, path, 'base directory'));
  const facts: BasedirFacts = {
    filesystem: statfsSync(path).type,
    isWritable: isWritable(path),
    isStacked: isStacked(path),
  };
  const object = firstObject(path);
  if (object !== undefined) {
    facts.object = { path: object, verity: verityOf(native, path, object) };
  }
  if (!facts.isWritable) return facts;
  try {
    mkdirSync(scratch, { mode: 0o700 });
  } catch {
    // Read-only in ways that access(2) does not know.
    return { ...facts, isWritable: false };
  }
  try {
    writeFileSync(join(scratch, 'file'), CONTENT);
    facts.enableVerity = enableVerity(native, scratch, 'file');
    facts.reflink = reflink(join(scratch, 'file'), join(scratch, 'clone'));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return facts;
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Relative to the store: the first file in a directory of two digits. */
function firstObject(path: string): string | undefined {
  try {
    for (const folder of readdirSync(path).filter((name) => /^[0-9a-f]{2}$/.test(name))) {
      const name = readdirSync(join(path, folder)).find((entry) => /^[0-9a-f]{62,}$/.test(entry));
      if (name !== undefined) return `${folder}/${name}`;
    }
  } catch {
    // May be entered but not listed; a store need not be more.
  }
  return undefined;
}

/** Runs `use` with the file, open for reading. What it returns, or -errno. */
function withFile(
  native: NativeAddon,
  folder: string,
  name: string,
  use: (fd: number) => number,
): number {
  const folderFd = native.openBasedir(folder);
  if (folderFd < 0) return folderFd;
  const bytes = Buffer.from(name);
  const facts = new BigInt64Array(OBJECT_FACTS.WORDS);
  const fd = native.openObject(folderFd, bytes, bytes.length, facts);
  native.closeDescriptor(folderFd);
  if (fd < 0) return fd;
  const status = use(fd);
  native.closeDescriptor(fd);
  return status;
}

function verityOf(native: NativeAddon, folder: string, name: string): number {
  return withFile(native, folder, name, (fd) => native.measureVerity(fd, new Uint8Array(64)));
}

function enableVerity(native: NativeAddon, folder: string, name: string): number {
  return withFile(native, folder, name, (fd) => native.enableVerity(fd, SHA256, BLOCK_SIZE));
}

function reflink(from: string, to: string): number {
  try {
    copyFileSync(from, to, constants.COPYFILE_FICLONE_FORCE);
    return 0;
  } catch (error) {
    return (error as NodeJS.ErrnoException).errno ?? -1;
  }
}
