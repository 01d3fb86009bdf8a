// The package's callbacks, answered by the filesystem core: paths become nids, results become errnos.
// Nothing is thrown into the package, whose thread would wait for ever, and nothing is answered twice.

import { Errno } from '../errors.ts';
import type { ComposefsFilesystem } from '../filesystem/composefs.ts';
import { DEFER, NO_OBJECT, type ReadTarget } from '../filesystem/contents.ts';
import { copyBytes } from '../filesystem/copy-bytes.ts';
import {
  MAX_MEASUREMENTS,
  type ObjectMeasuring,
  type Waiter,
} from '../filesystem/object-measuring.ts';
import type { StatisticsSource } from '../filesystem/statistics.ts';
import type { XattrCaller } from '../filesystem/xattr-view.ts';
import { statfsOf, statOf } from './attributes.ts';
import type { XattrOperations } from './connection.ts';
import { listDirectory, readTarget } from './names.ts';
import { OpenFileNumbers } from './open-file-numbers.ts';
import type { PackageOperations } from './package.ts';
import { PathResolver } from './path-resolver.ts';

/** O_ACCMODE: everything but O_RDONLY (0) would write. */
const ACCESS_MODE = 3;

/** The package does not say who asks, so nobody is shown names of trusted.*; values can be read. */
const UNKNOWN_CALLER: XattrCaller = { canSeeTrusted: () => false };

/** The mount is read-only, but an administrator can remount it. */
const CHANGES = [
  'truncate',
  'ftruncate',
  'utimens',
  'chown',
  'chmod',
  'mknod',
  'setxattr',
  'removexattr',
  'write',
  'create',
  'unlink',
  'rename',
  'link',
  'symlink',
  'mkdir',
  'rmdir',
] as const;

/** What the callbacks work with. */
export interface OperationsSetup {
  filesystem: ComposefsFilesystem;
  statistics: StatisticsSource;
  /** Where contents are delivered to before they are copied to libfuse's memory. */
  target: ReadTarget;
  measuring: ObjectMeasuring;
  /** Told about every exception: a bug in this program. The caller gets EIO. */
  reportBug: (error: unknown, operation: string) => void;
}

export class Operations implements XattrOperations {
  readonly #setup: OperationsSetup;
  readonly #paths: PathResolver;
  readonly #openFiles = new OpenFileNumbers();
  readonly #waiting = new Set<Waiter>();
  #isEnded = false;

  constructor(setup: OperationsSetup) {
    this.#setup = setup;
    this.#paths = new PathResolver(setup.filesystem);
  }

  /** Nothing is looked at from now on: everybody gets EIO. */
  end(): void {
    this.#isEnded = true;
    for (const waiter of this.#waiting) {
      waiter.isInterrupted = true;
      waiter.share?.release();
      waiter.share = undefined;
    }
    this.#setup.measuring.end();
  }

  /** What the package is given. What is not among them it answers ENOSYS, which the kernel remembers. */
  get table(): PackageOperations {
    const { filesystem, statistics } = this.#setup;
    const table: PackageOperations = {
      getattr: (path, callback) => {
        const status = this.#attempt('getattr', () => this.#paths.resolve(path));
        if (status < 0) callback(status);
        else callback(0, statOf(filesystem.inode));
      },
      readlink: (path, callback) => {
        const found = this.#attemptFor('readlink', () =>
          this.#onPath(path, (nid) => readTarget(filesystem, nid)),
        );
        if (typeof found === 'number') callback(found);
        else callback(0, found);
      },
      readdir: (path, callback) => {
        const found = this.#attemptFor('readdir', () =>
          this.#onPath(path, (nid) => listDirectory(filesystem, nid)),
        );
        if (typeof found === 'number') callback(found);
        else callback(0, found.names, found.stats);
      },
      statfs: (_path, callback) => callback(0, statfsOf(statistics.read())),
      open: (path, flags, callback) => {
        const nid = this.#attempt('open', () =>
          (flags & ACCESS_MODE) === 0 ? this.#paths.resolve(path) : -Errno.EROFS,
        );
        if (nid < 0) callback(nid);
        else
          this.#open(nid, (handle) => {
            if (handle < 0) callback(handle);
            else callback(0, this.#openFiles.add({ nid, handle }));
          });
      },
      read: (_path, fd, buffer, length, offset, callback) =>
        this.#read(fd, buffer, length, offset, callback),
      release: (_path, fd, callback) => {
        const file = this.#openFiles.remove(fd);
        const { nid, handle } = file ?? { nid: 0, handle: NO_OBJECT };
        callback(this.#attempt('release', () => filesystem.release(nid, handle)));
      },
      getxattr: () => {},
      listxattr: () => {},
    };
    for (const change of CHANGES) {
      table[change] = (...args: never[]) =>
        (args.at(-1) as unknown as (errno: number) => void)(-Errno.EROFS);
    }
    return table;
  }

  getXattr(path: string, name: string, out: Uint8Array): number {
    const { filesystem } = this.#setup;
    return this.#attempt('getxattr', () =>
      this.#onPath(path, (nid) => {
        const bytes = Buffer.from(name);
        const length = filesystem.getXattr(nid, bytes, 0, bytes.length);
        if (length > 0 && length <= out.length) {
          const { valueBytes, valueStart } = filesystem.xattrs;
          copyBytes(valueBytes, valueStart, out, 0, length);
        }
        return length;
      }),
    );
  }

  listXattrs(path: string, out: Uint8Array): number {
    const { filesystem } = this.#setup;
    return this.#attempt('listxattr', () =>
      this.#onPath(path, (nid) => filesystem.listXattrs(nid, UNKNOWN_CALLER, out, 0, out.length)),
    );
  }

  #onPath<T>(path: string, then: (nid: number) => T | number): T | number {
    const nid = this.#paths.resolve(path);
    return nid < 0 ? nid : then(nid);
  }

  /** Objects that are opened by the first read need not be looked at before. */
  #open(nid: number, done: (handle: number) => void): void {
    const { filesystem } = this.#setup;
    if (filesystem.opensOnRead) done(NO_OBJECT);
    else this.#serve('open', nid, () => filesystem.open(nid), done);
  }

  #read(
    fd: number,
    buffer: Uint8Array,
    length: number,
    offset: number,
    done: (bytes: number) => void,
  ): void {
    const file = this.#openFiles.get(fd);
    if (file === undefined) {
      done(-Errno.EBADF);
      return;
    }
    const { filesystem, target } = this.#setup;
    const { nid, handle } = file;
    const attempt = (): number => {
      let total = 0;
      while (total < length) {
        const wanted = Math.min(length - total, target.bytes.length);
        const count = filesystem.read(nid, handle, offset + total, wanted, target, 0);
        if (count < 0) return count;
        copyBytes(target.bytes, 0, buffer, total, count);
        total += count;
        if (count < wanted) break;
      }
      return total;
    };
    this.#serve('read', nid, attempt, done);
  }

  /** Answers now, or when the object has been hashed. */
  #serve(
    operation: string,
    nid: number,
    attempt: () => number,
    done: (result: number) => void,
  ): void {
    const result = this.#attempt(operation, attempt);
    if (result === DEFER) void this.#serveLater(operation, nid, attempt, done);
    else done(result);
  }

  async #serveLater(
    operation: string,
    nid: number,
    attempt: () => number,
    done: (result: number) => void,
  ): Promise<void> {
    done(await this.#measureAndAttempt(operation, nid, attempt));
  }

  /** Never rejects. */
  async #measureAndAttempt(operation: string, nid: number, attempt: () => number): Promise<number> {
    const { measuring } = this.#setup;
    const waiter: Waiter = { isInterrupted: false, share: undefined };
    this.#waiting.add(waiter);
    try {
      for (let measurements = 0; ; measurements++) {
        if (measurements === MAX_MEASUREMENTS) return measuring.giveUp(nid);
        const status = await measuring.measure(nid, waiter);
        if (status < 0) return status;
        const result = this.#attempt(operation, attempt);
        if (result !== DEFER) return result;
      }
    } catch (error) {
      this.#setup.reportBug(error, operation);
      return -Errno.EIO;
    } finally {
      this.#waiting.delete(waiter);
    }
  }

  #attempt(operation: string, attempt: () => number): number {
    return this.#attemptFor(operation, attempt);
  }

  #attemptFor<T>(operation: string, attempt: () => T | number): T | number {
    if (this.#isEnded) return -Errno.EIO;
    try {
      return attempt();
    } catch (error) {
      this.#setup.reportBug(error, operation);
      return -Errno.EIO;
    }
  }
}
