// Images made by the image writer, mounted by the kernel and by us: random trees with real objects
// behind some of their files, and trees of a size that shows limits.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readDump } from '../../src/dump/index.ts';
import { planImage, type VersionRange } from '../../src/image-writer/index.ts';
import { compareWithKernel, type DifferentialCase } from '../support/differential.ts';
import { ObjectFolder, patternBytes, verityDigest } from '../support/object-folder.ts';
import type { Scope } from '../support/scope.ts';
import {
  type GeneratorOptions,
  type ModelNode,
  randomTree,
  toDumpText,
  toImageTree,
  visitModel,
} from '../support/writer-generator.ts';

type Made = ReturnType<DifferentialCase['image']>;

const seed = Number(process.env['SEED'] ?? 1);

/** Every so many-th external file gets a real object; opening the others must fail alike. */
const OBJECT_EVERY = 7;

function addObjects(root: ModelNode, folder: ObjectFolder): void {
  let count = 0;
  visitModel(root, (node) => {
    const isExternal =
      (node.mode & 0o170000) === 0o100000 && node.size > 0n && node.content === undefined;
    if (!isExternal || node.linkTo !== undefined) return;
    // The kernel shows nothing of a file without a path, and we everything but its content.
    node.objectPath ??= 'absent';
    if (count++ % OBJECT_EVERY !== 0) return;
    const content = patternBytes(65 + ((count * 331) % 9000), count);
    node.digest = Buffer.from(verityDigest(content));
    const hex = node.digest.toString('hex');
    node.objectPath = `${hex.slice(0, 2)}/${hex.slice(2)}`;
    folder.write(node.objectPath, content);
    node.size = BigInt(content.length);
  });
}

function written(
  model: () => ModelNode,
  versions: VersionRange = {},
  asDump = false,
): (scope: Scope) => Made {
  return (scope) => {
    const folder = scope.directory();
    const objects = new ObjectFolder(join(folder, 'objects'));
    const root = model();
    addObjects(root, objects);
    const tree = asDump ? readDump(toDumpText(root)) : toImageTree(root);
    const image = join(folder, 'image.cfs');
    writeFileSync(image, Buffer.concat([...planImage(tree, versions).chunks()]));
    return { image, basedirs: [objects.path] };
  };
}

const everything: GeneratorOptions = { entries: 1500, whiteouts: true, hardLinks: true };
for (const version of [0, 1])
  compareWithKernel(`a random tree, seed ${seed}, version ${version}`, {
    image: written(() => randomTree(seed, everything), {
      minVersion: version,
      maxVersion: version,
    }),
    minimumEntries: 1500,
  });

compareWithKernel(`a random tree of odd names and huge files, seed ${seed + 1}`, {
  image: written(() => randomTree(seed + 1, { ...everything, extremes: true })),
  minimumEntries: 1500,
  seenBy: ['root', 'an unknown user'],
  walk: { parts: ['stat', 'dirent', 'xattr', 'link', 'access'] },
});

compareWithKernel(`a tree of 100,000 entries, written from a dump, seed ${seed + 2}`, {
  image: written(() => randomTree(seed + 2, { ...everything, entries: 100_000 }), {}, true),
  minimumEntries: 100_000,
  seenBy: ['root'],
  walk: { parts: ['stat', 'dirent', 'xattr', 'read'], timeoutMs: 180_000 },
  deviceOnly: true,
});

/** All in one directory, in no order. */
function wideModel(count: number): ModelNode {
  const root = randomTree(seed + 3, { entries: 1 });
  const template = randomTree(seed + 4, { entries: 200 }).children.filter(
    (node) => (node.mode & 0o170000) === 0o100000,
  );
  root.children = Array.from({ length: count }, (_, i) => ({
    ...(template[i % template.length] as ModelNode),
    name: Buffer.from(`name-${(i * 7919) % count}`),
  }));
  return root;
}

compareWithKernel('a directory with 50,000 files', {
  image: written(() => wideModel(50_000)),
  minimumEntries: 50_000,
  seenBy: ['root', 'an unknown user'],
  walk: { parts: ['stat', 'dirent', 'xattr', 'access'] },
  deviceOnly: true,
});
