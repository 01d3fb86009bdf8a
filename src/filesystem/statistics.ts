// statfs. An image is always "full": reporting its own size would make every monitor cry 100 %.
// What a user can act on is the filesystem the objects are stored on, so that is what is shown.

import { statfsSync } from 'node:fs';
import type { FilesystemStatistics } from './composefs.ts';

export class StatisticsSource {
  readonly #path: string;
  readonly #fallback: FilesystemStatistics;

  /**
   * `path` is on the filesystem to report (the first base directory, or the image file's own where
   * there is none); `imageSize` and `inodes` describe the image for when that cannot be asked.
   */
  constructor(path: string, imageSize: number, inodes: number) {
    this.#path = path;
    const blocks = Math.ceil(imageSize / 4096);
    this.#fallback = { blocks, bfree: 0, bavail: 0, files: inodes, ffree: 0, bsize: 4096 };
  }

  /** Asks the system; falls back to the image's own size, never fails. */
  read(): FilesystemStatistics {
    try {
      const { blocks, bfree, bavail, files, ffree, bsize } = statfsSync(this.#path);
      return { blocks, bfree, bavail, files, ffree, bsize };
    } catch {
      return this.#fallback;
    }
  }
}
