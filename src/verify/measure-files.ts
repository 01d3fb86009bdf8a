// The digests of many files. Small ones go to the thread pool in batches: a crossing with its
// promise costs 34 us, the opening, reading and hashing of a file of 33 KiB about 31.

import type { FileHasher } from './engine.ts';
import { DEFAULT_CONCURRENCY, measureFile, resolveEngine } from './measure.ts';
import type { MeasureOptions } from './measure.ts';
import { resolveParameters } from './parameters.ts';
import type { VerityParameters } from './parameters.ts';
import { BATCH_FILE_BYTES, encodePath, packPaths, readRecord } from './records.ts';
import type { FilePath, Measurement } from './records.ts';

/** Files of one piece of work: enough to hide the crossing, few enough to share the work evenly. */
const BATCH_FILES = 64;
/** Bytes of paths of one piece of work. The addon takes 1 MiB. */
const BATCH_PATH_BYTES = 1 << 18;

export interface MeasureFilesOptions extends MeasureOptions {
  /** Noticed between batches. */
  signal?: AbortSignal | undefined;
  /** Batches under way at a time. */
  concurrency?: number | undefined;
  /**
   * Sees the error of a file that could not be measured, which is then left out. Without it the
   * first such error ends the iteration.
   */
  onError?: ((error: Error, path: FilePath) => void) | undefined;
}

export interface FileMeasurement extends Measurement {
  path: FilePath;
}

interface Batch {
  paths: FilePath[];
  records: Promise<Uint8Array>;
}

/** Takes the next paths off the iterator and starts to measure them; undefined at the end. */
async function startBatch(
  paths: AsyncIterator<FilePath> | Iterator<FilePath>,
  files: FileHasher,
  parameters: VerityParameters,
): Promise<Batch | undefined> {
  const batch: FilePath[] = [];
  const encoded: Uint8Array[] = [];
  let length = 0;
  while (batch.length < BATCH_FILES && length < BATCH_PATH_BYTES) {
    // No await where the iterator is a plain one: it would cost a turn for every file.
    const step = paths.next();
    const next = step instanceof Promise ? await step : step;
    if (next.done === true) break;
    const bytes = encodePath(next.value);
    batch.push(next.value);
    encoded.push(bytes);
    length += bytes.length + 1;
  }
  if (batch.length === 0) return undefined;
  const records = files.measurePaths(parameters, packPaths(encoded), BATCH_FILE_BYTES);
  return { paths: batch, records };
}

async function* measureInBatches(
  paths: AsyncIterator<FilePath> | Iterator<FilePath>,
  files: FileHasher,
  parameters: VerityParameters,
  options: MeasureFilesOptions,
): AsyncGenerator<FileMeasurement> {
  const { signal, onError, concurrency = DEFAULT_CONCURRENCY } = options;
  const waiting: Batch[] = [];
  for (let isEnd = false; ;) {
    signal?.throwIfAborted();
    while (!isEnd && waiting.length < concurrency) {
      const batch = await startBatch(paths, files, parameters);
      if (batch === undefined) isEnd = true;
      else waiting.push(batch);
    }
    const batch = waiting.shift();
    if (batch === undefined) return;
    const records = await batch.records;
    for (const [i, path] of batch.paths.entries()) {
      let measurement: Measurement;
      try {
        measurement =
          readRecord(parameters, records, i, path) ??
          (await measureFile(path, { ...parameters, engine: options.engine, signal }));
      } catch (error) {
        if (onError === undefined || signal?.aborted === true) throw error;
        onError(error as Error, path);
        continue;
      }
      yield { path, ...measurement };
    }
  }
}

/**
 * Measures the files in the order of `paths`, which is read ahead by a few batches of 64. Rejects as
 * measureFile does, unless there is `onError`. Engines without threads take one file at a time.
 */
export async function* measureFiles(
  paths: AsyncIterable<FilePath> | Iterable<FilePath>,
  options: MeasureFilesOptions = {},
): AsyncGenerator<FileMeasurement> {
  const parameters = resolveParameters(options);
  const engine = resolveEngine(options.engine);
  const { concurrency, onError, signal } = options;
  if (concurrency !== undefined && !(Number.isInteger(concurrency) && concurrency >= 1)) {
    throw new RangeError('concurrency must be a positive integer');
  }
  if (engine.files !== undefined) {
    const iterator =
      Symbol.asyncIterator in paths ? paths[Symbol.asyncIterator]() : paths[Symbol.iterator]();
    try {
      yield* measureInBatches(iterator, engine.files, parameters, { ...options, engine });
    } finally {
      await iterator.return?.();
    }
    return;
  }
  for await (const path of paths) {
    let measurement: Measurement;
    try {
      measurement = await measureFile(path, { ...parameters, engine, signal });
    } catch (error) {
      if (onError === undefined || signal?.aborted === true) throw error;
      onError(error as Error, path);
      continue;
    }
    yield { path, ...measurement };
  }
}
