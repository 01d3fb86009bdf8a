// What goes wrong with an object store, worded once.

import { StoreError } from '../errors.ts';
import { type FilePath, describeFile } from '../verify/records.ts';
import { describeErrno } from './system-errors.ts';

/** `path` is the store or the file that cannot be put into it. */
export function cannotFill(path: FilePath, errno: number): StoreError {
  const text = describeFile(path);
  return new StoreError(`cannot fill store: ${text}: ${describeErrno(errno)}`, text);
}

export function sourceChanged(path: FilePath): StoreError {
  const text = describeFile(path);
  return new StoreError(
    `${text} changed while it was read; run again when nothing writes to it`,
    text,
  );
}

/** `source` has the digest that `object` is named by, but `object` has not. */
export function wrongObject(object: string, source: FilePath): StoreError {
  return new StoreError(
    `cannot fill store: object ${object} is there with another content than ` +
      `${describeFile(source)}; remove the object and run again`,
    object,
  );
}

export function unreadableObject(object: string, reason: string): StoreError {
  return new StoreError(`object ${object} cannot be read: ${reason}`, object);
}
