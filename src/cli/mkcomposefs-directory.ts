// The part of mkcomposefs that reads a directory: its tree, and digests or objects of its files.

import type { ImageTree } from '../image-writer/index.ts';
import { loadNative } from '../native.ts';
import {
  digestFiles,
  storeFiles,
  type StoreProgress,
  type StoreSummary,
} from '../source-directory/objects.ts';
import { type ExternalFile, readTree } from '../source-directory/read-tree.ts';
import type { MakeOptions } from './mkcomposefs-options.ts';
import type { ProgressLine } from './progress.ts';

/** What was put together before the image is laid out. */
export interface Prepared {
  tree: ImageTree;
  store?: StoreSummary;
}

export async function prepareDirectory(
  options: MakeOptions,
  progress: ProgressLine,
): Promise<Prepared> {
  const native = loadNative();
  const { tree, externalFiles } = await readTree(native, options.source, {
    useEpoch: options.useEpoch,
    skipDevices: options.skipDevices,
    skipXattrs: options.skipXattrs,
    userXattrs: options.userXattrs,
    hardLinks: options.hardLinks,
    onProgress: (entries) => progress.update(() => `reading ${options.source}: ${entries} entries`),
  });
  const objects = { threads: options.threads, onProgress: showFiles(externalFiles, progress) };
  if (options.digestStore === undefined) {
    await digestFiles(tree, externalFiles, objects);
    return { tree };
  }
  const store = await storeFiles(tree, externalFiles, options.digestStore, objects);
  return { tree, store };
}

function showFiles(files: readonly ExternalFile[], progress: ProgressLine) {
  return (done: StoreProgress): void =>
    progress.update(
      () => `${done.files} of ${files.length} files, ${Math.floor(done.bytes / 2 ** 20)} MiB`,
    );
}
