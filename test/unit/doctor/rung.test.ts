// Which rung the findings leave to whom.

import { describe, expect, it } from 'vitest';
import type { Caller } from '../../../src/doctor/caller.ts';
import { CHECKS, type CheckId, type Finding, type State } from '../../../src/doctor/finding.ts';
import { bestRungs } from '../../../src/doctor/rung.ts';

const callerWith = (scope: Caller['scope']): Caller => ({
  uid: scope === 'none' ? 1000 : 0,
  scope,
  hasNoNewPrivileges: false,
  mayGainAdmin: true,
});

/** Everything works, but for what is named. */
function findings(states: Partial<Record<CheckId, State>>, subject?: string): Finding[] {
  return CHECKS.map((id) => {
    const finding: Finding = { id, state: states[id] ?? 'ok', found: '' };
    return id.startsWith('basedir') && subject !== undefined ? { ...finding, subject } : finding;
  });
}

const noFuse = {
  'dev-fuse': 'fail',
  'fuse-mount': 'fail',
  passthrough: 'skip',
  overlay: 'skip',
  'overlay-userns': 'skip',
} as const;
const noErofs = { 'erofs-file': 'warn', 'erofs-loop': 'warn' } as const;

describe('the best rung', () => {
  it.each<[string, Caller['scope'], Partial<Record<CheckId, State>>, string]>([
    ['root', 'initial', {}, 'kernel'],
    ['root without erofs from files', 'initial', { 'erofs-file': 'warn' }, 'kernel'],
    ['root without /dev/fuse', 'initial', noFuse, 'kernel'],
    ['root without erofs', 'initial', noErofs, 'overlay'],
    ['root without overlayfs', 'initial', { ...noErofs, overlay: 'warn' }, 'passthrough'],
    [
      'root of an old kernel',
      'initial',
      { ...noErofs, overlay: 'warn', passthrough: 'warn' },
      'fuse',
    ],
    ['root without anything', 'initial', { ...noErofs, ...noFuse }, 'none'],
    ['root without the addon', 'initial', { addon: 'fail' }, 'none'],
    ['root of a namespace', 'namespace', {}, 'overlay'],
    ['root of a namespace before 6.16', 'namespace', { 'overlay-userns': 'warn' }, 'fuse'],
    ['root of a namespace without /dev/fuse', 'namespace', noFuse, 'none'],
    ['an ordinary user', 'none', {}, 'fuse'],
    ['an ordinary user without fusermount3', 'none', { fusermount3: 'fail' }, 'none'],
    ['an ordinary user at mount_max', 'none', { 'fuse-conf': 'fail' }, 'none'],
    [
      'an ordinary user without user namespaces',
      'none',
      { 'user-namespaces': 'warn', 'fuse-mount': 'skip', 'overlay-userns': 'skip' },
      'fuse',
    ],
    ['who names an unusable base directory', 'initial', { basedir: 'fail' }, 'none'],
  ])('of %s', (_who, scope, states, expected) => {
    expect(bestRungs(findings(states), callerWith(scope)).plain).toBe(expected);
  });

  it('is no passthrough where a base directory is on an overlayfs', () => {
    const states = { ...noErofs, overlay: 'warn', basedir: 'warn' } as const;
    expect(bestRungs(findings(states, '/objects'), callerWith('initial')).plain).toBe('fuse');
  });

  it.each<[Partial<Record<CheckId, State>>, string]>([
    [{}, 'kernel'],
    [{ 'basedir-verity': 'warn' }, 'passthrough'],
    [{ 'basedir-verity': 'skip' }, 'passthrough'],
    [{ 'overlay-verity': 'warn' }, 'passthrough'],
    [{ 'overlay-verity': 'warn', passthrough: 'warn' }, 'fuse'],
  ])('with verity, where %j: %s', (states, expected) => {
    const { plain, verified } = bestRungs(findings(states, '/objects'), callerWith('initial'));
    expect({ plain, verified }).toEqual({ plain: 'kernel', verified: expected });
  });

  it('with verity is not told where no base directory is named', () => {
    expect(bestRungs(findings({}), callerWith('initial')).verified).toBeUndefined();
  });

  it('tells an ordinary user what a user namespace gives', () => {
    const inNamespace = (states: Partial<Record<CheckId, State>>): string | undefined =>
      bestRungs(findings(states), callerWith('none')).inNamespace;
    expect(inNamespace({})).toBe('overlay');
    expect(inNamespace({ 'overlay-userns': 'warn' })).toBe('fuse');
    expect(inNamespace(noFuse)).toBe('none');
    expect(inNamespace({ 'user-namespaces': 'warn' })).toBeUndefined();
    expect(bestRungs(findings({}), callerWith('initial')).inNamespace).toBeUndefined();
  });
});
