// Opens the directories that a user names, and says what is wrong with one that is unusable.

import { accessSync, constants } from 'node:fs';
import { Errno, errnoName, InputError } from '../errors.ts';
import type { NativeAddon } from '../native.ts';

/** A descriptor for look-ups; `what` the directory is, for messages. Throws InputError. */
export function openDirectory(native: NativeAddon, path: string, what: string): number {
  const fd = native.openBasedir(path);
  if (fd < 0) throw unusable(what, path, fd);
  // Opening a directory for look-ups needs no permission on it; the look-ups do.
  try {
    accessSync(path, constants.X_OK);
  } catch {
    native.closeDescriptor(fd);
    throw unusable(what, path, -Errno.EACCES);
  }
  return fd;
}

function unusable(what: string, path: string, status: number): InputError {
  return new InputError(`${what} ${path} ${explain(status)}`, path);
}

function explain(status: number): string {
  switch (-status) {
    case Errno.ENOENT:
      return 'does not exist';
    case Errno.ENOTDIR:
      return 'is not a directory';
    case Errno.EACCES:
      return 'may not be entered by this user';
    default:
      return `cannot be opened: ${errnoName(status)}`;
  }
}
