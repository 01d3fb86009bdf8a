// Which objects are checked, what is said of those that are refused, and what is counted.

import { mkdtempSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadNative, type NativeAddon, VERIFIED, VERITY_STATUS } from '../../../src/native.ts';
import {
  type ExpectedDigest,
  ObjectVerification,
  VerificationState,
  Verdict,
  VERIFY_ENGINES,
  VERITY_POLICIES,
  type VerifyEngine,
  type VerityPolicy,
} from '../../../src/objects/verification.ts';
import { digestOf, GuardedObjects, noise } from '../../support/guarded-objects.ts';

const native = loadNative();
const { UNCHECKED, BY_KERNEL, COMPUTED, REFUSED, NEEDS_MEASURING } = Verdict;
const content = noise(5000);
const digests = { sha256: digestOf(content), sha512: digestOf(content, 'sha512') };
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const none: ExpectedDigest = { digestAlgorithm: 0, digestStart: 0, digestLength: 0 };
/** The digests stand in the image after three bytes of something else, then come wrong ones. */
const image = new Uint8Array(3 + 2 * 96);
image.set(digests.sha256, 3);
image.set(digests.sha512, 35);
const right: ExpectedDigest = { digestAlgorithm: 1, digestStart: 3, digestLength: 32 };
const right512: ExpectedDigest = { digestAlgorithm: 2, digestStart: 35, digestLength: 64 };
const wrong: ExpectedDigest = { digestAlgorithm: 1, digestStart: 99, digestLength: 32 };
const wrong512: ExpectedDigest = { digestAlgorithm: 2, digestStart: 99, digestLength: 64 };

const nothing = {
  reopened: 0,
  byKernel: 0,
  remembered: 0,
  computed: 0,
  refusedObjects: 0,
  refusedReads: 0,
};

let objects: GuardedObjects;
beforeAll(() => {
  objects = new GuardedObjects(mkdtempSync(join(tmpdir(), 'cfs-verification-')));
  objects.write('object', content);
  objects.write('empty', new Uint8Array(0));
  objects.write('large', noise(128 * 1024 + 1));
  objects.write('small', noise(128 * 1024));
});
afterAll(() => {
  objects.close();
  rmSync(objects.folder, { recursive: true });
});

function make(
  policy: VerityPolicy,
  engine: VerifyEngine = 'auto',
  state: VerificationState = new VerificationState(),
  addon: NativeAddon = native,
): ObjectVerification {
  return new ObjectVerification(addon, image, objects.facts, { policy, engine, state });
}

/** Opens an object, checks it and closes it. */
function check(verification: ObjectVerification, name: string, expected: ExpectedDigest): number {
  const fd = objects.open(name);
  const size = Number(objects.facts[0]);
  const verdict = verification.check(fd, expected, size);
  native.closeDescriptor(fd);
  return verdict;
}

/** An addon whose verifier always says `result`, and with it a digest that differs. */
function saying(result: number, actual: readonly number[] = []): NativeAddon {
  const calls = { ObjectVerifier: { value: Verifier } };
  return Object.create(native, calls) as NativeAddon;
  function Verifier(_image: Uint8Array, _facts: BigInt64Array, found: Uint8Array) {
    return {
      verify: () => {
        found.set(actual);
        return result;
      },
    };
  }
}

describe('the policy', () => {
  it.each<[VerityPolicy, string, ExpectedDigest, string, number]>([
    ['off', 'no digest', none, 'object', UNCHECKED],
    ['off', 'a wrong digest', wrong, 'object', UNCHECKED],
    ['off', 'the digest', right, 'object', UNCHECKED],
    ['off', 'an empty object and no digest', none, 'empty', UNCHECKED],
    ['if-present', 'no digest', none, 'object', UNCHECKED],
    ['if-present', 'a wrong digest', wrong, 'object', REFUSED],
    ['if-present', 'the digest', right, 'object', COMPUTED],
    ['if-present', 'the SHA-512 digest', right512, 'object', COMPUTED],
    ['if-present', 'an empty object and no digest', none, 'empty', UNCHECKED],
    ['if-present', 'an empty object and a wrong digest', wrong, 'empty', REFUSED],
    ['require', 'no digest', none, 'object', REFUSED],
    ['require', 'a wrong digest', wrong, 'object', REFUSED],
    ['require', 'a wrong SHA-512 digest', wrong512, 'object', REFUSED],
    ['require', 'the digest', right, 'object', COMPUTED],
    ['require', 'the SHA-512 digest', right512, 'object', COMPUTED],
    ['require', 'an empty object and no digest', none, 'empty', UNCHECKED],
    ['require', 'an empty object and a wrong digest', wrong, 'empty', REFUSED],
  ])('%s, given %s', (policy, _title, expected, name, verdict) => {
    expect(check(make(policy), name, expected)).toBe(verdict);
  });

  it.each(VERITY_POLICIES)('%s covers what has a digest, unless it is off', (policy) => {
    const verification = make(policy);
    expect(verification.policy).toBe(policy);
    expect(verification.covers(none)).toBe(false);
    expect(verification.covers(right)).toBe(policy !== 'off');
    expect(verification.covers(right512)).toBe(policy !== 'off');
  });

  it('leaves an object alone that it does not check', () => {
    const fd = objects.open('object');
    expect(make('off').check(fd, right, content.length)).toBe(UNCHECKED);
    expect(make('if-present').check(fd, none, content.length)).toBe(UNCHECKED);
    // A guarded descriptor could not be duplicated.
    const copy = native.duplicate(fd);
    expect(copy).toBeGreaterThan(0);
    expect(make('if-present').check(fd, right, content.length)).toBe(COMPUTED);
    expect(native.duplicate(fd)).toBe(-9);
    native.closeDescriptor(copy);
    native.closeDescriptor(fd);
  });
});

describe('an object of more than 128 KiB', () => {
  it('is not hashed at once, and what is not too large is', () => {
    native.forgetObjects();
    const state = new VerificationState();
    const verification = make('if-present', 'auto', state);
    expect(check(verification, 'large', right)).toBe(NEEDS_MEASURING);
    expect(check(verification, 'small', right)).toBe(REFUSED);
    expect(check(make('if-present', 'user'), 'large', right)).toBe(NEEDS_MEASURING);
    expect(check(make('if-present', 'kernel'), 'large', right)).toBe(REFUSED);
    expect(check(make('off'), 'large', right)).toBe(UNCHECKED);
    expect(state.counts).toEqual({ ...nothing, refusedObjects: 1 });
  });

  it('is known once it is measured', async () => {
    const fd = objects.open('large');
    const progress = new BigInt64Array(new SharedArrayBuffer(16));
    expect(await native.measureObject(fd, objects.facts, 1, progress)).toBe(0);
    native.closeDescriptor(fd);
    const state = new VerificationState();
    const verification = make('if-present', 'auto', state);
    expect(check(verification, 'large', wrong)).toBe(REFUSED);
    image.set(digestOf(noise(128 * 1024 + 1)), 99);
    expect(check(verification, 'large', wrong)).toBe(COMPUTED);
    image.fill(0, 99);
    expect(state.counts.remembered).toBe(1);
  });
});

describe('a refusal', () => {
  it('for want of a digest says who demands one', () => {
    const verification = make('require');
    expect(check(verification, 'object', none)).toBe(REFUSED);
    expect(verification.refusal(none)).toEqual({
      detail: 'the image has no digest for it, which --verity require demands',
    });
  });

  it.each([
    ['sha256', wrong, digests.sha256],
    ['sha512', wrong512, digests.sha512],
  ] as const)('of another %s digest names both', (name, expected, actual) => {
    const verification = make('if-present', 'user');
    expect(check(verification, 'object', expected)).toBe(REFUSED);
    expect(verification.refusal(expected)).toEqual({
      detail: 'it has another fs-verity digest',
      expected: `${name}:${'00'.repeat(expected.digestLength)}`,
      actual: `${name}:${hex(actual)}`,
      measuredBy: 'composefs-fuse',
    });
  });

  it('by the kernel names the digest it has, whatever its algorithm is', () => {
    const bytes = Array.from({ length: 64 }, (_, i) => i);
    for (const [algorithm, name, length] of [
      [1, 'sha256', 32],
      [2, 'sha512', 64],
    ] as const) {
      const addon = saying(VERIFIED.DIFFERS_BY_KERNEL, [algorithm, ...bytes]);
      const verification = make('if-present', 'auto', new VerificationState(), addon);
      expect(check(verification, 'object', right)).toBe(REFUSED);
      expect(verification.refusal(right)).toEqual({
        detail: 'it has another fs-verity digest',
        expected: `sha256:${hex(digests.sha256)}`,
        actual: `${name}:${hex(Uint8Array.from(bytes.slice(0, length)))}`,
        measuredBy: 'kernel',
      });
    }
  });

  it('for want of fs-verity says so', () => {
    const verification = make('if-present', 'kernel');
    expect(check(verification, 'object', right512)).toBe(REFUSED);
    expect(verification.refusal(right512)).toEqual({
      detail: 'the kernel has no fs-verity digest of it',
      expected: `sha512:${hex(digests.sha512)}`,
    });
  });

  it('of an object that changes says so', () => {
    const verification = make('if-present');
    objects.write('changed', content);
    const fd = objects.open('changed');
    utimesSync(objects.path('changed'), 1, 1);
    expect(verification.check(fd, right, content.length)).toBe(REFUSED);
    native.closeDescriptor(fd);
    expect(verification.refusal(right)).toEqual({
      detail: 'it changed while it was measured',
      expected: `sha256:${hex(digests.sha256)}`,
    });
  });

  it('of an object that cannot be measured names the errno', () => {
    const verification = make('if-present');
    const fd = objects.open('object');
    native.closeDescriptor(fd);
    expect(verification.check(fd, right, content.length)).toBe(REFUSED);
    expect(verification.refusal(right)).toEqual({
      detail: 'it cannot be measured: EBADF',
      expected: `sha256:${hex(digests.sha256)}`,
    });
  });

  it('describes the digest at its place in the image', () => {
    expect(make('off').describe(right)).toBe(`sha256:${hex(digests.sha256)}`);
    expect(make('off').describe(right512)).toBe(`sha512:${hex(digests.sha512)}`);
  });
});

describe('counts', () => {
  it.each([
    [VERIFIED.BY_KERNEL, 'byKernel', BY_KERNEL],
    [VERIFIED.REMEMBERED, 'remembered', COMPUTED],
    [VERIFIED.COMPUTED, 'computed', COMPUTED],
    [VERIFIED.DIFFERS_BY_KERNEL, 'refusedObjects', REFUSED],
    [VERIFIED.DIFFERS_COMPUTED, 'refusedObjects', REFUSED],
    [VERIFIED.NO_KERNEL_VERITY, 'refusedObjects', REFUSED],
    [VERITY_STATUS.CHANGED, 'refusedObjects', REFUSED],
    [-5, 'refusedObjects', REFUSED],
    [VERITY_STATUS.TOO_LARGE, undefined, NEEDS_MEASURING],
  ] as const)('%i is counted as %s', (result, counter, verdict) => {
    const state = new VerificationState();
    const verification = make('require', 'auto', state, saying(result));
    expect(check(verification, 'object', right)).toBe(verdict);
    expect(state.counts).toEqual(counter === undefined ? nothing : { ...nothing, [counter]: 1 });
  });

  it('do not move for objects that need no check', () => {
    const state = new VerificationState();
    check(make('off', 'auto', state), 'object', wrong);
    check(make('if-present', 'auto', state), 'object', none);
    check(make('require', 'auto', state), 'empty', none);
    expect(state.counts).toEqual(nothing);
    check(make('require', 'auto', state), 'object', none);
    expect(state.counts.refusedObjects).toBe(1);
  });

  it('are of all who share the memory', () => {
    const state = new VerificationState();
    const other = new VerificationState(state.shared);
    make('off', 'auto', other).countRefusedRead();
    state.count('refusedReads');
    expect(other.counts.refusedReads).toBe(2);
    expect(new VerificationState().counts.refusedReads).toBe(0);
    make('off', 'auto', other).countMeasured();
    make('off', 'auto', other).countReopened();
    expect(state.counts).toEqual({ ...nothing, reopened: 1, computed: 1, refusedReads: 2 });
  });

  it('stay positive past 2^31', () => {
    const state = new VerificationState();
    new Int32Array(state.shared).fill(2 ** 31 - 1);
    state.count('byKernel');
    state.count('reopened');
    expect(state.counts).toMatchObject({ byKernel: 2 ** 31, reopened: 2 ** 31 });
  });
});

describe('forgetting', () => {
  it('makes every object new, moves the generation of all threads and keeps the counts', () => {
    native.forgetObjects();
    const state = new VerificationState();
    const other = new VerificationState(state.shared);
    const verification = make('if-present', 'auto', state);
    check(verification, 'object', right);
    check(verification, 'object', right);
    expect(state.counts).toMatchObject({ computed: 1, remembered: 1 });
    const before = other.generation;
    expect(state.forget(native)).toBe(1);
    expect(other.generation).toBe(before + 1);
    check(verification, 'object', right);
    expect(state.counts).toMatchObject({ computed: 2, remembered: 1 });
  });

  it('forgets before it says so: nobody keeps an old result under the new generation', () => {
    const state = new VerificationState();
    let seen = -1;
    const forgetObjects = { value: () => (seen = state.generation) };
    state.forget(Object.create(native, { forgetObjects }) as NativeAddon);
    expect(seen).toBe(0);
    expect(state.generation).toBe(1);
  });
});

it('every engine has its own number in the addon', () => {
  const numbers = VERIFY_ENGINES.map((engine) => {
    let given = -1;
    function Verifier(_a: unknown, _b: unknown, _c: unknown, number: number) {
      given = number;
      return {};
    }
    const addon = Object.create(native, { ObjectVerifier: { value: Verifier } }) as NativeAddon;
    make('require', engine, new VerificationState(), addon);
    return given;
  });
  expect(numbers).toEqual([0, 1, 2]);
});
