// How far the kernel reads ahead in files that the daemon reads. Its default of 128 KiB makes each READ
// so small that the round trip is half the cost; more can only be set from outside, by root.

import { writeFileSync } from 'node:fs';
import type { MountTableEntry } from './mount-table.ts';

/** As large as one READ may be: see MAX_READ. */
const READAHEAD_KIB = 1024;

/** KiB that are read ahead from now on; undefined if it stays as it was. Never touches the mount. */
export function raiseReadahead(entry: MountTableEntry | undefined): number | undefined {
  if (entry === undefined) return undefined;
  try {
    writeFileSync(`/sys/class/bdi/${entry.device}/read_ahead_kb`, String(READAHEAD_KIB), {
      flag: 'r+',
    });
    return READAHEAD_KIB;
  } catch {
    // Not root of the initial user namespace, or no sysfs: 128 KiB it is.
    return undefined;
  }
}
