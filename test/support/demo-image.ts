// The image that `npm run demo` mounts: a handful of files, some in the image, some as objects.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildImage } from './image-builder.ts';
import { directory, file, symlink } from './image-nodes.ts';
import { ObjectFolder, patternBytes } from './object-folder.ts';

export interface DemoImage {
  image: string;
  basedir: string;
  /** Where the object of each external file lies, by the file's path. */
  objects: Readonly<Record<string, string>>;
}

/** Writes image and objects below `folder`. */
export function makeDemoImage(folder: string): DemoImage {
  mkdirSync(folder, { recursive: true });
  const store = new ObjectFolder(join(folder, 'objects'));
  const time = { mtime: 1_767_225_600 };
  const manual = store.add('composefs keeps file contents in objects.\n'.repeat(40), time);
  const photo = store.add(patternBytes(1_500_000), time);
  const root = directory(
    {
      'README.txt': file('A short file lies in the image itself.\n', time),
      docs: directory({ 'manual.txt': manual, latest: symlink('manual.txt', time) }, time),
      photo: directory({ 'one.raw': photo, 'the-same.raw': { ...photo } }, time),
    },
    time,
  );
  const image = join(folder, 'demo.cfs');
  writeFileSync(image, buildImage(root));
  const objectOf = (redirect: unknown): string => store.at(String(redirect).slice(1));
  return {
    image,
    basedir: store.path,
    objects: {
      'docs/manual.txt': objectOf(manual.redirect),
      'photo/one.raw': objectOf(photo.redirect),
    },
  };
}
