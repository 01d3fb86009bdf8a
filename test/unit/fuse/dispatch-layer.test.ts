// What the mount shows to an overlayfs above it, in the initial and in another user namespace: the image
// as it is, not the tree that it means.

import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import type { TreeView } from '../../../src/filesystem/tree-view.ts';
import { FUSE_ROOT_ID, Opcode } from '../../../src/fuse/abi.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, file, whiteout } from '../../support/image-nodes.ts';

/** Of a character device, in <dirent.h>. */
const DT_CHR = 2;

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

const image = buildImage(
  directory({
    hello: file('hello'),
    object: external(10_000, { redirect: '/aa/object' }),
    gone: whiteout(),
    x: file('x', {
      xattrs: [
        ['trusted.overlay.opaque', 'its own'],
        ['trusted.overlay.overlay.opaque', 'escaped'],
        ['trusted.other', 'trusted'],
        ['user.overlay.opaque', "a user's"],
        ['user.overlay.overlay.opaque', "a user's, escaped"],
        ['user.plain', 'value'],
        ['security.selinux', 'label'],
      ],
    }),
  }),
);

/** Not even root is asked about: overlayfs decides who sees what. */
const server = (view: TreeView): CannedServer =>
  new CannedServer(image, { view, seesTrusted: false });

function attributes(view: TreeView): Record<string, string> {
  const canned = server(view);
  const nodeid = canned.resolve('x');
  const listed = text(canned.listxattr(nodeid, 4096).body).split('\0').slice(0, -1);
  return Object.fromEntries(
    listed.toSorted().map((name) => [name, text(canned.getxattr(nodeid, name, 4096).body)]),
  );
}

function getxattr(view: TreeView, name: string, path = 'x'): string | number {
  const canned = server(view);
  const { error, body } = canned.getxattr(canned.resolve(path), name, 4096);
  return error === 0 ? text(body) : error;
}

describe('attributes', () => {
  it('are those of the image', () => {
    expect(attributes('layer')).toEqual({
      'security.selinux': 'label',
      'trusted.other': 'trusted',
      'trusted.overlay.opaque': 'its own',
      'trusted.overlay.overlay.opaque': 'escaped',
      'user.overlay.opaque': "a user's",
      'user.overlay.overlay.opaque': "a user's, escaped",
      'user.plain': 'value',
    });
    expect(getxattr('layer', 'trusted.overlay.redirect', 'object')).toBe('/aa/object');
  });

  it('of overlayfs are where it looks in a user namespace, and those of users escaped', () => {
    expect(attributes('user-layer')).toEqual({
      'security.selinux': 'label',
      'user.overlay.overlay.opaque': "a user's",
      'user.overlay.overlay.overlay.opaque': "a user's, escaped",
      'user.plain': 'value',
    });
    expect(getxattr('user-layer', 'user.overlay.opaque')).toBe('its own');
    expect(getxattr('user-layer', 'user.overlay.redirect', 'object')).toBe('/aa/object');
    expect(getxattr('user-layer', 'user.overlay.redirect')).toBe(-Errno.ENODATA);
    expect(getxattr('user-layer', 'trusted.other')).toBe(-Errno.ENODATA);
    expect(getxattr('user-layer', 'trusted.overlay.redirect', 'object')).toBe(-Errno.ENODATA);
  });
});

describe('attributes of the tree below a writable layer', () => {
  it('hold nothing that overlayfs takes for its own, and show through it as without one', () => {
    expect(attributes('lower')).toEqual({
      'security.selinux': 'label',
      'trusted.other': 'trusted',
      'trusted.overlay.overlay.opaque': 'escaped',
      'user.overlay.opaque': "a user's",
      'user.overlay.overlay.opaque': "a user's, escaped",
      'user.plain': 'value',
    });
    expect(getxattr('lower', 'trusted.overlay.opaque')).toBe(-Errno.ENODATA);
    expect(getxattr('lower', 'trusted.overlay.redirect', 'object')).toBe(-Errno.ENODATA);
  });

  it('are the same in a user namespace, where trusted ones are hidden', () => {
    expect(attributes('user-lower')).toEqual({
      'security.selinux': 'label',
      'user.overlay.overlay.opaque': "a user's",
      'user.overlay.overlay.overlay.opaque': "a user's, escaped",
      'user.plain': 'value',
    });
    expect(getxattr('user-lower', 'user.overlay.opaque')).toBe(-Errno.ENODATA);
    expect(getxattr('user-lower', 'user.overlay.redirect', 'object')).toBe(-Errno.ENODATA);
    expect(getxattr('user-lower', 'trusted.other')).toBe(-Errno.ENODATA);
  });
});

describe.each(['lower', 'user-lower'] as const)('a %s tree', (view) => {
  it('has no whiteouts, and files to open', () => {
    for (const opcode of [Opcode.READDIR, Opcode.READDIRPLUS] as const) {
      const listed = server(view).list(opcode, FUSE_ROOT_ID);
      expect(listed).not.toContainEqual(expect.objectContaining({ name: 'gone' }));
    }
    expect(() => server(view).resolve('gone')).toThrow('gone');
    const canned = server(view);
    expect(canned.open(canned.resolve('hello')).error).toBe(0);
  });
});

describe.each(['layer', 'user-layer'] as const)('a %s', (view) => {
  it('has whiteouts', () => {
    expect(server(view).resolve('gone')).toBeGreaterThan(0);
    for (const opcode of [Opcode.READDIR, Opcode.READDIRPLUS] as const) {
      const listed = server(view).list(opcode, FUSE_ROOT_ID);
      expect(listed).toContainEqual(expect.objectContaining({ name: 'gone', type: DT_CHR }));
      const hidden = server('composefs').list(opcode, FUSE_ROOT_ID);
      expect(hidden).not.toContainEqual(expect.objectContaining({ name: 'gone' }));
    }
  });

  it('has nothing that must be opened', () => {
    const canned = server(view);
    expect(canned.open(canned.resolve('hello')).error).toBe(-Errno.ENOSYS);
    expect(text(canned.read(canned.resolve('hello'), 0, 0, 100).body)).toBe('hello');
  });
});
