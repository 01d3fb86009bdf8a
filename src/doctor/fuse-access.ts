// The checks of what FUSE takes: the device, the helper of ordinary users and its settings, io_uring.

import { closeSync, openSync, realpathSync, statSync } from 'node:fs';
import { errnoName } from '../errors.ts';
import { isFuseMount, readMountTable } from '../fuse/mount-table.ts';
import { deviceObstacle, FUSERMOUNT } from '../fuse/mounting.ts';
import { ENABLE_URING, ringObstacle } from '../fuse/transport.ts';
import type { NativeAddon } from '../native.ts';
import type { Caller } from './caller.ts';
import { fail, ok, skip, type Verdict, warn } from './finding.ts';
import { findProgram, lastWords, readText, run, sysctl } from './system.ts';

const DEVICE = '/dev/fuse';
/** Character device 10:229, as stat(2) has it. */
const FUSE_RDEV = 0x0ae5;
const SETTINGS = '/etc/fuse.conf';
const SETUID = 0o4000;

export function checkDevice(): Verdict {
  try {
    closeSync(openSync(DEVICE, 'r+'));
  } catch (error) {
    const { found, remedy } = deviceObstacle((error as NodeJS.ErrnoException).errno ?? 0);
    return fail(found, remedy);
  }
  const { mode, uid, rdev } = statSync(DEVICE);
  if (rdev !== FUSE_RDEV) {
    return fail(
      `${DEVICE} is another device`,
      `as root, rm ${DEVICE}; mknod -m 666 ${DEVICE} c 10 229`,
    );
  }
  const found = `${DEVICE} can be opened (mode 0${(mode & 0o777).toString(8)}, owner ${uid})`;
  if ((mode & 0o6) === 0o6) return ok(found);
  return warn(`${found}, but not by everybody`, `as root, chmod 0666 ${DEVICE}`);
}

/** Only an ordinary user needs it; for others it is no more than a hint. */
export async function checkHelper(caller: Caller): Promise<Verdict> {
  if (caller.scope === 'namespace') return skip('root of a user namespace mounts without it');
  const lack = caller.scope === 'none' ? fail : warn;
  const path = findProgram(FUSERMOUNT);
  if (path === undefined) {
    return lack(
      `${FUSERMOUNT} is not on the path: ordinary users cannot mount`,
      'install the package fuse3',
    );
  }
  const said = await run(path, ['--version']);
  const version = /version:?\s*(\S+)/.exec(said.stdout)?.[1];
  if (version === undefined) {
    return lack(
      `${path} does not say its version (${lastWords(said, FUSERMOUNT)})`,
      'install the package fuse3 anew',
    );
  }
  const file = realpathSync(path);
  const found = `${path} ${version}`;
  const privilege = await privilegeOf(file);
  if (privilege === undefined) {
    return lack(
      `${found} is neither setuid root nor has it capabilities`,
      `as root, chmod u+s ${file}`,
    );
  }
  if (caller.scope !== 'none') return ok(`${found}, ${privilege}`);
  if (caller.hasNoNewPrivileges) {
    return fail(
      `${found}, ${privilege}, without effect under no_new_privs`,
      'start the service or container without no_new_privs',
    );
  }
  if (!caller.mayGainAdmin) {
    return fail(
      `${found}, ${privilege}, but nobody here may have CAP_SYS_ADMIN`,
      'give the container `--cap-add SYS_ADMIN`',
    );
  }
  if (isOnNosuid(file))
    return fail(
      `${found}, ${privilege}, but on a filesystem mounted nosuid`,
      'mount that filesystem with suid',
    );
  return ok(`${found}, ${privilege}`);
}

async function privilegeOf(file: string): Promise<string | undefined> {
  const { mode, uid } = statSync(file);
  if ((mode & SETUID) !== 0 && uid === 0) return 'setuid root';
  const tool = findProgram('getcap') ?? '/usr/sbin/getcap';
  const said = await run(tool, [file]);
  return said.stdout.includes('cap_sys_admin') ? 'with CAP_SYS_ADMIN' : undefined;
}

/** By the mount that has the longest path above the file. */
function isOnNosuid(file: string): boolean {
  const mounts = (readText('/proc/self/mountinfo') ?? '')
    .split('\n')
    .map((line) => line.split(' '));
  let options = '';
  let longest = -1;
  for (const [, , , , mountpoint = '', flags = ''] of mounts) {
    const isAbove = mountpoint === '/' || file.startsWith(`${mountpoint}/`);
    if (!isAbove || mountpoint.length < longest) continue;
    longest = mountpoint.length;
    options = flags;
  }
  return options.split(',').includes('nosuid');
}

export function checkSettings(caller: Caller): Verdict {
  const text = readText(SETTINGS);
  const isAllowed = text !== undefined && /^user_allow_other\s*$/m.test(text);
  const limit = Number(/^mount_max = (-?\d+)/m.exec(text ?? '')?.[1] ?? 1000);
  const mounts = readMountTable().filter(isFuseMount).length;
  const found = [
    text === undefined ? `${SETTINGS} is missing` : SETTINGS,
    isAllowed
      ? 'user_allow_other is set'
      : "no user_allow_other: an ordinary user's mount is for that user alone",
    limit === -1 ? 'any number of mounts' : `${mounts} of ${limit} mounts`,
  ].join('; ');
  // fusermount3 counts everybody's.
  const isFull = limit !== -1 && mounts >= limit;
  if (!isFull) return ok(found);
  return (caller.scope === 'none' ? fail : warn)(found, `as root, raise mount_max in ${SETTINGS}`);
}

export function checkRing(native: NativeAddon): Verdict {
  const obstacle = ringObstacle(native);
  const status = native.probeRing();
  const disabled = sysctl('kernel/io_uring_disabled') ?? '0';
  const ring =
    status === 0
      ? 'a ring can be set up'
      : `no ring can be set up (${errnoName(status)}, kernel.io_uring_disabled is ${disabled})`;
  if (obstacle === undefined) return ok(`requests can come over io_uring: ${ring}`);
  const parameter = readText(ENABLE_URING);
  if (parameter === undefined) return skip(`${obstacle}; ${ring}`);
  if (parameter.trim() !== 'Y') {
    return warn(`FUSE over io_uring is off; ${ring}`, `as root, echo Y > ${ENABLE_URING}`);
  }
  const remedy =
    disabled === '0'
      ? 'in a container, let its seccomp profile permit io_uring_setup(2)'
      : 'as root, sysctl -w kernel.io_uring_disabled=0';
  return warn(`FUSE over io_uring is on, but ${ring}`, remedy);
}
