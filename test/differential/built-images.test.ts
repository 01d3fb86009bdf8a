// Images made here, so that a checkout without the reference images proves the same: every kind of
// file in every layout, object folders in every state, and trees of a size that shows limits.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DifferentialCase, compareWithKernel } from '../support/differential.ts';
import { type BuildOptions, buildImage } from '../support/image-builder.ts';
import { directory, external, file } from '../support/image-nodes.ts';
import type { TestDirectory } from '../support/image-nodes.ts';
import { ObjectFolder } from '../support/object-folder.ts';
import { bushyTree, everyKind, wideTree } from '../support/sample-trees.ts';
import type { Scope } from '../support/scope.ts';

type Made = ReturnType<DifferentialCase['image']>;

/** Builds an image with one folder of objects. */
function made(
  make: (objects: ObjectFolder) => TestDirectory,
  options: BuildOptions = {},
): (scope: Scope) => Made {
  return (scope) => {
    const folder = scope.directory();
    const objects = new ObjectFolder(join(folder, 'objects'));
    const image = join(folder, 'image.cfs');
    writeFileSync(image, buildImage(make(objects), options));
    return { image, basedirs: [objects.path] };
  };
}

const layouts: readonly [title: string, options: BuildOptions][] = [
  ['version 0', { composefsVersion: 0 }],
  ['version 1', { composefsVersion: 1 }],
  [
    'version 2, extended inodes, attributes not shared',
    { composefsVersion: 2, form: 'extended', sharedXattrs: false },
  ],
  ['metadata behind the data', { metaBlock: 2000 }],
  ['shared attributes counted from the start', { xattrBlockZero: true }],
  ['no name filters and the chunk feature', { nameFilters: false, chunkFeature: true }],
];

for (const [title, options] of layouts)
  compareWithKernel(`every kind of file, ${title}`, {
    image: made(everyKind, options),
    minimumEntries: 1000,
    // Only the layout changes from image to image, and with it nothing about permissions.
    ...(options.composefsVersion === 1 ? {} : { seenBy: ['root', 'an unknown user'] }),
  });

compareWithKernel('a directory with 50,000 files', {
  image: made(() => wideTree(50_000)),
  minimumEntries: 50_000,
  seenBy: ['root'],
  walk: { parts: ['stat', 'dirent', 'xattr', 'read', 'access'] },
  deviceOnly: true,
});

for (const direntBuffer of [1024, 1 << 20])
  compareWithKernel(`a directory with 50,000 files, listed ${direntBuffer} bytes at a time`, {
    image: made(() => wideTree(50_000)),
    minimumEntries: 50_000,
    seenBy: ['root'],
    walk: { parts: ['dirent'], direntBuffer },
    deviceOnly: direntBuffer !== 1024,
  });

compareWithKernel('a tree of 100,000 entries', {
  image: made((objects) => {
    const shared = objects.add('the content of every tenth file');
    return bushyTree(100_000, 30, (i) =>
      i % 10 === 0 ? { ...shared } : file(i % 3 === 0 ? `inline ${i}` : '', { mtime: i % 100 }),
    );
  }),
  minimumEntries: 100_000,
  seenBy: ['root'],
  walk: { parts: ['stat', 'dirent', 'xattr', 'read'] },
  deviceOnly: true,
});

compareWithKernel('several object folders', {
  image: (scope) => {
    const [first, second, third] = [0, 1, 2].map(
      () => new ObjectFolder(join(scope.directory(), 'objects')),
    ) as [ObjectFolder, ObjectFolder, ObjectFolder];
    const root = directory({
      'first-only': first.addAt('a/first', 'from the first'),
      'last-only': third.addAt('c/third', 'from the third'),
      'in-all': first.addAt('b/all', '1 wins'),
      'in-later-ones': second.addAt('b/later', '2 wins'),
      // A file where another folder has a directory: the search goes on behind it.
      'behind-a-file': second.addAt('x/y', 'behind a file'),
      nowhere: external(10, { redirect: '/b/nowhere' }),
    });
    for (const [i, folder] of [second, third].entries())
      folder.write('b/all', Buffer.from(`${i + 2} loses`.slice(0, 6)));
    third.write('b/later', Buffer.from('3 wins'));
    first.write('x', Buffer.from('a file'));
    const image = join(scope.directory(), 'image.cfs');
    writeFileSync(image, buildImage(root));
    return { image, basedirs: [first, second, third].map((folder) => folder.path) };
  },
  minimumEntries: 7,
});

compareWithKernel('sizes beyond 32 bits without objects', {
  image: made(() =>
    directory(
      [2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 1, 2 ** 44, 2 ** 52, 2n ** 60n, 2n ** 62n].map(
        (size) => [`${size}`, external(size, { redirect: '/absent' })],
      ),
    ),
  ),
  minimumEntries: 7,
  seenBy: ['root'],
});

const GIB = 2 ** 30;
compareWithKernel('sparse objects', {
  image: made((objects) =>
    directory({
      'all-hole': objects.addSparse('sparse/all', 10 * GIB, []),
      'data-first': objects.addSparse('sparse/first', 5 * GIB, [[0, 'begins']]),
      'data-last': objects.addSparse('sparse/last', 5 * GIB, [[5 * GIB - 4, 'ends']]),
      'data-beyond-32-bits': objects.addSparse('sparse/middle', 8 * GIB, [
        [2 ** 31, 'at two'],
        [2 ** 32 + 8192, 'above four'],
        [6 * GIB, 'at six'],
      ]),
    }),
  ),
  minimumEntries: 5,
  seenBy: ['root'],
  walk: { parts: ['stat', 'seek', 'access'] },
});

compareWithKernel('a small sparse object, read whole', {
  image: made((objects) =>
    directory({
      sparse: objects.addSparse('s', 40 << 20, [
        [5 << 20, 'x'.repeat(100_000)],
        [39 << 20, 'tail'],
      ]),
    }),
  ),
  minimumEntries: 2,
  seenBy: ['root'],
});
