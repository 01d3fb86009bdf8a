// mkcomposefs fills object stores on real filesystems: where there is fs-verity, every object has it
// and the kernel's digest is its name.

import { expect, test } from 'vitest';
import { describeInVm } from '../support/vm-cases.ts';

interface StoredObject {
  name: string;
  kernelDigest: string;
  hasAttribute: boolean;
  sizeBytes: number;
  isIntact: boolean;
  write: string;
  truncate: string;
}

interface Filled {
  digest: string;
  objects: { added: number; present: number };
}

const sizes = [65, 4096, 4097, 524_288, 524_289];
const sizesOf = (objects: readonly StoredObject[]): number[] =>
  objects.map((object) => object.sizeBytes).sort((a, b) => a - b);

for (const kernel of ['bookworm', 'trixie'] as const)
  describeInVm(
    kernel,
    'an object store',
    () => ({ module: 'object-store.mjs' }),
    (guest) => {
      test('on ext4 has fs-verity on every object, whose name is the digest', () => {
        const objects = guest.result('ext4 objects') as StoredObject[];
        expect(sizesOf(objects)).toEqual(sizes);
        for (const object of objects)
          expect(object).toMatchObject({
            kernelDigest: object.name,
            hasAttribute: true,
            isIntact: true,
          });
      });

      test('on ext4 has objects that root cannot write to', () => {
        for (const object of guest.result('ext4 objects') as StoredObject[])
          expect(object).toMatchObject({ write: 'EPERM', truncate: 'EPERM' });
      });

      test('on ext4 is found filled by a second run', () => {
        const first = guest.result('fill ext4') as Filled;
        const second = guest.result('fill ext4 again') as Filled;
        expect(first.objects).toMatchObject({ added: 5, present: 1 });
        expect(second.objects).toMatchObject({ added: 0, present: 6 });
        expect(second.digest).toBe(first.digest);
        expect(guest.result('ext4 objects again')).toEqual(guest.result('ext4 objects'));
      });

      test('on tmpfs is the same without fs-verity', () => {
        const objects = guest.result('tmpfs objects') as StoredObject[];
        expect(sizesOf(objects)).toEqual(sizes);
        for (const object of objects)
          expect(object).toMatchObject({
            kernelDigest: 'none',
            hasAttribute: false,
            isIntact: true,
            write: 'allowed',
          });
        expect((guest.result('fill tmpfs') as Filled).digest).toBe(
          (guest.result('fill ext4') as Filled).digest,
        );
        const names = (stored: StoredObject[]): string[] =>
          stored.map((object) => object.name).sort();
        expect(names(objects)).toEqual(names(guest.result('ext4 objects') as StoredObject[]));
      });
    },
  );
