// --data overlay: the kernel's overlayfs over the FUSE mount, as it is over erofs in the kernel's own
// composefs mount. FUSE serves the metadata, the kernel opens and reads the objects by itself. What it
// needs, and why it is not to be had.

import { Errno, errnoName, MountError } from '../errors.ts';
import type { TreeView } from '../filesystem/tree-view.ts';
import {
  type Image,
  isExternal,
  ObjectRef,
  readObjectRef,
  walkEntries,
} from '../image-reader/index.ts';
import { MOUNT_ATTR, type NativeAddon, type MountFailure } from '../native.ts';
import { ObjectOpener } from '../objects/opener.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import { adminScope } from './caller.ts';
import { findMount } from './mount-table.ts';
import type { FuseMount, MountFlagName, MountWishes } from './mounting.ts';

/** What is wanted of an overlay. */
export interface OverlayWishes {
  policy: VerityPolicy;
  /** Descriptors of the base directories, at least one. */
  basedirs: readonly number[];
  mount: MountWishes;
}

/** fsconfig(2) takes strings of 255 bytes. */
const MAX_VALUE = 255;
/** So many objects that are not there are looked for before nothing is known about the others. */
const MAX_MISSING = 64;

/** The other mount flags mean nothing for a tree that is never written. */
const ATTRIBUTES: Partial<Record<MountFlagName, number>> = {
  nosuid: MOUNT_ATTR.NOSUID,
  nodev: MOUNT_ATTR.NODEV,
  noexec: MOUNT_ATTR.NOEXEC,
  noatime: MOUNT_ATTR.NOATIME,
  strictatime: MOUNT_ATTR.STRICTATIME,
  nodiratime: MOUNT_ATTR.NODIRATIME,
  nosymfollow: MOUNT_ATTR.NOSYMFOLLOW,
};

/** MOUNT_ATTR of these flags. */
export function attributesOf(flags: readonly MountFlagName[]): number {
  return flags.reduce((all, name) => all | (ATTRIBUTES[name] ?? 0), 0);
}

/** What an overlayfs made by this process reads its attributes from; undefined if it may make none. */
export function layerView(): Exclude<TreeView, 'composefs'> | undefined {
  switch (adminScope(process.pid)) {
    case 'initial':
      return 'layer';
    case 'namespace':
      return 'user-layer';
    default:
      return undefined;
  }
}

/**
 * Why these files cannot be mounted with an overlay, as far as that can be told without trying; or
 * undefined. It reads the image up to the first file with a digest whose object is there.
 */
export function whyNoOverlay(
  native: NativeAddon,
  image: Image,
  { policy, basedirs }: Pick<OverlayWishes, 'policy' | 'basedirs'>,
): string | undefined {
  const view = layerView();
  if (view === undefined) {
    return 'it takes CAP_SYS_ADMIN: be root, or in a user namespace (unshare -Urm --map-auto)';
  }
  if (policy === 'off') return undefined;
  const lost = `--verity ${policy} cannot be kept`;
  const remedy = 'give --verity off to do without';
  if (view === 'user-layer') {
    return `${lost}: in a user namespace overlayfs checks no fs-verity; ${remedy}`;
  }
  if (hasKernelVerity(native, image, basedirs) === false) {
    return `${lost}: the kernel has no fs-verity for the objects' filesystem; ${remedy}`;
  }
  return undefined;
}

/**
 * Whether the kernel can have fs-verity where the objects are, told from the first object that should
 * have it; undefined if none is there.
 */
function hasKernelVerity(
  native: NativeAddon,
  image: Image,
  basedirs: readonly number[],
): boolean | undefined {
  const opener = new ObjectOpener(native, basedirs);
  const ref = new ObjectRef();
  const digest = new Uint8Array(64);
  let status = 0;
  let missing = 0;
  walkEntries(image, (inode) => {
    if (!isExternal(inode) || readObjectRef(image, inode, ref) < 0) return false;
    if (ref.digestLength === 0) return false;
    const fd = opener.open(image.bytes, ref.pathStart, ref.pathLength);
    if (fd < 0) return ++missing === MAX_MISSING;
    status = native.measureVerity(fd, digest);
    opener.close(fd);
    return true;
  });
  if (status === 0) return undefined;
  return status > 0 || status === -Errno.ENODATA;
}

/**
 * Stacks the overlay on a FUSE mount that is being served, by other threads than this one. The mount
 * that is on the mountpoint from then on; or the reason why there is none, the FUSE mount then being
 * there still or not.
 */
export async function stackOverlay(
  native: NativeAddon,
  fuse: FuseMount,
  wishes: OverlayWishes,
): Promise<FuseMount | string> {
  const { mount, policy, basedirs } = wishes;
  const view = layerView();
  if (fuse.entry === undefined || view === undefined) return 'the FUSE mount is not to be found';
  const [major = 0, minor = 0] = fuse.entry.device.split(':').map(Number);
  const outcome = await native.stackOverlay(
    mount.mountpoint,
    major,
    minor,
    pack(overlayOptions(view, policy, mount)),
    BigInt64Array.from(basedirs, BigInt),
    attributesOf(mount.flags) | MOUNT_ATTR.RDONLY,
  );
  if (outcome === 0) return { ...fuse, entry: findMount(mount.mountpoint) };
  if (typeof outcome === 'number') return errnoName(outcome);
  return explain(outcome, view);
}

/** The error for a reason that `whyNoOverlay` or `stackOverlay` gave. */
export function noOverlay(mountpoint: string, reason: string): MountError {
  return new MountError(
    `--data overlay is not possible on ${mountpoint}: ${reason}; or choose another --data`,
    { path: mountpoint },
  );
}

/** As the kernel's own composefs mounts have them. */
function overlayOptions(
  view: 'layer' | 'user-layer',
  policy: VerityPolicy,
  mount: MountWishes,
): string[] {
  const names =
    view === 'layer'
      ? ['metacopy=on', 'redirect_dir=on']
      : // Redirects to data-only layers are followed without being asked for, since Linux 6.16.
        ['userxattr'];
  const verity = { off: [], 'if-present': ['verity=on'], require: ['verity=require'] }[policy];
  return [`source=${shorten(mount.source)}`, 'ro', ...names, ...verity, ...mount.kernelOptions];
}

function explain({ errno, step, said }: MountFailure, view: TreeView): string {
  const version = view === 'layer' ? '6.5' : '6.16 (in a user namespace)';
  const name = errnoName(errno);
  const words = said === '' ? name : `${name}, ${said}`;
  switch (step) {
    case 'fsopen':
      return errno === -Errno.ENODEV
        ? 'the kernel has no overlayfs; try `modprobe overlay`'
        : `overlayfs cannot be opened (${words}); it needs Linux ${version}`;
    case 'verity':
      return `checking objects with it needs Linux 6.6 (${words}); give --verity off to do without`;
    case 'layers':
      return `the kernel does not take the base directories as layers (${words}); it needs Linux ${version}, and before 6.13 at most 12 of them`;
    case 'create':
      if (errno === -Errno.ELOOP)
        return 'a base directory is given twice, or is inside another one';
      return `the kernel refuses (${words}); it needs Linux ${version}, and objects on a filesystem that is not stacked twice`;
    default:
      return `${step}: ${words}`;
  }
}

/** As fsconfig(2) takes it. The end of a long name tells more than its beginning. */
export function shorten(source: string): string {
  const bytes = Buffer.from(source);
  if (bytes.length <= MAX_VALUE) return source;
  const ellipsis = '…';
  const tail = bytes.subarray(bytes.length - MAX_VALUE + Buffer.byteLength(ellipsis));
  // Not to begin in the middle of a character.
  const start = tail.findIndex((byte) => (byte & 0xc0) !== 0x80);
  return ellipsis + tail.subarray(start).toString();
}

/** Strings as the addon takes a list of them. */
export function pack(options: readonly string[]): Uint8Array {
  return Buffer.from(options.map((option) => `${option}\0`).join(''));
}
