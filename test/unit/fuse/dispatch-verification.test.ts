// What requests are answered where the content of files is verified: OPEN, READ and LSEEK under every
// policy, the two ioctls that tell of fs-verity, and INTERRUPT.

import { readdirSync, readlinkSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { FUSE_ROOT_ID, IN_HEADER, INTERRUPT_IN, Opcode } from '../../../src/fuse/abi.ts';
import type { VerificationSetup } from '../../../src/fuse/worker-setup.ts';
import { loadNative, OBJECT_FACTS } from '../../../src/native.ts';
import { createFileTable, OpenFiles } from '../../../src/objects/open-files.ts';
import { VerificationState } from '../../../src/objects/verification.ts';
import { measureBytes } from '../../../src/verify/index.ts';
import { type CannedOptions, CannedServer } from '../../support/canned-server.ts';
import { noise, overwrite } from '../../support/guarded-objects.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, file, symlink, type TestNode } from '../../support/image-nodes.ts';
import { ObjectFolder } from '../../support/object-folder.ts';
import { describeWith, needsFuse } from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';

const native = loadNative();
const content = noise(10_000);
const large = noise(128 * 1024 + 1);
const sha256 = measureBytes(content, { engine: 'node' }).digest;
const sha512 = measureBytes(content, { engine: 'node', algorithm: 'sha512' }).digest;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

describeWith([needsFuse], 'verification by the dispatcher', () => {
  const scope = scopeOfEachTest();
  let objects: ObjectFolder;
  let tree: Record<string, TestNode>;

  beforeEach(() => {
    native.forgetObjects();
    objects = new ObjectFolder(scope.directory());
    tree = {
      good: external(content.length, { digest: sha256, redirect: '/o/good' }),
      twin: external(content.length, { digest: sha256, redirect: '/o/good' }),
      good512: external(content.length, { digest: sha512, redirect: '/o/good' }),
      wrong: external(content.length, { digest: new Uint8Array(32).fill(7), redirect: '/o/wrong' }),
      plain: external(content.length, { redirect: '/o/good' }),
      nothing: external(0, { redirect: '/o/nothing' }),
      missing: external(content.length, { digest: sha256, redirect: '/o/missing' }),
      large: external(large.length, { digest: measureBytes(large).digest, redirect: '/o/large' }),
      broken: external(5, { redirect: '/o/good' }, { metacopy: Uint8Array.of(1, 2) }),
      inside: file('in the image'),
      link: symlink('good'),
    };
    objects.write('o/good', content);
    objects.write('o/wrong', content);
    objects.write('o/nothing', new Uint8Array(0));
    objects.write('o/large', large);
  });

  function serve(
    verification: Partial<VerificationSetup> = {},
    options: CannedOptions = {},
  ): CannedServer & { state: VerificationState; files: OpenFiles } {
    const basedir = native.openBasedir(objects.path);
    scope.defer(() => void native.closeDescriptor(basedir));
    const fileTable = options.fileTable ?? createFileTable(native, 64);
    const state = new VerificationState();
    const canned = new CannedServer(buildImage(directory(tree)), {
      basedirs: [basedir],
      verification: { state: state.shared, ...verification },
      ...options,
      fileTable,
    });
    const files = new OpenFiles(native, fileTable, new BigInt64Array(OBJECT_FACTS.WORDS));
    scope.defer(() => {
      files.forget();
      native.destroyFileTable(fileTable);
    });
    return Object.assign(canned, { state, files });
  }

  /** How many objects of the folder this process has open. */
  const countOpen = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${objects.path}/`);
      } catch {
        return false;
      }
    }).length;

  describe('OPEN', () => {
    it.each([
      ['off', 'good', 0],
      ['off', 'wrong', 0],
      ['off', 'plain', 0],
      ['off', 'large', 0],
      ['if-present', 'good', 0],
      ['if-present', 'good512', 0],
      ['if-present', 'wrong', Errno.EIO],
      ['if-present', 'plain', 0],
      ['if-present', 'inside', 0],
      ['require', 'good', 0],
      ['require', 'good512', 0],
      ['require', 'wrong', Errno.EIO],
      ['require', 'plain', Errno.EIO],
      ['require', 'nothing', 0],
      ['require', 'inside', 0],
      ['require', 'missing', Errno.ENOENT],
    ] as const)('under %s answers %s with %i', (policy, name, errno) => {
      const canned = serve({ policy });
      const nodeid = canned.resolve(name);
      const { error, handle } = canned.open(nodeid);
      expect(error === 0 ? 0 : -error).toBe(errno);
      expect(canned.problems).toHaveLength(errno === 0 ? 0 : 1);
      canned.open(nodeid);
      expect(canned.problems).toHaveLength(errno === 0 ? 0 : 1);
      expect(countOpen()).toBe(errno === 0 && name !== 'inside' ? 1 : 0);
      if (errno === 0 && name !== 'inside' && name !== 'large') {
        const wanted = name === 'nothing' ? new Uint8Array(0) : content;
        expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, wanted)).toBe(0);
      }
    });

    it('tells why: the problem of a wrong digest names both', () => {
      const canned = serve();
      canned.open(canned.resolve('wrong'));
      expect(canned.problems).toEqual([
        {
          kind: 'verity',
          nid: canned.resolve('wrong') - 2,
          errno: Errno.EIO,
          objectPath: 'o/wrong',
          detail: 'it has another fs-verity digest',
          expected: `sha256:${'07'.repeat(32)}`,
          actual: `sha256:${hex(sha256)}`,
          measuredBy: 'composefs-fuse',
        },
      ]);
    });

    it('tells why: no digest, and no fs-verity where the kernel is to vouch', () => {
      const strict = serve({ policy: 'require' });
      strict.open(strict.resolve('plain'));
      expect(strict.problems).toMatchObject([
        {
          kind: 'verity',
          objectPath: 'o/good',
          detail: 'the image has no digest for it, which --verity require demands',
        },
      ]);
      const kernel = serve({ engine: 'kernel' });
      expect(kernel.open(kernel.resolve('good')).error).toBe(-Errno.EIO);
      expect(kernel.open(kernel.resolve('large')).error).toBe(-Errno.EIO);
      expect(kernel.problems.map(({ detail }) => detail)).toEqual([
        'the kernel has no fs-verity digest of it',
        'the kernel has no fs-verity digest of it',
      ]);
    });

    it('of a large object is EIO where nobody takes what lasts long', () => {
      const canned = serve();
      expect(canned.open(canned.resolve('large')).error).toBe(-Errno.EIO);
      expect(canned.bugs).toEqual([]);
      expect(countOpen()).toBe(0);
    });

    it('is counted', () => {
      const canned = serve();
      for (const name of [
        'good',
        'good',
        'twin',
        'good512',
        'wrong',
        'wrong',
        'plain',
        'plain',
        'inside',
      ]) {
        canned.open(canned.resolve(name));
      }
      expect(canned.state.counts).toEqual({
        reopened: 2,
        byKernel: 0,
        computed: 2,
        remembered: 1,
        refusedObjects: 2,
        refusedReads: 0,
      });
    });

    it('verifies anew what was forgotten, and reports it again', () => {
      const canned = serve();
      canned.open(canned.resolve('good'));
      canned.open(canned.resolve('wrong'));
      expect(canned.state.forget(native)).toBe(2);
      canned.files.forget();
      canned.open(canned.resolve('good'));
      canned.open(canned.resolve('wrong'));
      canned.open(canned.resolve('wrong'));
      expect(canned.state.counts).toMatchObject({ computed: 2, remembered: 0, refusedObjects: 3 });
      expect(canned.state.counts.reopened).toBe(0);
      expect(canned.problems).toHaveLength(2);
      canned.open(canned.resolve('good'));
      expect(canned.state.counts).toMatchObject({ reopened: 1, computed: 2 });
    });
  });

  describe('an object that was open before', () => {
    it('is found open: no path is walked, nothing is verified', () => {
      const canned = serve();
      const nodeid = canned.resolve('good');
      const first = canned.open(nodeid);
      canned.release(nodeid, first.handle);
      expect(countOpen()).toBe(1);
      // Says nothing about the object itself.
      renameSync(objects.at('o'), objects.at('elsewhere'));
      native.forgetObjects();
      const second = canned.open(nodeid);
      expect(second).toEqual(first);
      expect(Buffer.compare(canned.read(nodeid, second.handle, 0, 20_000).body, content)).toBe(0);
      expect(canned.state.counts).toMatchObject({ reopened: 1, computed: 1, remembered: 0 });
      expect(canned.open(canned.resolve('twin')).error).toBe(-Errno.ENOENT);
      expect(canned.release(nodeid, second.handle).error).toBe(0);
      expect(canned.release(nodeid, second.handle).error).toBe(-Errno.EBADF);
      expect(countOpen()).toBe(1);
    });

    it('and was removed is read by who has it open, and by nobody else', () => {
      const canned = serve();
      const nodeid = canned.resolve('good');
      const { handle } = canned.open(nodeid);
      rmSync(objects.at('o/good'));
      expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, content)).toBe(0);
      // Its ctime has moved with the number of its links.
      expect(canned.open(nodeid).error).toBe(-Errno.ENOENT);
      expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, content)).toBe(0);
      objects.write('o/good', content);
      const again = canned.open(nodeid);
      expect(again.error).toBe(0);
      expect(again.handle).not.toBe(handle);
      expect(countOpen()).toBe(2);
      for (const one of [handle, again.handle]) {
        expect(Buffer.compare(canned.read(nodeid, one, 0, 20_000).body, content)).toBe(0);
      }
      canned.release(nodeid, handle);
      canned.release(nodeid, again.handle);
      expect(countOpen()).toBe(1);
    });

    it.each([
      ['a good one', content, 0],
      ['a wrong one', noise(content.length, 'other'), Errno.EIO],
      ['a short one', content.subarray(1), Errno.EIO],
    ])('and was replaced by %s is verified anew by the next OPEN', (_title, bytes, errno) => {
      const canned = serve();
      const nodeid = canned.resolve('good');
      const { handle } = canned.open(nodeid);
      writeFileSync(objects.at('o/next'), bytes);
      renameSync(objects.at('o/next'), objects.at('o/good'));
      const next = canned.open(nodeid);
      expect(next.error === 0 ? 0 : -next.error).toBe(errno);
      expect(canned.problems).toHaveLength(errno === 0 ? 0 : 1);
      expect(Buffer.compare(canned.read(nodeid, handle, 0, 20_000).body, content)).toBe(0);
      if (errno === 0) canned.release(nodeid, next.handle);
      canned.release(nodeid, handle);
      expect(canned.state.counts.reopened).toBe(0);
      // One that has changed is closed when it is found out.
      canned.open(nodeid);
      expect(countOpen()).toBe(errno === 0 ? 1 : 0);
    });

    it('and was changed in place is verified anew by the next OPEN', async () => {
      const canned = serve();
      const nodeid = canned.resolve('good');
      const { handle } = canned.open(nodeid);
      await sleep(20);
      overwrite(objects.at('o/good'), 5, noise(1, 'other'));
      expect(canned.open(nodeid).error).toBe(-Errno.EIO);
      expect(canned.read(nodeid, handle, 0, 10).error).toBe(-Errno.EIO);
      expect(canned.read(nodeid, handle, 4096, 10).error).toBe(0);
      expect(countOpen()).toBe(1);
      overwrite(objects.at('o/good'), 5, content.subarray(5, 6));
      const again = canned.open(nodeid);
      expect(again.error).toBe(0);
      for (const one of [handle, again.handle]) {
        expect(Buffer.compare(canned.read(nodeid, one, 0, 20_000).body, content)).toBe(0);
        canned.release(nodeid, one);
      }
      expect(canned.state.counts).toMatchObject({ reopened: 0, computed: 2, refusedObjects: 1 });
      expect(countOpen()).toBe(1);
    });

    it('and only its times have changed is verified anew as well', async () => {
      const canned = serve();
      const nodeid = canned.resolve('good');
      canned.release(nodeid, canned.open(nodeid).handle);
      await sleep(20);
      utimesSync(objects.at('o/good'), 1, 1);
      canned.release(nodeid, canned.open(nodeid).handle);
      expect(canned.state.counts).toMatchObject({ reopened: 0, computed: 2 });
      expect(countOpen()).toBe(1);
    });

    it('is shared by servers, each for its own readers', () => {
      const fileTable = createFileTable(native, 8);
      const one = serve({}, { fileTable });
      const other = serve({ state: one.state.shared }, { fileTable });
      const nodeid = one.resolve('good');
      const first = one.open(nodeid);
      expect(other.open(nodeid)).toEqual(first);
      one.release(nodeid, first.handle);
      expect(Buffer.compare(other.read(nodeid, first.handle, 0, 20_000).body, content)).toBe(0);
      expect(other.release(nodeid, first.handle).error).toBe(0);
      expect(one.state.counts).toMatchObject({ reopened: 1, computed: 1, remembered: 0 });
      expect(countOpen()).toBe(1);
    });
  });

  it('OPEN of more objects than may be open is EMFILE, one problem, until one is released', () => {
    const canned = serve({}, { fileTable: native.createFileTable(1, 1) });
    const [good, plain] = [canned.resolve('good'), canned.resolve('plain')];
    const { handle } = canned.open(good);
    expect(canned.open(good).error).toBe(0);
    for (let i = 0; i < 2; i++) expect(canned.open(plain).error).toBe(-Errno.EMFILE);
    expect(canned.problems).toMatchObject([{ detail: 'it cannot be opened: EMFILE' }]);
    canned.release(good, handle);
    expect(canned.open(plain).error).toBe(-Errno.EMFILE);
    canned.release(good, handle);
    expect(countOpen()).toBe(1);
    expect(canned.open(plain).error).toBe(0);
    expect(canned.open(good).error).toBe(-Errno.EMFILE);
    expect(countOpen()).toBe(1);
  });

  it.each([
    ['if-present', 0, 1 << 17],
    ['off', 1 << 16, 0],
  ] as const)('LSEEK under %s finds data at %i and a hole at %i', (policy, data, hole) => {
    const bytes = new Uint8Array(1 << 17);
    bytes.set(Buffer.from('data'), 1 << 16);
    objects.addSparse('o/sparse', bytes.length, [[1 << 16, 'data']]);
    const { digest } = measureBytes(bytes);
    tree['sparse'] = external(bytes.length, { digest, redirect: '/o/sparse' });
    const canned = serve({ policy });
    const nodeid = canned.resolve('sparse');
    const { error, handle } = canned.open(nodeid);
    expect(error).toBe(0);
    const seek = (whence: number): bigint =>
      canned.lseek(nodeid, handle, 0, whence).view.getBigUint64(0, true);
    expect([seek(3), seek(4)]).toEqual([BigInt(data), BigInt(hole)]);
  });

  it('READ of a block that changed after OPEN is EIO, once a problem, and others are read', () => {
    const path = objects.write('o/blocks', noise(100_000));
    const { digest } = measureBytes(noise(100_000));
    tree['blocks'] = external(100_000, { digest, redirect: '/o/blocks' });
    const canned = serve();
    const nodeid = canned.resolve('blocks');
    const { handle } = canned.open(nodeid);
    overwrite(path, 50_000, Uint8Array.of(noise(100_000)[50_000]! ^ 1));
    for (let i = 0; i < 2; i++) {
      expect(canned.read(nodeid, handle, 49_152, 4096).error).toBe(-Errno.EIO);
    }
    expect(canned.read(nodeid, handle, 0, 4096).error).toBe(0);
    expect(canned.problems).toEqual([
      {
        kind: 'verity',
        nid: nodeid - 2,
        errno: Errno.EIO,
        objectPath: 'o/blocks',
        detail: 'it has changed since it was verified (seen when reading at offset 49152)',
        expected: `sha256:${hex(digest)}`,
        measuredBy: 'composefs-fuse',
      },
    ]);
    expect(canned.state.counts).toMatchObject({ refusedReads: 2, refusedObjects: 0 });
    canned.release(nodeid, handle);
  });

  describe('where files are opened by their first READ', () => {
    it.each(['good', 'plain', 'inside', 'wrong', 'missing'])('OPEN of %s is ENOSYS', (name) => {
      const canned = serve({ at: 'read' });
      for (const flags of [0, 1, 2]) {
        expect(canned.open(canned.resolve(name), flags).error).toBe(-Errno.ENOSYS);
      }
      expect(canned.problems).toEqual([]);
      expect(countOpen()).toBe(0);
    });

    it('READ without a handle opens, verifies and keeps the object', () => {
      const canned = serve({ at: 'read' });
      const nodeid = canned.resolve('good');
      for (const [offset, size] of [
        [0, 4096],
        [8000, 4096],
        [1, 1],
        [10_000, 10],
        [0, 100_000],
      ] as const) {
        const { error, body } = canned.read(nodeid, 0, offset, size);
        expect(error).toBe(0);
        expect(Buffer.compare(body, content.subarray(offset, offset + size))).toBe(0);
      }
      expect(canned.state.counts).toMatchObject({ computed: 1, remembered: 0 });
      expect(countOpen()).toBe(1);
      expect(canned.release(nodeid, 0).error).toBe(0);
      expect(countOpen()).toBe(1);
      expect(Buffer.from(canned.read(canned.resolve('inside'), 0, 3, 99).body).toString()).toBe(
        'the image',
      );
    });

    it.each([
      ['wrong', Errno.EIO, 'it has another fs-verity digest'],
      ['missing', Errno.ENOENT, 'it is in no base directory'],
    ])('READ of %s is errno %i, one problem', (name, errno, detail) => {
      const canned = serve({ at: 'read' });
      for (let i = 0; i < 3; i++) {
        expect(canned.read(canned.resolve(name), 0, 0, 4096).error).toBe(-errno);
      }
      expect(canned.problems).toMatchObject([{ errno, detail }]);
      expect(countOpen()).toBe(0);
    });

    it('READ behind the end needs no object', () => {
      const canned = serve({ at: 'read' });
      expect(canned.read(canned.resolve('wrong'), 0, 10_000, 4096).body).toHaveLength(0);
      expect(canned.problems).toEqual([]);
    });

    it('READ of a block that changed is EIO until there is a good object again', () => {
      const canned = serve({ at: 'read' });
      const nodeid = canned.resolve('good');
      const read = () => canned.read(nodeid, 0, 0, 4096);
      expect(read().error).toBe(0);
      overwrite(objects.at('o/good'), 5, noise(1, 'other'));
      expect(read().error).toBe(-Errno.EIO);
      expect(read().error).toBe(-Errno.EIO);
      expect(canned.problems).toHaveLength(1);
      const rest = canned.read(nodeid, 0, 4096, 10_000);
      expect(Buffer.compare(rest.body, content.subarray(4096))).toBe(0);
      expect(countOpen()).toBe(1);
      // The object that is read by others who have it open does not matter.
      writeFileSync(objects.at('o/next'), content);
      renameSync(objects.at('o/next'), objects.at('o/good'));
      const { error, body } = read();
      expect(error).toBe(0);
      expect(Buffer.compare(body, content.subarray(0, 4096))).toBe(0);
      expect(countOpen()).toBe(1);
    });

    it('READ of an object that was cut is EIO until it is whole again', () => {
      const canned = serve({ policy: 'off', at: 'read' });
      const nodeid = canned.resolve('good');
      expect(canned.read(nodeid, 0, 0, 4096).error).toBe(0);
      rmSync(objects.at('o/good'));
      expect(canned.read(nodeid, 0, 0, 4096).error).toBe(0);
      objects.write('o/good', content);
      const other = serve({ policy: 'off', at: 'read' });
      expect(other.read(nodeid, 0, 0, 4096).error).toBe(0);
      writeFileSync(objects.at('o/good'), 'short');
      expect(other.read(nodeid, 0, 0, 4096).error).toBe(-Errno.EIO);
      expect(other.problems).toMatchObject([{ detail: 'it has 5 bytes instead of 10000' }]);
      expect(other.read(nodeid, 0, 0, 4096).error).toBe(-Errno.EIO);
      writeFileSync(objects.at('o/good'), content);
      expect(other.read(nodeid, 0, 0, 4096).error).toBe(0);
    });

    it('LSEEK without a handle finds data and holes of the object', () => {
      const canned = serve({ at: 'read' });
      const [SEEK_DATA, SEEK_HOLE] = [3, 4];
      const nodeid = canned.resolve('good');
      expect(canned.lseek(nodeid, 0, 5, SEEK_DATA).view.getBigUint64(0, true)).toBe(5n);
      expect(canned.lseek(nodeid, 0, 5, SEEK_HOLE).view.getBigUint64(0, true)).toBe(10_000n);
      expect(canned.lseek(nodeid, 0, 10_000, SEEK_DATA).error).toBe(-Errno.ENXIO);
      expect(canned.lseek(canned.resolve('wrong'), 0, 0, SEEK_DATA).error).toBe(-Errno.EIO);
      expect(canned.lseek(canned.resolve('missing'), 0, 0, SEEK_HOLE).error).toBe(-Errno.ENOENT);
      const sparse = objects.addSparse('o/sparse', 1 << 20, [[1 << 19, 'data']]);
      tree['sparse'] = sparse;
      const other = serve({ at: 'read' });
      const found = other.lseek(other.resolve('sparse'), 0, 0, SEEK_DATA);
      expect(found.view.getBigUint64(0, true)).toBe(1n << 19n);
    });

    it('READ of an object that was removed goes on', () => {
      const canned = serve({ at: 'read' });
      const nodeid = canned.resolve('good');
      expect(canned.read(nodeid, 0, 0, 10).error).toBe(0);
      rmSync(objects.at('o/good'));
      expect(Buffer.compare(canned.read(nodeid, 0, 0, 20_000).body, content)).toBe(0);
      expect(canned.read(canned.resolve('twin'), 0, 0, 10).error).toBe(-Errno.ENOENT);
    });

    it('open objects are verified anew after they were forgotten', () => {
      const canned = serve({ at: 'read' });
      const nodeid = canned.resolve('good');
      canned.read(nodeid, 0, 0, 1);
      canned.state.forget(native);
      canned.files.forget();
      expect(countOpen()).toBe(0);
      canned.read(nodeid, 0, 0, 1);
      expect(canned.state.counts).toMatchObject({ computed: 2, remembered: 0 });
      expect(countOpen()).toBe(1);
    });

    it('so many files stay open, and the oldest is opened again', () => {
      for (let i = 0; i < 20; i++) {
        tree[`file-${i}`] = objects.addAt(`many/${i}`, `content ${i}`);
      }
      const canned = serve({ at: 'read' }, { fileTable: native.createFileTable(30, 15) });
      for (let round = 0; round < 2; round++) {
        for (let i = 0; i < 20; i++) {
          const { body } = canned.read(canned.resolve(`file-${i}`), 0, 0, 99);
          expect(Buffer.from(body).toString()).toBe(`content ${i}`);
        }
        expect(countOpen()).toBe(15);
      }
    });

    it('when no more may be open the oldest is closed, and that is no problem', () => {
      const canned = serve({ at: 'read' }, { fileTable: native.createFileTable(2, 2) });
      for (const name of ['good', 'plain', 'good512', 'good', 'nothing', 'plain']) {
        expect(canned.read(canned.resolve(name), 0, 0, 4096).error).toBe(0);
        expect(countOpen()).toBeLessThanOrEqual(2);
      }
      expect(countOpen()).toBe(2);
      expect(canned.problems).toEqual([]);
      expect(canned.slot.filesystem.problemCount).toBe(0);
    });
  });

  describe('requests that last long', () => {
    function deferring(verification: Partial<VerificationSetup> = {}) {
      const deferred: { request: Uint8Array; nid: number }[] = [];
      const interrupted: bigint[] = [];
      const canned = serve(verification, {
        deferrals: {
          defer: (request, nid) => deferred.push({ request, nid }),
          interrupt: (unique) => interrupted.push(unique),
        },
      });
      return { canned, deferred, interrupted };
    }

    it('are handed over whole, as a copy, with the file they are about', () => {
      const { canned, deferred } = deferring();
      const nodeid = canned.resolve('large');
      const body = Uint8Array.from([0, 0x80, 0, 0, 5, 6, 7, 8]);
      canned.unique = 0xfedc_ba98_7654_3210n;
      canned.pid = 4321;
      expect(canned.send(Opcode.OPEN, nodeid, body)).toBeUndefined();
      canned.lookup(FUSE_ROOT_ID, 'something else that is written over it');
      expect(deferred).toHaveLength(1);
      const { request, nid } = deferred[0]!;
      expect(nid).toBe(nodeid - 2);
      expect(request.buffer).not.toBe(canned.requestBytes.buffer);
      expect(request).toHaveLength(IN_HEADER.SIZE + 8);
      const view = new DataView(request.buffer, request.byteOffset);
      expect(view.getUint32(IN_HEADER.LEN, true)).toBe(request.length);
      expect(view.getUint32(IN_HEADER.OPCODE, true)).toBe(Opcode.OPEN);
      expect(view.getBigUint64(IN_HEADER.UNIQUE, true)).toBe(0xfedc_ba98_7654_3210n);
      expect(view.getBigUint64(IN_HEADER.NODEID, true)).toBe(BigInt(nodeid));
      expect(view.getUint32(IN_HEADER.PID, true)).toBe(4321);
      expect(request.slice(IN_HEADER.SIZE)).toEqual(body);
      expect(countOpen()).toBe(0);
    });

    it('are READ and LSEEK as well where there is no OPEN', () => {
      const { canned, deferred } = deferring({ at: 'read' });
      const nodeid = canned.resolve('large');
      expect(canned.send(Opcode.READ, nodeid, canned.readBody(0, 0, 10))).toBeUndefined();
      expect(
        canned.send(
          Opcode.LSEEK,
          nodeid,
          Uint8Array.of(...Array(16).fill(0), 3, 0, 0, 0, 0, 0, 0, 0),
        ),
      ).toBeUndefined();
      expect(deferred).toHaveLength(2);
    });

    it('are none that can be answered', () => {
      const { canned, deferred } = deferring();
      for (const name of ['good', 'wrong', 'plain', 'missing', 'inside', 'link']) {
        canned.open(canned.resolve(name));
      }
      const off = deferring({ policy: 'off' });
      expect(off.canned.open(off.canned.resolve('large')).error).toBe(0);
      expect([...deferred, ...off.deferred]).toEqual([]);
    });

    it('can be interrupted, by all 64 bits of their id', () => {
      const { canned, interrupted } = deferring();
      const body = new Uint8Array(INTERRUPT_IN.SIZE);
      for (const unique of [2n, 0x8000_0000_0000_0002n, 0xffff_fffe_ffff_fffen]) {
        new DataView(body.buffer).setBigUint64(INTERRUPT_IN.UNIQUE, unique, true);
        expect(canned.send(Opcode.INTERRUPT, 0, body)).toBeUndefined();
      }
      expect(interrupted).toEqual([2n, 0x8000_0000_0000_0002n, 0xffff_fffe_ffff_fffen]);
      // One that is cut off interrupts nothing.
      expect(canned.request(Opcode.INTERRUPT, 0, new Uint8Array(7)).error).toBe(-Errno.EIO);
      expect(interrupted).toHaveLength(3);
    });

    it('INTERRUPT is ENOSYS, and never sent again, where nothing lasts long', () => {
      const canned = serve();
      const body = new Uint8Array(INTERRUPT_IN.SIZE);
      expect(canned.request(Opcode.INTERRUPT, 0, body).error).toBe(-Errno.ENOSYS);
    });
  });

  describe('IOCTL', () => {
    const FS_IOC_GETFLAGS = 0x8008_6601;
    const FS_IOC_SETFLAGS = 0x4008_6602;
    const FS_IOC_MEASURE_VERITY = 0xc004_6686;
    const FS_IOC_ENABLE_VERITY = 0x4080_6685;
    const TCGETS = 0x5401;
    const zeros = (count: number): number[] => Array<number>(count).fill(0);

    /** struct fsverity_digest with room for `room` bytes, as Linux 6.10 sends it. */
    const digestBuffer = (room: number): Uint8Array =>
      Uint8Array.from([9, 9, room & 0xff, room >> 8, ...Array<number>(room).fill(9)]);

    const measure = (canned: CannedServer, name: string, input: Uint8Array, outSize?: number) =>
      canned.ioctl(
        name === '' ? FUSE_ROOT_ID : canned.resolve(name),
        FS_IOC_MEASURE_VERITY,
        input,
        outSize,
      );

    it.each([
      ['good', 32, 1, sha256],
      ['good', 64, 1, sha256],
      ['good', 300, 1, sha256],
      ['good512', 64, 2, sha512],
      ['wrong', 32, 1, new Uint8Array(32).fill(7)],
      ['large', 32, 1, measureBytes(large).digest],
      ['missing', 64, 1, sha256],
    ] as const)(
      'tells the digest of %s with room for %i bytes',
      (name, room, algorithm, digest) => {
        const canned = serve();
        const nodeid = canned.resolve(name);
        canned.slot.reply.bytes.fill(0xee);
        const { error, body } = canned.ioctl(nodeid, FS_IOC_MEASURE_VERITY, digestBuffer(room));
        expect(error).toBe(0);
        expect([...body]).toEqual([...zeros(16), algorithm, 0, digest.length, 0, ...digest]);
        expect(canned.problems).toEqual([]);
      },
    );

    it.each([
      ['good', 31, Errno.EOVERFLOW],
      ['good', 0, Errno.EOVERFLOW],
      ['good512', 63, Errno.EOVERFLOW],
      ['good512', 32, Errno.EOVERFLOW],
      ['plain', 64, Errno.ENODATA],
      ['plain', 0, Errno.ENODATA],
      ['inside', 64, Errno.ENODATA],
      ['link', 64, Errno.ENODATA],
      ['nothing', 64, Errno.ENODATA],
      ['', 64, Errno.ENODATA],
      ['broken', 64, Errno.EIO],
    ] as const)('of the digest of "%s" with room for %i bytes is errno %i', (name, room, errno) => {
      expect(measure(serve(), name, digestBuffer(room)).error).toBe(-errno);
    });

    it('of a digest is ENOTTY from a kernel before 6.10, which has room for 4 bytes only', () => {
      const canned = serve();
      const input = digestBuffer(32);
      expect(measure(canned, 'good', input.slice(0, 4), 4).error).toBe(-Errno.ENOTTY);
      expect(measure(canned, 'good', input, 35).error).toBe(-Errno.ENOTTY);
      expect(measure(canned, 'good', input, 36).error).toBe(0);
      expect(measure(canned, 'good', digestBuffer(31).slice(0, 4), 4).error).toBe(-Errno.EOVERFLOW);
      expect(measure(canned, 'plain', input.slice(0, 4), 4).error).toBe(-Errno.ENODATA);
    });

    it.each([0, 3])('of a digest without a size, in %i bytes, is EINVAL', (length) => {
      expect(measure(serve(), 'good', new Uint8Array(length), 64).error).toBe(-Errno.EINVAL);
    });

    it.each(['good', 'good512', 'wrong', 'missing'])('says that %s is verified', (name) => {
      const canned = serve();
      const nodeid = canned.resolve(name);
      canned.slot.reply.bytes.fill(0xee);
      const { error, body } = canned.ioctl(nodeid, FS_IOC_GETFLAGS, new Uint8Array(0), 4);
      expect(error).toBe(0);
      expect([...body]).toEqual([...zeros(16), 0, 0, 0x10, 0]);
    });

    it.each(['plain', 'inside', 'link', 'nothing', ''])('has no flags for "%s"', (name) => {
      const canned = serve();
      const nodeid = name === '' ? FUSE_ROOT_ID : canned.resolve(name);
      canned.slot.reply.bytes.fill(0xee);
      const { body } = canned.ioctl(nodeid, FS_IOC_GETFLAGS, new Uint8Array(0), 8);
      expect([...body]).toEqual(zeros(20));
    });

    it('is EINVAL for flags without room, EIO for a reference that is damaged', () => {
      const canned = serve();
      const flags = (name: string, outSize: number): number =>
        canned.ioctl(canned.resolve(name), FS_IOC_GETFLAGS, new Uint8Array(0), outSize).error;
      expect(flags('good', 3)).toBe(-Errno.EINVAL);
      expect(flags('good', 0)).toBe(-Errno.EINVAL);
      expect(flags('broken', 4)).toBe(-Errno.EIO);
    });

    it('tells nothing where nothing is verified', () => {
      const canned = serve({ policy: 'off' });
      expect(measure(canned, 'good', digestBuffer(64)).error).toBe(-Errno.ENODATA);
      const { body } = canned.ioctl(canned.resolve('good'), FS_IOC_GETFLAGS, new Uint8Array(0), 4);
      expect([...body]).toEqual(zeros(20));
    });

    it('tells it under require, and for whatever engine, as well', () => {
      for (const setup of [{ policy: 'require' }, { engine: 'kernel' }, { at: 'read' }] as const) {
        expect(measure(serve(setup), 'good', digestBuffer(32)).error).toBe(0);
      }
    });

    it.each([FS_IOC_SETFLAGS, FS_IOC_ENABLE_VERITY, TCGETS, 0, FS_IOC_MEASURE_VERITY - 1])(
      '%i is ENOTTY',
      (command) => {
        const canned = serve();
        const nodeid = canned.resolve('good');
        expect(canned.ioctl(nodeid, command, digestBuffer(64)).error).toBe(-Errno.ENOTTY);
      },
    );

    it('is EUCLEAN about a file that does not exist, and EIO when it is cut off', () => {
      const canned = serve();
      for (const command of [FS_IOC_MEASURE_VERITY, FS_IOC_GETFLAGS]) {
        expect(canned.ioctl(2 ** 40, command, digestBuffer(64)).error).toBe(-Errno.EUCLEAN);
      }
      expect(canned.request(Opcode.IOCTL, FUSE_ROOT_ID, new Uint8Array(31)).error).toBe(-Errno.EIO);
      expect(canned.bugs).toEqual([]);
    });
  });
});
