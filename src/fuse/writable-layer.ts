// The directories of a writable layer: opened, and checked for what overlayfs would refuse in words that
// nobody understands.

import { accessSync, constants, readFileSync, realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { InputError } from '../errors.ts';
import { findOverlayOn } from './mount-table.ts';

/** Where what is written goes. Paths are absolute. */
export interface WritableLayer {
  upperdir: string;
  /** overlayfs's own, to prepare things in. */
  workdir: string;
}

/**
 * Descriptors of both, upperdir first. `open` opens a directory and throws InputError; `isReadOnly`: the
 * layer is only looked at. Throws InputError.
 */
export function openWritableLayer(
  { upperdir, workdir }: WritableLayer,
  isReadOnly: boolean,
  open: (path: string, what: string) => number,
): number[] {
  const upper = open(upperdir, 'upperdir');
  const work = open(workdir, 'workdir');
  const [realUpper, realWork] = [realpathSync(upperdir), realpathSync(workdir)];
  if (isInside(realWork, realUpper) || isInside(realUpper, realWork)) {
    throw new InputError(
      `upperdir ${upperdir} and workdir ${workdir} are one inside the other; give two separate directories`,
      workdir,
    );
  }
  if (mountOf(upper) !== mountOf(work)) {
    throw new InputError(
      `upperdir ${upperdir} and workdir ${workdir} are not on the same mounted filesystem; put them side by side`,
      workdir,
    );
  }
  if (!isReadOnly) {
    requireWritable('upperdir', upperdir);
    requireWritable('workdir', workdir);
    const other = findOverlayOn(realUpper);
    if (other !== undefined) {
      throw new InputError(
        `upperdir ${upperdir} is in use by the mount on ${other.mountpoint}; unmount that first, or give another`,
        upperdir,
      );
    }
  }
  return [upper, work];
}

function isInside(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === sep ? sep : `${directory}${sep}`);
}

/** Of the mount, not of the filesystem: overlayfs wants both directories in one mount. */
function mountOf(fd: number): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
}

function requireWritable(what: string, path: string): void {
  try {
    accessSync(path, constants.W_OK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new InputError(`${what} ${path} may not be written to (${code})`, path, { cause });
  }
}
