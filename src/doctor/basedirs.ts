// The checks of a base directory, from what was seen of its filesystem.

import { Errno, errnoName } from '../errors.ts';
import { fail, type Finding, ok, skip, type Verdict, warn } from './finding.ts';
import type { BasedirFacts, BasedirResult } from './trials.ts';

/** f_type of statfs(2), <linux/magic.h>. */
const FILESYSTEMS: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext4'],
  [0x9123683e, 'btrfs'],
  [0x58465342, 'xfs'],
  [0xf2f52010, 'f2fs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlayfs'],
  [0x65735546, 'FUSE or virtiofs'],
  [0x6969, 'NFS'],
  [0xe0f5e1e2, 'erofs'],
  [0x73717368, 'squashfs'],
  [0x2fc12fc1, 'ZFS'],
  [0xca451a4e, 'bcachefs'],
  [0x01021997, '9p'],
]);

/** What helps where files can have no fs-verity. */
const VERITY_REMEDIES: ReadonlyMap<number, string> = new Map([
  [0xef53, 'a kernel with CONFIG_FS_VERITY, and as root `tune2fs -O verity DEVICE`'],
  [0x9123683e, 'a kernel with CONFIG_FS_VERITY'],
  [0xf2f52010, 'a kernel with CONFIG_FS_VERITY, and `fsck.f2fs -O verity DEVICE`'],
]);
const NO_VERITY = 'put the objects on ext4 with `-O verity`, or btrfs';

export function judgeBasedir(path: string, result: BasedirResult): Finding[] {
  const about = (id: Finding['id'], verdict: Verdict): Finding => ({
    id,
    subject: path,
    ...verdict,
  });
  if ('reason' in result) {
    const why = skip('the base directory cannot be used');
    return [
      about(
        'basedir',
        fail(result.reason.replace(`base directory ${path} `, ''), 'give another --basedir'),
      ),
      about('basedir-verity', why),
      about('basedir-reflink', why),
    ];
  }
  return [
    about('basedir', judgeFilesystem(result)),
    about('basedir-verity', judgeVerity(result)),
    about('basedir-reflink', judgeReflink(result)),
  ];
}

/** Where none was named. */
export function noBasedir(): Finding[] {
  const why = skip('no base directory was named');
  return [
    { id: 'basedir', ...why, remedy: 'give --basedir DIR' },
    { id: 'basedir-verity', ...why },
    { id: 'basedir-reflink', ...why },
  ];
}

function nameOf(filesystem: number): string {
  return FILESYSTEMS.get(filesystem) ?? `filesystem 0x${filesystem.toString(16)}`;
}

function judgeFilesystem({ filesystem, isWritable, isStacked }: BasedirFacts): Verdict {
  const found = `${nameOf(filesystem)}, ${isWritable ? 'writable' : 'not writable'}`;
  if (!isStacked) return ok(found);
  return warn(
    `${found}: no passthrough of objects on an overlayfs`,
    'keep objects on a volume of their own, or --data passthrough',
  );
}

function judgeVerity({ filesystem, enableVerity, object }: BasedirFacts): Verdict {
  const remedy = VERITY_REMEDIES.get(filesystem) ?? NO_VERITY;
  if (object !== undefined && object.verity > 0) return ok(`object ${object.path} has fs-verity`);
  if (enableVerity === 0 || object?.verity === -Errno.ENODATA) {
    if (object === undefined) return ok('files can have fs-verity');
    return warn(
      `files can have fs-verity, but object ${object.path} has none`,
      'as root, `fsverity enable` each object',
    );
  }
  const status = enableVerity ?? object?.verity;
  if (status === undefined) return skip('it is not writable, and there is no object to ask');
  return warn(`no fs-verity here (${errnoName(status)}): objects are verified by hashing`, remedy);
}

function judgeReflink({ reflink }: BasedirFacts): Verdict {
  if (reflink === undefined) return skip('it is not writable');
  if (reflink === 0) return ok('files can share their blocks');
  return warn(
    `no reflinks here (${errnoName(reflink)}): adding objects copies them`,
    'btrfs, xfs or bcachefs has them',
  );
}
