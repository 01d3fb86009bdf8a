// The ground that the other tests of this folder stand on: the kernels boot, run our Node, and have
// the features that their releases are known for.

import { expect, test } from 'vitest';
import { findKernel } from '../../scripts/lib/kernels.mjs';
import { describeWith } from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { describeInVm } from '../support/vm-cases.ts';
import { bootVm } from '../support/vm.ts';
import { needsVm } from '../support/vm-requirements.ts';
import type { KernelName } from '../support/vm-requirements.ts';

interface Features {
  version: string;
  dataOnlyLayers: boolean;
  overlayVerity: boolean;
  /** What mount(2) of an image file as erofs answers: 0 or -errno. */
  fileBackedErofs: number;
}

const ENOTBLK = 15;
const kernels: Readonly<Record<KernelName, Features>> = {
  bullseye: {
    version: '5.10.',
    dataOnlyLayers: false,
    overlayVerity: false,
    fileBackedErofs: -ENOTBLK,
  },
  bookworm: {
    version: '6.1.',
    dataOnlyLayers: false,
    overlayVerity: false,
    fileBackedErofs: -ENOTBLK,
  },
  trixie: { version: '6.12.', dataOnlyLayers: true, overlayVerity: true, fileBackedErofs: 0 },
};

for (const [kernel, features] of Object.entries(kernels) as [KernelName, Features][])
  describeInVm(
    kernel,
    'a guest',
    (scope) => {
      const { image } = sampleImage(scope);
      const place = '/images/sample.cfs';
      return { module: 'kernel.mjs', files: { [place]: image }, input: { image: place } };
    },
    (guest) => {
      test('runs this Node on the kernel of the release', () => {
        const { release = '' } = findKernel(kernel);
        expect(guest.result('node')).toEqual({ version: process.version, release });
        expect(release.startsWith(features.version)).toBe(true);
      });

      test('has FUSE, erofs, overlayfs and ext4', () => {
        const wanted = ['fuse', 'erofs', 'overlay', 'ext4'];
        expect(guest.result('filesystems')).toEqual(expect.arrayContaining(wanted));
        expect(guest.result('erofs')).toBe('hello\n');
        expect(guest.result('overlay')).toBe(true);
      });

      test('measures files with fs-verity', () => {
        expect(guest.result('fs-verity')).toEqual({
          before: 'none',
          after: '1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64',
        });
      });

      test('has the parts of composefs that its version has', () => {
        expect({
          version: features.version,
          dataOnlyLayers: guest.result('data-only layers'),
          overlayVerity: guest.result('overlay verity'),
          fileBackedErofs: guest.result('erofs without a loop device'),
        }).toEqual(features);
      });
    },
  );

describeWith([needsVm('bookworm')], 'a guest that does not end', () => {
  const scope = scopeOfEachTest();

  test('is ended at its time limit', async () => {
    const run = await bootVm(scope, { kernel: 'bookworm', script: 'sleep 600', timeoutMs: 1000 });
    expect(run).toMatchObject({ isLate: true, status: undefined, lines: [] });
  });
});
