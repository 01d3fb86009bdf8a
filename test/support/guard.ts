// The guard of a mount: the process that outlives a killed daemon.

import { readdirSync, readFileSync } from 'node:fs';

/** The process ids of the guards that a daemon has started. */
export function guardsOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1];
        if (Number(parent) !== pid) return false;
        return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('composefs-fuse-guard');
      } catch {
        return false; // It has ended meanwhile.
      }
    })
    .map(Number);
}
