// Files on their way into a store: cut into batches for the addon, whose records become results.

import { statSync } from 'node:fs';
import type { StoreError } from '../errors.ts';
import { STORED_OUTCOME, STORED_RECORD, VERITY_STATUS } from '../native.ts';
import { type FilePath, toHex } from '../verify/index.ts';
import { encodePath, packPaths } from '../verify/records.ts';
import { descriptorLimit } from './descriptor-limit.ts';
import { objectPath } from './object-name.ts';
import { cannotFill, sourceChanged, wrongObject } from './store-errors.ts';

/** A batch ends at either: its copies are open at the same time, and made durable together. */
const BATCH_FILES = 1024;
const BATCH_BYTES = 64 * 1024 * 1024;

/** Files of a batch, so that so many batches at a time do not take every descriptor of the process. */
export function batchFiles(concurrency: number): number {
  const share = Math.floor(descriptorLimit() / concurrency);
  return Math.max(1, Math.min(BATCH_FILES, share));
}

/** A file to be stored. */
export interface SourceFile {
  readonly path: FilePath;
  /**
   * The size that the file must have; one of another size counts as changed. Without it the store
   * asks the system, to cut batches of even size.
   */
  readonly sizeBytes?: number | undefined;
}

/** An object of a store. */
export interface StoredObject {
  /** The fs-verity SHA-256 digest of the content, in lower-case hex. */
  readonly hex: string;
  /** `xx/yyyy...`, relative to the store: what an image says of the file. */
  readonly objectPath: string;
  readonly sizeBytes: number;
}

/** A file that is in the store. */
export interface StoredFile<
  S extends FilePath | SourceFile = FilePath | SourceFile,
> extends StoredObject {
  /** What was given to be stored: the very path or object. */
  readonly source: S;
  /** `hex` as 32 bytes. */
  readonly digest: Uint8Array;
  /** `present`: an object with this content was there before, or another file of the same call made it. */
  readonly outcome: 'added' | 'present';
}

export interface Batch<S> {
  readonly sources: readonly S[];
  /** As the addon's storeObjects wants them. */
  readonly paths: Uint8Array;
}

/** The next files of the iterator, at most `maxFiles`; undefined at its end. */
export async function takeBatch<S extends FilePath | SourceFile>(
  iterator: AsyncIterator<S> | Iterator<S>,
  maxFiles: number,
): Promise<Batch<S> | undefined> {
  const sources: S[] = [];
  const paths: Uint8Array[] = [];
  let bytes = 0;
  while (sources.length < maxFiles && bytes < BATCH_BYTES) {
    // No await where the iterator is a plain one: it would cost a turn for every file.
    const step = iterator.next();
    const next = step instanceof Promise ? await step : step;
    if (next.done === true) break;
    paths.push(encodePath(pathOf(next.value)));
    sources.push(next.value);
    bytes += sizeOf(next.value);
  }
  return sources.length === 0 ? undefined : { sources, paths: packPaths(paths) };
}

/** What became of file `index` of a batch, from the addon's records of it. */
export function readStored<S extends FilePath | SourceFile>(
  { sources }: Batch<S>,
  records: Uint8Array,
  index: number,
): StoredFile<S> | StoreError {
  const source = sources[index]!;
  const path = pathOf(source);
  const at = index * STORED_RECORD.SIZE;
  const view = new DataView(records.buffer, records.byteOffset + at, STORED_RECORD.SIZE);
  const status = Number(view.getBigInt64(STORED_RECORD.STATUS, true));
  if (status === VERITY_STATUS.CHANGED) return sourceChanged(path);
  if (status < 0) return cannotFill(path, status);
  const expected = statedSize(source);
  if (expected !== undefined && status !== expected) return sourceChanged(path);
  const digest = records.slice(at + STORED_RECORD.DIGEST, at + STORED_RECORD.SIZE);
  const hex = toHex(digest);
  const outcome = view.getUint8(STORED_RECORD.OUTCOME);
  if (outcome !== STORED_OUTCOME.ADDED && outcome !== STORED_OUTCOME.PRESENT) {
    return wrongObject(objectPath(hex), path);
  }
  return {
    source,
    digest,
    hex,
    objectPath: objectPath(hex),
    sizeBytes: status,
    outcome: outcome === STORED_OUTCOME.ADDED ? 'added' : 'present',
  };
}

function isPath(source: FilePath | SourceFile): source is FilePath {
  return typeof source === 'string' || source instanceof Uint8Array;
}

function pathOf(source: FilePath | SourceFile): FilePath {
  return isPath(source) ? source : source.path;
}

function statedSize(source: FilePath | SourceFile): number | undefined {
  return isPath(source) ? undefined : source.sizeBytes;
}

/** Asked for in this thread: a promise costs ten times the system call. */
function sizeOf(source: FilePath | SourceFile): number {
  const stated = statedSize(source);
  if (stated !== undefined) return stated;
  const path = pathOf(source);
  try {
    return statSync(typeof path === 'string' ? path : Buffer.from(path)).size;
  } catch {
    // The addon will say what is wrong with it.
    return 0;
  }
}
