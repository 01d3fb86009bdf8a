// The npm package fuse-native 2.2.6: what of it is used, as types, and how it is loaded. It is
// optional, has no types of its own, and is the only thing here that a user may have to install.

import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { MountError } from '../errors.ts';

/** A negative errno, or 0 and then what was asked for. */
type Callback<Results extends unknown[] = []> = (errno: number, ...results: Results) => void;

/** What the package makes a struct stat of. Absent times mean "now". */
export interface PackageStat {
  mode: number;
  ino: number;
  uid?: number;
  gid?: number;
  /** Below 2^53. */
  size?: number;
  /** 0 is shown as 1. */
  nlink?: number;
  rdev?: number;
  blksize?: number;
  blocks?: number;
  /** Milliseconds since 1970, not negative. */
  atime?: number;
  mtime?: number;
  ctime?: number;
}

/** What the package makes a struct statvfs of. Every field below 2^32. */
export interface PackageStatfs {
  bsize: number;
  frsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  favail: number;
  namemax: number;
}

/** The callbacks that the package takes. Each must call back exactly once and throw nothing. */
export interface PackageOperations {
  getattr(path: string, callback: Callback<[stat?: PackageStat]>): void;
  readdir(path: string, callback: Callback<[names?: string[], stats?: PackageStat[]]>): void;
  readlink(path: string, callback: Callback<[target?: string]>): void;
  /** `fd` is a number of ours from 1 to 2^31 - 1. */
  open(path: string, flags: number, callback: Callback<[fd?: number]>): void;
  /** Calls back with the number of bytes, or -errno. `buffer` is memory of libfuse until then. */
  read(
    path: string,
    fd: number,
    buffer: Uint8Array,
    length: number,
    offset: number,
    callback: (bytes: number) => void,
  ): void;
  release(path: string, fd: number, callback: Callback): void;
  statfs(path: string, callback: Callback<[statfs?: PackageStatfs]>): void;
  /** Named only so that the package asks at all: see FuseInstance. */
  getxattr(): void;
  listxattr(): void;
  /** All others, of which only the callback, the last argument, matters. */
  [change: string]: (...args: never[]) => void;
}

/** Answers the thread of libfuse that waits for an extended attribute. `memory` is its buffer's. */
export type XattrSignal = (result: number, memory: ArrayBufferLike) => void;

/**
 * A mount to be. The methods with an underscore are the package's own; those named here are replaced,
 * because what they do is not enough: see connection.ts.
 */
export interface FuseInstance {
  mount(callback: (error: Error | null) => void): void;
  /** `-o` with libfuse's options. */
  _fuseOptions(): string;
  _op_getxattr(signal: XattrSignal, path: string, name: string, buffer: Uint8Array): void;
  _op_listxattr(signal: XattrSignal, path: string, buffer: Uint8Array): void;
  /** The addon's memory of the mount, once it has begun. */
  readonly _thread: Uint8Array | null;
}

export interface FusePackage {
  Fuse: new (
    mountpoint: string,
    operations: PackageOperations,
    options: { timeout: false },
  ) => FuseInstance;
  /** The package's addon. It holds the event loop from mounting until this call, which does no more. */
  letGo(mountpoint: string, thread: Uint8Array): void;
  /** Where libfuse 2 came from. */
  libfuse: 'system' | 'bundled';
}

const PACKAGE = 'fuse-native';
/** Keeps a library loaded for good (RTLD_NODELETE of glibc and musl). */
const RTLD_NODELETE = 0x1000;
const REPLACED = ['_fuseOptions', '_op_getxattr', '_op_listxattr'] as const;

/**
 * Loads the package and libfuse 2: the system's, or else the one that comes with the package. Throws
 * MountError saying what to install.
 */
export function loadFusePackage(): FusePackage {
  const require = createRequire(import.meta.url);
  let path: string;
  try {
    path = require.resolve(PACKAGE);
  } catch (cause) {
    throw unusable('is not installed: `npm install fuse-native@2.2.6`', cause);
  }
  const ofPackage = createRequire(path);
  const libfuse = loadLibfuse(() => void require(PACKAGE), ofPackage);
  const Fuse = require(PACKAGE) as FusePackage['Fuse'];
  if (!REPLACED.every((name) => typeof Fuse.prototype[name] === 'function')) {
    throw unusable('is of another version: `npm install fuse-native@2.2.6`', undefined);
  }
  const build = ofPackage('node-gyp-build') as (folder: string) => {
    fuse_native_unmount: FusePackage['letGo'];
  };
  return { Fuse, letGo: build(dirname(path)).fuse_native_unmount, libfuse };
}

/**
 * The package's addon wants libfuse.so.2 and does not say where to look. A library of that name that is
 * loaded already satisfies it, so the one beside the package is loaded first, as if it were an addon:
 * Node.js finds that it is none, and RTLD_NODELETE keeps it.
 */
function loadLibfuse(load: () => void, ofPackage: NodeJS.Require): FusePackage['libfuse'] {
  try {
    load();
    return 'system';
  } catch (cause) {
    if (!(cause as Error).message.includes('libfuse')) throw cannotLoad(cause);
  }
  try {
    const { lib } = ofPackage('fuse-shared-library') as { lib: string };
    process.dlopen({ exports: {} }, lib, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch {
    // Always: it is no addon. Whether it is loaded shows below.
  }
  try {
    load();
    return 'bundled';
  } catch (cause) {
    throw cannotLoad(cause);
  }
}

function cannotLoad(cause: unknown): MountError {
  const reason = (cause as Error).message.split('\n')[0] ?? '';
  return unusable(
    `and libfuse 2 cannot be loaded (${reason}): \`apt-get install libfuse2\`, ` +
      '`npm install fuse-native@2.2.6`',
    cause,
  );
}

function unusable(what: string, cause: unknown): MountError {
  const message = `--transport fuse-native: the npm package ${PACKAGE} ${what}; or use --transport device`;
  return new MountError(message, { path: PACKAGE, cause });
}
