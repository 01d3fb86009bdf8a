// A small image on disk with its objects, for tests that need a mount and care little what is in it.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from './image-builder.ts';
import { directory, file, symlink } from './image-nodes.ts';
import type { TestDirectory } from './image-nodes.ts';
import { ObjectFolder, patternBytes } from './object-folder.ts';
import type { Scope } from './scope.ts';

export interface SampleImage {
  image: string;
  objects: ObjectFolder;
  basedirs: readonly string[];
}

/** Writes an image of the tree that `make` returns, with a folder for its objects. */
export function makeImage(
  scope: Scope,
  make: (objects: ObjectFolder) => TestDirectory,
): SampleImage {
  const folder = scope.directory();
  const objects = new ObjectFolder(join(folder, 'objects'));
  const image = join(folder, 'image.cfs');
  writeFileSync(image, buildImage(make(objects)));
  return { image, objects, basedirs: [objects.path] };
}

/** `hello`, `link`, `big` (an object) and `sub/inner`. */
export function sampleImage(scope: Scope): SampleImage {
  return makeImage(scope, (objects) =>
    directory({
      hello: file('hello\n'),
      link: symlink('hello'),
      big: objects.addAt('big', patternBytes(3_000_000)),
      sub: directory({ inner: file('inner\n') }),
    }),
  );
}
