// The version of the running kernel, for the few things that cannot be tried.

import { release } from 'node:os';

/** Whether the kernel is Linux `major.minor` or later. */
export function isLinux(major: number, minor: number): boolean {
  const [ourMajor = 0, ourMinor = 0] = release().split('.').map(Number);
  return ourMajor > major || (ourMajor === major && ourMinor >= minor);
}
