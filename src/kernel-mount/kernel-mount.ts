// The kernel's own composefs mount: what it cannot guarantee, so that it must not be made, and making it.

import { Errno, errnoName, ImageDigestError } from '../errors.ts';
import { adminScope } from '../fuse/caller.ts';
import { needsAclEnforcement } from '../fuse/mount-sources.ts';
import type { MountFlagName } from '../fuse/mounting.ts';
import { attributesOf, pack, shorten } from '../fuse/overlay-mount.ts';
import type { Image } from '../image-reader/index.ts';
import { KERNEL_WAYS, MOUNT_ATTR, type MountFailure, type NativeAddon } from '../native.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import { toHex } from '../verify/parameters.ts';
import { hasEscapedXattrs } from './escaped-xattrs.ts';
import { isLinux } from './linux-version.ts';
import { objectWithoutVerity } from './object-verity.ts';

/** What is to be mounted, and what is to be guaranteed of it. Paths are absolute. */
export interface KernelMountPlan {
  image: Image;
  imagePath: string;
  /** The image file, open for reading: the one that `image` was read from. */
  imageFd: number;
  mountpoint: string;
  /** First column of the mount table. */
  source: string;
  basedirs: readonly string[];
  /** The same as descriptors from openBasedir. */
  basedirFds: readonly number[];
  /** fs-verity digest that the image must have, in lower-case hex of 64 or 128 digits. */
  digest: string | undefined;
  /** What overlayfs shall check of the objects. */
  policy: VerityPolicy;
  /** False hides POSIX ACLs. */
  acl: boolean;
  flags: readonly MountFlagName[];
  /** SELinux contexts. */
  kernelOptions: readonly string[];
  /** upperdir and workdir of a writable layer. */
  upper: readonly [string, string] | undefined;
  /** An open user namespace whose mapping the image's owners get. */
  idmapFd: number | undefined;
  /** Of KERNEL_WAYS; all of them when absent. */
  ways?: number;
}

/** Why this process cannot make kernel mounts at all; or undefined. */
export function whyNoPrivilege(): string | undefined {
  switch (adminScope(process.pid)) {
    case 'initial':
      return undefined;
    case 'namespace':
      return 'erofs cannot be mounted in a user namespace';
    default:
      return 'it takes root (CAP_SYS_ADMIN)';
  }
}

/**
 * Which guarantee the kernel's mount could not give; or undefined. Throws ImageDigestError if the image
 * is surely not the one that is wanted.
 */
export function whyNotByKernel(native: NativeAddon, plan: KernelMountPlan): string | undefined {
  const lack = whyNoPrivilege();
  if (lack !== undefined) return lack;
  if (plan.basedirs.length === 0 && plan.upper === undefined) {
    return 'an overlayfs needs a base directory';
  }
  const distorted = whyDistorted(plan.image);
  if (distorted !== undefined) return distorted;
  const unpinned = plan.digest === undefined ? undefined : whyNotPinned(native, plan, plan.digest);
  if (unpinned !== undefined || plan.policy === 'off') return unpinned;
  return whyNotVerified(native, plan.image, plan.basedirFds);
}

/** Why this kernel's overlayfs would show another tree than the image's; or undefined. */
export function whyDistorted(image: Image): string | undefined {
  if (isLinux(6, 8) || !hasEscapedXattrs(image)) return undefined;
  return 'the image has escaped overlay attributes, which overlayfs shows right since Linux 6.8';
}

/** Why an overlayfs could not check objects, which have no fs-verity; or undefined. */
export function whyNotVerified(
  native: NativeAddon,
  image: Image,
  basedirFds: readonly number[],
): string | undefined {
  const object = objectWithoutVerity(native, image, basedirFds);
  if (object === undefined) return undefined;
  return `verity: object ${object} has no fs-verity, without which overlayfs checks nothing`;
}

/** The kernel reads the image file all the time, so its fs-verity must guard the file. */
function whyNotPinned(
  native: NativeAddon,
  { imageFd, imagePath }: KernelMountPlan,
  digest: string,
): string | undefined {
  const found = new Uint8Array(64);
  const measured = native.measureVerity(imageFd, found);
  if (measured < 0) return 'digest: the image has no fs-verity, and could change under the mount';
  const algorithm = measured >> 16 === 2 ? 'sha512' : 'sha256';
  const expected = digest.length === 128 ? 'sha512' : 'sha256';
  if (algorithm !== expected) {
    return `digest: the kernel has the image's ${algorithm} digest, and ${expected} is asked for`;
  }
  const actual = toHex(found.subarray(0, measured & 0xffff));
  if (actual === digest) return undefined;
  throw new ImageDigestError(imagePath, `${expected}:${digest}`, `${algorithm}:${actual}`);
}

/**
 * Mounts it, on top of what is on the mountpoint. How erofs reads the image; or the reason why there is
 * no mount, of which nothing is left then.
 */
export async function mountByKernel(
  native: NativeAddon,
  plan: KernelMountPlan,
): Promise<{ from: 'file' | 'loop' } | { reason: string }> {
  const isReadOnly = plan.upper === undefined || plan.flags.includes('ro');
  const outcome = await native.mountKernel(
    plan.imageFd,
    plan.mountpoint,
    // Looking for ACLs costs a look at every inode's attributes.
    pack(plan.acl && needsAclEnforcement(plan.image) ? [] : ['noacl']),
    pack(overlayOptions(plan)),
    pack(plan.basedirs),
    pack(plan.upper ?? []),
    plan.idmapFd ?? -1,
    attributesOf(plan.flags) | (isReadOnly ? MOUNT_ATTR.RDONLY : 0),
    plan.ways ?? KERNEL_WAYS.ALL,
  );
  if (typeof outcome === 'number') return { reason: errnoName(outcome) };
  if (outcome.errno === 0) return { from: outcome.step === 'loop' ? 'loop' : 'file' };
  return { reason: explain(outcome) };
}

/** As mount.composefs of the reference has them. */
function overlayOptions({ source, policy, upper, kernelOptions }: KernelMountPlan): string[] {
  const verity = { off: [], 'if-present': ['verity=on'], require: ['verity=require'] }[policy];
  return [
    `source=${shorten(source)}`,
    ...(upper === undefined ? ['ro'] : []),
    'metacopy=on',
    'redirect_dir=on',
    ...verity,
    ...kernelOptions,
  ];
}

function explain({ errno, step, said }: MountFailure): string {
  const name = errnoName(errno);
  const words = said === '' ? name : `${name}, ${said}`;
  switch (step) {
    case 'fsopen erofs':
    case 'fsopen': {
      const filesystem = step === 'fsopen' ? 'overlay' : 'erofs';
      if (errno === -Errno.ENODEV) {
        return `the kernel has no ${filesystem}; try \`modprobe ${filesystem}\``;
      }
      return `${filesystem} cannot be used (${words})`;
    }
    case 'loop':
      return `no loop device can be had for the image (${words}); try \`modprobe loop\``;
    case 'erofs':
      return `erofs does not take the image (${words})`;
    case 'verity':
      return `verity: checking objects needs an overlayfs of Linux 6.6 (${words})`;
    case 'upperdir':
      return `upperdir or workdir cannot be used (${words})`;
    case 'idmap':
      return `the layer cannot be idmapped (${words}); it needs Linux 5.19 and a user namespace's file`;
    case 'create':
    case 'layers':
      if (errno === -Errno.ELOOP)
        return 'a base directory is given twice, or is inside another one';
      return `overlayfs does not take the layers (${words}); it needs Linux 6.5 for data-only layers`;
    default:
      return `${step}: ${words}`;
  }
}
