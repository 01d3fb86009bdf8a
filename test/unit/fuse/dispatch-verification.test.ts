// What requests are answered where the content of files is verified: OPEN, READ and LSEEK under every
// policy, the two ioctls that tell of fs-verity, and INTERRUPT.

import { readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { FUSE_ROOT_ID, IN_HEADER, INTERRUPT_IN, Opcode } from '../../../src/fuse/abi.ts';
import type { VerificationSetup } from '../../../src/fuse/worker-setup.ts';
import { loadNative } from '../../../src/native.ts';
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
  ): CannedServer & { state: VerificationState } {
    const basedir = native.openBasedir(objects.path);
    scope.defer(() => void native.closeDescriptor(basedir));
    const state = new VerificationState();
    const canned = new CannedServer(buildImage(directory(tree)), {
      basedirs: [basedir],
      verification: { state: state.shared, ...verification },
      ...options,
    });
    return Object.assign(canned, { state });
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
      expect(countOpen()).toBe(errno === 0 && name !== 'inside' ? 2 : 0);
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
      for (const name of ['good', 'good', 'good512', 'wrong', 'wrong', 'plain', 'inside']) {
        canned.open(canned.resolve(name));
      }
      expect(canned.state.counts).toEqual({
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
      canned.open(canned.resolve('good'));
      canned.open(canned.resolve('wrong'));
      canned.open(canned.resolve('wrong'));
      expect(canned.state.counts).toMatchObject({ computed: 2, remembered: 0, refusedObjects: 3 });
      expect(canned.problems).toHaveLength(2);
    });
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
      expect(other.problems).toMatchObject([{ detail: /only 5 of 4096 bytes/ }].map(matching));
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

    it('kept objects are verified anew after they were forgotten', () => {
      const canned = serve({ at: 'read' });
      const nodeid = canned.resolve('good');
      canned.read(nodeid, 0, 0, 1);
      canned.state.forget(native);
      canned.read(nodeid, 0, 0, 1);
      expect(canned.state.counts).toMatchObject({ computed: 2, remembered: 0 });
      expect(countOpen()).toBe(1);
    });

    it('so many files are kept, and the oldest is opened again', () => {
      for (let i = 0; i < 260; i++) {
        tree[`file-${i}`] = objects.addAt(`many/${i}`, `content ${i}`);
      }
      const canned = serve({ at: 'read' });
      for (let round = 0; round < 2; round++) {
        for (let i = 0; i < 260; i++) {
          const { body } = canned.read(canned.resolve(`file-${i}`), 0, 0, 99);
          expect(Buffer.from(body).toString()).toBe(`content ${i}`);
        }
        expect(countOpen()).toBe(256);
      }
    });

    it('when no more may be open the oldest is closed, and that is no problem', () => {
      const openObjects = new SharedArrayBuffer(4);
      const canned = serve({ at: 'read' }, { openObjects, openObjectsLimit: 2 });
      for (const name of ['good', 'plain', 'good512', 'good', 'nothing', 'plain']) {
        expect(canned.read(canned.resolve(name), 0, 0, 4096).error).toBe(0);
        expect(countOpen()).toBeLessThanOrEqual(2);
      }
      expect(countOpen()).toBe(2);
      expect(canned.problems).toEqual([]);
      expect(canned.slot.filesystem.problemCount).toBe(0);
      expect(new Int32Array(openObjects)[0]).toBe(2);
    });

    it('when no more may be open because of others it is EMFILE, which is a problem', () => {
      const openObjects = new SharedArrayBuffer(4);
      const options = { openObjects, openObjectsLimit: 1 };
      const other = serve({ at: 'read' }, options);
      expect(other.read(other.resolve('good'), 0, 0, 10).error).toBe(0);
      const canned = serve({ at: 'read' }, options);
      const nodeid = canned.resolve('good');
      expect(canned.read(nodeid, 0, 0, 10).error).toBe(-Errno.EMFILE);
      expect(canned.problems).toMatchObject([{ detail: 'it cannot be opened: EMFILE' }]);
      other.state.forget(native);
      expect(other.read(other.resolve('wrong'), 0, 0, 10).error).toBe(-Errno.EIO);
      expect(canned.read(nodeid, 0, 0, 10).error).toBe(0);
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

/** For toMatchObject: strings that match. */
function matching({ detail }: { detail: RegExp }): { detail: unknown } {
  return { detail: expect.stringMatching(detail) };
}
