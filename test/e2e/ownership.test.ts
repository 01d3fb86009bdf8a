// Who owns what: --uid-map, --gid-map and --squash, namespaces in which ids have no names, and idmapped
// mounts of ours.

import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { mount } from '../../dist/index.js';
import { acl, capability, Tag } from '../support/acl.ts';
import { mustRun, python, runCommand } from '../support/command.ts';
import { fuseNativeArgs } from '../support/fuse-native.ts';
import { directory, file } from '../support/image-nodes.ts';
import { detach, mountForeground, mountOurs, ourCommand } from '../support/mounts.ts';
import {
  asNobody,
  asSubordinateUser,
  describeWith,
  needsDataLayers,
  needsFuseIdmap,
  needsFuseNative,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsSubordinateIds,
  type Requirement,
} from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const ACCESS = 'system.posix_acl_access';
/** Of a file with permissions `bits`, that names a user and a group. */
const naming = (bits: number, uid: number, gid: number): Uint8Array =>
  acl(
    [Tag.USER_OBJ, 6],
    [Tag.USER, bits, uid],
    [Tag.GROUP_OBJ, bits],
    [Tag.GROUP, bits, gid],
    [Tag.MASK, bits],
    [Tag.OTHER, bits],
  );
const readable = naming(4, 1000, 2000);
const mapArgs = ['--uid-map', '0:100000:65536', '--gid-map', '0:200000:1', '--gid-map', '5:7:10'];

/** Files of several owners; `withAcls` for what can have ACLs enforced. */
function ownedImage(scope: ReturnType<typeof scopeOfEachTest>, withAcls = true): SampleImage {
  const aclOf = (value: Uint8Array) => (withAcls ? { xattrs: [[ACCESS, value] as const] } : {});
  return makeImage(scope, (objects) =>
    directory({
      root: file('root\n'),
      user: file('user\n', { uid: 1000, gid: 6 }),
      high: file('high\n', { uid: 70_000, gid: 70_000 }),
      secret: file('secret\n', { uid: 1000, gid: 1000, permissions: 0o600 }),
      object: objects.addAt('object', 'object\n', { uid: 3, gid: 14 }),
      acl: file('acl\n', { uid: 1000, gid: 1000, ...aclOf(readable) }),
      'acl-directory': directory(
        { inner: file('inner\n') },
        { uid: 1000, gid: 1000, ...aclOf(naming(5, 1000, 2000)) },
      ),
      tool: file('tool\n', { xattrs: [['security.capability', capability()]] }),
    }),
  );
}

const owners = async (mountpoint: string, ...names: string[]): Promise<string[]> => {
  const paths = names.map((name) => join(mountpoint, name));
  return (await mustRun('stat', ['-c', '%u:%g', ...paths])).stdout.trimEnd().split('\n');
};

/** The value as the kernel gives it to root, in hex. */
async function xattr(path: string, name: string): Promise<string> {
  const script = 'import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).hex())';
  return (await mustRun(python, ['-c', script, path, name])).stdout.trimEnd();
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const ways: readonly { title: string; args: readonly string[]; requirements: Requirement[] }[] = [
  { title: 'by the daemon', args: [], requirements: [] },
  {
    title: 'with an overlayfs',
    args: ['--data', 'overlay', '--verity', 'off'],
    requirements: [needsDataLayers],
  },
];

for (const { title, args, requirements } of ways)
  describeWith([...needsOurMount, ...requirements], `a mount with other owners, ${title}`, () => {
    const scope = scopeOfEachTest();
    const mounted = (more: readonly string[]) =>
      mountOurs(scope, { ...ownedImage(scope), args: [...args, ...more] });

    test('shows the ids of a map, and the overflow id for all others', async () => {
      const { mountpoint } = await mounted(mapArgs);
      const names = ['root', 'user', 'high', 'object'];
      const expected = ['100000:200000', '101000:8', '65534:65534', '100003:16'];
      expect(await owners(mountpoint, ...names)).toEqual(expected);
      // The same by a listing, which fills the cache in another way.
      await mustRun('ls', ['-l', mountpoint]);
      expect(await owners(mountpoint, ...names)).toEqual(expected);
      expect(await xattr(join(mountpoint, 'acl'), ACCESS)).toBe(hex(naming(4, 101_000, 65_534)));
      expect(await xattr(join(mountpoint, 'tool'), 'security.capability')).toBe(
        hex(capability(100_000)),
      );
      expect((await mustRun('cat', [join(mountpoint, 'object')])).stdout).toBe('object\n');
    });

    test('gives everything to one owner, who may do what an owner may', async () => {
      const { mountpoint } = await mounted(['-o', 'squash=65534:65533']);
      expect(await owners(mountpoint, 'root', 'secret', 'object')).toEqual(
        Array(3).fill('65534:65533'),
      );
      const secret = join(mountpoint, 'secret');
      const [command = '', ...prefix] = asNobody;
      expect((await mustRun(command, [...prefix, 'cat', secret])).stdout).toBe('secret\n');
      const other = ['--reuid=1000', '--regid=1000', '--clear-groups', 'cat', secret];
      expect((await runCommand('setpriv', other)).code).not.toBe(0);
    });
  });

describeWith(needsOurMount, 'the library', () => {
  const scope = scopeOfEachTest();

  test('maps and squashes too', async () => {
    const { image, objects } = ownedImage(scope);
    for (const [settings, owner] of [
      [{ uidMap: [{ image: 1000, host: 5, count: 1 }] }, '5:6'],
      [{ gidMap: [{ image: 6, host: 9, count: 1 }] }, '1000:9'],
      [{ squash: { uid: 7, gid: 8 } }, '7:8'],
    ] as const) {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
      const mounted = await mount(image, mountpoint, { basedir: objects.path, ...settings });
      expect(await owners(mountpoint, 'user')).toEqual([owner]);
      await mounted.unmount();
    }
  });
});

describeWith([...needsOurMount, needsFuseNative], 'a mount through fuse-native', () => {
  const scope = scopeOfEachTest();

  test('shows the ids of a map', async () => {
    const args = [...fuseNativeArgs, ...mapArgs];
    const { mountpoint } = await mountOurs(scope, { ...ownedImage(scope, false), args });
    expect(await owners(mountpoint, 'root', 'user', 'high')).toEqual([
      '100000:200000',
      '101000:8',
      '65534:65534',
    ]);
    const value = await xattr(join(mountpoint, 'tool'), 'security.capability');
    expect(value).toBe(hex(capability(100_000)));
  });
});

describeWith(
  [...needsOurMount, needsNobody, needsFusermount, needsOpenFuse],
  'an ordinary user who mounts through fusermount3',
  () => {
    const scope = scopeOfEachTest();

    test('reads with --squash what belongs to others in the image, and still lets nobody in', async () => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      chownSync(mountpoint, 65_534, 65_534);
      const sample = ownedImage(scope);
      const secret = join(mountpoint, 'secret');
      const read = (...as: readonly string[]) => runCommand('setpriv', [...as, 'cat', secret]);
      const plain = await mountForeground(scope, { ...sample, mountpoint, as: asNobody });
      expect((await read(...asNobody.slice(1))).code).not.toBe(0);
      process.kill(plain.pid, 'SIGTERM');
      expect(await plain.ended).toBe(0);
      const args = ['--squash', '65534:65534'];
      const squashed = await mountForeground(scope, { ...sample, mountpoint, as: asNobody, args });
      expect((await read(...asNobody.slice(1))).stdout).toBe('secret\n');
      expect((await runCommand('cat', [secret])).code).not.toBe(0);
      process.kill(squashed.pid, 'SIGTERM');
      expect(await squashed.ended).toBe(0);
    });
  },
);

/** Prints owners and contents of all that can be read, each in a line of its own; and what cannot. */
const lookAround = `
  cd "$mnt"
  for name in root user high object acl acl-directory/inner secret; do
    echo "$name $(stat -c %u:%g "$name") $(cat "$name" 2>/dev/null || echo -)"
  done
  ls -lR . >/dev/null
  getfattr --absolute-names -n ${ACCESS} -e hex acl | grep =
  cd /`;

describeWith([...needsOurMount, needsOpenFuse, needsSubordinateIds], 'in a user namespace', () => {
  const scope = scopeOfEachTest();
  let folder: string;
  beforeEach(() => {
    folder = scope.directory();
    chmodSync(folder, 0o777);
  });

  async function look(namespace: readonly string[], ...args: string[]): Promise<string[]> {
    const { image, objects } = ownedImage(scope);
    const script = `set -e; mkdir "$1/mnt"; mnt="$1/mnt"; shift; "$@" "$mnt"; ${lookAround}; umount "$mnt"`;
    const command = [...ourCommand, ...args, '--log-file', join(folder, 'log')];
    const outcome = await mustRun('setpriv', [
      ...[...asSubordinateUser.slice(1), 'unshare', ...namespace, 'sh', '-c', script, 'sh', folder],
      ...[...command, '--basedir', objects.path, image],
    ]);
    expect(outcome.stderr).toBe('');
    return outcome.stdout.trimEnd().split('\n');
  }

  describe('with many ids', () => {
    test('owners are those of the namespace, and one that it has no name for is the overflow id', async () => {
      expect(await look(['-Urm', '--map-auto'])).toEqual([
        'root 0:0 root',
        'user 1000:6 user',
        'high 65534:65534 high',
        'object 3:14 object',
        'acl 1000:1000 acl',
        'acl-directory/inner 0:0 inner',
        // Root of the namespace may read what belongs to its ids.
        'secret 1000:1000 secret',
        `${ACCESS}=0x${hex(readable)}`,
      ]);
    });
  });

  describe('with a single id', () => {
    test('everything else belongs to the overflow id, can be listed, and read as far as others may', async () => {
      expect(await look(['-Urm'])).toEqual([
        'root 0:0 root',
        'user 65534:65534 user',
        'high 65534:65534 high',
        'object 65534:65534 object',
        // Entries for ids that do not exist would make them unusable: EINVAL.
        'acl 65534:65534 acl',
        'acl-directory/inner 0:0 inner',
        'secret 65534:65534 -',
        `${ACCESS}=0x${hex(acl([Tag.USER_OBJ, 6], [Tag.GROUP_OBJ, 4], [Tag.MASK, 4], [Tag.OTHER, 4]))}`,
      ]);
    });

    test('everything can be read with --squash 0:0', async () => {
      const seen = await look(['-Urm'], '--squash', '0:0');
      expect(seen).toContain('secret 0:0 secret');
      expect(seen).toContain('high 0:0 high');
    });
  });
});

describeWith([...needsOurMount, needsFuseIdmap], 'an idmapped mount of ours', () => {
  const scope = scopeOfEachTest();

  test('shows other ids, in attributes and ACLs, beside the mount that it was made of', async () => {
    const { mountpoint } = await mountOurs(scope, ownedImage(scope));
    const shifted = join(scope.directory(), 'shifted');
    mkdirSync(shifted);
    const script = join(import.meta.dirname, '../support/idmapped-mount.py');
    await mustRun(python, ['-I', script, mountpoint, shifted, '0', '100000', '65536']);
    scope.defer(() => detach(shifted));
    const names = ['root', 'user', 'high', 'object'];
    expect(await owners(shifted, ...names)).toEqual([
      '100000:100000',
      '101000:100006',
      '65534:65534',
      '100003:100014',
    ]);
    expect(await owners(mountpoint, ...names)).toEqual(['0:0', '1000:6', '70000:70000', '3:14']);
    expect(await xattr(join(shifted, 'acl'), ACCESS)).toBe(hex(naming(4, 101_000, 102_000)));
    const secret = ['cat', join(shifted, 'secret')];
    const owner = ['--reuid=101000', '--regid=101000', '--clear-groups'];
    expect((await mustRun('setpriv', [...owner, ...secret])).stdout).toBe('secret\n');
    const before = ['--reuid=1000', '--regid=1000', '--clear-groups'];
    expect((await runCommand('setpriv', [...before, ...secret])).code).not.toBe(0);
    // The daemon still knows who asks, by the process id.
    const names0 = await mustRun(python, [
      '-c',
      'import os, sys; print(os.listxattr(sys.argv[1]))',
      join(shifted, 'tool'),
    ]);
    expect(names0.stdout).toContain('security.capability');
  });
});
