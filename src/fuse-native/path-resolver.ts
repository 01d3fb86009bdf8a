// Paths to inodes. libfuse 2 names a file by its path in every call, and the package decodes paths as
// UTF-8: bytes that are none have become U+FFFD, and what they named cannot be known any more.

import { Errno } from '../errors.ts';
import type { ComposefsFilesystem } from '../filesystem/composefs.ts';

/** Directories whose inodes are remembered. */
const REMEMBERED_MAX = 4096;
/** The kernel passes names of up to 1024 bytes, each of which may have become three. */
const NAME_BUFFER_SIZE = 4096;
const REPLACEMENT = '\u{fffd}';

export class PathResolver {
  readonly #filesystem: ComposefsFilesystem;
  readonly #directories = new Map<string, number>();
  readonly #name = new Uint8Array(NAME_BUFFER_SIZE);
  readonly #encoder = new TextEncoder();

  constructor(filesystem: ComposefsFilesystem) {
    this.#filesystem = filesystem;
  }

  /**
   * The nid at `path`, which begins with a slash; its inode is loaded. Or -errno: as
   * ComposefsFilesystem.lookup, and -EILSEQ for a name that is not there and was not UTF-8.
   */
  resolve(path: string): number {
    const { rootNid } = this.#filesystem.image;
    if (path === '/') {
      const status = this.#filesystem.attributes(rootNid);
      return status < 0 ? status : rootNid;
    }
    const slash = path.lastIndexOf('/');
    const parent = this.#resolveDirectory(path.slice(0, slash));
    return parent < 0 ? parent : this.#child(parent, path.slice(slash + 1));
  }

  /** `path` without a slash at its end; empty for the root. */
  #resolveDirectory(path: string): number {
    let known = path;
    let nid: number | undefined;
    for (;;) {
      nid = known === '' ? this.#filesystem.image.rootNid : this.#directories.get(known);
      if (nid !== undefined) break;
      known = known.slice(0, known.lastIndexOf('/'));
    }
    for (let at = known.length; at < path.length;) {
      const next = path.indexOf('/', at + 1);
      const end = next < 0 ? path.length : next;
      nid = this.#child(nid, path.slice(at + 1, end));
      if (nid < 0) return nid;
      this.#remember(path.slice(0, end), nid);
      at = end;
    }
    return nid;
  }

  #child(parent: number, name: string): number {
    const { read, written } = this.#encoder.encodeInto(name, this.#name);
    const status =
      read < name.length
        ? -Errno.ENAMETOOLONG
        : this.#filesystem.lookup(parent, this.#name, 0, written);
    if (status === 0) return this.#filesystem.inode.nid;
    const isAbsent = status === -Errno.ENOENT || status === -Errno.ENAMETOOLONG;
    return isAbsent && name.includes(REPLACEMENT) ? -Errno.EILSEQ : status;
  }

  #remember(path: string, nid: number): void {
    this.#directories.set(path, nid);
    if (this.#directories.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#directories.keys();
    this.#directories.delete(oldest!);
  }
}
