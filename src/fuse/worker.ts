// Entry of a serving thread. It loads its modules, waits until the main thread has mounted, then runs
// the synchronous loop until the connection ends. It never returns to its event loop in between, so
// nothing can be sent to it; it posts problems to the main thread.

import { parentPort, workerData } from 'node:worker_threads';
import { ComposefsFilesystem } from '../filesystem/composefs.ts';
import { ProblemReporter } from '../filesystem/problems.ts';
import { StatisticsSource } from '../filesystem/statistics.ts';
import { Image } from '../image-reader/index.ts';
import { loadNative } from '../native.ts';
import { DescriptorBudget } from '../objects/descriptor-budget.ts';
import { ObjectOpener } from '../objects/opener.ts';
import { ProcCaller } from './caller.ts';
import { Control, ControlState } from './control.ts';
import { Dispatcher } from './dispatch.ts';
import { Reply } from './reply.ts';
import { Request } from './request.ts';
import { serveSession } from './session.ts';
import { Slot } from './slot.ts';
import { traceToPort } from './trace.ts';
import {
  REPLY_BUFFER_SIZE,
  REQUEST_BUFFER_SIZE,
  type WorkerMessage,
  type WorkerSetup,
} from './worker-setup.ts';

const port = parentPort;
if (port === null) throw new Error('worker.ts runs only as a worker thread of the daemon');
const setup = workerData as WorkerSetup;
const post = (message: WorkerMessage): void => port.postMessage(message);

const control = new Control(setup.control);
// The image is still being read by the main thread, and may turn out not to be one.
if (control.waitForStart() === ControlState.SERVE) serve();

function serve(): void {
  const native = loadNative();
  const request = new Uint8Array(REQUEST_BUFFER_SIZE);
  const reply = new Uint8Array(REPLY_BUFFER_SIZE);
  const session = new native.Session(
    control.deviceOf(setup.index),
    request,
    reply,
    setup.wakeDescriptor,
  );
  session.setPolling(setup.pollingMicroseconds);
  const budget = new DescriptorBudget(setup.openObjects, setup.openObjectsLimit);
  const image = Image.open(new Uint8Array(setup.image));
  const slot = new Slot(
    new Request(request),
    new Reply(reply),
    new ComposefsFilesystem(
      image,
      new ObjectOpener(native, setup.basedirs, budget),
      new ProblemReporter((problem) => post({ kind: 'problem', problem })),
      { acl: setup.acl },
    ),
    new StatisticsSource(setup.statisticsPath, image.sizeBytes, image.inodeCount),
    new ProcCaller(),
    (fd, offset, length, at) => session.readObject(fd, offset, length, at),
  );
  const dispatcher = new Dispatcher(reportBug, setup.trace ? traceToPort(post) : undefined);
  post({ kind: 'serving' });
  const end = serveSession(session, slot, dispatcher, (text) =>
    post({ kind: 'refused-reply', text }),
  );
  session.close();
  post({ kind: 'ended', end });
}

function reportBug(error: unknown, opcode: number, nodeid: number): void {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  post({ kind: 'bug', stack, opcode, nodeid });
}
