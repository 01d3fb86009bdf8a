// The fs-verity digest of one file, byte sequence or stream. Large files are cut into ranges whose
// leaves are hashed on the thread pool, several at a time, while the levels above (1/128 of the
// work) are hashed here in order.

import { closeSync, constants, fstatSync, open, openSync, readSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { FileChangedError, InputError } from '../errors.ts';
import { createNativeEngine } from './engine-native.ts';
import { nobleEngine } from './engine-noble.ts';
import { nodeEngine } from './engine-node.ts';
import type { DigestEngine } from './engine.ts';
import { MerkleBuilder, MerkleTree } from './merkle.ts';
import { resolveParameters } from './parameters.ts';
import type { VerityOptions, VerityParameters } from './parameters.ts';
import { BATCH_FILE_BYTES, describeFile, encodePath, packPaths } from './records.ts';
import { readRecord, toFileError, toMeasurement } from './records.ts';
import type { FilePath, Measurement } from './records.ts';

export interface MeasureOptions extends VerityOptions {
  /** `native` needs the addon. Default: native, or node where the addon cannot be loaded. */
  engine?: DigestEngine | 'native' | 'node' | 'noble' | undefined;
}

export interface MeasureFileOptions extends MeasureOptions {
  /** Ends the measurement with the signal's reason; noticed after each range of 4 MiB. */
  signal?: AbortSignal | undefined;
  /** Called after each range, in order; at least once unless the file is empty. */
  onProgress?: ((doneBytes: number, sizeBytes: number) => void) | undefined;
  /** Ranges that are hashed at a time. */
  concurrency?: number | undefined;
  /** Keep the leaves and return them as `tree`. */
  tree?: boolean | undefined;
}

/**
 * A multiple of all block sizes. 4 MiB are 1.5 ms of hashing, in which a crossing (34 us with its
 * promise) does not show, and the leaves that wait are 32 KiB each.
 */
const RANGE_SIZE = 1 << 22;

/**
 * One piece of work more than cores, so that none idles while the results of the last piece are
 * taken; 4 is the size of libuv's pool.
 */
export const DEFAULT_CONCURRENCY: number = Math.min(4, availableParallelism() + 1);

const openAsync = promisify(open);
const nextTurn = promisify(setImmediate);

let defaultEngine: DigestEngine | undefined;

export function resolveEngine(engine: MeasureOptions['engine']): DigestEngine {
  if (typeof engine === 'object') return engine;
  if (engine === 'noble') return nobleEngine;
  if (engine === 'node') return nodeEngine;
  if (engine === 'native') return createNativeEngine();
  if (engine !== undefined) throw new RangeError(`no engine ${String(engine)}`);
  if (defaultEngine !== undefined) return defaultEngine;
  try {
    defaultEngine = createNativeEngine();
  } catch {
    defaultEngine = nodeEngine;
  }
  return defaultEngine;
}

/** The digest of bytes in memory. */
export function measureBytes(bytes: Uint8Array, options: MeasureOptions = {}): Measurement {
  const parameters = resolveParameters(options);
  const hasher = resolveEngine(options.engine).createHasher(parameters);
  const builder = new MerkleBuilder(parameters, hasher);
  builder.update(bytes);
  return toMeasurement(parameters, builder.finish().digest, bytes.length);
}

/** The digest of a stream's bytes, computed in the calling thread as they come. */
export async function measureStream(
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: MeasureOptions & { signal?: AbortSignal } = {},
): Promise<Measurement> {
  const parameters = resolveParameters(options);
  const hasher = resolveEngine(options.engine).createHasher(parameters);
  const builder = new MerkleBuilder(parameters, hasher);
  options.signal?.throwIfAborted();
  for await (const chunk of chunks) {
    options.signal?.throwIfAborted();
    if (!(chunk instanceof Uint8Array)) throw new TypeError('the chunks must be Uint8Arrays');
    builder.update(chunk);
  }
  const { digest, sizeBytes } = builder.finish();
  return toMeasurement(parameters, digest, sizeBytes);
}

/** A promise of every range's leaves, at most `concurrency` of them under way. */
async function* hashRanges(
  job: { parameters: VerityParameters; engine: DigestEngine; fd: number; sizeBytes: number },
  concurrency: number,
): AsyncGenerator<{ leaves: Uint8Array | number; length: number }> {
  const { parameters, fd, sizeBytes } = job;
  const { files } = job.engine;
  if (files === undefined) return;
  const waiting: { leaves: Promise<Uint8Array | number>; length: number }[] = [];
  for (let at = 0; at < sizeBytes || waiting.length > 0;) {
    while (at < sizeBytes && waiting.length < concurrency) {
      const length = Math.min(RANGE_SIZE, sizeBytes - at);
      waiting.push({ leaves: files.hashRange(parameters, fd, at, length), length });
      at += length;
    }
    const first = waiting.shift()!;
    yield { leaves: await first.leaves, length: first.length };
  }
}

/**
 * Content of `fd` in steps, for engines that hash in the calling thread. The reading is there too:
 * promises for it cost ten times the reading of a small file.
 */
async function* readRanges(
  fd: number,
  sizeBytes: number,
  name: string,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(RANGE_SIZE, sizeBytes));
  for (let at = 0; at < sizeBytes;) {
    if (at > 0) await nextTurn();
    const length = Math.min(buffer.length, sizeBytes - at);
    const bytesRead = readSync(fd, buffer, 0, length, at);
    if (bytesRead === 0) throw new FileChangedError(name);
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

function isSame(before: BigIntStats, after: BigIntStats): boolean {
  return (
    before.size === after.size &&
    before.mtimeNs === after.mtimeNs &&
    before.ctimeNs === after.ctimeNs
  );
}

function statRegular(fd: number, name: string): BigIntStats {
  const facts = fstatSync(fd, { bigint: true });
  if (!facts.isFile()) throw new InputError(`${name}: not a regular file`, name);
  return facts;
}

async function measureOpened(
  fd: number,
  name: string,
  options: MeasureFileOptions,
): Promise<Measurement & { tree?: MerkleTree }> {
  const parameters = resolveParameters(options);
  const engine = resolveEngine(options.engine);
  const { signal, onProgress } = options;
  const before = statRegular(fd, name);
  const sizeBytes = Number(before.size);
  const leafCount = Math.ceil(sizeBytes / parameters.blockSize);
  const kept = options.tree === true ? new Uint8Array(leafCount * parameters.digestSize) : null;
  let keptUsed = 0;
  const builder = new MerkleBuilder(parameters, engine.createHasher(parameters), (leaves) => {
    kept?.set(leaves, keptUsed);
    keptUsed += leaves.length;
  });
  let doneBytes = 0;
  const report = (length: number): void => {
    doneBytes += length;
    onProgress?.(doneBytes, sizeBytes);
    signal?.throwIfAborted();
  };
  if (engine.files === undefined) {
    for await (const bytes of readRanges(fd, sizeBytes, name)) {
      builder.update(bytes);
      report(bytes.length);
    }
  } else {
    const job = { parameters, engine, fd, sizeBytes };
    const concurrency = options.concurrency ?? DEFAULT_CONCURRENCY;
    for await (const { leaves, length } of hashRanges(job, concurrency)) {
      if (typeof leaves === 'number') throw toFileError(name, leaves);
      builder.appendLeaves(leaves, length);
      report(length);
    }
  }
  if (!isSame(before, fstatSync(fd, { bigint: true }))) throw new FileChangedError(name);
  const measurement = toMeasurement(parameters, builder.finish().digest, sizeBytes);
  if (kept === null) return measurement;
  return { ...measurement, tree: new MerkleTree(parameters, engine, sizeBytes, kept) };
}

/** A small file in one piece of work, or undefined if that cannot be. */
async function measureSmall(
  path: FilePath,
  options: MeasureFileOptions,
): Promise<Measurement | undefined> {
  const parameters = resolveParameters(options);
  const { files } = resolveEngine(options.engine);
  if (files === undefined) return undefined;
  const paths = packPaths([encodePath(path)]);
  const records = await files.measurePaths(parameters, paths, BATCH_FILE_BYTES);
  const measurement = readRecord(parameters, records, 0, path);
  options.signal?.throwIfAborted();
  if (measurement !== undefined && measurement.sizeBytes > 0) {
    options.onProgress?.(measurement.sizeBytes, measurement.sizeBytes);
  }
  return measurement;
}

function checkOptions({ signal, concurrency }: MeasureFileOptions): void {
  signal?.throwIfAborted();
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1)) {
    throw new RangeError('concurrency must be a positive integer');
  }
}

/**
 * The digest of a regular file, given by path or by a descriptor open for reading, whose position
 * does not matter and which must stay open until the promise is settled. Rejects with
 * FileChangedError where size, mtime or ctime differ before and after or the file ends early, with
 * InputError naming the path where it cannot be read, with the signal's reason when aborted. In
 * memory: 64 KiB of leaves for each range under way, and 256 KiB in each pool thread.
 */
export async function measureFile(
  source: FilePath | number,
  options: MeasureFileOptions & { tree: true },
): Promise<Measurement & { tree: MerkleTree }>;
export async function measureFile(
  source: FilePath | number,
  options?: MeasureFileOptions,
): Promise<Measurement & { tree?: MerkleTree }>;
export async function measureFile(
  source: FilePath | number,
  options: MeasureFileOptions = {},
): Promise<Measurement & { tree?: MerkleTree }> {
  checkOptions(options);
  const name = describeFile(source);
  try {
    if (typeof source === 'number') return await measureOpened(source, name, options);
    const measurement = options.tree === true ? undefined : await measureSmall(source, options);
    if (measurement !== undefined) return measurement;
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
    const path = typeof source === 'string' ? source : Buffer.from(source);
    const isInline = resolveEngine(options.engine).files === undefined;
    const fd = isInline ? openSync(path, flags) : await openAsync(path, flags);
    try {
      return await measureOpened(fd, name, options);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new InputError(`${name}: cannot be read (${code})`, name, { cause: error });
  }
}
