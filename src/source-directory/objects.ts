// Digests the external files of a source tree and, if there is a store, copies them into it.

import { ObjectStore } from '../objects/store.ts';
import { sourceChanged } from '../objects/store-errors.ts';
import type { ImageTree } from '../image-writer/index.ts';
import { measureFiles } from '../verify/index.ts';
import type { ExternalFile } from './read-tree.ts';

export interface StoreProgress {
  files: number;
  bytes: number;
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
  const progress: StoreProgress = { files: 0, bytes: 0 };
  const paths = files.map((file) => file.path);
  let index = 0;
  for await (const measured of measureFiles(paths, { concurrency: options.threads })) {
    const { digest, hex, sizeBytes } = measured;
    const file = files[index++]!;
    if (sizeBytes !== file.sizeBytes) throw sourceChanged(file.path);
    tree.setObject(file.node, ObjectStore.pathOf(hex), digest);
    progress.files++;
    progress.bytes += sizeBytes;
    options.onProgress?.(progress);
  }
}

/**
 * Sets path and digest of every external file in the tree and puts its content into the store, a
 * directory that is made if it is missing. Throws StoreError; what was added by then stays, it is
 * complete.
 */
export async function storeFiles(
  tree: ImageTree,
  files: readonly ExternalFile[],
  directory: string,
  options: ObjectOptions,
): Promise<StoreSummary> {
  const store = ObjectStore.create(directory);
  const summary: StoreSummary = { added: 0, present: 0 };
  const progress: StoreProgress = { files: 0, bytes: 0 };
  try {
    for await (const stored of store.addFiles(files, { concurrency: options.threads })) {
      tree.setObject(stored.source.node, stored.objectPath, stored.digest);
      summary[stored.outcome]++;
      progress.files++;
      progress.bytes += stored.sizeBytes;
      options.onProgress?.(progress);
    }
  } finally {
    store.close();
  }
  return summary;
}
