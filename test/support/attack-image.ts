// The image that attacks.mjs is about.

import { contentOf, fileNameOf, files, objectPathOf } from './attacks.mjs';
import { buildImage } from './image-builder.ts';
import { directory, external, metacopyValue } from './image-nodes.ts';
import type { TestExternal } from './image-nodes.ts';
import { verityDigest } from './object-folder.ts';

function fileOf(name: string): TestExternal {
  const content = contentOf(name);
  const size = content.length + (files[name]!.excess ?? 0);
  const redirect = `/${objectPathOf(name)}`;
  switch (files[name]!.digest ?? 'right') {
    case 'right':
      return external(size, { redirect, digest: verityDigest(content) });
    case 'right-sha512':
      return external(size, { redirect, digest: verityDigest(content, 'sha512') });
    case 'other':
      return external(size, { redirect, digest: verityDigest(contentOf('good')) });
    case 'malformed': {
      const metacopy = metacopyValue(verityDigest(content));
      metacopy[3] = 2;
      return external(size, { redirect }, { metacopy });
    }
    case 'none':
      return external(size, { redirect });
  }
}

export function attackImage(): Uint8Array {
  const entries = Object.keys(files).map((name) => [fileNameOf(name), fileOf(name)] as const);
  return buildImage(directory(Object.fromEntries(entries)));
}
