// What a test in a virtual machine needs, and where its programs are. Root is not among it: QEMU
// emulates, and the kernels come from a cache that any user can fill.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { findKernel } from '../../scripts/lib/kernels.mjs';
import type { KernelName } from '../../scripts/lib/kernels.mjs';
import type { Requirement } from './requirements.ts';

export type { KernelName };

/** Path of a program; the sbin folders count, which an ordinary user's PATH often lacks. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Programs on the host, with the Debian packages that have them. */
const hostPrograms: readonly (readonly [program: string, packageName: string])[] = [
  ['qemu-system-x86_64', 'qemu-system-x86'],
  ['busybox', 'busybox-static'],
  ['mkfs.ext4', 'e2fsprogs'],
  ['fsverity', 'fsverity'],
  ['python3', 'python3'],
  ['fusermount3', 'fuse3'],
  ['setpriv', 'util-linux'],
  ['setsid', 'util-linux'],
  ['unshare', 'util-linux'],
  ['xz', 'xz-utils'],
];

/** What keeps this machine from booting the kernel, in words that complete "needs ...". */
function missingFor(kernel: KernelName): string[] {
  if (process.arch !== 'x64') return ['an x86-64 machine'];
  const lacking = hostPrograms.filter(([program]) => findProgram(program) === undefined);
  const missing = [...new Set(lacking.map(([, packageName]) => packageName))];
  const found = findKernel(kernel);
  if ('reason' in found) missing.push(`the kernel of Debian ${kernel} (${found.reason})`);
  return missing;
}

/** A guest with the kernel of this Debian release; `what` names the parts that are missing. */
export function needsVm(kernel: KernelName): Requirement {
  const missing = missingFor(kernel);
  return { what: missing.join(', '), isMet: () => missing.length === 0 };
}
