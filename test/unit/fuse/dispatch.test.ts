// Every opcode, request bytes in, reply bytes out, over a tree with one of everything.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import {
  ATTR,
  ATTR_OUT,
  ENTRY_OUT,
  FUSE_ROOT_ID,
  IN_HEADER,
  KSTATFS,
  Opcode,
  OpenFlag,
} from '../../../src/fuse/abi.ts';
import { loadNative } from '../../../src/native.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { buildImage } from '../../support/image-builder.ts';
import {
  directory,
  external,
  file,
  special,
  symlink,
  whiteout,
} from '../../support/image-nodes.ts';

const native = loadNative();
const content = Uint8Array.from({ length: 10_000 }, (_, i) => (i * 7 + 3) % 251);
const FOREVER = 0xffff_ffff_ffff_ffffn;

let objects: string;
let basedirs: number[];

beforeAll(() => {
  objects = mkdtempSync(join(tmpdir(), 'cfs-dispatch-'));
  mkdirSync(join(objects, 'first/aa'), { recursive: true });
  mkdirSync(join(objects, 'second/aa'), { recursive: true });
  writeFileSync(join(objects, 'second/aa/object'), content);
  writeFileSync(join(objects, 'first/aa/both'), content);
  writeFileSync(join(objects, 'second/aa/both'), 'the second is not looked at');
  writeFileSync(join(objects, 'first/aa/short'), 'short');
  mkdirSync(join(objects, 'first/aa/directory'));
  basedirs = ['first', 'second'].map((name) => native.openBasedir(join(objects, name)));
});

afterAll(() => {
  basedirs.forEach((fd) => native.closeDescriptor(fd));
  rmSync(objects, { recursive: true });
});

const tree = directory({
  hello: file('hello, world', {
    mtime: -2,
    mtimeNsec: 5,
    uid: 1000,
    gid: 100,
    permissions: 0o4751,
  }),
  blocks: file(content),
  empty: file(''),
  link: symlink('../a/target'),
  'long-link': symlink('x'.repeat(4095)),
  device: special('block-device', 8, 1),
  object: external(10_000, { redirect: '/aa/object' }),
  both: external(10_000, { redirect: '/aa/both' }),
  short: external(10_000, { redirect: '/aa/short' }),
  notfile: external(10_000, { redirect: '/aa/directory' }),
  missing: external(10_000, { redirect: '/aa/nowhere' }),
  outside: external(10_000, { redirect: '/../second/aa/object' }),
  gone: whiteout(),
  many: directory(
    Object.fromEntries(Array.from({ length: 700 }, (_, i) => [`entry-${i}`, file(String(i))])),
  ),
  sub: directory({ gone: whiteout(), there: file('x') }),
  x: file('', {
    xattrs: [
      ['user.plain', 'value'],
      ['security.selinux', 'label'],
      ['trusted.visible', 't'],
      ['trusted.overlay.opaque', 'y'],
      ['trusted.overlay.overlay.opaque', 'escaped'],
      ['user.overlay.whiteout', ''],
      ['lustre.nothing', '1'],
    ],
  }),
});
const image = buildImage(tree);

function server(options: ConstructorParameters<typeof CannedServer>[1] = {}): CannedServer {
  return new CannedServer(image, { basedirs, ...options });
}

function names(list: string): string[] {
  return list.split('\0').filter((name) => name !== '');
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

describe('LOOKUP', () => {
  it('finds a name and answers an entry that never expires', () => {
    const { error, view } = server().lookup(FUSE_ROOT_ID, 'hello');
    expect(error).toBe(0);
    expect(view.byteLength).toBe(ENTRY_OUT.SIZE);
    expect(view.getBigUint64(ENTRY_OUT.ENTRY_VALID, true)).toBe(FOREVER);
    expect(view.getBigUint64(ENTRY_OUT.ATTR_VALID, true)).toBe(FOREVER);
    expect(view.getBigUint64(ENTRY_OUT.NODEID, true)).toBeGreaterThan(1n);
    const at = ENTRY_OUT.ATTR;
    expect(view.getUint32(at + ATTR.MODE, true)).toBe(0o104751);
    expect(view.getUint32(at + ATTR.UID, true)).toBe(1000);
    expect(view.getUint32(at + ATTR.GID, true)).toBe(100);
    expect(view.getBigUint64(at + ATTR.SIZE_FIELD, true)).toBe(12n);
    expect(view.getBigUint64(at + ATTR.BLOCKS, true)).toBe(8n);
    expect(view.getBigInt64(at + ATTR.MTIME, true)).toBe(-2n);
    expect(view.getBigInt64(at + ATTR.ATIME, true)).toBe(-2n);
    expect(view.getUint32(at + ATTR.CTIMENSEC, true)).toBe(5);
  });

  it.each(['nothing', 'gone', 'hell', 'hello2', '!first', '~last'])(
    'answers that there is no %s, to be remembered forever',
    (name) => {
      const { error, view } = server().lookup(FUSE_ROOT_ID, name);
      expect(error).toBe(0);
      expect(view.getBigUint64(ENTRY_OUT.NODEID, true)).toBe(0n);
      expect(view.getBigUint64(ENTRY_OUT.ENTRY_VALID, true)).toBe(FOREVER);
    },
  );

  it('answers . and .. for file handles', () => {
    const canned = server();
    const sub = canned.resolve('sub');
    const there = canned.resolve('sub/there');
    expect(canned.lookup(sub, '..').view.getBigUint64(0, true)).toBe(BigInt(FUSE_ROOT_ID));
    expect(canned.lookup(sub, '.').view.getBigUint64(0, true)).toBe(BigInt(sub));
    expect(canned.lookup(there, '.').view.getBigUint64(0, true)).toBe(BigInt(there));
    // What overlayfs has found by a file handle.
    expect(canned.lookup(there, '/').view.getBigUint64(0, true)).toBe(BigInt(there));
  });

  it('refuses names longer than 255 bytes, look-ups in files and numbers never handed out', () => {
    const canned = server();
    expect(canned.lookup(FUSE_ROOT_ID, 'x'.repeat(256)).error).toBe(-Errno.ENAMETOOLONG);
    expect(canned.lookup(canned.resolve('hello'), 'x').error).toBe(-Errno.ENOTDIR);
    expect(canned.lookup(2 ** 40, 'x').error).toBe(-Errno.EUCLEAN);
    expect(canned.lookup(0, 'x').error).toBe(-Errno.EUCLEAN);
  });

  it('never answers the number of the root for another inode', () => {
    const canned = server();
    const root = canned.slot.rootNid;
    const listed = canned.list(Opcode.READDIRPLUS, FUSE_ROOT_ID);
    for (const entry of listed as Exclude<typeof listed, number>) {
      if (entry.name !== '.' && entry.name !== '..') expect(entry.nodeid).not.toBe(FUSE_ROOT_ID);
    }
    expect(canned.lookup(root + 2, '.').view.getBigUint64(0, true)).toBe(BigInt(FUSE_ROOT_ID));
  });
});

describe('GETATTR', () => {
  it('answers the root with st_ino its nid', () => {
    const canned = server();
    const { error, view } = canned.request(Opcode.GETATTR, FUSE_ROOT_ID, new Uint8Array(16));
    expect(error).toBe(0);
    expect(view.byteLength).toBe(ATTR_OUT.SIZE);
    expect(view.getBigUint64(ATTR_OUT.ATTR + ATTR.INO, true)).toBe(BigInt(canned.slot.rootNid));
    expect(view.getUint32(ATTR_OUT.ATTR + ATTR.MODE, true) & 0o170000).toBe(0o040000);
    expect(view.getUint32(ATTR_OUT.ATTR + ATTR.BLKSIZE, true)).toBe(4096);
  });

  it('passes device numbers on', () => {
    const canned = server();
    const nodeid = canned.resolve('device');
    const { view } = canned.request(Opcode.GETATTR, nodeid, new Uint8Array(16));
    expect(view.getUint32(ATTR_OUT.ATTR + ATTR.RDEV, true)).toBe(0x801);
  });
});

describe('READLINK', () => {
  it('answers targets of any length without a NUL', () => {
    const canned = server();
    expect(text(canned.request(Opcode.READLINK, canned.resolve('link')).body)).toBe('../a/target');
    expect(canned.request(Opcode.READLINK, canned.resolve('long-link')).body.length).toBe(4095);
  });

  it('is EINVAL for what is no symlink', () => {
    const canned = server();
    const hello = canned.resolve('hello');
    expect(canned.request(Opcode.READLINK, hello).error).toBe(-Errno.EINVAL);
  });
});

describe('OPEN, READ, RELEASE', () => {
  it('keeps the page cache and wants no FLUSH', () => {
    const canned = server();
    const { openFlags } = canned.open(canned.resolve('hello'));
    expect(openFlags).toBe(OpenFlag.FOPEN_KEEP_CACHE | OpenFlag.FOPEN_NOFLUSH);
  });

  it.each([1, 2, 0o1001])('refuses to open for writing (flags %o)', (flags) => {
    const canned = server();
    expect(canned.open(canned.resolve('hello'), flags).error).toBe(-Errno.EROFS);
  });

  it.each(['blocks', 'object', 'both'])('reads %s at every kind of offset', (name) => {
    const canned = server();
    const nodeid = canned.resolve(name);
    const { error, handle } = canned.open(nodeid);
    expect(error).toBe(0);
    for (const [offset, size] of [
      [0, 4096],
      [4096, 4096],
      [8192, 4096],
      [0, 131_072],
      [1, 1],
      [4095, 2],
      [9_999, 100],
      [10_000, 100],
      [20_000, 100],
    ] as const) {
      const { body } = canned.read(nodeid, handle, offset, size);
      expect(Buffer.from(body)).toEqual(Buffer.from(content.subarray(offset, offset + size)));
    }
    expect(canned.release(nodeid, handle).error).toBe(0);
  });

  it('answers an offset beyond 2^53 with nothing', () => {
    const canned = server();
    const nodeid = canned.resolve('hello');
    expect(canned.read(nodeid, 0, Number.MAX_SAFE_INTEGER, 4096).body.length).toBe(0);
  });

  it.each([
    ['missing', Errno.ENOENT, /in no base directory/],
    ['short', Errno.EIO, /5 bytes instead of 10000/],
    ['notfile', Errno.EIO, /a directory, not a regular file/],
    ['outside', Errno.EIO, /reference to its object is invalid/],
  ])('fails the open of %s with %i and says why once', (name, errno, why) => {
    const canned = server();
    const nodeid = canned.resolve(name);
    expect(canned.open(nodeid).error).toBe(-errno);
    expect(canned.open(nodeid).error).toBe(-errno);
    expect(canned.problems).toHaveLength(1);
    expect(canned.problems[0]!.detail).toMatch(why);
    expect(canned.problems[0]!.errno).toBe(errno);
  });

  it('fails a read that would be short instead of truncating the file', () => {
    const path = join(objects, 'first/aa/shrinks');
    writeFileSync(path, content);
    const shrinking = buildImage(directory({ f: external(10_000, { redirect: '/aa/shrinks' }) }));
    const canned = new CannedServer(shrinking, { basedirs });
    const nodeid = canned.resolve('f');
    const { handle } = canned.open(nodeid);
    expect(canned.read(nodeid, handle, 0, 16_384).body.length).toBe(10_000);
    writeFileSync(path, content.subarray(0, 5000));
    expect(canned.read(nodeid, handle, 0, 16_384).error).toBe(-Errno.EIO);
    expect(canned.problems[0]!.detail).toMatch(/only 5000 of 10000 bytes/);
    canned.release(nodeid, handle);
  });

  it('refuses a handle that is none', () => {
    const canned = server();
    expect(canned.release(canned.resolve('object'), 999_999).error).toBe(-Errno.EBADF);
  });
});

describe('LSEEK', () => {
  it.each(['blocks', 'object'])('finds data and the hole at the end of %s', (name) => {
    const canned = server();
    const nodeid = canned.resolve(name);
    const { handle } = canned.open(nodeid);
    const SEEK_DATA = 3;
    const SEEK_HOLE = 4;
    expect(canned.lseek(nodeid, handle, 5, SEEK_DATA).view.getBigUint64(0, true)).toBe(5n);
    expect(canned.lseek(nodeid, handle, 5, SEEK_HOLE).view.getBigUint64(0, true)).toBe(10_000n);
    expect(canned.lseek(nodeid, handle, 10_000, SEEK_DATA).error).toBe(-Errno.ENXIO);
    expect(canned.lseek(nodeid, handle, 10_001, SEEK_HOLE).error).toBe(-Errno.ENXIO);
    expect(canned.lseek(nodeid, handle, 0, 0).error).toBe(-Errno.EINVAL);
    canned.release(nodeid, handle);
  });
});

describe.each([
  ['READDIR', Opcode.READDIR],
  ['READDIRPLUS', Opcode.READDIRPLUS],
] as const)('%s', (_, opcode) => {
  it('lists every name once, whatever the size of the requests', () => {
    const canned = server();
    const nodeid = canned.resolve('many');
    const expected = ['.', '..', ...Array.from({ length: 700 }, (_, i) => `entry-${i}`)].toSorted();
    for (const size of [4096, 4097, 32_768, 1_048_576]) {
      const listed = canned.list(opcode, nodeid, size) as { name: string }[];
      expect(listed.map(({ name }) => name).toSorted()).toEqual(expected);
    }
  });

  it('resumes after every single entry', () => {
    const canned = server();
    const nodeid = canned.resolve('many');
    const all = canned.list(opcode, nodeid) as { name: string; off: number }[];
    for (let i = 0; i < all.length - 1; i += 13) {
      const rest = canned.listOnce(opcode, nodeid, all[i]!.off, 4096) as { name: string }[];
      expect(rest[0]!.name).toBe(all[i + 1]!.name);
    }
    expect(canned.listOnce(opcode, nodeid, all.at(-1)!.off, 4096)).toEqual([]);
    expect(canned.listOnce(opcode, nodeid, 2 ** 50, 4096)).toEqual([]);
  });

  it('hides whiteouts in the root and only names them elsewhere, as overlayfs does', () => {
    const canned = server();
    const root = canned.list(opcode, FUSE_ROOT_ID) as { name: string }[];
    expect(root.map(({ name }) => name)).not.toContain('gone');
    const sub = canned.list(opcode, canned.resolve('sub')) as { name: string; nodeid: number }[];
    const gone = sub.find(({ name }) => name === 'gone');
    expect(gone?.nodeid).toBe(0);
    expect(sub.map(({ name }) => name).toSorted()).toEqual(['.', '..', 'gone', 'there']);
  });

  it('gives the nid as inode number and the type of every entry', () => {
    const canned = server();
    const root = canned.list(opcode, FUSE_ROOT_ID) as { name: string; type: number; ino: bigint }[];
    const typeOf = (name: string) => root.find((entry) => entry.name === name)?.type;
    expect(typeOf('hello')).toBe(8);
    expect(typeOf('many')).toBe(4);
    expect(typeOf('link')).toBe(10);
    expect(typeOf('device')).toBe(6);
    const hello = root.find((entry) => entry.name === 'hello')!;
    expect(Number(hello.ino) + 2).toBe(canned.resolve('hello'));
  });

  it('is ENOTDIR for a file', () => {
    const canned = server();
    const listed = canned.listOnce(opcode, canned.resolve('hello'), 0, 4096);
    expect(listed).toBe(-Errno.ENOTDIR);
  });
});

describe('GETXATTR and LISTXATTR', () => {
  it('lists what overlayfs lists, trusted names only for those who may see them', () => {
    const all = names(text(server().listxattr(server().resolve('x'), 4096).body));
    expect(all.toSorted()).toEqual([
      'security.selinux',
      'trusted.overlay.opaque',
      'trusted.visible',
      'user.overlay.whiteout',
      'user.plain',
    ]);
    const canned = server({ seesTrusted: false });
    const few = names(text(canned.listxattr(canned.resolve('x'), 4096).body));
    expect(few.toSorted()).toEqual(['security.selinux', 'user.overlay.whiteout', 'user.plain']);
  });

  it('reads values, one level of overlay escaping taken off', () => {
    const canned = server();
    const nodeid = canned.resolve('x');
    const get = (name: string) => canned.getxattr(nodeid, name, 4096);
    expect(text(get('user.plain').body)).toBe('value');
    expect(text(get('trusted.overlay.opaque').body)).toBe('escaped');
    expect(get('trusted.overlay.overlay.opaque').error).toBe(-Errno.ENODATA);
    expect(get('user.overlay.whiteout').error).toBe(0);
    expect(get('user.overlay.whiteout').body.length).toBe(0);
    expect(get('user.none').error).toBe(-Errno.ENODATA);
    expect(get('lustre.nothing').error).toBe(-Errno.EOPNOTSUPP);
    expect(get('system.posix_acl_access').error).toBe(-Errno.ENODATA);
    expect(canned.getxattr(canned.resolve('object'), 'trusted.overlay.redirect', 99).error).toBe(
      -Errno.ENODATA,
    );
  });

  it('tells the length for size 0 and ERANGE for too little room', () => {
    const canned = server();
    const nodeid = canned.resolve('x');
    expect(canned.getxattr(nodeid, 'user.plain', 0).view.getUint32(0, true)).toBe(5);
    expect(canned.getxattr(nodeid, 'user.plain', 4).error).toBe(-Errno.ERANGE);
    const whole = canned.listxattr(nodeid, 4096).body.length;
    expect(canned.listxattr(nodeid, 0).view.getUint32(0, true)).toBe(whole);
    expect(canned.listxattr(nodeid, whole - 1).error).toBe(-Errno.ERANGE);
    expect(canned.listxattr(nodeid, whole).body.length).toBe(whole);
  });

  it('knows no ACLs under noacl', () => {
    const canned = server({ acl: false });
    const nodeid = canned.resolve('x');
    expect(canned.getxattr(nodeid, 'system.posix_acl_access', 99).error).toBe(-Errno.EOPNOTSUPP);
  });
});

describe('the rest of the protocol', () => {
  it.each([
    'SETATTR',
    'SYMLINK',
    'MKNOD',
    'MKDIR',
    'UNLINK',
    'RMDIR',
    'RENAME',
    'LINK',
    'WRITE',
    'SETXATTR',
    'REMOVEXATTR',
    'CREATE',
    'FALLOCATE',
    'RENAME2',
    'COPY_FILE_RANGE',
    'COPY_FILE_RANGE_64',
    'TMPFILE',
  ] as const)('%s is EROFS', (name) => {
    const { error } = server().request(Opcode[name], FUSE_ROOT_ID, new Uint8Array(64));
    expect(error).toBe(-Errno.EROFS);
  });

  it.each([
    ['OPENDIR', Errno.ENOSYS],
    ['FLUSH', Errno.ENOSYS],
    ['FSYNC', Errno.ENOSYS],
    ['FSYNCDIR', Errno.ENOSYS],
    ['ACCESS', Errno.ENOSYS],
    ['STATX', Errno.ENOSYS],
    ['POLL', Errno.ENOSYS],
    ['INTERRUPT', Errno.ENOSYS],
    ['IOCTL', Errno.ENOTTY],
    ['BMAP', Errno.ENOSYS],
    ['GETLK', Errno.ENOSYS],
  ] as const)('%s is answered %i', (name, errno) => {
    const { error } = server().request(Opcode[name], FUSE_ROOT_ID, new Uint8Array(64));
    expect(error).toBe(-errno);
  });

  it.each([
    ['FORGET', 8],
    ['BATCH_FORGET', 24],
  ] as const)('%s takes no reply', (name, size) => {
    expect(server().send(Opcode[name], FUSE_ROOT_ID, new Uint8Array(size))).toBeUndefined();
  });

  it('answers an unknown opcode with ENOSYS', () => {
    expect(server().request(4000, FUSE_ROOT_ID).error).toBe(-Errno.ENOSYS);
  });

  it('answers STATFS with room to spare', () => {
    const { view } = server().request(Opcode.STATFS, FUSE_ROOT_ID);
    expect(view.byteLength).toBe(KSTATFS.SIZE);
    expect(view.getBigUint64(KSTATFS.BLOCKS, true)).toBeGreaterThan(0n);
    expect(view.getUint32(KSTATFS.NAMELEN, true)).toBe(255);
  });

  it('copies all 64 bits of unique', () => {
    const canned = server();
    canned.unique = 0x8000_0000_0000_0007n;
    expect(canned.request(Opcode.STATFS, FUSE_ROOT_ID).unique).toBe(0x8000_0000_0000_0007n);
  });

  it('answers EIO to requests that are cut off, and to lengths that lie', () => {
    const canned = server();
    for (const opcode of [Opcode.READ, Opcode.OPEN, Opcode.GETXATTR, Opcode.LOOKUP]) {
      expect(canned.request(opcode, FUSE_ROOT_ID).error).toBe(-Errno.EIO);
    }
    const view = new DataView(canned.requestBytes.buffer);
    view.setUint32(IN_HEADER.LEN, 41, true);
    expect(canned.dispatcher.dispatch(canned.slot, 40)).toBe(16);
    expect(canned.bugs).toEqual([]);
  });

  it('answers EIO and reports when a handler throws, and goes on', () => {
    const canned = server();
    Object.defineProperty(canned.slot.statistics, 'read', {
      value: () => {
        throw new Error('a bug');
      },
    });
    expect(canned.request(Opcode.STATFS, FUSE_ROOT_ID).error).toBe(-Errno.EIO);
    expect(canned.bugs).toHaveLength(1);
    expect(canned.lookup(FUSE_ROOT_ID, 'hello').error).toBe(0);
  });
});
