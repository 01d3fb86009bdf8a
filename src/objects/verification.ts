// Whether an opened object is what the image says. The policy says which objects must be checked and
// who may vouch for them; the addon does the checking and remembers what it found.

import { errnoName } from '../errors.ts';
import {
  FOUND_DIGEST,
  type NativeAddon,
  type NativeObjectVerifier,
  VERIFIED,
  VERIFY_ENGINE,
  VERITY_STATUS,
} from '../native.ts';

/** Which objects are checked: none, those whose digest the image gives, or all (no digest: refused). */
export const VERITY_POLICIES = ['off', 'if-present', 'require'] as const;
export type VerityPolicy = (typeof VERITY_POLICIES)[number];

/** Who may vouch: the kernel if it can, else this program; only the kernel; only this program. */
export const VERIFY_ENGINES = ['auto', 'kernel', 'user'] as const;
export type VerifyEngine = (typeof VERIFY_ENGINES)[number];

/** When: before a file is opened, or before a block of it is read. */
export const VERIFY_TIMES = ['open', 'read'] as const;
export type VerifyAt = (typeof VERIFY_TIMES)[number];

/**
 * Objects up to this size are hashed by the thread that serves the request: 128 KiB take it about
 * 50 us, less than handing them to another one costs. Larger ones are hashed elsewhere, while other
 * requests are served.
 */
const INLINE_MAX_BYTES = 128 * 1024;

/** What reading from a verified object gives when a block is not the one that was verified. */
export const CONTENT_DIFFERS: number = VERITY_STATUS.DIFFERS;

/** What `check` says of an object. The good ones are not negative. */
export const Verdict = {
  /** Nothing demands that it is checked. */
  UNCHECKED: 0,
  /** The kernel guards it. */
  BY_KERNEL: 1,
  /** It was hashed here, and what is read from it will be checked. */
  COMPUTED: 2,
  /** It is not what the image says: see `refusal`. */
  REFUSED: -1,
  /** It is too large to be hashed here and now. */
  NEEDS_MEASURING: -2,
} as const;

const ENGINE_NUMBERS = {
  auto: VERIFY_ENGINE.ANY,
  kernel: VERIFY_ENGINE.KERNEL,
  user: VERIFY_ENGINE.USER_SPACE,
} as const;

/** The digest an image gives for an object, by its place in the image. */
export interface ExpectedDigest {
  /** 0 none, 1 SHA-256, 2 SHA-512. */
  digestAlgorithm: number;
  digestStart: number;
  digestLength: number;
}

/** Why an object was refused. */
export interface Refusal {
  /** One clause that says what is wrong. */
  detail: string;
  /** `sha256:HEX`; `actual` and `measuredBy` only where there is another digest. */
  expected?: string;
  actual?: string;
  measuredBy?: 'kernel' | 'composefs-fuse';
}

export class ObjectVerification {
  readonly policy: VerityPolicy;
  readonly #state: VerificationState;
  readonly #image: Uint8Array;
  readonly #found = new Uint8Array(FOUND_DIGEST.SIZE);
  readonly #verifier: NativeObjectVerifier;
  #failure = 0;

  /** `facts` is the array that the opener of the objects fills. */
  constructor(
    native: NativeAddon,
    image: Uint8Array,
    facts: BigInt64Array,
    options: { policy: VerityPolicy; engine: VerifyEngine; state: VerificationState },
  ) {
    this.policy = options.policy;
    this.#state = options.state;
    this.#image = image;
    const engine = ENGINE_NUMBERS[options.engine];
    this.#verifier = new native.ObjectVerifier(image, facts, this.#found, engine, INLINE_MAX_BYTES);
  }

  /** Whether the content of a file with this digest is checked. */
  covers(expected: ExpectedDigest): boolean {
    return this.policy !== 'off' && expected.digestAlgorithm !== 0;
  }

  /** Checks the object that was opened last, of `sizeBytes`. One of Verdict. */
  check(fd: number, expected: ExpectedDigest, sizeBytes: number): number {
    if (this.policy === 'off') return Verdict.UNCHECKED;
    if (expected.digestAlgorithm === 0) {
      if (this.policy !== 'require' || sizeBytes === 0) return Verdict.UNCHECKED;
      return this.#refuse(0);
    }
    const { digestAlgorithm, digestStart } = expected;
    const result = this.#verifier.verify(fd, digestAlgorithm, digestStart);
    switch (result) {
      case VERIFIED.BY_KERNEL:
        this.#state.count('byKernel');
        return Verdict.BY_KERNEL;
      case VERIFIED.REMEMBERED:
        this.#state.count('remembered');
        return Verdict.COMPUTED;
      case VERIFIED.COMPUTED:
        this.#state.count('computed');
        return Verdict.COMPUTED;
      case VERITY_STATUS.TOO_LARGE:
        return Verdict.NEEDS_MEASURING;
      default:
        return this.#refuse(result);
    }
  }

  #refuse(result: number): number {
    this.#state.count('refusedObjects');
    this.#failure = result;
    return Verdict.REFUSED;
  }

  /** An object that needed it was hashed; the next `check` remembers it. */
  countMeasured(): void {
    this.#state.count('computed');
  }

  countRefusedRead(): void {
    this.#state.count('refusedReads');
  }

  /** A file was opened whose object was open already. */
  countReopened(): void {
    this.#state.count('reopened');
  }

  /** Why the last `check` said REFUSED. Makes strings: for what is logged once. */
  refusal(expected: ExpectedDigest): Refusal {
    if (expected.digestAlgorithm === 0) {
      return { detail: 'the image has no digest for it, which --verity require demands' };
    }
    const wanted = this.describe(expected);
    switch (this.#failure) {
      case VERIFIED.DIFFERS_BY_KERNEL:
        return this.#difference(wanted, 'kernel');
      case VERIFIED.DIFFERS_COMPUTED:
        return this.#difference(wanted, 'composefs-fuse');
      case VERIFIED.NO_KERNEL_VERITY:
        return { detail: 'the kernel has no fs-verity digest of it', expected: wanted };
      case VERITY_STATUS.CHANGED:
        return { detail: 'it changed while it was measured', expected: wanted };
      default:
        return { detail: `it cannot be measured: ${errnoName(this.#failure)}`, expected: wanted };
    }
  }

  /** `sha256:HEX`. */
  describe({ digestAlgorithm, digestStart, digestLength }: ExpectedDigest): string {
    return digestText(digestAlgorithm, this.#image, digestStart, digestLength);
  }

  #difference(expected: string, measuredBy: 'kernel' | 'composefs-fuse'): Refusal {
    const algorithm = this.#found[FOUND_DIGEST.ALGORITHM]!;
    const length = algorithm === 2 ? 64 : 32;
    const actual = digestText(algorithm, this.#found, FOUND_DIGEST.BYTES, length);
    return { detail: 'it has another fs-verity digest', expected, actual, measuredBy };
  }
}

function digestText(algorithm: number, bytes: Uint8Array, start: number, length: number): string {
  const name = algorithm === 2 ? 'sha512' : 'sha256';
  return `${name}:${Buffer.from(bytes.slice(start, start + length)).toString('hex')}`;
}

/** What was verified and refused, by all workers of a mount. */
export interface VerificationCounts {
  /** Opens that found the object still open, and the same as when it was opened. */
  reopened: number;
  /** Objects opened whose digest the kernel vouched for. */
  byKernel: number;
  /** Objects opened whose digest was known from an earlier computation. */
  remembered: number;
  /** Objects hashed. */
  computed: number;
  /** Opens refused. */
  refusedObjects: number;
  /** Reads refused, because a block had changed since its object was verified. */
  refusedReads: number;
}

const COUNTERS = [
  'reopened',
  'byKernel',
  'remembered',
  'computed',
  'refusedObjects',
  'refusedReads',
] as const;
const GENERATION = COUNTERS.length;

/** Shared by all threads of a mount: the counts, and a number that says when to forget. */
export class VerificationState {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(
    shared: SharedArrayBuffer = new SharedArrayBuffer(
      (GENERATION + 1) * Int32Array.BYTES_PER_ELEMENT,
    ),
  ) {
    this.shared = shared;
    this.#words = new Int32Array(shared);
  }

  count(what: keyof VerificationCounts): void {
    Atomics.add(this.#words, COUNTERS.indexOf(what), 1);
  }

  get counts(): VerificationCounts {
    const counts = {} as VerificationCounts;
    COUNTERS.forEach((name, index) => (counts[name] = Atomics.load(this.#words, index) >>> 0));
    return counts;
  }

  /** Grows with every `forget`: who keeps verified objects open compares it. */
  get generation(): number {
    return Atomics.load(this.#words, GENERATION);
  }

  /** From now on every object is verified anew. */
  forget(native: NativeAddon): number {
    // First forgotten: who sees the new generation must not find anything from before it.
    const files = native.forgetObjects();
    Atomics.add(this.#words, GENERATION, 1);
    return files;
  }
}
