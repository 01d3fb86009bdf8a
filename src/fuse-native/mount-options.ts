// The mount options of libfuse 2 that say the same as the wishes of the command line.

import { MountError } from '../errors.ts';
import { escapeOption, type MountFlagName, type MountWishes, SUBTYPE } from '../fuse/mounting.ts';

/** Nothing of an image ever changes, so what the kernel has learnt stays true. Seconds. */
const FOREVER = 4_294_967_295;
/** Access times do not exist on a read-only mount, and libfuse 2 does not know these words. */
const MEANINGLESS: ReadonlySet<MountFlagName> = new Set([
  'ro',
  'nodiratime',
  'relatime',
  'strictatime',
]);

/** Whether users other than the mounter may enter. */
export function allowsOther({ allowOther }: Pick<MountWishes, 'allowOther'>): boolean {
  return allowOther === 'yes' || (allowOther === 'where-permitted' && process.geteuid?.() === 0);
}

/** Joined by commas, escaped. Throws MountError for what libfuse 2 cannot do. */
export function libfuseOptions(wishes: MountWishes): string {
  if (wishes.flags.includes('nosymfollow')) {
    throw new MountError('--transport fuse-native: libfuse 2 does not know nosymfollow', {
      path: wishes.mountpoint,
    });
  }
  return [
    'ro',
    // What libfuse leaves out by itself has to be asked for.
    ...(['suid', 'dev'] as const).filter((name) => !wishes.flags.includes(`no${name}`)),
    ...wishes.flags.filter((name) => !MEANINGLESS.has(name)),
    // The mountpoint has been checked, and may have files below it as for any mount.
    'nonempty',
    'default_permissions',
    ...(allowsOther(wishes) ? ['allow_other'] : []),
    // Inode numbers are the image's, not made up.
    'use_ino',
    'kernel_cache',
    `entry_timeout=${FOREVER}`,
    `negative_timeout=${FOREVER}`,
    `attr_timeout=${FOREVER}`,
    `max_read=${wishes.maxRead}`,
    `subtype=${SUBTYPE}`,
    `fsname=${escapeOption(wishes.source)}`,
    ...wishes.kernelOptions.map(escapeOption),
  ].join(',');
}
