// One mount through the package: its making, whether it still lives, its end. Where the package does
// too little, or what must not happen in a daemon, its methods are replaced here:
// - its option list has no room for read-only, inode numbers or a comma in a name;
// - its answers to getxattr and listxattr ignore how large the caller's buffer is: a small one made
//   libfuse send memory beyond its own, or ended the process;
// - its unmount() runs a shell with the mountpoint in the command line, and is not called at all.

import { readdirSync, readlinkSync } from 'node:fs';
import { MountError } from '../errors.ts';
import type { FuseInstance, FusePackage, PackageOperations } from './package.ts';

const DEVICE = '/dev/fuse';
/** Bytes that the package's addon takes of the mountpoint and of the option list; it cuts the rest. */
const LONGEST_ARGUMENT = 1023;

/** Both return the length of the value, whatever `capacity` is, or -errno. */
export interface XattrOperations {
  /** Writes the value to `out` if it is not longer than that. */
  getXattr(path: string, name: string, out: Uint8Array): number;
  /** Writes the names, each with a NUL, to `out` if they are not longer together. */
  listXattrs(path: string, out: Uint8Array): number;
}

const ERANGE = 34;

export class LibfuseConnection {
  readonly #package: FusePackage;
  readonly #mountpoint: string;
  readonly #fuse: FuseInstance;
  #device: number | undefined;

  /**
   * `options` are libfuse's, escaped and joined by commas. Throws MountError if they or the mountpoint
   * are too long.
   */
  constructor(
    fusePackage: FusePackage,
    mountpoint: string,
    options: string,
    operations: PackageOperations,
    xattrs: XattrOperations,
  ) {
    const list = `-o${options}`;
    for (const [what, text] of [
      ['the mountpoint', mountpoint],
      ['the list of mount options (a shorter -o fsname=NAME helps)', list],
    ] as const) {
      const length = Buffer.byteLength(text);
      if (length <= LONGEST_ARGUMENT) continue;
      throw new MountError(
        `--transport fuse-native: ${what} has ${length} bytes, more than ${LONGEST_ARGUMENT}`,
        { path: mountpoint, isInput: true },
      );
    }
    this.#package = fusePackage;
    this.#mountpoint = mountpoint;
    // No time limit: hashing a large object takes as long as it takes.
    this.#fuse = new fusePackage.Fuse(mountpoint, operations, { timeout: false });
    this.#fuse._fuseOptions = () => list;
    this.#fuse._op_getxattr = (signal, path, name, buffer) =>
      signal(fitted(xattrs.getXattr(path, name, buffer), buffer), buffer.buffer);
    this.#fuse._op_listxattr = (signal, path, buffer) =>
      signal(fitted(xattrs.listXattrs(path, buffer), buffer), buffer.buffer);
  }

  /** Mounts; when it resolves, requests are served. Rejects with MountError; a mount may be left. */
  async mount(): Promise<void> {
    const before = new Set(openDevices());
    const error = await new Promise<Error | null>((resolve) => this.#fuse.mount(resolve));
    this.#device = openDevices().find((fd) => !before.has(fd));
    if (error === null && this.#device !== undefined) return;
    const path = this.#mountpoint;
    if (error?.message === 'Mountpoint in use') {
      throw new MountError(
        `mountpoint ${path} is itself a mount, which fuse-native refuses: use another directory`,
        { path, isInput: true, cause: error },
      );
    }
    const message = `mounting on ${path} failed: libfuse 2 says why on standard error (--foreground)`;
    throw new MountError(message, { path, cause: error ?? undefined });
  }

  /**
   * Whether libfuse still serves: it closes its device when the mount is gone. The package says
   * nothing of that.
   */
  get isAlive(): boolean {
    return this.#device !== undefined && isDevice(this.#device);
  }

  /** libfuse's descriptor of /dev/fuse; -1 before `mount`. */
  get device(): number {
    return this.#device ?? -1;
  }

  /**
   * Lets the process end. Threads of libfuse that still wait for requests end with it, at once:
   * taking the environment apart first would free memory that they use.
   */
  letGo(): void {
    const { _thread: thread } = this.#fuse;
    if (thread === null) return;
    this.#package.letGo(this.#mountpoint, thread);
    process.once('beforeExit', () => process.exit());
  }
}

/** What the caller is told about a value of `length` bytes (or -errno); 0 bytes ask for the length. */
function fitted(length: number, buffer: Uint8Array): number {
  return buffer.length > 0 && length > buffer.length ? -ERANGE : length;
}

function openDevices(): number[] {
  return readdirSync('/proc/self/fd').map(Number).filter(isDevice);
}

function isDevice(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === DEVICE;
  } catch {
    return false;
  }
}
