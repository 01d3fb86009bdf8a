// Who reads the objects: the kernel by itself (passthrough and overlay: at the speed of the object's own
// filesystem, and through its page cache, which all images share), or this daemon.

import { statfsSync } from 'node:fs';
import type { Passthrough } from '../filesystem/contents.ts';
import type { VerifyAt } from '../objects/verification.ts';

/**
 * `auto`: passthrough where it takes nothing away: objects that the kernel guards, or that nothing
 * demands to check. `passthrough`: also objects that were hashed when they were opened; what is read
 * from them later is not checked again (never with `--verity require`). `daemon`: none. `overlay`: an
 * overlayfs over this mount opens and reads all of them, and follows the redirects by itself.
 */
export const DATA_MODES = ['auto', 'passthrough', 'daemon', 'overlay'] as const;
export type DataMode = (typeof DATA_MODES)[number];

/** OVERLAYFS_SUPER_MAGIC of <linux/magic.h>. */
const OVERLAYFS = 0x794c7630;

/** Whether a directory is on an overlayfs: no passthrough there unless it is asked for. */
export function isStacked(path: string): boolean {
  return statfsSync(path).type === OVERLAYFS;
}

/**
 * FUSE's max_stack_depth: 0 for no passthrough, 1 for objects on ordinary filesystems, 2 for objects on
 * an overlayfs, which keeps this mount from being a layer of another one; only when asked for.
 */
export function stackDepthFor(
  mode: DataMode,
  { at }: { at: VerifyAt },
  basedirs: readonly number[],
): number {
  if (mode === 'daemon' || mode === 'overlay' || at === 'read') return 0;
  const isAnyStacked = basedirs.some((fd) => isStacked(`/proc/self/fd/${fd}`));
  return isAnyStacked && mode === 'passthrough' ? 2 : 1;
}

export function passthroughFor(mode: DataMode, stackDepth: number): Passthrough {
  if (stackDepth === 0) return 'never';
  return mode === 'passthrough' ? 'where-opened' : 'where-guarded';
}
