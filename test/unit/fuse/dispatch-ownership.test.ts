// Ids on the way from the image to the kernel: in attributes, in ACLs, in file capabilities.

import { describe, expect, it } from 'vitest';
import type { IdRule } from '../../../src/filesystem/ownership.ts';
import {
  ATTR,
  ATTR_OUT,
  DIRENTPLUS,
  ENTRY_OUT,
  FUSE_ROOT_ID,
  Opcode,
} from '../../../src/fuse/abi.ts';
import { acl, capability, Tag } from '../../support/acl.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, file } from '../../support/image-nodes.ts';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const CAPABILITY = 'security.capability';
const OVERFLOW = 65_534;

const named = acl(
  [Tag.USER_OBJ, 6],
  [Tag.USER, 4, 1000],
  [Tag.USER, 0, 70_000],
  [Tag.GROUP_OBJ, 0],
  [Tag.GROUP, 6, 2000],
  [Tag.MASK, 6],
  [Tag.OTHER, 0],
);

const image = buildImage(
  directory(
    {
      file: file('x', {
        uid: 1000,
        gid: 2000,
        xattrs: [
          [ACCESS, named],
          ['user.x', named],
          [CAPABILITY, capability(1000)],
        ],
      }),
      tool: file('x', { uid: 4_000_000_000, gid: 7, xattrs: [[CAPABILITY, capability()]] }),
      directory: directory({}, { xattrs: [[DEFAULT, named]] }),
      // Attributes that are not what their name says.
      'no-acl': file('x', { xattrs: [[ACCESS, 'abc']] }),
      'old-acl': file('x', {
        xattrs: [[ACCESS, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0)]],
      }),
      'cut-acl': file('x', { xattrs: [[ACCESS, named.subarray(0, named.length - 3)]] }),
      'no-capability': file('x', { xattrs: [[CAPABILITY, 'x']] }),
    },
    { uid: 0, gid: 0 },
  ),
);

const identity: IdRule = { ranges: [], otherwise: undefined, existing: undefined };
const shifted = (host: number): IdRule => ({
  ...identity,
  ranges: [
    { image: 0, host, count: 1 },
    { image: 1000, host: host + 1000, count: 1001 },
  ],
  otherwise: OVERFLOW,
});

const mapped = { uids: shifted(100_000), gids: shifted(200_000) };
const squashed = { uids: { ...identity, otherwise: 5 }, gids: { ...identity, otherwise: 6 } };

function server(ownership: { uids: IdRule; gids: IdRule }): CannedServer {
  return new CannedServer(image, { ownership });
}

/** Owner and group of a struct fuse_attr. */
const ownersAt = (view: DataView, at: number): [number, number] => [
  view.getUint32(at + ATTR.UID, true),
  view.getUint32(at + ATTR.GID, true),
];

function owners(canned: CannedServer, name: string): [number, number] {
  const { view } = canned.lookup(FUSE_ROOT_ID, name);
  return ownersAt(view, ENTRY_OUT.ATTR);
}

function xattr(canned: CannedServer, path: string, name: string): Uint8Array {
  const nodeid = canned.resolve(path);
  const asked = canned.getxattr(nodeid, name, 0);
  const { error, body } = canned.getxattr(nodeid, name, asked.view.getUint32(0, true));
  expect(error).toBe(0);
  return body.slice();
}

describe('a map', () => {
  it('changes the owners in LOOKUP, GETATTR and READDIRPLUS alike', () => {
    const canned = server(mapped);
    const expected = new Map([
      ['file', [101_000, 202_000]],
      ['tool', [OVERFLOW, OVERFLOW]],
      ['directory', [100_000, 200_000]],
    ]);
    for (const [name, ids] of expected) {
      expect(owners(canned, name)).toEqual(ids);
      const { view } = canned.request(Opcode.GETATTR, canned.resolve(name), new Uint8Array(16));
      expect(ownersAt(view, ATTR_OUT.ATTR)).toEqual(ids);
    }
    const { body, view } = canned.request(
      Opcode.READDIRPLUS,
      FUSE_ROOT_ID,
      canned.readBody(0, 0, 4096),
    );
    const seen = new Map<string, [number, number]>();
    for (let at = 0; at < body.length;) {
      const dirent = at + DIRENTPLUS.DIRENT;
      const length = view.getUint32(dirent + 16, true);
      const name = Buffer.from(body.subarray(dirent + 24, dirent + 24 + length)).toString();
      seen.set(name, ownersAt(view, at + ENTRY_OUT.ATTR));
      at = dirent + 24 + ((length + 7) & ~7);
    }
    for (const [name, ids] of expected) expect(seen.get(name)).toEqual(ids);
  });

  it('changes the ids of ACLs and nothing else of them', () => {
    const expected = acl(
      [Tag.USER_OBJ, 6],
      [Tag.USER, 4, 101_000],
      [Tag.USER, 0, OVERFLOW],
      [Tag.GROUP_OBJ, 0],
      [Tag.GROUP, 6, 202_000],
      [Tag.MASK, 6],
      [Tag.OTHER, 0],
    );
    const canned = server(mapped);
    expect(xattr(canned, 'file', ACCESS)).toEqual(expected);
    expect(xattr(canned, 'directory', DEFAULT)).toEqual(expected);
    expect(xattr(canned, 'file', 'user.x')).toEqual(named);
  });

  it('changes whose root a file capability belongs to', () => {
    const canned = server(mapped);
    expect(xattr(canned, 'file', CAPABILITY)).toEqual(capability(101_000));
    // Which was everybody's in the image, and is now that of who is root there.
    expect(xattr(canned, 'tool', CAPABILITY)).toEqual(capability(100_000));
    const keepsRoot = { uids: { ...shifted(0), otherwise: OVERFLOW }, gids: identity };
    expect(xattr(server(keepsRoot), 'tool', CAPABILITY)).toEqual(capability());
  });

  it('leaves alone what only looks like an ACL or a capability', () => {
    const canned = server(mapped);
    expect(xattr(canned, 'no-acl', ACCESS)).toEqual(Uint8Array.from(Buffer.from('abc')));
    expect(xattr(canned, 'old-acl', ACCESS)[0]).toBe(1);
    expect(xattr(canned, 'cut-acl', ACCESS)).toEqual(named.slice(0, named.length - 3));
    expect(xattr(canned, 'no-capability', CAPABILITY)).toEqual(Uint8Array.of(0x78));
  });
});

describe('a squash', () => {
  it('gives everything to one owner', () => {
    const canned = server(squashed);
    for (const name of ['file', 'tool', 'directory']) expect(owners(canned, name)).toEqual([5, 6]);
    expect(xattr(canned, 'file', CAPABILITY)).toEqual(capability(5));
  });
});

describe('in a user namespace', () => {
  const one: IdRule = { ...identity, existing: [[0, 1]] };

  it('owners are told as they are: the kernel knows which exist', () => {
    expect(owners(server({ uids: one, gids: one }), 'file')).toEqual([1000, 2000]);
  });

  it('entries of ACLs are left out whose id does not exist there', () => {
    const rest = acl([Tag.USER_OBJ, 6], [Tag.GROUP_OBJ, 0], [Tag.MASK, 6], [Tag.OTHER, 0]);
    expect(xattr(server({ uids: one, gids: one }), 'file', ACCESS)).toEqual(rest);
    const some = { ...identity, existing: [[0, 1] as const, [1000, 2000] as const] };
    const withOne = acl(
      [Tag.USER_OBJ, 6],
      [Tag.USER, 4, 1000],
      [Tag.GROUP_OBJ, 0],
      [Tag.MASK, 6],
      [Tag.OTHER, 0],
    );
    expect(xattr(server({ uids: some, gids: some }), 'file', ACCESS)).toEqual(withOne);
  });
});
