// Our mount on real kernels: it shows the directory that the image was made of, ends cleanly, and is
// what the kernel's own mount is where the kernel can mount composefs images in full.

import { expect, test } from 'vitest';
import { kernelNames } from '../../scripts/lib/kernels.mjs';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { everyKind } from '../support/sample-trees.ts';
import { describeMounters, mountersSample, wishesOn } from './mounters.ts';
import type { Scope } from '../support/scope.ts';
import type { KernelName } from '../support/vm-requirements.ts';
import { describeInVm } from '../support/vm-cases.ts';
import type { GuestOptions } from '../support/vm-cases.ts';

interface Compared {
  entries: number;
  differences: unknown[];
}

/** Images for the guest, with their objects. */
function prepare(scope: Scope, kernel: KernelName, hasOwnMount: boolean): GuestOptions {
  const samples: Record<string, SampleImage> = { mounters: mountersSample(scope) };
  if (hasOwnMount) samples['everyKind'] = makeImage(scope, everyKind);
  const files: Record<string, string> = {};
  const input: Record<string, unknown> = { wishes: wishesOn(kernel) };
  for (const [name, made] of Object.entries(samples)) {
    const places = { image: `/images/${name}.cfs`, objects: `/images/${name}` };
    files[places.image] = made.image;
    files[places.objects] = made.objects.path;
    input[name] = places;
  }
  return { module: 'mount.mjs', files, input };
}

for (const kernel of kernelNames) {
  const hasOwnMount = kernel === 'trixie';
  describeInVm(
    kernel,
    'a mount',
    (scope) => prepare(scope, kernel, hasOwnMount),
    (guest) => {
      test('shows the directory that the image was made of, and ends cleanly', () => {
        expect(guest.result('a directory')).toEqual({
          type: 'fuse.composefs',
          entries: 212,
          differences: [],
          log: ['mounted', 'unmounted'],
        });
      });

      describeMounters(guest);

      if (!hasOwnMount) return;

      test('shows every kind of file as the kernel does', () => {
        const compared = guest.result('every kind of file') as Compared;
        expect(compared.differences).toEqual([]);
        expect(compared.entries).toBeGreaterThan(1000);
      });

      test('shows what the kernel does with verity=require', () => {
        const compared = guest.result('verity=require') as Compared;
        expect(compared).toEqual({ entries: 212, differences: [] });
        // Proof that the kernel's mount did verify.
        expect(guest.result('verity=require without fs-verity')).toBe('EIO');
      });

      test('shows the same with an overlayfs of ours', () => {
        const compared = guest.result('overlayfs of ours') as Compared;
        expect(compared).toEqual({ entries: 212, differences: [] });
      });

      test('has that overlayfs refuse objects without fs-verity', () => {
        expect(guest.result('overlayfs of ours, objects')).toEqual([4096, 'EIO']);
        const refused = guest.result('overlayfs of ours without fs-verity') as [number, string];
        expect(refused).toEqual([4, expect.stringMatching(/^composefs-fuse: .*fs-verity.*\n$/)]);
      });
    },
  );
}
