// The image that mount.mjs measures when none is given: a system tree in small, 50,000 files in 3,000
// directories, most of them objects, one of them big.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from '../support/image-builder.ts';
import { directory, file, symlink } from '../support/image-nodes.ts';
import type { TestChild, TestNode } from '../support/image-nodes.ts';
import { ObjectFolder, patternBytes } from '../support/object-folder.ts';

const BIG_BYTES = 128 * 1024 * 1024;

/** Sizes as in /usr: most files are small, a few are not. */
function sizeOf(i: number): number {
  if (i % 100 === 0) return 200_000;
  if (i % 10 === 0) return 40_000;
  return 500 + ((i * 37) % 8000);
}

/** Writes the image and its objects below `folder`. */
export function makeBenchImage(
  folder: string,
  quick: boolean,
): { image: string; basedirs: string[] } {
  const objects = new ObjectFolder(join(folder, 'objects'));
  const [groups, perGroup, perFolder] = quick ? [5, 10, 17] : [60, 50, 17];
  const children: TestChild[] = [];
  let made = 0;
  const node = (): TestNode => {
    const i = made++;
    if (i % 12 === 0) return symlink(`../folder-${i % 7}/file-${i}`);
    if (i % 8 === 0) return file(`inline file ${i}`, { mtime: i });
    return objects.add(patternBytes(sizeOf(i), i), { mtime: i });
  };
  for (let g = 0; g < groups; g++) {
    const folders: TestChild[] = [];
    for (let f = 0; f < perGroup; f++) {
      const files: TestChild[] = [];
      for (let k = 0; k < perFolder; k++) files.push([`file-${made}`, node()]);
      folders.push([`folder-${f}`, directory(files)]);
    }
    children.push([`group-${g}`, directory(folders)]);
  }
  const big = objects.addAt('big', patternBytes(quick ? BIG_BYTES / 16 : BIG_BYTES));
  children.push(['big', big]);
  mkdirSync(folder, { recursive: true });
  const image = join(folder, 'image.cfs');
  writeFileSync(image, buildImage(directory(children)));
  return { image, basedirs: [objects.path] };
}
