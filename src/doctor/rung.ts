// The best way to mount that the findings leave, as mount.composefs chooses it (docs/mounting.md).

import type { Caller } from './caller.ts';
import type { CheckId, Finding } from './finding.ts';

/** From best to worst. */
export const RUNGS = ['kernel', 'overlay', 'passthrough', 'fuse', 'none'] as const;
export type RungName = (typeof RUNGS)[number];

/** What mount.composefs would take when nothing is to be verified, and with `verity`. */
export interface Rungs {
  plain: RungName;
  /** Undefined where no base directory was named: it depends on the objects. */
  verified: RungName | undefined;
  /** What an ordinary user gets in a user namespace; undefined for others. */
  inNamespace: RungName | undefined;
}

export function bestRungs(findings: readonly Finding[], caller: Caller): Rungs {
  const all = (id: CheckId): Finding[] => findings.filter((finding) => finding.id === id);
  const works = (id: CheckId): boolean => all(id).every(({ state }) => state === 'ok');
  const fails = (id: CheckId): boolean => all(id).some(({ state }) => state === 'fail');
  const isNamed = all('basedir').some(({ subject }) => subject !== undefined);
  // What every rung needs.
  if ((['kernel', 'addon', 'basedir'] as const).some(fails)) {
    return { plain: 'none', verified: isNamed ? 'none' : undefined, inNamespace: undefined };
  }
  const isInitial = caller.scope === 'initial';
  const available: Record<RungName, boolean> = {
    kernel: isInitial && (works('erofs-file') || works('erofs-loop')),
    overlay: isInitial ? works('overlay') : caller.scope === 'namespace' && works('overlay-userns'),
    passthrough: isInitial && works('passthrough') && (!isNamed || works('basedir')),
    fuse: hasFuse(caller, works, fails),
    none: true,
  };
  const best = (rungs: readonly RungName[]): RungName => rungs.find((rung) => available[rung])!;
  const isGuarded = isInitial && works('overlay-verity') && works('basedir-verity');
  const plain = best(RUNGS);
  const verified = best(isGuarded ? RUNGS : ['passthrough', 'fuse', 'none']);
  let inNamespace: RungName | undefined;
  if (caller.scope === 'none' && works('user-namespaces')) {
    const isMountable = works('fuse-mount') ? 'fuse' : 'none';
    inNamespace = works('overlay-userns') ? 'overlay' : isMountable;
  }
  return { plain, verified: isNamed ? verified : undefined, inNamespace };
}

/** An ordinary user's mount is made by fusermount3, which is not tried: everybody would see it. */
function hasFuse(
  { scope }: Caller,
  works: (id: CheckId) => boolean,
  fails: (id: CheckId) => boolean,
): boolean {
  if (fails('dev-fuse') || fails('fuse-mount')) return false;
  return scope !== 'none' || (works('fusermount3') && works('fuse-conf'));
}
