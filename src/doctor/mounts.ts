// The checks of mounts, from mounts that were made of a tiny image for the purpose.

import { dirname } from 'node:path';
import type { DataMode } from '../fuse/data-mode.ts';
import { KERNEL_WAYS } from '../native.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import type { Caller } from './caller.ts';
import { fail, type Finding, ok, skip, type Verdict, warn } from './finding.ts';
import type { Sample } from './sample.ts';
import { type MountResult, type Place, placeOf, tryMount } from './trials.ts';

/** What is needed to try anything. */
export interface Bench {
  caller: Caller;
  sample: Sample;
  /** Those that can be layers with the sample's own. */
  basedirs: readonly string[];
  hasNamespaces: boolean;
}

const ONLY_ROOT = 'it takes root of the initial user namespace';
const NEEDS_EROFS = 'a kernel with erofs: `modprobe erofs`';

/** Ids of the checks here, for when nothing can be tried. */
export const MOUNT_CHECKS = [
  'fuse-mount',
  'passthrough',
  'overlay',
  'overlay-userns',
  'erofs-file',
  'erofs-loop',
  'overlay-verity',
] as const;

const NEEDS_FUSE: ReadonlySet<string> = new Set(['passthrough', 'overlay', 'overlay-userns']);

/** Why this caller can mount nothing at all without others seeing it; or undefined. */
export function whyNothingTried(
  { scope }: Caller,
  hasUnshare: boolean,
  hasNamespaces: boolean,
): string | undefined {
  if (!hasUnshare) return 'unshare(1) is not on the path; it is in util-linux';
  if (scope === 'none' && !hasNamespaces)
    return 'an ordinary user needs a user namespace to try it';
  return undefined;
}

export async function checkMounts(bench: Bench): Promise<Finding[]> {
  const findings: Finding[] = [];
  const verdicts: Record<(typeof MOUNT_CHECKS)[number], () => Promise<Verdict>> = {
    'fuse-mount': () => checkFuse(bench),
    passthrough: () => checkPassthrough(bench),
    overlay: () => checkOverlay(bench),
    'overlay-userns': () => checkOverlayInNamespace(bench),
    'erofs-file': () => checkErofs(bench, KERNEL_WAYS.FILE),
    'erofs-loop': () => checkErofs(bench, KERNEL_WAYS.LOOP),
    'overlay-verity': () => checkVerity(bench),
  };
  // One after the other: all of them use the same mountpoint, and processors may be few.
  for (const id of MOUNT_CHECKS) {
    const isVain = NEEDS_FUSE.has(id) && findings[0]?.state === 'fail';
    const verdict = isVain
      ? skip('no FUSE mount can be made; see fuse-mount')
      : await verdicts[id]();
    findings.push({ id, ...verdict });
  }
  return findings;
}

function byDaemon({ sample, basedirs }: Bench, data: DataMode, place: Place): Promise<MountResult> {
  return tryMount({ trial: 'daemon', sample, basedirs, data }, place);
}

function byKernel(
  { sample, basedirs }: Bench,
  ways: number,
  policy: VerityPolicy,
): Promise<MountResult> {
  const layers = KERNEL_WAYS.DETACHED | KERNEL_WAYS.NAMESPACE;
  return tryMount({ trial: 'kernel', sample, basedirs, ways: ways | layers, policy }, 'here');
}

async function checkFuse(bench: Bench): Promise<Verdict> {
  const place = placeOf(bench.caller);
  const result = await byDaemon(bench, 'daemon', place);
  if ('reason' in result)
    return fail(result.reason, 'see dev-fuse, open-files and user-namespaces');
  return ok(
    place === 'here'
      ? 'a mount was made and read'
      : 'a mount was made and read, in a user namespace',
  );
}

async function checkPassthrough(bench: Bench): Promise<Verdict> {
  if (bench.caller.scope !== 'initial') return skip(ONLY_ROOT);
  const result = await byDaemon(bench, 'passthrough', 'here');
  if ('reason' in result) {
    return warn(
      result.reason,
      'it needs Linux 6.9, and objects that are not on a stacked filesystem',
    );
  }
  return ok(`${result.found} (objects in ${dirname(bench.sample.folder)})`);
}

async function checkOverlay(bench: Bench): Promise<Verdict> {
  if (bench.caller.scope !== 'initial') return skip(`${ONLY_ROOT}; see overlay-userns`);
  const result = await byDaemon(bench, 'overlay', 'here');
  if ('reason' in result)
    return warn(result.reason, 'it needs overlayfs of Linux 6.5: `modprobe overlay`');
  return ok('overlayfs over FUSE with data-only layers: a file was read');
}

async function checkOverlayInNamespace(bench: Bench): Promise<Verdict> {
  const isInside = bench.caller.scope === 'namespace';
  if (!isInside && !bench.hasNamespaces) return skip('no user namespace can be made');
  const result = await byDaemon(bench, 'overlay', isInside ? 'here' : 'user namespace');
  if ('reason' in result) return warn(result.reason, 'it needs overlayfs of Linux 6.16');
  return ok('overlayfs over FUSE with userxattr: a file was read in a user namespace');
}

async function checkErofs(bench: Bench, way: number): Promise<Verdict> {
  if (bench.caller.scope !== 'initial') return skip(ONLY_ROOT);
  const result = await byKernel(bench, way, 'off');
  if ('found' in result) return ok(`overlayfs over erofs from ${result.found}: a file was read`);
  const remedy =
    way === KERNEL_WAYS.FILE
      ? `${NEEDS_EROFS} (from files: Linux 6.12, on a filesystem that is not stacked)`
      : `${NEEDS_EROFS}, and loop devices: \`modprobe loop\``;
  return warn(result.reason, remedy);
}

async function checkVerity(bench: Bench): Promise<Verdict> {
  if (bench.caller.scope !== 'initial') {
    return skip(`${ONLY_ROOT}; elsewhere overlayfs checks nothing`);
  }
  const result = await byKernel(bench, KERNEL_WAYS.FILE | KERNEL_WAYS.LOOP, 'require');
  if ('found' in result) return ok('overlayfs takes verity=require');
  return warn(result.reason, 'it needs overlayfs of Linux 6.6');
}
