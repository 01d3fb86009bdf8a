// The log of every request, for `--log-level trace`. Never on in normal service: each line costs
// more than the request it describes.

import { errnoName } from '../errors.ts';
import { opcodeName } from './abi.ts';
import type { Trace } from './dispatch.ts';
import type { WorkerMessage } from './worker-setup.ts';

/** Posts one line per request: unique, opcode, nodeid, pid and the result. */
export function traceToPort(post: (message: WorkerMessage) => void): Trace {
  return (slot, result) => {
    const { request } = slot;
    const outcome = result < 0 ? errnoName(result) : `${result} bytes`;
    post({
      kind: 'trace',
      text:
        `#${request.uniqueLow} ${opcodeName(request.opcode)} nodeid ${request.nodeid} ` +
        `pid ${request.pid}: ${outcome}`,
    });
  };
}
