// The system's words for an errno, as the C library's strerror has them.

import { getSystemErrorMap } from 'node:util';

/** `No such file or directory` and the like, for a positive or negative errno. */
export function describeErrno(errno: number): string {
  const entry = getSystemErrorMap().get(-Math.abs(errno));
  if (entry === undefined) return `error ${Math.abs(errno)}`;
  const text = entry[1];
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What an exception of node:fs says, for people: `Permission denied`. */
export function reasonOf(cause: unknown): string {
  const { errno } = cause as NodeJS.ErrnoException;
  return errno === undefined ? String(cause) : describeErrno(errno);
}
