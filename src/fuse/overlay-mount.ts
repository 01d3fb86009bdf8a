// The kernel's overlayfs over the FUSE mount, on the same mountpoint. With --data overlay as it is over
// erofs in the kernel's own composefs mount: FUSE serves the metadata, the kernel opens and reads the
// objects by itself. With --upperdir to take what is written. What it needs, and why it is not to be had.

import { Errno, errnoName, MountError } from '../errors.ts';
import { isBelowUserOverlay, isLayer, type TreeView } from '../filesystem/tree-view.ts';
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
  /** What the FUSE mount shows to it, of overlayView. */
  view: TreeView;
  policy: VerityPolicy;
  /** Descriptors of the base directories, at least one if the view is a layer. */
  basedirs: readonly number[];
  /** Descriptors of upperdir and workdir, or none. */
  writable: readonly number[];
  mount: MountWishes;
}

/** fsconfig(2) takes strings of 255 bytes. */
const MAX_VALUE = 255;
/** So many objects that are not there are looked for before nothing is known about the others. */
const MAX_MISSING = 64;

/** The other mount flags belong to the superblock, or mean nothing for a tree that is never written. */
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

/** Of a writable tree. */
const SUPERBLOCK_FLAGS = ['sync', 'dirsync'] as const;

/**
 * What the FUSE mount shows to an overlayfs made by this process, with --data overlay (`isData`) or
 * without; undefined if this process may make none.
 */
export function overlayView(isData: boolean): TreeView | undefined {
  switch (adminScope(process.pid)) {
    case 'initial':
      return isData ? 'layer' : 'lower';
    case 'namespace':
      return isData ? 'user-layer' : 'user-lower';
    default:
      return undefined;
  }
}

/** Why this process may make no overlayfs. */
export const NO_PRIVILEGE =
  'it takes CAP_SYS_ADMIN: be root, or in a user namespace (unshare -Urm --map-auto, podman unshare)';

/**
 * Why these files cannot be mounted with --data overlay, as far as that can be told without trying; or
 * undefined. It reads the image up to the first file with a digest whose object is there.
 */
export function whyNoOverlay(
  native: NativeAddon,
  image: Image,
  { policy, basedirs }: Pick<OverlayWishes, 'policy' | 'basedirs'>,
): string | undefined {
  const view = overlayView(true);
  if (view === undefined) return NO_PRIVILEGE;
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
  const { mount, view, basedirs, writable } = wishes;
  if (fuse.entry === undefined) return 'the FUSE mount is not to be found';
  const isReadOnly = writable.length === 0 || mount.flags.includes('ro');
  const [major = 0, minor = 0] = fuse.entry.device.split(':').map(Number);
  const outcome = await native.stackOverlay(
    mount.mountpoint,
    major,
    minor,
    pack(overlayOptions(wishes, isReadOnly)),
    BigInt64Array.from(isLayer(view) ? basedirs : [], BigInt),
    BigInt64Array.from(writable, BigInt),
    attributesOf(mount.flags) | (isReadOnly ? MOUNT_ATTR.RDONLY : 0),
  );
  if (outcome === 0) return { ...fuse, entry: findMount(mount.mountpoint) };
  if (typeof outcome === 'number') return errnoName(outcome);
  return explain(outcome, view);
}

/** The error for a reason that `whyNoOverlay` or `stackOverlay` gave. */
export function noOverlay(mountpoint: string, isData: boolean, reason: string): MountError {
  const message = isData
    ? `--data overlay is not possible on ${mountpoint}: ${reason}; or choose another --data`
    : `--upperdir is not possible on ${mountpoint}: ${reason}`;
  return new MountError(message, { path: mountpoint });
}

/** The sources that a mount of ours may have in the mount table: FUSE's and the overlayfs's. */
export function mountSources({ source }: Pick<MountWishes, 'source'>): [string, string] {
  return [source, shorten(source)];
}

/** As the kernel's own composefs mounts have them. */
function overlayOptions({ view, policy, mount }: OverlayWishes, isReadOnly: boolean): string[] {
  const names = isBelowUserOverlay(view)
    ? // Redirects to data-only layers are followed without being asked for, since Linux 6.16.
      ['userxattr']
    : ['metacopy=on', 'redirect_dir=on'];
  const verity = { off: [], 'if-present': ['verity=on'], require: ['verity=require'] }[policy];
  return [
    `source=${shorten(mount.source)}`,
    ...(isReadOnly ? ['ro'] : SUPERBLOCK_FLAGS.filter((flag) => mount.flags.includes(flag))),
    ...names,
    // Where FUSE serves the objects they are verified by this daemon.
    ...(isLayer(view) ? verity : []),
    ...mount.kernelOptions,
  ];
}

const UPPER_NEEDS =
  'they must be on a writable filesystem with extended attributes that is not an overlayfs itself';

/** Since when the kernel has what each view needs. */
const VERSIONS: Readonly<Record<TreeView, string>> = {
  composefs: '5.4',
  layer: '6.5',
  'user-layer': '6.16 (in a user namespace)',
  lower: '5.4',
  'user-lower': '5.11 (in a user namespace)',
};

function explain({ errno, step, said }: MountFailure, view: TreeView): string {
  const version = VERSIONS[view];
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
    case 'writable':
      return `the kernel does not take upperdir and workdir (${words}); ${UPPER_NEEDS}`;
    case 'create':
      if (errno === -Errno.ELOOP)
        return 'a base directory or upperdir is given twice, or is inside another one';
      if (!isLayer(view)) {
        return `the kernel refuses (${words}); ${UPPER_NEEDS}`;
      }
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
