// Who reads the objects: which filesystems they may be on, and which of them the kernel may read by
// itself.

import { expect, it } from 'vitest';
import { passthroughFor, stackDepthFor } from '../../../src/fuse/data-mode.ts';
import { loadNative } from '../../../src/native.ts';
import { describeWith, needsRoot } from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';
import { storeKinds } from '../../support/stores.ts';

const native = loadNative();
const scope = scopeOfEachTest();

function openBasedir(path: string): number {
  const fd = native.openBasedir(path);
  expect(fd).toBeGreaterThan(2);
  scope.defer(() => void native.closeDescriptor(fd));
  return fd;
}

it.each([
  ['auto', 'open', 1],
  ['passthrough', 'open', 1],
  ['daemon', 'open', 0],
  ['overlay', 'open', 0],
  ['auto', 'read', 0],
  ['daemon', 'read', 0],
] as const)(
  '--data %s, --verify-at %s: stack depth %i over ordinary filesystems',
  (mode, at, depth) => {
    expect(stackDepthFor(mode, { at }, [openBasedir('/proc'), openBasedir('/dev')])).toBe(depth);
    expect(stackDepthFor(mode, { at }, [])).toBe(depth);
  },
);

describeWith([needsRoot], 'objects on an overlayfs', () => {
  it('take the second level, where passthrough is asked for', async () => {
    const kind = storeKinds.find(({ name }) => name === 'overlayfs')!;
    const overlay = openBasedir(await kind.make(scope));
    const at = 'open';
    for (const basedirs of [[overlay], [openBasedir('/proc'), overlay]]) {
      expect(stackDepthFor('passthrough', { at }, basedirs)).toBe(2);
      // The mount stays fit to be a layer; the kernel refuses these objects.
      expect(stackDepthFor('auto', { at }, basedirs)).toBe(1);
      expect(stackDepthFor('daemon', { at }, basedirs)).toBe(0);
      expect(stackDepthFor('auto', { at: 'read' }, basedirs)).toBe(0);
    }
  });
});

it.each([
  ['auto', 0, 'never'],
  ['passthrough', 0, 'never'],
  ['daemon', 0, 'never'],
  ['overlay', 0, 'never'],
  ['auto', 1, 'where-guarded'],
  ['auto', 2, 'where-guarded'],
  ['passthrough', 1, 'where-opened'],
  ['passthrough', 2, 'where-opened'],
] as const)('--data %s at stack depth %i: %s', (mode, depth, expected) => {
  expect(passthroughFor(mode, depth)).toBe(expected);
});
