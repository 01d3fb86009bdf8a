// Objects that are kept open: how many, which one goes first, and when all of them go.

import { describe, expect, it } from 'vitest';
import type { NativeAddon } from '../../../src/native.ts';
import { KEPT_MAX, KeptObjects } from '../../../src/objects/kept-objects.ts';
import type { ObjectOpener } from '../../../src/objects/opener.ts';
import { VerificationState } from '../../../src/objects/verification.ts';

function make(limit?: number) {
  const closed: number[] = [];
  const opener = { close: (fd: number) => closed.push(fd) } as unknown as ObjectOpener;
  const state = new VerificationState();
  return { kept: new KeptObjects(opener, state, limit), state, closed };
}

const forgetNothing = { forgetObjects: () => 0 } as unknown as NativeAddon;

describe('kept objects', () => {
  it('are found by their file', () => {
    const { kept, closed } = make();
    expect(kept.find(36)).toBe(-1);
    kept.keep(36, 10);
    kept.keep(0, 11);
    expect([kept.find(36), kept.find(0), kept.find(10)]).toEqual([10, 11, -1]);
    expect(closed).toEqual([]);
  });

  it.each([1, 3, KEPT_MAX])('are at most %i; the oldest is closed for the next', (limit) => {
    const { kept, closed } = make(limit);
    for (let i = 0; i < limit; i++) kept.keep(i, 100 + i);
    expect(closed).toEqual([]);
    kept.keep(limit, 5);
    expect(closed).toEqual([100]);
    expect(kept.find(0)).toBe(-1);
    expect(kept.find(limit)).toBe(5);
    for (let i = 1; i <= limit; i++) kept.keep(limit + i, 1000 + i);
    expect(closed).toHaveLength(1 + limit);
    expect(closed.at(-1)).toBe(5);
  });

  it('have the bound that the command uses when none is given', () => {
    const { kept, closed } = make();
    for (let i = 0; i < KEPT_MAX; i++) kept.keep(i, i);
    expect(closed).toEqual([]);
    kept.keep(-1, -1);
    expect(closed).toEqual([0]);
  });

  it('go one by one, the oldest first', () => {
    const { kept, closed } = make();
    kept.keep(7, 70);
    kept.keep(3, 30);
    expect(kept.dropOldest()).toBe(true);
    expect(closed).toEqual([70]);
    expect([kept.find(7), kept.find(3)]).toEqual([-1, 30]);
    expect([kept.dropOldest(), kept.dropOldest()]).toEqual([true, false]);
    expect(closed).toEqual([70, 30]);
  });

  it('go by name, once', () => {
    const { kept, closed } = make();
    kept.keep(7, 70);
    kept.keep(3, 30);
    kept.drop(3);
    kept.drop(3);
    kept.drop(1);
    expect(closed).toEqual([30]);
    expect([kept.find(7), kept.find(3)]).toEqual([70, -1]);
  });

  it('all go when cleared', () => {
    const { kept, closed } = make();
    kept.keep(7, 70);
    kept.keep(3, 30);
    kept.clear();
    expect(closed).toEqual([70, 30]);
    expect([kept.find(7), kept.find(3)]).toEqual([-1, -1]);
    expect(kept.dropOldest()).toBe(false);
  });

  it('all go before one is found, once everything is to be verified anew', () => {
    const { kept, state, closed } = make();
    kept.keep(7, 70);
    state.forget(forgetNothing);
    expect(kept.find(7)).toBe(-1);
    expect(closed).toEqual([70]);
    kept.keep(7, 71);
    expect(kept.find(7)).toBe(71);
    expect(closed).toEqual([70]);
    state.forget(forgetNothing);
    state.forget(forgetNothing);
    expect(kept.find(8)).toBe(-1);
    expect(closed).toEqual([70, 71]);
  });

  it('do not go because of what was forgotten before', () => {
    const closed: number[] = [];
    const opener = { close: (fd: number) => closed.push(fd) } as unknown as ObjectOpener;
    const state = new VerificationState();
    state.forget(forgetNothing);
    const kept = new KeptObjects(opener, state);
    kept.keep(7, 70);
    expect(kept.find(7)).toBe(70);
    expect(closed).toEqual([]);
  });
});
