// FUSE over io_uring is off unless an administrator writes Y to a parameter of the module, for the
// whole machine. Tests switch it on where they mount, and leave it as it was.

import { readFileSync, writeFileSync } from 'node:fs';
import { loadNative } from '../../src/native.ts';
import { mountForeground, mountOurs, type OurMount, type OurMountOptions } from './mounts.ts';
import { needsRoot, type Requirement } from './requirements.ts';
import type { Scope } from './scope.ts';

export const uringParameter = '/sys/module/fuse/parameters/enable_uring';

function read(): string | undefined {
  try {
    return readFileSync(uringParameter, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Whether it can be switched on, which is tried. */
export const needsUring: Requirement = {
  what: `FUSE over io_uring (Linux 6.14; root may write ${uringParameter})`,
  isMet: () => {
    const before = read();
    if (!needsRoot.isMet() || before === undefined || loadNative().probeRing() !== 0) return false;
    try {
      writeFileSync(uringParameter, before);
      return true;
    } catch {
      return false;
    }
  },
};

/** Until the scope closes. */
export function switchOn(scope: Scope): void {
  const before = read();
  if (before === 'Y') return;
  writeFileSync(uringParameter, 'Y');
  if (before !== undefined) scope.defer(() => writeFileSync(uringParameter, before));
}

/** Whoever else tests on this machine may switch it off again before we are there. */
async function mountOver(
  mountIn: typeof mountOurs,
  scope: Scope,
  options: OurMountOptions,
): Promise<OurMount> {
  const args = ['--transport', 'io_uring', ...(options.args ?? [])];
  for (let left = 5; ; left--) {
    switchOn(scope);
    try {
      return await mountIn(scope, { ...options, args });
    } catch (error) {
      if (left === 0 || read() === 'Y') throw error;
    }
  }
}

/** As mountOurs, over io_uring or not at all. */
export const mountOverRing = (scope: Scope, options: OurMountOptions): Promise<OurMount> =>
  mountOver(mountOurs, scope, options);

/** As mountForeground, over io_uring or not at all. */
export const mountForegroundOverRing = (
  scope: Scope,
  options: OurMountOptions,
): Promise<OurMount> => mountOver(mountForeground, scope, options);
