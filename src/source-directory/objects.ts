// Digests the external files of a source tree and, if there is a store, copies them into it. Files
// go to the thread pool in batches; the addon does the rest.

import { mkdirSync } from 'node:fs';
import { StoreError } from '../errors.ts';
import { type NativeAddon, STORED_OUTCOME, STORED_RECORD, VERITY_STATUS } from '../native.ts';
import type { ImageTree } from '../image-writer/index.ts';
import { measureFiles, toHex } from '../verify/index.ts';
import type { ExternalFile } from './read-tree.ts';
import { describeErrno } from './system-errors.ts';

/** A batch ends at either: its copies are open at the same time, and made durable together. */
const BATCH_FILES = 1024;
const BATCH_BYTES = 64n * 1024n * 1024n;

export interface StoreProgress {
  files: number;
  bytes: bigint;
}

export interface StoreSummary {
  /** Objects that are new in the store. */
  added: number;
  /** Files whose object was there already, or came up twice. */
  present: number;
}

export interface ObjectOptions {
  /** Batches under way at a time. */
  threads: number;
  onProgress?: (progress: StoreProgress) => void;
}

/** Sets path and digest of every external file in the tree, without storing anything. */
export async function digestFiles(
  tree: ImageTree,
  files: readonly ExternalFile[],
  options: ObjectOptions,
): Promise<void> {
  const progress: StoreProgress = { files: 0, bytes: 0n };
  const paths = files.map((file) => Buffer.from(file.path));
  let index = 0;
  for await (const { digest, sizeBytes } of measureFiles(paths, { concurrency: options.threads })) {
    const file = files[index++]!;
    if (BigInt(sizeBytes) !== file.size) throw changed(file.path);
    setDigest(tree, file, digest);
    progress.files++;
    progress.bytes += file.size;
    options.onProgress?.(progress);
  }
}

/**
 * Sets path and digest of every external file in the tree and puts its content into the store, a
 * directory that is made if it is missing. Throws StoreError; what was added by then stays, it is
 * complete.
 */
export async function storeFiles(
  native: NativeAddon,
  tree: ImageTree,
  files: readonly ExternalFile[],
  store: string,
  options: ObjectOptions,
): Promise<StoreSummary> {
  const fd = openStore(native, store);
  const summary: StoreSummary = { added: 0, present: 0 };
  const progress: StoreProgress = { files: 0, bytes: 0n };
  const batches = batchesOf(files);
  const work = async (): Promise<void> => {
    // Leaving the loop by an exception ends the generator, and with it the other workers.
    for (const batch of batches) {
      const records = await native.storeObjects(fd, packPaths(batch));
      if (typeof records === 'number') throw new StoreError(`cannot fill store: ${store}`, store);
      takeResults(tree, batch, records, summary);
      progress.files += batch.length;
      progress.bytes += batch.reduce((sum, file) => sum + file.size, 0n);
      options.onProgress?.(progress);
    }
  };
  try {
    // All settle before the store is closed: the addon finishes what it has begun.
    const workers = Array.from({ length: options.threads }, work);
    const failed = (await Promise.allSettled(workers)).find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  } finally {
    native.closeDescriptor(fd);
  }
  return summary;
}

function openStore(native: NativeAddon, store: string): number {
  try {
    mkdirSync(store, { recursive: true, mode: 0o755 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new StoreError(`cannot fill store: ${store} cannot be made (${code})`, store);
  }
  const fd = native.openBasedir(store);
  if (fd < 0) throw new StoreError(`cannot fill store: ${store}: ${describeErrno(fd)}`, store);
  return fd;
}

/** One generator for all workers: each takes the next batch when it is done with its own. */
function* batchesOf(files: readonly ExternalFile[]): Generator<ExternalFile[]> {
  let batch: ExternalFile[] = [];
  let bytes = 0n;
  for (const file of files) {
    batch.push(file);
    bytes += file.size;
    if (batch.length < BATCH_FILES && bytes < BATCH_BYTES) continue;
    yield batch;
    batch = [];
    bytes = 0n;
  }
  if (batch.length > 0) yield batch;
}

function packPaths(batch: readonly ExternalFile[]): Uint8Array {
  const length = batch.reduce((sum, { path }) => sum + path.length + 1, 0);
  const packed = new Uint8Array(length);
  let at = 0;
  for (const { path } of batch) {
    packed.set(path, at);
    at += path.length + 1;
  }
  return packed;
}

function takeResults(
  tree: ImageTree,
  batch: readonly ExternalFile[],
  records: Uint8Array,
  summary: StoreSummary,
): void {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  for (const [i, file] of batch.entries()) {
    const at = i * STORED_RECORD.SIZE;
    const status = Number(view.getBigInt64(at + STORED_RECORD.STATUS, true));
    const digest = records.slice(at + STORED_RECORD.DIGEST, at + STORED_RECORD.SIZE);
    if (status === VERITY_STATUS.CHANGED) throw changed(file.path);
    if (status < 0) {
      const path = decode(file.path);
      throw new StoreError(`cannot fill store: ${path}: ${describeErrno(status)}`, path);
    }
    if (BigInt(status) !== file.size) throw changed(file.path);
    switch (records[at + STORED_RECORD.OUTCOME]) {
      case STORED_OUTCOME.ADDED:
        summary.added++;
        break;
      case STORED_OUTCOME.PRESENT:
        summary.present++;
        break;
      default:
        throw wrongObject(digest, file.path);
    }
    setDigest(tree, file, digest);
  }
}

function setDigest(tree: ImageTree, file: ExternalFile, digest: Uint8Array): void {
  tree.setObject(file.node, objectPath(digest), digest);
}

function objectPath(digest: Uint8Array): string {
  const hex = toHex(digest);
  return `${hex.slice(0, 2)}/${hex.slice(2)}`;
}

function changed(path: Uint8Array): StoreError {
  const text = decode(path);
  return new StoreError(
    `${text} changed while it was read; run again when nothing writes to it`,
    text,
  );
}

function wrongObject(digest: Uint8Array, path: Uint8Array): StoreError {
  const object = objectPath(digest);
  return new StoreError(
    `cannot fill store: object ${object} is there with another content than ${decode(path)}; ` +
      'remove the object and run again',
    object,
  );
}

function decode(path: Uint8Array): string {
  return new TextDecoder().decode(path);
}
