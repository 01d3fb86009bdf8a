// Filesystems made for a test, to keep objects on: what a change of a file looks like to the daemon
// depends on the filesystem below.

import { spawnSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from './command.ts';
import { detach } from './mounts.ts';
import { needsRoot, type Requirement } from './requirements.ts';
import type { Scope } from './scope.ts';

export interface StoreKind {
  name: string;
  requirements: readonly Requirement[];
  /** Makes the filesystem. The directory where it is mounted. */
  make: (scope: Scope) => Promise<string>;
}

async function mounted(scope: Scope, ...args: string[]): Promise<string> {
  const mountpoint = join(scope.directory(), 'store');
  mkdirSync(mountpoint);
  scope.defer(() => detach(mountpoint));
  await mustRun('mount', [...args, mountpoint]);
  return mountpoint;
}

/** In a file; a loop device has it as long as it is mounted. */
async function disk(scope: Scope, sizeMib: number, command: string, ...args: string[]) {
  const path = join(scope.directory(), 'disk');
  writeFileSync(path, '');
  truncateSync(path, sizeMib * 1024 * 1024);
  await mustRun(command, [...args, path]);
  return path;
}

const tmpfs = (scope: Scope): Promise<string> =>
  mounted(scope, '-t', 'tmpfs', '-o', 'size=2g', 'tmpfs');

/** mkfs makes it, and the kernel mounts it. */
function needsFilesystem(type: string, packageName: string): Requirement {
  const known = `grep -qw ${type} /proc/filesystems || modprobe ${type}`;
  const script = `command -v mkfs.${type} && { ${known}; }`;
  const isMet = (): boolean =>
    spawnSync('sh', ['-c', script], { stdio: 'ignore', timeout: 20_000 }).status === 0;
  return { what: `mkfs.${type} (${packageName}) and ${type} in the kernel`, isMet };
}

export const storeKinds: readonly StoreKind[] = [
  { name: 'tmpfs', requirements: [needsRoot], make: tmpfs },
  {
    name: 'ext4',
    requirements: [needsRoot, needsFilesystem('ext4', 'e2fsprogs')],
    make: async (scope) => {
      const path = await disk(scope, 64, 'mkfs.ext4', '-q');
      return mounted(scope, '-t', 'ext4', '-o', 'loop', path);
    },
  },
  {
    name: 'btrfs',
    requirements: [needsRoot, needsFilesystem('btrfs', 'btrfs-progs')],
    make: async (scope) => {
      const path = await disk(scope, 128, 'mkfs.btrfs', '-q');
      return mounted(scope, '-t', 'btrfs', '-o', 'loop', path);
    },
  },
  {
    name: 'overlayfs',
    requirements: [needsRoot],
    make: async (scope) => {
      const layers = await tmpfs(scope);
      for (const name of ['lower', 'upper', 'work']) mkdirSync(join(layers, name));
      const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => join(layers, name));
      const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
      return mounted(scope, '-t', 'overlay', '-o', options, 'overlay');
    },
  },
];
