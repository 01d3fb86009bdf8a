// The images of the reference implementation, mounted by us and by the kernel.

import { join } from 'node:path';
import { test, expect } from 'vitest';
import { compareTrees, showDifferences } from '../support/compare-trees.ts';
import { mountKernel } from '../support/mounts.ts';
import {
  describeWith,
  goldenFolder,
  needsGoldens,
  needsKernelComposefs,
  needsRoot,
} from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';

describeWith([needsRoot, needsGoldens, needsKernelComposefs], 'the kernel against itself', () => {
  const scope = scopeOfEachTest();
  for (const name of ['zoo.cfs', 'overlay-markers.cfs'])
    test(`finds no difference in ${name}`, async () => {
      const [a, b] = [
        await mountKernel(scope, join(goldenFolder, name), [join(goldenFolder, 'objects')]),
        await mountKernel(scope, join(goldenFolder, name), [join(goldenFolder, 'objects')]),
      ];
      const { entries, differences } = await compareTrees(a, b);
      expect(entries).toBeGreaterThan(3000);
      expect(showDifferences(differences)).toBe('');
    });
});
