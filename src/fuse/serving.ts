// Puts together what serves requests in one thread: a session with its buffers and a slot. Workers do
// so for every request, the main thread for those that were deferred.

import { ComposefsFilesystem } from '../filesystem/composefs.ts';
import { FileContents } from '../filesystem/contents.ts';
import { Ownership } from '../filesystem/ownership.ts';
import { type Problem, ProblemReporter } from '../filesystem/problems.ts';
import { StatisticsSource } from '../filesystem/statistics.ts';
import { isLayer } from '../filesystem/tree-view.ts';
import { Image } from '../image-reader/index.ts';
import { errnoName } from '../errors.ts';
import type { NativeAddon, NativeSession, ServingSession } from '../native.ts';
import { OpenFiles } from '../objects/open-files.ts';
import { ObjectOpener } from '../objects/opener.ts';
import { ObjectVerification, VerificationState } from '../objects/verification.ts';
import { ProcCaller } from './caller.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { type Deferrals, Slot } from './slot.ts';
import { queuesOf, slotCount, type Transport } from './transport.ts';
import { REPLY_BUFFER_SIZE, REQUEST_BUFFER_SIZE, type ServingSetup } from './worker-setup.ts';

/** What the filesystem core of a thread is made from. */
export type FilesystemSetup = Pick<
  ServingSetup,
  'basedirs' | 'fileTable' | 'passthrough' | 'verification' | 'acl' | 'view' | 'ownership'
>;

/** Serves requests that are read from the device, one at a time. */
export interface DeviceServing {
  session: NativeSession;
  slot: Slot;
}

/** Serves the queues of some CPUs over io_uring. */
export interface RingServing {
  session: ServingSession;
  slots: Slot[];
}

/** The session owns `device` from now on. */
export function prepareServing(
  native: NativeAddon,
  setup: ServingSetup,
  device: number,
  report: (problem: Problem) => void,
  deferrals: Deferrals | undefined,
): DeviceServing {
  const request = new Uint8Array(REQUEST_BUFFER_SIZE);
  const reply = new Uint8Array(REPLY_BUFFER_SIZE);
  const session = new native.Session(device, request, reply, setup.wakeDescriptor);
  const makeSlot = slotMaker(native, setup, session, report, deferrals);
  return { session, slot: makeSlot(request, reply) };
}

/**
 * The same over io_uring, for thread `index`: the calling thread, which must be the one that serves.
 * Throws an Error when the kernel refuses; the connection is of no use then.
 */
export function prepareRingServing(
  native: NativeAddon,
  setup: ServingSetup & { index: number; transport: Transport },
  device: number,
  report: (problem: Problem) => void,
  deferrals: Deferrals | undefined,
): RingServing {
  const { threads } = setup.transport;
  const queues = queuesOf(setup.index, threads, setup.transport.queues);
  // And one for what still comes by the device.
  const count = slotCount(queues.length) + 1;
  // Pages that are never used take no memory.
  const requests = new Uint8Array(count * REQUEST_BUFFER_SIZE);
  const replies = new Uint8Array(count * REPLY_BUFFER_SIZE);
  const wake = setup.wakeDescriptor;
  const session = new native.RingSession(device, requests, replies, count, wake);
  const makeSlot = slotMaker(native, setup, session, report, deferrals);
  const slots = Array.from({ length: count }, (_, i) =>
    makeSlot(part(requests, i, REQUEST_BUFFER_SIZE), part(replies, i, REPLY_BUFFER_SIZE)),
  );
  const readsDevice = setup.index === 0 ? 1 : 0;
  const status = session.open(BigInt64Array.from(queues.map(BigInt)), readsDevice);
  if (status < 0)
    throw new Error(`io_uring is refused: ${errnoName(status)}; use --transport device`);
  return { session, slots };
}

function part(bytes: Uint8Array, index: number, size: number): Uint8Array {
  return bytes.subarray(index * size, (index + 1) * size);
}

/** Makes the slots of one thread, which share everything but their buffers. */
function slotMaker(
  native: NativeAddon,
  setup: ServingSetup,
  session: ServingSession,
  report: (problem: Problem) => void,
  deferrals: Deferrals | undefined,
): (request: Uint8Array, reply: Uint8Array) => Slot {
  const image = Image.open(new Uint8Array(setup.image));
  const filesystem = prepareFilesystem(native, image, setup, report);
  const { sizeBytes, inodeCount } = image;
  const statistics = new StatisticsSource(setup.statisticsPath, sizeBytes, inodeCount);
  const caller = new ProcCaller();
  const readObject = session.readObject.bind(session);
  return (request, reply) =>
    new Slot(
      new Request(request),
      new Reply(reply),
      filesystem,
      statistics,
      caller,
      readObject,
      deferrals,
    );
}

/** The filesystem core of one thread over an image and its objects. */
export function prepareFilesystem(
  native: NativeAddon,
  image: Image,
  setup: FilesystemSetup,
  report: (problem: Problem) => void,
): ComposefsFilesystem {
  const opener = new ObjectOpener(native, setup.basedirs);
  const { policy, engine, at } = setup.verification;
  const state = new VerificationState(setup.verification.state);
  const problems = new ProblemReporter(report, state);
  const contents = new FileContents(
    image,
    opener,
    new OpenFiles(native, setup.fileTable, opener.facts),
    new ObjectVerification(native, image.bytes, opener.facts, { policy, engine, state }),
    problems,
    setup.passthrough,
  );
  // Below an overlayfs only files whose content is in the image are opened: there is nothing to do then.
  const opensOnRead = at === 'read' || isLayer(setup.view);
  const ownership = setup.ownership === undefined ? undefined : new Ownership(setup.ownership);
  const options = {
    acl: setup.acl,
    opensOnRead,
    view: setup.view,
    ...(ownership !== undefined && { ownership }),
  };
  return new ComposefsFilesystem(image, contents, problems, options);
}
