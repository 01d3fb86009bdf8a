// Mounts the sample by the kernel itself and reads its file. Runs in trial.ts.

import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoName } from '../errors.ts';
import { ImageFile } from '../filesystem/image-file.ts';
import { mountByKernel, whyNoPrivilege } from '../kernel-mount/kernel-mount.ts';
import { loadNative } from '../native.ts';
import { hashOf, SAMPLE_FILE } from './sample.ts';
import type { KernelOrder, MountResult } from './trials.ts';

/** umount2(2). */
const MNT_DETACH = 2;

export async function tryKernelMount(order: KernelOrder): Promise<MountResult> {
  const lack = whyNoPrivilege();
  if (lack !== undefined) return { reason: lack };
  const { sample, policy } = order;
  const native = loadNative();
  const imageFd = openSync(sample.image, 'r');
  try {
    const outcome = await mountByKernel(native, {
      image: new ImageFile(sample.image).load(),
      imagePath: sample.image,
      imageFd,
      mountpoint: sample.mountpoint,
      source: sample.image,
      basedirs: [sample.objects, ...order.basedirs],
      basedirFds: [],
      digest: undefined,
      policy,
      acl: true,
      flags: [],
      kernelOptions: [],
      upper: undefined,
      idmapFd: undefined,
      ways: order.ways,
    });
    if ('reason' in outcome) return outcome;
    // With `require` the object, which has no fs-verity, cannot be opened: that is as it should be.
    if (policy === 'off') {
      const content = readFileSync(join(sample.mountpoint, SAMPLE_FILE));
      if (hashOf(content) !== sample.contentHash) return { reason: 'a file reads wrong' };
    }
    const status = native.unmount(sample.mountpoint, MNT_DETACH);
    if (status < 0) return { reason: `it cannot be unmounted (${errnoName(status)})` };
    return { found: outcome.from === 'loop' ? 'a loop device' : 'the image file' };
  } finally {
    closeSync(imageFd);
  }
}
