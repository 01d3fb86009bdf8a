// The table of what fuse-native cannot show is only worth something if each row still happens: an image
// with all of it, in which nothing differs for another reason.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Comparison, compareTrees, showDifferences } from '../support/compare-trees.ts';
import { fuseNativeArgs, fuseNativeExceptions } from '../support/fuse-native.ts';
import { buildImage } from '../support/image-builder.ts';
import { mountKernel, mountOurs } from '../support/mounts.ts';
import { ObjectFolder } from '../support/object-folder.ts';
import {
  describeWith,
  needsFuseNative,
  needsKernelComposefs,
  needsOurMount,
} from '../support/requirements.ts';
import { everyKind } from '../support/sample-trees.ts';
import { Scope } from '../support/scope.ts';

const requirements = [...needsOurMount, needsKernelComposefs, needsFuseNative];

describeWith(requirements, 'what fuse-native cannot show', () => {
  const scope = new Scope();
  let comparison: Comparison;

  beforeAll(async () => {
    const folder = scope.directory();
    const objects = new ObjectFolder(join(folder, 'objects'));
    const root = everyKind(objects);
    root.children.push(['sparse', objects.addSparse('sparse', 1 << 20, [[65_536, 'data']])]);
    const image = join(folder, 'image.cfs');
    writeFileSync(image, buildImage(root));
    const basedirs = [objects.path];
    const kernel = await mountKernel(scope, image, basedirs, { noAcl: true });
    const ours = await mountOurs(scope, { image, basedirs, args: fuseNativeArgs });
    comparison = await compareTrees(kernel, ours.mountpoint);
  });
  afterAll(() => scope.close());

  test.each(fuseNativeExceptions.map((exception) => [exception.reason, exception] as const))(
    '%s',
    (_reason, { matches }) => {
      expect(comparison.differences.some(matches)).toBe(true);
    },
  );

  test('and nothing else', () => {
    const others = comparison.differences.filter(
      (difference) => !fuseNativeExceptions.some(({ matches }) => matches(difference)),
    );
    expect(showDifferences(others)).toBe('');
  });
});
