// What a test needs from the machine. A test whose needs are not met is skipped with the reason in
// its title, so that `npm test` can list every skip by name; nothing passes by not running.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe } from 'vitest';
import { commandPath, python } from './command.ts';

/** Where the images made by the reference implementation lie, outside the repository. */
export const goldenFolder: string = join(import.meta.dirname, '../../../shared/golden');

export interface Requirement {
  /** Completes "needs ..." */
  what: string;
  isMet: () => boolean;
}

/** A requirement that is looked at once, and only when a test asks. */
function requirement(what: string, look: () => boolean): Requirement {
  let answer: boolean | undefined;
  return { what, isMet: () => (answer ??= look()) };
}

const succeeds = (command: string, ...args: string[]): boolean =>
  spawnSync(command, args, { stdio: 'ignore', timeout: 20_000 }).status === 0;

function canOpenDevice(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The smallest EROFS image: one block with the superblock and an empty root directory. */
function emptyErofs(): Uint8Array {
  const image = new DataView(new ArrayBuffer(4096));
  const superblock = 1024;
  image.setUint32(superblock, 0xe0f5e1e2, true);
  image.setUint8(superblock + 12, 12);
  image.setUint16(superblock + 14, 36, true);
  image.setUint32(superblock + 36, 1, true);
  const inode = 36 * 32;
  image.setUint16(inode, 4, true);
  image.setUint16(inode + 4, 0o40755, true);
  image.setUint16(inode + 6, 2, true);
  image.setUint32(inode + 8, 27, true);
  const entries = inode + 32;
  for (const [i, nameAt] of [24, 25].entries()) {
    image.setUint8(entries + 12 * i, 36);
    image.setUint16(entries + 12 * i + 8, nameAt, true);
    image.setUint8(entries + 12 * i + 10, 2);
  }
  new Uint8Array(image.buffer).set(Buffer.from('...'), entries + 24);
  return new Uint8Array(image.buffer);
}

/** Mounts for real, in a mount namespace that ends with the shell. */
function canMountKernelComposefs(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'composefs-test-'));
  try {
    writeFileSync(join(folder, 'image'), emptyErofs());
    const script =
      'cd "$1" && mkdir e o m && mount -t erofs -o loop,ro image e && ' +
      'mount -t overlay -o ro,metacopy=on,redirect_dir=on,lowerdir=e::o overlay m && test -d m';
    return succeeds('unshare', '--mount', 'sh', '-c', script, 'sh', folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const needsRoot: Requirement = requirement('root', () => process.getuid?.() === 0);
export const needsFuse: Requirement = requirement('/dev/fuse', canOpenDevice);
/** Linux of this version or a later one. */
function needsLinux(major: number, minor: number, what: string): Requirement {
  return requirement(`Linux ${major}.${minor} or later, for ${what}`, () => {
    const [ourMajor = 0, ourMinor = 0] = release().split('.').map(Number);
    return ourMajor > major || (ourMajor === major && ourMinor >= minor);
  });
}
export const needsPassthrough: Requirement = needsLinux(6, 9, 'passthrough');
export const needsFuseIdmap: Requirement = needsLinux(6, 12, 'idmapped mounts of FUSE');
export const needsDataLayers: Requirement = needsLinux(6, 5, "overlayfs's data-only layers");
export const needsUserDataLayers: Requirement = needsLinux(
  6,
  16,
  "overlayfs's data-only layers in user namespaces",
);
export const needsFusermount: Requirement = requirement('fusermount3', () =>
  succeeds('fusermount3', '--version'),
);
/** udev makes it so; containers often do not. */
export const needsOpenFuse: Requirement = requirement(
  'a /dev/fuse that ordinary users may open',
  () => canOpenDevice() && (statSync('/dev/fuse').mode & 0o6) === 0o6,
);
export const needsPython: Requirement = requirement('python3', () =>
  succeeds(python, '-c', 'import ctypes'),
);
/** A command in front of another that runs it as an ordinary user. */
export const asNobody: readonly string[] = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
];
const nobodySucceeds = (...command: string[]): boolean =>
  succeeds('setpriv', ...asNobody.slice(1), ...command);

export const needsNobody: Requirement = requirement(
  'setpriv as root, and a checkout and node that ordinary users may read',
  () => nobodySucceeds(process.execPath, '-e', `fs.accessSync(${JSON.stringify(commandPath)})`),
);
export const needsAllowOtherForbidden: Requirement = requirement(
  'no user_allow_other in /etc/fuse.conf',
  () =>
    !existsSync('/etc/fuse.conf') ||
    !/^user_allow_other/m.test(readFileSync('/etc/fuse.conf', 'utf8')),
);
export const needsUserNamespaces: Requirement = requirement(
  'user namespaces for ordinary users',
  () => nobodySucceeds('unshare', '--user', '--map-root-user', '--mount', 'true'),
);
/** A user who has subordinate ids, by name and number. */
function subordinateUser(): { uid: string; gid: string } | undefined {
  if (!existsSync('/etc/subuid')) return undefined;
  const owners = readFileSync('/etc/subuid', 'utf8').split('\n');
  const users = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const [name = ''] of owners.map((line) => line.split(':'))) {
    const [, , uid = '0', gid = ''] =
      users.find((line) => line.startsWith(`${name}:`))?.split(':') ?? [];
    if (name !== '' && uid !== '0') return { uid, gid };
  }
  return undefined;
}
const user = subordinateUser();
/** A command in front of another that runs it as that user. */
export const asSubordinateUser: readonly string[] = [
  'setpriv',
  `--reuid=${user?.uid}`,
  `--regid=${user?.gid}`,
  '--clear-groups',
];
export const needsSubordinateIds: Requirement = requirement(
  'a user with ids in /etc/subuid and newuidmap, who may read the checkout',
  () =>
    user !== undefined &&
    succeeds('setpriv', ...asSubordinateUser.slice(1), 'unshare', '-Urm', '--map-auto', 'true') &&
    succeeds(
      'setpriv',
      ...asSubordinateUser.slice(1),
      process.execPath,
      '-e',
      `fs.accessSync(${JSON.stringify(commandPath)})`,
    ),
);
export const needsUserXattrs: Requirement = requirement(
  'user.* attributes in the temporary directory',
  () =>
    succeeds(
      python,
      '-c',
      'import os, tempfile; f = tempfile.NamedTemporaryFile(); os.setxattr(f.name, "user.x", b"")',
    ),
);
export const needsSetpriv: Requirement = requirement('setpriv as root', () =>
  nobodySucceeds('true'),
);
export const needsKernelComposefs: Requirement = requirement(
  'erofs and overlayfs with data-only layers in the kernel, and loop devices',
  canMountKernelComposefs,
);
export const needsGoldens: Requirement = requirement('../shared/golden', () =>
  existsSync(join(goldenFolder, 'zoo.cfs')),
);
/** Loaded in a process of its own: this one keeps nothing of libfuse. */
export const needsFuseNative: Requirement = requirement(
  'the npm package fuse-native and a libfuse 2 that it can load',
  () => {
    const path = join(dirname(commandPath), '../fuse-native/package.js');
    const script = `import(${JSON.stringify(path)}).then((it) => it.loadFusePackage())`;
    return succeeds(process.execPath, '-e', script);
  },
);
/** What every test with a mount of ours needs. */
export const needsOurMount: readonly Requirement[] = [needsRoot, needsFuse, needsPython];

/** `describe`, or a skipped one whose title says what is missing. */
export function describeWith(
  requirements: readonly Requirement[],
  title: string,
  body: () => void,
): void {
  const missing = requirements.filter((entry) => !entry.isMet()).map((entry) => entry.what);
  if (missing.length === 0) describe(title, body);
  else describe.skip(`${title} [skipped: needs ${missing.join(', ')}]`, body);
}
