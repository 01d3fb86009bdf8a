// Trees for tests against mounts: one with everything an image can hold, and large ones.

import { acl, Tag } from './acl.ts';
import {
  type Bytes,
  directory,
  escapedWhiteout,
  escapedWhiteoutsMarkers,
  external,
  file,
  special,
  symlink,
  whiteout,
} from './image-nodes.ts';
import type { TestChild, TestDirectory, TestNode, TestXattr } from './image-nodes.ts';
import { type ObjectFolder, patternBytes } from './object-folder.ts';

const bytesOf = (...values: number[]): Uint8Array => Uint8Array.from(values);
const text = new TextEncoder();

/** Sizes around every limit of the format: inline, block, tail. */
const inlineSizes = [0, 1, 63, 64, 65, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 12388];
const externalSizes = [1, 4095, 4096, 4097, 65536, 131072, 1_000_001];

function inlineFiles(): TestDirectory {
  const children: TestChild[] = [];
  for (const size of inlineSizes)
    for (const tail of ['inline', 'block'] as const)
      children.push([`${size}-${tail}`, file(patternBytes(size, size), { tail })]);
  return directory(children);
}

function externalFiles(objects: ObjectFolder): TestDirectory {
  const children: TestChild[] = externalSizes.map((size) => [
    `${size}`,
    objects.add(patternBytes(size, size)),
  ]);
  children.push(
    ['odd-path', objects.addAt('some where/else/with, comma', 'odd object path')],
    ['odd-characters', objects.addAt('ümläut/ö', 'object path beyond ASCII')],
    ['deep-path', objects.addAt('a/b/c/d/e/f/g/h', 'deep object path')],
    ['same-object-1', objects.addAt('shared', 'one object of two files')],
    ['same-object-2', objects.addAt('shared', 'one object of two files', { permissions: 0o600 })],
    ['missing', external(100, { redirect: '/not/there' })],
    ['missing-empty-metacopy', external(5, { redirect: '/nor/there', emptyMetacopy: true })],
  );
  return directory(children);
}

function symlinks(): TestDirectory {
  return directory({
    short: symlink('target'),
    one: symlink('x'),
    dangling: symlink('../nowhere/at/all'),
    absolute: symlink('/etc/hostname'),
    loop: symlink('loop'),
    'to-directory': symlink('../inline'),
    'to-file': symlink('../inline/64-inline', { uid: 1000, gid: 1001, permissions: 0o700 }),
    long: symlink('x/'.repeat(1000)),
    'longest-inline': symlink('y'.repeat(3900), { tail: 'inline' }),
    'longest-block': symlink('z'.repeat(4095), { tail: 'block' }),
    binary: symlink(bytesOf(0xff, 0x0a, 0x20, 0x5c, 0xc3)),
  });
}

function specials(): TestDirectory {
  return directory({
    null: special('char-device', 1, 3),
    tty: special('char-device', 5, 1, { permissions: 0o600 }),
    'large-minor': special('block-device', 259, 0xfffff),
    'large-major': special('block-device', 4095, 256),
    disk: special('block-device', 8, 0),
    fifo: special('fifo'),
    socket: special('socket', 0, 0, { uid: 7 }),
  });
}

function attributes(): TestDirectory {
  const children: TestChild[] = [];
  for (const permissions of [0, 0o111, 0o400, 0o644, 0o1777, 0o2755, 0o4755, 0o7777]) {
    const mode = permissions.toString(8);
    children.push([`file-${mode}`, file(mode, { permissions })]);
    children.push([`directory-${mode}`, directory({ inner: file('inner') }, { permissions })]);
    children.push([`owned-${mode}`, file(mode, { permissions, uid: 1000, gid: 2000 })]);
  }
  for (const id of [1, 65535, 65536, 0x7fffffff, 0xfffffffe])
    children.push([`owner-${id}`, file('', { uid: id, gid: id - 1 })]);
  const times = [-1, -(2 ** 31) - 1, 2 ** 31, 2 ** 32, 2 ** 33 + 5, 253402300800];
  for (const mtime of times)
    for (const mtimeNsec of [0, 1, 999_999_999])
      children.push([`time-${mtime}.${mtimeNsec}`, file('t', { mtime, mtimeNsec })]);
  for (const nlink of [2, 65535]) children.push([`links-${nlink}`, file('', { nlink })]);
  children.push(['compact', file('c', { form: 'compact' })]);
  children.push(['extended', file('e', { form: 'extended' })]);
  return directory(children);
}

function names(): TestDirectory {
  const children: TestChild[] = [];
  for (let byte = 1; byte < 256; byte++)
    if (byte !== 0x2f && byte !== 0x2e) children.push([bytesOf(byte), file(`${byte}`)]);
  for (const name of ['...', '..a', '.hidden', '  ', '!first', '-dash', 'new\nline', '\\back', 'ü'])
    children.push([name, file(name)]);
  children.push(['n'.repeat(255), file('longest')]);
  children.push([new Uint8Array(255).fill(0xff), file('longest binary')]);
  return directory(children);
}

function xattrs(): TestDirectory {
  const common: TestXattr = ['security.selinux', 'system_u:object_r:usr_t:s0\0'];
  const children: TestChild[] = [];
  for (let i = 0; i < 40; i++)
    children.push([
      `shared-${i}`,
      file(`${i}`, { xattrs: [common, ['user.same', 'value'], [`user.own${i}`, 'x'.repeat(i)]] }),
    ]);
  const many: TestXattr[] = [];
  for (let i = 0; i < 100; i++) many.push([`user.many${String(i).padStart(3, '0')}`, `${i}`]);
  children.push(
    ['many', file('', { xattrs: many })],
    ['empty-value', file('', { xattrs: [['user.empty', '']] })],
    ['binary', file('', { xattrs: [['user.binary', patternBytes(300)]] })],
    ['long-name', file('', { xattrs: [[`user.${'n'.repeat(250)}`, 'v']] })],
    ['large', file('', { xattrs: [['user.large', patternBytes(3500)]] })],
    [
      'trusted',
      file('', {
        xattrs: [
          ['trusted.secret', 'for root'],
          ['user.open', 'for all'],
        ],
      }),
    ],
    [
      'capability',
      file('', {
        xattrs: [
          [
            'security.capability',
            bytesOf(1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
          ],
        ],
      }),
    ],
    // Indexes that the kernel stores but does not show.
    [
      'hidden',
      file('', {
        xattrs: [
          { index: 0, name: 'whole.name', value: 'v' },
          { index: 5, name: 'lustre', value: 'v' },
          ['user.seen', 'v'],
        ],
      }),
    ],
    ['on-symlink', symlink('target', { xattrs: [common, ['trusted.link', 'v']] })],
    [
      'on-directory',
      directory(
        {},
        {
          xattrs: [
            ['user.directory', 'v'],
            ['trusted.directory', 'v'],
          ],
        },
      ),
    ],
    ['on-fifo', special('fifo', 0, 0, { xattrs: [common] })],
    // What overlayfs makes of attributes that look like its own.
    [
      'escaped',
      file('', {
        xattrs: [
          ['trusted.overlay.overlay.redirect', '/evil'],
          ['user.overlay.opaque', 'y'],
        ],
      }),
    ],
    ['escaped-twice', file('', { xattrs: [['trusted.overlay.overlay.overlay.metacopy', 'v']] })],
    [
      'escaped-opaque',
      directory({ inner: file('') }, { xattrs: [['trusted.overlay.overlay.opaque', 'y']] }),
    ],
    [
      'unescaped',
      file('', {
        xattrs: [
          ['trusted.overlay.origin', 'v'],
          ['trusted.overlay.other', 'v'],
          ['user.overlay.redirect', 'v'],
        ],
      }),
    ],
  );
  return directory(children);
}

function acls(): TestDirectory {
  const forUser = acl(
    [Tag.USER_OBJ, 6],
    [Tag.USER, 4, 1000],
    [Tag.GROUP_OBJ, 0],
    [Tag.MASK, 4],
    [Tag.OTHER, 0],
  );
  const forGroup = acl(
    [Tag.USER_OBJ, 6],
    [Tag.GROUP_OBJ, 0],
    [Tag.GROUP, 6, 2000],
    [Tag.MASK, 6],
    [Tag.OTHER, 0],
  );
  const masked = acl(
    [Tag.USER_OBJ, 7],
    [Tag.USER, 7, 1000],
    [Tag.GROUP_OBJ, 7],
    [Tag.MASK, 0],
    [Tag.OTHER, 7],
  );
  const denied = acl(
    [Tag.USER_OBJ, 7],
    [Tag.USER, 0, 1000],
    [Tag.GROUP_OBJ, 5],
    [Tag.MASK, 7],
    [Tag.OTHER, 5],
  );
  const access = 'system.posix_acl_access';
  const fallback = 'system.posix_acl_default';
  return directory({
    'file-for-user': file('u', { permissions: 0o640, xattrs: [[access, forUser]] }),
    'file-for-group': file('g', { permissions: 0o660, xattrs: [[access, forGroup]] }),
    'file-masked': file('m', { permissions: 0o707, xattrs: [[access, masked]] }),
    'directory-denied': directory(
      { inner: file('inner') },
      {
        permissions: 0o775,
        xattrs: [
          [access, denied],
          [fallback, forUser],
        ],
      },
    ),
    'directory-default': directory({ inner: file('inner') }, { xattrs: [[fallback, denied]] }),
    minimal: file('x', {
      permissions: 0o600,
      xattrs: [[access, acl([Tag.USER_OBJ, 6], [Tag.GROUP_OBJ, 0], [Tag.OTHER, 0])]],
    }),
  });
}

function whiteouts(): TestDirectory {
  return directory({
    raw: directory({ gone: whiteout(), stays: file('stays'), zz: whiteout({ permissions: 0 }) }),
    'only-raw': directory({ gone: whiteout() }),
    escaped: directory(
      { gone: escapedWhiteout({ permissions: 0o600 }), stays: file('stays') },
      { xattrs: escapedWhiteoutsMarkers },
    ),
  });
}

function hardLinks(): TestDirectory {
  const inImage = file('several names', { mtime: 5 });
  const node = special('fifo');
  return directory({ a: inImage, b: inImage, sub: directory({ c: inImage, node }), node });
}

function directories(): TestDirectory {
  const full = (count: number, length: number): TestDirectory => {
    const children: TestChild[] = [];
    for (let i = 0; i < count; i++) children.push([`${i}-`.padEnd(length, 'x'), file('')]);
    return directory(children);
  };
  let deep: TestDirectory = directory({ bottom: file('bottom') });
  for (let i = 0; i < 60; i++) deep = directory({ [`level${i}`]: deep });
  return directory({
    empty: directory(),
    'two-pieces': full(60, 60),
    'one-block-tail': { ...full(100, 60), tail: 'block' },
    'short-block': { ...full(100, 60), tail: 'short-block' },
    'long-names': full(100, 255),
    // 12 bytes of dirent and the name: 64 such entries fill a piece to the last byte.
    'exactly-full': full(200, 52),
    deep,
  });
}

/** A tree with one of everything. External files go to `objects`. */
export function everyKind(objects: ObjectFolder): TestDirectory {
  const root: Record<string, TestNode> = {
    inline: inlineFiles(),
    external: externalFiles(objects),
    symlinks: symlinks(),
    special: specials(),
    attributes: attributes(),
    names: names(),
    xattrs: xattrs(),
    acls: acls(),
    whiteouts: whiteouts(),
    'hard-links': hardLinks(),
    directories: directories(),
  };
  return directory(root, {
    mtime: 1_700_000_000,
    mtimeNsec: 123_456_789,
    xattrs: [
      ['trusted.overlay.opaque', 'y'],
      ['user.root', 'attribute'],
    ],
  });
}

/** One directory with `count` small files. */
export function wideTree(count: number): TestDirectory {
  const children: TestChild[] = [];
  for (let i = 0; i < count; i++) {
    const name: Bytes = text.encode(`file-${String(i).padStart(6, '0')}`);
    children.push([name, file(i % 10 === 0 ? `content ${i}` : '')]);
  }
  return directory({ wide: directory(children) });
}

/** A tree of about `count` entries: folders of folders of `filesPerFolder` files each. */
export function bushyTree(
  count: number,
  filesPerFolder: number,
  make: (i: number) => TestNode,
): TestDirectory {
  const folders: TestChild[] = [];
  let group: TestChild[] = [];
  for (let made = 0, folder = 0; made < count; folder++) {
    const files: TestChild[] = [];
    for (let i = 0; i < filesPerFolder && made < count; i++, made++)
      files.push([`file-${made}`, make(made)]);
    group.push([`folder-${folder}`, directory(files)]);
    made++;
    if (group.length === 50 || made >= count) {
      folders.push([`group-${folders.length}`, directory(group)]);
      group = [];
      made++;
    }
  }
  return directory(folders);
}
