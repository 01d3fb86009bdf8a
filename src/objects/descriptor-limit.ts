// How many objects a process may have open.

import { readdirSync, readFileSync } from 'node:fs';

/** Kept free for everything else: log file, mount table, pipes of fusermount3. */
const RESERVED = 32;
/** Below this a mount is hardly usable; the reserve shrinks first. */
const LEAST = 16;

/** What `ulimit -n` must be for a mount that is of use. */
export const DESCRIPTORS_NEEDED = 128;

/** The soft limit of open files of this process (`ulimit -n`). */
export function softDescriptorLimit(): number {
  const limits = readFileSync('/proc/self/limits', 'latin1');
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 1024);
}

/**
 * What the process may still open now, less a reserve. Whoever may read a mount may open its files;
 * without a bound they could take every descriptor of the process, and then not even the mount table
 * could be read to unmount.
 */
export function descriptorLimit(): number {
  const open = readdirSync('/proc/self/fd').length;
  return Math.max(softDescriptorLimit() - open - RESERVED, LEAST);
}
