// A tree with one of everything that an image can hold, for tests that want variety and not a
// particular thing. Small enough to be built and walked in a few milliseconds.

import {
  directory,
  escapedWhiteout,
  escapedWhiteoutsMarkers,
  external,
  file,
  special,
  symlink,
  type TestChild,
  type TestDirectory,
  type TestNode,
  type TestXattr,
  whiteout,
} from './image-nodes.ts';

/** A valid ACL: owner rwx, user 1000 r-x, group r-x, mask r-x, others none. */
export const ACL_VALUE: Uint8Array = Uint8Array.from(
  [
    [2, 0, 0, 0],
    [0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
    [0x02, 0, 5, 0, 0xe8, 0x03, 0, 0],
    [0x04, 0, 5, 0, 0xff, 0xff, 0xff, 0xff],
    [0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff],
    [0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
  ].flat(),
);

/** struct vfs_cap_data, revision 2: cap_net_raw. */
const CAPABILITY = Uint8Array.from([1, 0, 0, 2, 0, 32, ...new Array<number>(14).fill(0)]);

/** Byte i of every patterned content. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + 3) % 251);
}

function many(prefix: string, count: number, node: (i: number) => TestNode): TestChild[] {
  return Array.from({ length: count }, (_, i) => [
    `${prefix}${String(i).padStart(4, '0')}`,
    node(i),
  ]);
}

/**
 * `hugeFiles` adds external files of more than 2^53 bytes, whose chunk arrays no driver can follow:
 * composefs ignores them, fsck.erofs complains.
 */
export function builderZoo(
  options: { hugeFiles?: boolean; manyEntries?: number } = {},
): TestDirectory {
  const hugeFiles = {
    huge: external(2n ** 63n - 1n, { digest: '01'.repeat(32) }),
    'just-inexact': external(2n ** 53n + 1n, { digest: '02'.repeat(32) }),
  };
  const linked = file('one inode, three names', { mtime: 1_600_000_000, mtimeNsec: 999_999_999 });
  const label: TestXattr = ['security.selinux', 'system_u:object_r:etc_t:s0\0'];
  const sizes = [0, 1, 2, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 5000, 6144, 8192, 12_289];
  return directory(
    {
      '!before-the-dots': file('sorts before . and ..'),
      sizes: directory(Object.fromEntries(sizes.map((size) => [`f${size}`, file(pattern(size))]))),
      'block-content': file(pattern(100), { tail: 'block' }),
      external: directory({
        sha256: external(5000, { digest: '5a'.repeat(32) }, { mtime: -1, form: 'extended' }),
        sha512: external(1, { digest: 'c3'.repeat(64) }),
        unverified: external(70_000, { redirect: '/a path/of its own' }),
        'empty-metacopy': external(4096, { redirect: '/x', emptyMetacopy: true }),
        large: external(2n ** 45n, { digest: '03'.repeat(32) }),
        'without-redirect': external(10, {}),
        ...(options.hugeFiles === false ? {} : hugeFiles),
      }),
      links: directory({
        a: linked,
        b: linked,
        deeper: directory({ c: linked }),
        relative: symlink('../sizes/f64'),
        absolute: symlink('/dangling'),
        inBlock: symlink('in a block', { tail: 'block' }),
        long: symlink('x/'.repeat(2047) + 'y', { tail: 'block' }),
        'long-inline': symlink('z'.repeat(3000)),
      }),
      devices: directory({
        null: special('char-device', 1, 3, { permissions: 0o666 }),
        big: special('block-device', 0xfff, 0xfffff),
        zero: special('block-device', 0, 0),
        pipe: special('fifo'),
        sock: special('socket'),
      }),
      whiteouts: directory(
        { raw: whiteout(), escaped: escapedWhiteout({ permissions: 0o600 }) },
        { xattrs: escapedWhiteoutsMarkers },
      ),
      attributes: directory(
        {
          every: file('x', {
            xattrs: [
              ['user.empty', ''],
              ['trusted.t', 'v'],
              ['security.capability', CAPABILITY],
              ['lustre.l', 'five'],
              { index: 0, name: 'whole.name', value: 'zero' },
              label,
            ],
          }),
          shared: file('y', { xattrs: [label, ['user.shared', 'v'.repeat(300)]] }),
          'shared-too': file('', { xattrs: [label, ['user.shared', 'v'.repeat(300)]] }),
          'big-value': file('z', { xattrs: [['user.big', pattern(5000)]] }),
          'long-name': file('', { xattrs: [[`user.${'n'.repeat(250)}`, 'n']] }),
          acl: file('', { xattrs: [['system.posix_acl_access', ACL_VALUE]] }),
          'acl-directory': directory({}, { xattrs: [['system.posix_acl_default', ACL_VALUE]] }),
        },
        { xattrs: [['trusted.overlay.overlay.opaque', 'y'], label] },
      ),
      numbers: directory({
        negative: file('', { mtime: -62_135_596_800n, mtimeNsec: 5 }),
        'beyond-2038': file('', { mtime: 2n ** 34n }),
        owners: file('', { uid: 4_294_967_294, gid: 65_536, nlink: 70_000 }),
        bits: file('', { permissions: 0o7777, uid: 65_535 }),
      }),
      directories: directory({
        empty: directory(),
        'one-block': directory(
          many('block', 100, () => linked),
          { tail: 'block' },
        ),
        'short-block': directory(
          many('short', 20, () => linked),
          { tail: 'short-block' },
        ),
        many: directory(
          many('entry-', options.manyEntries ?? 700, (i) =>
            i % 2 === 0 ? linked : file(String(i)),
          ),
        ),
        names: directory([
          ['#', linked],
          [' ', linked],
          ['-', linked],
          ['.hidden', linked],
          ['...', linked],
          ['caf\u00e9', linked],
          [Uint8Array.of(0xff, 0xfe), linked],
          [Uint8Array.of(1), linked],
          ['n'.repeat(255), linked],
        ]),
        deep: Array.from({ length: 40 }).reduce<TestDirectory>(
          (inner, _, i) => directory({ [`level${i}`]: inner }),
          directory({ bottom: file('here') }),
        ),
      }),
    },
    { xattrs: [['trusted.overlay.opaque', 'y']] },
  );
}
