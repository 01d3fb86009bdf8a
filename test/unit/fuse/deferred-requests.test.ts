// Requests that one server hands over because an object must be hashed first, and another one answers
// when that is done. Both are the real thing over real objects; only the session is a recorder.

import { readdirSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { INTERRUPT_IN, LSEEK_IN, OPEN_OUT, Opcode, OUT_HEADER } from '../../../src/fuse/abi.ts';
import { type DeferredRequest, DeferredRequests } from '../../../src/fuse/deferred-requests.ts';
import type { VerificationSetup } from '../../../src/fuse/worker-setup.ts';
import {
  loadNative,
  type NativeAddon,
  type NativeSession,
  OBJECT_FACTS,
  VERITY_STATUS,
} from '../../../src/native.ts';
import { createFileTable, OpenFiles } from '../../../src/objects/open-files.ts';
import { VerificationState } from '../../../src/objects/verification.ts';
import { waitUntil } from '../../support/command.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { noise } from '../../support/guarded-objects.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, type TestExternal } from '../../support/image-nodes.ts';
import { ObjectFolder, verityDigest } from '../../support/object-folder.ts';
import { describeWith, needsFuse } from '../../support/requirements.ts';
import { scopeOfEachTest } from '../../support/scope.ts';

const native = loadNative();
/** What a descriptor of this process is of; one that has just been closed is of nothing. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

const DEVICE = 77;
const SIZE = 300_000;
const content = noise(SIZE);

interface Sent {
  device: number;
  unique: bigint;
  error: number;
  body: Buffer;
}

type Measure = NativeAddon['measureObject'];

describeWith([needsFuse], 'deferred requests', () => {
  const scope = scopeOfEachTest();
  let objects: ObjectFolder;
  let tree: Record<string, TestExternal>;
  let sent: Sent[];
  let measured: BigInt64Array[];
  /** What is done instead of measuring; given the real thing. */
  let meddle: (measure: () => Promise<number>, attempt: number) => Promise<number>;
  let served: Promise<void>[];
  let closedSessions: number;
  /** Whether interrupted callers want no answer any more. */
  let givesUp: boolean;

  beforeEach(() => {
    givesUp = true;
    native.forgetObjects();
    objects = new ObjectFolder(scope.directory());
    tree = {
      large: objects.add(content),
      wrong: external(SIZE, { digest: new Uint8Array(32), redirect: '/aa/wrong' }),
    };
    tree['twin'] = { ...tree['large']! };
    objects.write('aa/wrong', content);
    sent = [];
    measured = [];
    served = [];
    closedSessions = 0;
    meddle = (measure) => measure();
  });

  /** Path of the object of `large`. */
  const largePath = (): string => objects.at(String(tree['large']!.redirect));

  /** `worker` hands over to `deferred`, which has `main` dispatch and the recorder reply. */
  function serve(verification: Partial<VerificationSetup> = {}) {
    const image = buildImage(directory(tree));
    const basedir = native.openBasedir(objects.path);
    scope.defer(() => void native.closeDescriptor(basedir));
    const state = new VerificationState();
    const fileTable = createFileTable(native, 64);
    const files = new OpenFiles(native, fileTable, new BigInt64Array(OBJECT_FACTS.WORDS));
    scope.defer(() => {
      files.forget();
      native.destroyFileTable(fileTable);
    });
    const options = {
      basedirs: [basedir],
      fileTable,
      verification: { ...verification, state: state.shared },
    };
    const measureObject: Measure = (fd, facts, algorithm, words) => {
      measured.push(words);
      // As the addon does: the caller closes its descriptor at once.
      const copy = native.duplicate(fd);
      const measure = (): Promise<number> => native.measureObject(copy, facts, algorithm, words);
      const done = meddle(measure, measured.length);
      return done.finally(() => void native.closeDescriptor(copy));
    };
    const main = new CannedServer(image, {
      ...options,
      deferrals: { defer: () => {}, interrupt: () => {} },
    });
    const { slot, dispatcher } = main;
    const session = {
      replyOn: (device: number, length: number) => {
        const reply = Buffer.from(slot.reply.bytes.subarray(0, length));
        sent.push({
          device,
          unique: reply.readBigUInt64LE(OUT_HEADER.UNIQUE),
          error: reply.readInt32LE(OUT_HEADER.ERROR),
          body: reply.subarray(OUT_HEADER.SIZE),
        });
        expect(reply.readUInt32LE(OUT_HEADER.LEN)).toBe(length);
        return 0;
      },
      close: () => closedSessions++,
    };
    const addon = Object.create(native, { measureObject: { value: measureObject } }) as NativeAddon;
    // Only these two methods of a session are used.
    const server = { slot, dispatcher, session: session as unknown as NativeSession };
    const deferred = new DeferredRequests(
      addon,
      () => {},
      server,
      () => givesUp,
    );
    const handedOver: DeferredRequest[] = [];
    const worker = new CannedServer(image, {
      ...options,
      deferrals: {
        defer: (request, nid) => {
          handedOver.push({ request, nid, device: DEVICE });
          served.push(deferred.serve(handedOver.at(-1)!));
        },
        interrupt: (unique) => deferred.interrupt(unique),
      },
    });
    return { main, worker, deferred, handedOver, state, files };
  }

  function open(worker: CannedServer, name: string, unique: bigint): void {
    const nodeid = worker.resolve(name);
    worker.unique = unique;
    expect(worker.send(Opcode.OPEN, nodeid, new Uint8Array(8))).toBeUndefined();
  }

  function interrupt(worker: CannedServer, unique: bigint): void {
    const body = new Uint8Array(INTERRUPT_IN.SIZE);
    new DataView(body.buffer).setBigUint64(INTERRUPT_IN.UNIQUE, unique, true);
    worker.unique = unique | 1n;
    expect(worker.send(Opcode.INTERRUPT, 0, body)).toBeUndefined();
  }

  /** Measurements do not begin before the returned function is called. */
  function holdBack(): () => void {
    let letGo!: () => void;
    const gate = new Promise<void>((resolve) => (letGo = resolve));
    meddle = (measure) => gate.then(measure);
    return letGo;
  }

  const handleOf = ({ error, body }: Sent): number => {
    expect(error).toBe(0);
    expect(body.length).toBe(OPEN_OUT.SIZE);
    return Number(body.readBigUInt64LE(OPEN_OUT.FH));
  };

  /** Descriptors of files in the folder; those of earlier tests go whenever they are collected. */
  const countDescriptors = (): number =>
    readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).startsWith(`${objects.path}/`)).length;

  afterEach(() => {
    expect(sent.every(({ device }) => device === DEVICE)).toBe(true);
  });

  it('OPEN of a large object is answered on the device it came from, with a good handle', async () => {
    const { worker, main, handedOver, state, files } = serve();
    const before = countDescriptors();
    const unique = 0x8000_0000_0000_0044n;
    open(worker, 'large', unique);
    expect(sent).toEqual([]);
    expect(worker.problems).toEqual([]);
    await served[0];
    expect(sent.map((reply) => reply.unique)).toEqual([unique]);
    const handle = handleOf(sent[0]!);
    const nodeid = worker.resolve('large');
    const got = worker.read(nodeid, handle, 1000, SIZE);
    expect(Buffer.compare(got.body, content.subarray(1000))).toBe(0);
    // It is guarded in every thread.
    writeFileSync(largePath(), Buffer.alloc(SIZE));
    expect(worker.read(nodeid, handle, 0, 10).error).toBe(-Errno.EIO);
    expect(worker.release(nodeid, handle).error).toBe(0);
    expect(files.trim()).toBe(true);
    expect(countDescriptors()).toBe(before);
    expect(main.problems).toEqual([]);
    expect(handedOver).toHaveLength(1);
    expect(handedOver[0]!.nid + 2).toBe(nodeid);
    expect(state.counts).toMatchObject({ computed: 1, remembered: 1, refusedReads: 1 });
  });

  it('the second OPEN of the object is answered at once', async () => {
    const { worker } = serve();
    open(worker, 'large', 4n);
    await served[0];
    const nodeid = worker.resolve('twin');
    const { error, handle } = worker.open(nodeid);
    expect(error).toBe(0);
    expect(handle).toBeGreaterThan(0);
    expect(measured).toHaveLength(1);
    worker.release(nodeid, handle);
    worker.release(worker.resolve('large'), handleOf(sent[0]!));
  });

  it('all who wait for one object share one measurement', async () => {
    const { worker, state } = serve();
    const letGo = holdBack();
    open(worker, 'large', 4n);
    open(worker, 'twin', 6n);
    open(worker, 'large', 8n);
    expect(measured).toHaveLength(1);
    letGo();
    await Promise.all(served);
    expect(measured).toHaveLength(1);
    expect(new Set(sent.map(({ unique }) => unique))).toEqual(new Set([4n, 6n, 8n]));
    // One descriptor for each file.
    const handles = sent.map(handleOf);
    expect(new Set(handles).size).toBe(2);
    expect(state.counts).toMatchObject({ computed: 1, remembered: 2, reopened: 1 });
    const statuses = sent.map(({ unique }, i) => {
      const nodeid = worker.resolve(unique === 6n ? 'twin' : 'large');
      return worker.release(nodeid, handles[i]!).error;
    });
    expect(statuses).toEqual([0, 0, 0]);
  });

  it('a wrong digest is EIO, and one problem however often it is asked for', async () => {
    const { worker, main, state } = serve();
    const before = countDescriptors();
    const letGo = holdBack();
    open(worker, 'wrong', 4n);
    open(worker, 'wrong', 6n);
    letGo();
    await Promise.all(served);
    expect(sent.map(({ error }) => error)).toEqual([-Errno.EIO, -Errno.EIO]);
    expect(sent.every(({ body }) => body.length === 0)).toBe(true);
    expect(main.problems).toEqual([
      {
        kind: 'verity',
        nid: worker.resolve('wrong') - 2,
        errno: Errno.EIO,
        objectPath: 'aa/wrong',
        detail: 'it has another fs-verity digest',
        expected: `sha256:${'00'.repeat(32)}`,
        actual: `sha256:${Buffer.from(verityDigest(content)).toString('hex')}`,
        measuredBy: 'composefs-fuse',
      },
    ]);
    expect(worker.problems).toEqual([]);
    expect(state.counts).toMatchObject({ computed: 1, remembered: 0, refusedObjects: 2 });
    // By now it is known.
    expect(worker.open(worker.resolve('wrong')).error).toBe(-Errno.EIO);
    expect(measured).toHaveLength(1);
    expect(countDescriptors()).toBe(before);
  });

  describe('INTERRUPT', () => {
    /** Lets measurements begin. */
    let letGo: () => void;
    beforeEach(() => {
      letGo = holdBack();
    });

    it('is no reason to end a request whose caller goes on waiting, until it does not', async () => {
      const { worker, main } = serve();
      givesUp = false;
      open(worker, 'large', 4n);
      interrupt(worker, 4n);
      expect(sent).toEqual([]);
      givesUp = true;
      await waitUntil('the caller is looked at again', () => sent.length > 0);
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EINTR }]);
      letGo();
      await served[0];
      expect(sent).toHaveLength(1);
      expect(main.problems).toEqual([]);
    });

    it('changes nothing for a caller that waits to the end', async () => {
      const { worker } = serve();
      givesUp = false;
      open(worker, 'large', 4n);
      interrupt(worker, 4n);
      letGo();
      await served[0];
      expect(sent).toMatchObject([{ unique: 4n, error: 0 }]);
      worker.release(worker.resolve('large'), handleOf(sent[0]!));
    });

    it('is answered EINTR once, and ends the measurement that nobody else wants', async () => {
      const { worker, main } = serve();
      open(worker, 'large', 4n);
      interrupt(worker, 4n);
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EINTR }]);
      expect(measured[0]![1]).not.toBe(0n);
      interrupt(worker, 4n);
      letGo();
      await served[0];
      expect(sent).toHaveLength(1);
      expect(main.problems).toEqual([]);
    });

    it('leaves others who wait for the same object alone', async () => {
      const { worker, state } = serve();
      open(worker, 'large', 4n);
      open(worker, 'twin', 6n);
      interrupt(worker, 4n);
      expect(measured[0]![1]).toBe(0n);
      letGo();
      await Promise.all(served);
      expect(state.counts).toMatchObject({ computed: 1, remembered: 1 });
      expect(sent).toMatchObject([
        { unique: 4n, error: -Errno.EINTR },
        { unique: 6n, error: 0 },
      ]);
      worker.release(worker.resolve('twin'), handleOf(sent[1]!));
    });

    it('of the last who waits starts no trouble for the next: it is measured anew', async () => {
      const { worker } = serve();
      open(worker, 'large', 4n);
      interrupt(worker, 4n);
      open(worker, 'large', 6n);
      expect(measured).toHaveLength(2);
      letGo();
      await Promise.all(served);
      expect(sent.map(({ unique, error }) => [unique, error])).toEqual([
        [4n, -Errno.EINTR],
        [6n, 0],
      ]);
      worker.release(worker.resolve('large'), handleOf(sent[1]!));
    });

    it('may overtake its request', async () => {
      const { worker } = serve();
      interrupt(worker, 4n);
      expect(sent).toEqual([]);
      open(worker, 'large', 4n);
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EINTR }]);
      expect(measured).toEqual([]);
      await served[0];
      // It was for that one only.
      open(worker, 'large', 4n);
      letGo();
      await served[1];
      expect(sent).toHaveLength(2);
      worker.release(worker.resolve('large'), handleOf(sent[1]!));
    });

    it('of requests that were answered long ago is forgotten, the oldest first', async () => {
      const { worker } = serve();
      letGo();
      for (let i = 0n; i < 65n; i++) interrupt(worker, 100n + 2n * i);
      open(worker, 'large', 100n);
      open(worker, 'large', 102n);
      open(worker, 'large', 228n);
      await Promise.all(served);
      expect(sent.filter(({ error }) => error !== 0).map(({ unique }) => unique)).toEqual([
        102n,
        228n,
      ]);
      worker.release(
        worker.resolve('large'),
        handleOf(sent.find(({ unique }) => unique === 100n)!),
      );
    });

    it('after the answer changes nothing', async () => {
      const { worker } = serve();
      open(worker, 'large', 4n);
      letGo();
      await served[0];
      interrupt(worker, 4n);
      expect(sent).toHaveLength(1);
      worker.release(worker.resolve('large'), handleOf(sent[0]!));
    });
  });

  describe('an object that does not keep still', () => {
    /** Another file with the same content takes the object's place. */
    const replace = (): void => {
      writeFileSync(`${largePath()}-next`, content);
      renameSync(`${largePath()}-next`, largePath());
    };

    it('is measured again when it was replaced meanwhile', async () => {
      const { worker, main } = serve();
      meddle = async (measure, attempt) => {
        const status = await measure();
        if (attempt < 3) replace();
        return status;
      };
      open(worker, 'large', 4n);
      await served[0];
      expect(measured).toHaveLength(3);
      expect(main.problems).toEqual([]);
      worker.release(worker.resolve('large'), handleOf(sent[0]!));
      expect(sent).toHaveLength(1);
    });

    it('is given up after the third time', async () => {
      const { worker, main } = serve();
      const before = countDescriptors();
      meddle = async (measure) => {
        const status = await measure();
        replace();
        return status;
      };
      open(worker, 'large', 4n);
      await served[0];
      expect(measured).toHaveLength(3);
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EIO }]);
      expect(main.problems).toMatchObject([
        {
          kind: 'object',
          errno: Errno.EIO,
          objectPath: String(tree['large']!.redirect).slice(1),
          detail: 'it is replaced again and again while it is measured',
        },
      ]);
      expect(countDescriptors()).toBe(before);
    });

    it.each([
      [VERITY_STATUS.CHANGED, 'it changed while it was measured'],
      [-Errno.EIO, 'it cannot be read: EIO'],
      [-Errno.ENOMEM, 'it cannot be read: ENOMEM'],
    ])('is EIO after status %i', async (status, detail) => {
      const { worker, main } = serve();
      meddle = () => Promise.resolve(status);
      open(worker, 'large', 4n);
      await served[0];
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EIO }]);
      expect(main.problems).toMatchObject([{ kind: 'object', errno: Errno.EIO, detail }]);
    });

    it('is EIO while a writer is at it', async () => {
      const { worker, main } = serve();
      meddle = (measure) => {
        writeFileSync(largePath(), noise(SIZE, 'changed'));
        return measure();
      };
      open(worker, 'large', 4n);
      await served[0];
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EIO }]);
      expect(main.problems).toMatchObject([{ detail: 'it changed while it was measured' }]);
    });

    it('is ENOENT when it has gone, before or while it is measured', async () => {
      const { worker, main, handedOver, deferred } = serve();
      meddle = async (measure) => {
        const status = await measure();
        rmSync(largePath());
        return status;
      };
      open(worker, 'large', 4n);
      await served[0];
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.ENOENT }]);
      await deferred.serve(handedOver[0]!);
      expect(sent).toMatchObject([{ error: -Errno.ENOENT }, { error: -Errno.ENOENT }]);
      expect(main.problems).toMatchObject([{ detail: 'it is in no base directory' }]);
      expect(measured).toHaveLength(1);
    });

    it('is EIO when it has another size by the time it is measured', async () => {
      const { worker, main } = serve();
      meddle = async (measure) => {
        const status = await measure();
        writeFileSync(largePath(), 'short');
        return status;
      };
      open(worker, 'large', 4n);
      await served[0];
      expect(sent).toMatchObject([{ unique: 4n, error: -Errno.EIO }]);
      expect(main.problems).toMatchObject([{ detail: `it has 5 bytes instead of ${SIZE}` }]);
    });
  });

  it('READ and LSEEK without a handle are answered as well, where files are opened so', async () => {
    const { worker, main } = serve({ at: 'read' });
    const nodeid = worker.resolve('large');
    const letGo = holdBack();
    worker.unique = 4n;
    const size = 5000;
    expect(worker.send(Opcode.READ, nodeid, worker.readBody(0, 100_000, size))).toBeUndefined();
    const lseek = new Uint8Array(LSEEK_IN.SIZE);
    const view = new DataView(lseek.buffer);
    view.setBigUint64(LSEEK_IN.OFFSET, 7n, true);
    view.setUint32(LSEEK_IN.WHENCE, 4, true);
    worker.unique = 6n;
    expect(worker.send(Opcode.LSEEK, nodeid, lseek)).toBeUndefined();
    letGo();
    await Promise.all(served);
    expect(measured).toHaveLength(1);
    expect(sent.map(({ unique, error }) => [unique, error])).toEqual([
      [4n, 0],
      [6n, 0],
    ]);
    expect(Buffer.compare(sent[0]!.body, content.subarray(100_000, 100_000 + size))).toBe(0);
    expect(sent[1]!.body.readBigUInt64LE()).toBe(BigInt(SIZE));
    expect(Buffer.compare(worker.read(nodeid, 0, 0, 99).body, content.subarray(0, 99))).toBe(0);
    expect(main.problems).toEqual([]);
  });

  it('the end cancels what is measured, answers nobody and closes the session', async () => {
    const { worker, main, deferred } = serve();
    const before = countDescriptors();
    const letGo = holdBack();
    open(worker, 'large', 4n);
    open(worker, 'wrong', 6n);
    deferred.end();
    expect(measured.map((words) => words[1] !== 0n)).toEqual([true, true]);
    expect(closedSessions).toBe(1);
    letGo();
    await Promise.all(served);
    interrupt(worker, 4n);
    expect(sent).toEqual([]);
    expect(main.problems).toEqual([]);
    expect(countDescriptors()).toBe(before);
  });
});
