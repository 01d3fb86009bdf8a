// Puts together what serves requests in one thread: a session with its buffers and a slot. Workers do
// so for every request, the main thread for those that were deferred.

import { ComposefsFilesystem } from '../filesystem/composefs.ts';
import { FileContents } from '../filesystem/contents.ts';
import { type Problem, ProblemReporter } from '../filesystem/problems.ts';
import { StatisticsSource } from '../filesystem/statistics.ts';
import { Image } from '../image-reader/index.ts';
import type { NativeAddon, NativeSession } from '../native.ts';
import { OpenFiles } from '../objects/open-files.ts';
import { ObjectOpener } from '../objects/opener.ts';
import { ObjectVerification, VerificationState } from '../objects/verification.ts';
import { ProcCaller } from './caller.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { type Deferrals, Slot } from './slot.ts';
import { REPLY_BUFFER_SIZE, REQUEST_BUFFER_SIZE, type ServingSetup } from './worker-setup.ts';

/** What the filesystem core of a thread is made from. */
export type FilesystemSetup = Pick<
  ServingSetup,
  'basedirs' | 'fileTable' | 'passthrough' | 'verification' | 'acl' | 'view'
>;

export interface Serving {
  session: NativeSession;
  slot: Slot;
}

/** The session owns `device` from now on. */
export function prepareServing(
  native: NativeAddon,
  setup: ServingSetup,
  device: number,
  report: (problem: Problem) => void,
  deferrals: Deferrals | undefined,
): Serving {
  const request = new Uint8Array(REQUEST_BUFFER_SIZE);
  const reply = new Uint8Array(REPLY_BUFFER_SIZE);
  const session = new native.Session(device, request, reply, setup.wakeDescriptor);
  const image = Image.open(new Uint8Array(setup.image));
  const filesystem = prepareFilesystem(native, image, setup, report);
  const slot = new Slot(
    new Request(request),
    new Reply(reply),
    filesystem,
    new StatisticsSource(setup.statisticsPath, image.sizeBytes, image.inodeCount),
    new ProcCaller(),
    (fd, offset, length, at) => session.readObject(fd, offset, length, at),
    deferrals,
  );
  return { session, slot };
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
  const opensOnRead = at === 'read' || setup.view !== 'composefs';
  const options = { acl: setup.acl, opensOnRead, view: setup.view };
  return new ComposefsFilesystem(image, contents, problems, options);
}
