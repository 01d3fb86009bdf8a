// Entry of a serving thread. It loads its modules, waits until the main thread has mounted, then runs
// the synchronous loop until the connection ends. It never returns to its event loop in between, so
// nothing can be sent to it; it posts problems, and requests that take long, to the main thread.

import { parentPort, workerData } from 'node:worker_threads';
import { errnoName } from '../errors.ts';
import type { Problem } from '../filesystem/problems.ts';
import { loadNative, type ServingSession } from '../native.ts';
import { Control, ControlState } from './control.ts';
import { Dispatcher } from './dispatch.ts';
import { prepareRingServing, prepareServing, type RingServing } from './serving.ts';
import { serveSession } from './session.ts';
import type { Deferrals } from './slot.ts';
import { traceToPort } from './trace.ts';
import type { WorkerMessage, WorkerSetup } from './worker-setup.ts';

/** How long to look for the next request, while that pays. See docs/performance.md. */
const ADAPTIVE_POLLING_MICROSECONDS = 300;

const port = parentPort;
if (port === null) throw new Error('worker.ts runs only as a worker thread of the daemon');
const setup = workerData as WorkerSetup;
const post = (message: WorkerMessage): void => port.postMessage(message);

const control = new Control(setup.control);
// The image is still being read by the main thread, and may turn out not to be one.
if (control.waitForStart() === ControlState.SERVE) serve(control.deviceOf(setup.index));

function serve(device: number): void {
  const { session, slots } = prepare(device);
  choosePolling(session);
  const dispatcher = new Dispatcher(reportBug, setup.trace ? traceToPort(post) : undefined);
  post({ kind: 'serving' });
  const end = serveSession(session, slots, dispatcher, (text) =>
    post({ kind: 'refused-reply', text }),
  );
  session.close();
  post({ kind: 'ended', end });
}

function prepare(device: number): RingServing {
  const native = loadNative();
  const report = (problem: Problem): void => post({ kind: 'problem', problem });
  const deferrals = setup.verification.policy === 'off' ? undefined : deferralsOf(device);
  if (control.transport === 'io_uring') {
    return prepareRingServing(native, setup, device, report, deferrals);
  }
  const { session, slot } = prepareServing(native, setup, device, report, deferrals);
  const joined = session.join(setup.wakeDescriptor);
  if (joined < 0) {
    throw new Error(`the serving threads cannot share the device: ${errnoName(joined)}`);
  }
  return { session, slots: [slot] };
}

function choosePolling(session: ServingSession): void {
  const { pollingMicroseconds } = setup;
  if (pollingMicroseconds !== undefined) session.setPolling(pollingMicroseconds);
  else session.pollAdaptively(ADAPTIVE_POLLING_MICROSECONDS);
}

function deferralsOf(device: number): Deferrals {
  return {
    defer: (request, nid) => post({ kind: 'deferred', request, nid, device }),
    interrupt: (unique) => post({ kind: 'interrupt', unique }),
  };
}

function reportBug(error: unknown, opcode: number, nodeid: number): void {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  post({ kind: 'bug', stack, opcode, nodeid });
}
