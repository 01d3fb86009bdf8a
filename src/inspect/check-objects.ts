// Checks that the objects of an image are there and what it expects. Each is opened once, by the code
// that a mount uses; the kernel is asked for its digest, and where it has none the digest is computed
// on the thread pool, from the open file.

import { Errno, errnoName } from '../errors.ts';
import { DigestAlgorithm, type Image } from '../image-reader/index.ts';
import type { NativeAddon } from '../native.ts';
import { ObjectOpener } from '../objects/opener.ts';
import { type FileMeasurement, measureFiles, toHex } from '../verify/index.ts';
import type { ExternalFiles, Expectation } from './external-files.ts';
import type { ProblemKind } from './problem.ts';

/** Why a file's content cannot be read, or is not the right one. */
export interface ObjectProblem {
  readonly kind: ProblemKind & ('missing' | 'object');
  readonly what: string;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
}

/** One for all: a store may miss a million objects. */
const MISSING: ObjectProblem = { kind: 'missing', what: 'the object is missing' };

export interface ObjectFacts {
  /** Distinct objects. */
  readonly objects: number;
  readonly bytes: bigint;
  /** Whose digest the kernel knew. */
  readonly byKernel: number;
  readonly unverified: number;
  /** The problems by the inodes they are of. */
  readonly problems: ReadonlyMap<number, ObjectProblem>;
}

export interface ObjectCheckOptions {
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** `basedirs` are descriptors from the addon's openBasedir. */
export async function checkObjects(
  native: NativeAddon,
  image: Image,
  files: ExternalFiles,
  basedirs: readonly number[],
  options: ObjectCheckOptions = {},
): Promise<ObjectFacts> {
  const check = new ObjectCheck(native, image, files, basedirs, options);
  await check.run('sha256');
  if (files.hasSha512) await check.run('sha512');
  return check;
}

class ObjectCheck implements ObjectFacts {
  readonly problems: Map<number, ObjectProblem> = new Map();
  objects: number = 0;
  bytes: bigint = 0n;
  byKernel: number = 0;
  unverified: number = 0;
  readonly #native: NativeAddon;
  readonly #image: Image;
  readonly #files: ExternalFiles;
  readonly #store: ObjectOpener;
  readonly #options: ObjectCheckOptions;
  readonly #order: Uint32Array;
  readonly #kernelDigest: Uint8Array = new Uint8Array(64);
  /** The open objects whose digests are being computed. */
  readonly #open: Map<string, { readonly fd: number; readonly run: Run }> = new Map();
  #done: number = 0;

  constructor(
    native: NativeAddon,
    image: Image,
    files: ExternalFiles,
    basedirs: readonly number[],
    options: ObjectCheckOptions,
  ) {
    this.#native = native;
    this.#image = image;
    this.#files = files;
    this.#store = new ObjectOpener(native, basedirs);
    this.#options = options;
    this.#order = files.sorted();
  }

  /** Checks the objects that have such a digest, and with sha256 those that have none. */
  async run(algorithm: 'sha256' | 'sha512'): Promise<void> {
    const onError = (error: Error, path: string | Uint8Array): void => {
      const found = error.message.replace(/^\S+: /, '');
      this.#settle(String(path), (run) => this.#wrong(run, 'content', undefined, found));
    };
    try {
      const measured = measureFiles(this.#toMeasure(algorithm), { algorithm, onError });
      for await (const measurement of measured) this.#compare(measurement);
    } finally {
      for (const { fd } of this.#open.values()) this.#store.close(fd);
      this.#open.clear();
    }
  }

  /** Opens the objects one by one; gives those whose digest must be computed. */
  *#toMeasure(algorithm: 'sha256' | 'sha512'): Generator<string> {
    for (const run of this.#runs()) {
      if ((run.algorithm === DigestAlgorithm.SHA512) !== (algorithm === 'sha512')) continue;
      const fd = this.#openObject(run);
      if (fd < 0) {
        this.#progress();
        continue;
      }
      const name = `/proc/self/fd/${fd}`;
      this.#open.set(name, { fd, run });
      yield name;
    }
  }

  /** The distinct expectations, each with the files that share it. */
  *#runs(): Generator<Run> {
    const order = this.#order;
    for (let start = 0; start < order.length;) {
      let end = start + 1;
      while (end < order.length && this.#files.isSame(order[start]!, order[end]!)) end++;
      yield { ...this.#files.at(order[start]!), start, end };
      start = end;
    }
  }

  /** A descriptor whose digest is to be computed, or -1 when the object is settled. */
  #openObject(run: Run): number {
    this.objects++;
    const fd = this.#store.open(this.#image.bytes, run.pathStart, run.pathLength);
    if (fd < 0) {
      if (fd === -Errno.ENOENT) this.#fail(run, MISSING);
      else this.#wrong(run, 'object', 'a regular file', describeOpen(fd));
      return -1;
    }
    this.bytes += this.#store.openedSize;
    const isSettled = this.#checkOpened(run, fd);
    if (!isSettled) return fd;
    this.#store.close(fd);
    return -1;
  }

  #checkOpened(run: Run, fd: number): boolean {
    if (!this.#store.hasSize(run.sizeLow, run.sizeHigh)) {
      const expected = `${(BigInt(run.sizeHigh) << 32n) | BigInt(run.sizeLow)} bytes`;
      this.#wrong(run, 'size of the object', expected, `${this.#store.openedSize}`);
      return true;
    }
    if (run.algorithm === DigestAlgorithm.NONE) {
      this.unverified++;
      return true;
    }
    const result = this.#native.measureVerity(fd, this.#kernelDigest);
    // The kernel's digest may be of the other algorithm, which tells nothing.
    if (result < 0 || result >>> 16 !== run.algorithm) return false;
    this.byKernel++;
    this.#compareDigest(run, toHex(this.#kernelDigest.subarray(0, result & 0xffff)));
    return true;
  }

  #compare({ path, hex }: FileMeasurement): void {
    this.#settle(String(path), (run) => this.#compareDigest(run, hex));
  }

  #compareDigest(run: Run, found: string): void {
    const { digestStart, digestLength } = run;
    const { bytes } = this.#image;
    const expected = toHex(bytes.subarray(digestStart, digestStart + digestLength));
    if (found !== expected) this.#wrong(run, 'fs-verity digest', expected, found);
  }

  #settle(name: string, action: (run: Run) => void): void {
    const { fd, run } = this.#open.get(name)!;
    this.#open.delete(name);
    this.#store.close(fd);
    action(run);
    this.#progress();
  }

  #progress(): void {
    this.#options.onProgress?.(++this.#done, this.#order.length);
  }

  #wrong(run: Run, what: string, expected?: string, found?: string): void {
    this.#fail(run, { kind: 'object', what, expected, found });
  }

  #fail({ start, end }: Run, problem: ObjectProblem): void {
    for (let i = start; i < end; i++) {
      this.problems.set(this.#files.at(this.#order[i]!).nid, problem);
    }
  }
}

/** Files with the same expectation: those from `start` to `end` in the order. */
interface Run extends Expectation {
  readonly start: number;
  readonly end: number;
}

function describeOpen(result: number): string {
  switch (result) {
    case -Errno.EISDIR:
      return 'a directory';
    case -Errno.ELOOP:
      return 'a symlink';
    case -Errno.EINVAL:
      return 'a special file';
    default:
      return `one that cannot be opened (${errnoName(result)})`;
  }
}
