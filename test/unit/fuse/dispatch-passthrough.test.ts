// Which objects OPEN asks the kernel to read by itself, and what it answers.

import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import type { Passthrough } from '../../../src/filesystem/contents.ts';
import { OpenFlag } from '../../../src/fuse/abi.ts';
import type { VerificationSetup } from '../../../src/fuse/worker-setup.ts';
import { loadNative, type NativeAddon, VERIFIED } from '../../../src/native.ts';
import { createFileTable } from '../../../src/objects/open-files.ts';
import { measureBytes } from '../../../src/verify/index.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { noise } from '../../support/guarded-objects.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, file } from '../../support/image-nodes.ts';
import { ObjectFolder } from '../../support/object-folder.ts';
import { describeWith, needsFuse } from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';

const native = loadNative();
const content = noise(10_000);
const { digest } = measureBytes(content);
const CACHED = OpenFlag.FOPEN_KEEP_CACHE | OpenFlag.FOPEN_NOFLUSH;
const PASSED = OpenFlag.FOPEN_PASSTHROUGH | OpenFlag.FOPEN_NOFLUSH;
const BACKING_ID = 5;

describeWith([needsFuse], 'OPEN, where the kernel may read objects by itself', () => {
  const scope = scopeOfEachTest();
  let objects: ObjectFolder;
  /** Whether passthrough was asked for, for each object that was opened. */
  let asked: number[];

  beforeEach(() => {
    native.forgetObjects();
    objects = new ObjectFolder(scope.directory());
    objects.write('o', content);
    asked = [];
  });

  interface Kernel {
    /** It has fs-verity for every object. */
    guards?: boolean;
    /** It takes no object; the errno. */
    refuses?: number;
  }

  /** An addon over a kernel that grants passthrough. */
  function addonOver({ guards = false, refuses = 0 }: Kernel): NativeAddon {
    function OpenFiles(table: number, facts: BigInt64Array, backing: BigInt64Array) {
      const files = new native.OpenFiles(table, facts, backing);
      const passed = new Set<number>();
      const open = (nid: number, fd: number): number => {
        backing[0] = BigInt(fd >= 0 && passed.has(nid) ? BACKING_ID : 0);
        return fd;
      };
      return {
        acquire: (nid: number) => open(nid, files.acquire(nid)),
        acquireAny: (nid: number) => open(nid, files.acquireAny(nid)),
        insert: (nid: number, fd: number, passthrough: number) => {
          asked.push(passthrough);
          if (passthrough !== 0 && refuses === 0) passed.add(nid);
          return open(nid, files.insert(nid, fd, 0));
        },
        release: (nid: number) => files.release(nid),
        preload: (nid: number, nodeid: number, size: number) => files.preload(nid, nodeid, size),
        backingError: () => -refuses,
      };
    }
    function ObjectVerifier() {
      return { verify: () => VERIFIED.BY_KERNEL };
    }
    return Object.create(native, {
      OpenFiles: { value: OpenFiles },
      ...(guards && { ObjectVerifier: { value: ObjectVerifier } }),
    }) as NativeAddon;
  }

  function serve(
    passthrough: Passthrough,
    verification: Partial<VerificationSetup> = {},
    kernel: Kernel = {},
  ): CannedServer {
    const basedir = native.openBasedir(objects.path);
    scope.defer(() => void native.closeDescriptor(basedir));
    const tree = {
      checked: external(content.length, { digest, redirect: '/o' }),
      twin: external(content.length, { digest, redirect: '/o' }),
      plain: external(content.length, { redirect: '/o' }),
      inside: file('in the image'),
    };
    const addon = addonOver(kernel);
    const basedirs = [basedir];
    return new CannedServer(buildImage(directory(tree)), {
      basedirs,
      passthrough,
      verification,
      addon,
    });
  }

  it.each<[Passthrough, Partial<VerificationSetup>, boolean, string, boolean]>([
    ['never', {}, true, 'checked', false],
    ['never', { policy: 'off' }, false, 'plain', false],
    // Objects that nobody demands to be checked.
    ['where-guarded', {}, false, 'plain', true],
    ['where-guarded', { policy: 'off' }, false, 'checked', true],
    // Objects that the kernel guards.
    ['where-guarded', {}, true, 'checked', true],
    ['where-guarded', { policy: 'require' }, true, 'checked', true],
    ['where-opened', { policy: 'require' }, true, 'checked', true],
    // Objects that only we have hashed.
    ['where-guarded', {}, false, 'checked', false],
    ['where-guarded', { policy: 'require' }, false, 'checked', false],
    ['where-opened', {}, false, 'checked', true],
    ['where-opened', { policy: 'require' }, false, 'checked', false],
    ['where-opened', {}, false, 'plain', true],
  ])(
    '%s, %j, guarded by the kernel %s: %s by passthrough %s',
    (mode, setup, guards, name, passes) => {
      const canned = serve(mode, setup, { guards });
      const nodeid = canned.resolve(name);
      for (let i = 0; i < 2; i++) {
        const { error, openFlags, backingId } = canned.open(nodeid);
        expect(error).toBe(0);
        expect(openFlags).toBe(passes ? PASSED : CACHED);
        expect(backingId).toBe(passes ? BACKING_ID : 0);
      }
      expect(asked).toEqual([passes ? 1 : 0]);
      expect(canned.problems).toEqual([]);
    },
  );

  it('says nothing of an object for a file that has none, whatever was opened before', () => {
    const canned = serve('where-opened');
    expect(canned.open(canned.resolve('plain')).backingId).toBe(BACKING_ID);
    const { handle, openFlags, backingId } = canned.open(canned.resolve('inside'));
    expect([handle, openFlags, backingId]).toEqual([0, CACHED, 0]);
  });

  it('answers READ of a file that the kernel reads by itself all the same', () => {
    const canned = serve('where-opened');
    const nodeid = canned.resolve('checked');
    const { handle } = canned.open(nodeid);
    expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, content)).toBe(0);
    expect(canned.release(nodeid, handle).error).toBe(0);
  });

  describe('of an object that the kernel does not take', () => {
    it.each([
      [Errno.ELOOP, 'the objects are on a stacked filesystem', 1],
      [Errno.EOPNOTSUPP, 'the kernel says EOPNOTSUPP', 1],
      // Not again: it would be so for every object.
      [Errno.EPERM, 'the kernel says EPERM', 0],
    ])('for errno %i serves it, and says once why', (refuses, detail, again) => {
      const canned = serve('where-opened', {}, { refuses });
      for (const name of ['plain', 'checked', 'twin', 'plain']) {
        const nodeid = canned.resolve(name);
        const { error, handle, openFlags, backingId } = canned.open(nodeid);
        expect([error, openFlags, backingId]).toEqual([0, CACHED, 0]);
        expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, content)).toBe(0);
      }
      expect(asked).toEqual([1, again, again]);
      expect(canned.problems).toEqual([{ kind: 'passthrough', nid: 0, errno: refuses, detail }]);
    });

    it('is so for a device that is not connected', () => {
      const fileTable = createFileTable(native, 8);
      const device = native.openDevice();
      expect(native.allowPassthrough(fileTable, device)).toBe(0);
      native.closeDescriptor(device);
      const basedir = native.openBasedir(objects.path);
      scope.defer(() => void native.closeDescriptor(basedir));
      const canned = new CannedServer(
        buildImage(directory({ plain: external(content.length, { redirect: '/o' }) })),
        { basedirs: [basedir], passthrough: 'where-guarded', fileTable },
      );
      const nodeid = canned.resolve('plain');
      const { error, handle, openFlags } = canned.open(nodeid);
      expect([error, openFlags]).toEqual([0, CACHED]);
      expect(canned.problems).toMatchObject([{ kind: 'passthrough', nid: 0 }]);
      canned.release(nodeid, handle);
      native.destroyFileTable(fileTable);
    });

    it('is no problem where passthrough is not allowed at all', () => {
      const basedir = native.openBasedir(objects.path);
      scope.defer(() => void native.closeDescriptor(basedir));
      const canned = new CannedServer(
        buildImage(directory({ plain: external(content.length, { redirect: '/o' }) })),
        { basedirs: [basedir], passthrough: 'where-guarded' },
      );
      expect(canned.open(canned.resolve('plain'))).toMatchObject({ error: 0, openFlags: CACHED });
      expect(canned.problems).toEqual([]);
    });
  });

  it('of a file that is open by passthrough, with another object in its place, is EIO', () => {
    const addon = addonOver({});
    const OpenFiles = function (...args: ConstructorParameters<NativeAddon['OpenFiles']>) {
      const files = new addon.OpenFiles(...args);
      return {
        ...files,
        insert: (nid: number, fd: number) => {
          native.closeDescriptor(fd);
          return nid < 0 ? 0 : -Errno.EBUSY;
        },
      };
    };
    const basedir = native.openBasedir(objects.path);
    scope.defer(() => void native.closeDescriptor(basedir));
    const canned = new CannedServer(
      buildImage(directory({ plain: external(content.length, { redirect: '/o' }) })),
      {
        basedirs: [basedir],
        passthrough: 'where-opened',
        addon: Object.create(addon, { OpenFiles: { value: OpenFiles } }) as NativeAddon,
      },
    );
    expect(canned.open(canned.resolve('plain')).error).toBe(-Errno.EIO);
    expect(canned.problems).toMatchObject([
      { kind: 'object', objectPath: 'o', detail: expect.stringContaining('--data passthrough') },
    ]);
  });
});
