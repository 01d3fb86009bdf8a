// What the user says about ids, what the kernel calls an id that has no name, and which ids there are in
// this user namespace, put together to rules for the filesystem.

import { readFileSync } from 'node:fs';
import { type IdRange, type IdRule, NO_ID, type OwnershipRules } from '../filesystem/ownership.ts';

/** What is wished for ids of one kind: at most one of the two. */
export interface IdWish {
  ranges: readonly IdRange[];
  /** Everything belongs to this id. */
  squash: number | undefined;
}

export interface OwnershipWishes {
  uids: IdWish;
  gids: IdWish;
}

/** The kernel's default of both. */
const OVERFLOW_ID = 65_534;

/**
 * The rules for these wishes in this process's user namespace; undefined if every id is shown and exists
 * as it is in the image, which then costs nothing.
 */
export function ownershipRules({ uids, gids }: OwnershipWishes): OwnershipRules | undefined {
  const rules = { uids: ruleOf(uids, 'uid'), gids: ruleOf(gids, 'gid') };
  return isIdentity(rules.uids) && isIdentity(rules.gids) ? undefined : rules;
}

function ruleOf({ ranges, squash }: IdWish, kind: 'uid' | 'gid'): IdRule {
  return {
    ranges,
    otherwise: squash ?? (ranges.length > 0 ? overflowId(kind) : undefined),
    existing: existingIds(kind),
  };
}

function isIdentity({ ranges, otherwise, existing }: IdRule): boolean {
  return ranges.length === 0 && otherwise === undefined && existing === undefined;
}

function overflowId(kind: 'uid' | 'gid'): number {
  try {
    return Number(readFileSync(`/proc/sys/kernel/overflow${kind}`, 'latin1'));
  } catch {
    return OVERFLOW_ID;
  }
}

/** The ids of this user namespace; undefined if it has all, as the initial one does. */
function existingIds(kind: 'uid' | 'gid'): [from: number, to: number][] | undefined {
  let map: string;
  try {
    map = readFileSync(`/proc/self/${kind}_map`, 'latin1');
  } catch {
    // No user namespaces in this kernel.
    return undefined;
  }
  const ranges = map
    .split('\n')
    .filter((line) => line !== '')
    .map((line): [number, number] => {
      const [inside = 0, , count = 0] = line.trim().split(/\s+/).map(Number);
      return [inside, inside + count];
    });
  const total = ranges.reduce((sum, [from, to]) => sum + to - from, 0);
  return total >= NO_ID ? undefined : ranges;
}
