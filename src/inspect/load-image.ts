// Opens an image that a command line names. A file that cannot be opened and an image that cannot be
// used are different errors, and fsck tells them apart.

import { closeSync, openSync } from 'node:fs';
import { Errno, ImageError, InputError, UnsupportedFeatureError } from '../errors.ts';
import { ImageFile } from '../filesystem/image-file.ts';
import type { Image } from '../image-reader/index.ts';
import { describeErrno } from '../objects/system-errors.ts';

/** The C library's text; libuv's speaks of sockets. */
const NOT_SUPPORTED = 'Operation not supported';
const O_NONBLOCK = 0o4000;

/**
 * Throws InputError if the file cannot be opened, ImageError or UnsupportedFeatureError if it is not
 * an image that can be read. The messages begin as the reference's.
 */
export function loadImage(path: string): Image {
  return readImage(path, openFile(path));
}

function openFile(path: string): ImageFile {
  try {
    closeSync(openSync(path, O_NONBLOCK));
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
  try {
    return new ImageFile(path);
  } catch (error) {
    const reason = stripName((error as Error).message, path);
    throw new InputError(`Failed to open '${path}': ${reason}`, path, { cause: error });
  }
}

function readImage(path: string, file: ImageFile): Image {
  try {
    return file.load();
  } catch (error) {
    const reason = stripName((error as Error).message, path);
    if (error instanceof UnsupportedFeatureError) {
      const message = `Failed to load '${path}': ${NOT_SUPPORTED} (${reason})`;
      throw new UnsupportedFeatureError(error.feature, error.value, message);
    }
    if (!(error instanceof ImageError)) throw error;
    throw damagedFile(path, reason);
  }
}

/** Runs what reads an image; damage that it meets is reported as if loading had met it. */
export function reading<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof ImageError) || error.message.startsWith('Failed to')) throw error;
    throw damagedFile(path, error.message);
  }
}

function damagedFile(path: string, reason: string): ImageError {
  return new ImageError(`Failed to load '${path}': ${describeErrno(Errno.EINVAL)} (${reason})`);
}

/** An InputError with the system's reason, worded as the reference's. */
export function cannotOpen(path: string, cause: unknown): InputError {
  const { errno } = cause as NodeJS.ErrnoException;
  const reason = errno === undefined ? (cause as Error).message : describeErrno(errno);
  return new InputError(`Failed to open '${path}': ${reason}`, path, { cause });
}

/** The name is in front already. */
function stripName(message: string, path: string): string {
  for (const prefix of [`image ${path}: `, `image ${path} `]) {
    if (message.startsWith(prefix)) return message.slice(prefix.length);
  }
  return message;
}
