// The serving loop: exchange, dispatch, repeat. One native call per request, no event loop.

import { Errno, errnoName } from '../errors.ts';
import { type NativeSession, WRITE_FAILED } from '../native.ts';
import { opcodeName } from './abi.ts';
import type { Dispatcher } from './dispatch.ts';
import type { Slot } from './slot.ts';

/** Why a session ended. */
export type SessionEnd = 'unmounted' | 'aborted' | 'woken';

/** Told about every reply that the kernel refused: a bug in this program. */
export type ReportRefusedReply = (text: string) => void;

/** Serves until the connection ends. Throws on an errno of read(2) that should not happen. */
export function serveSession(
  session: NativeSession,
  slot: Slot,
  dispatcher: Dispatcher,
  reportRefusedReply: ReportRefusedReply,
): SessionEnd {
  let replyLength = 0;
  for (;;) {
    const requestLength = session.exchange(replyLength);
    if (requestLength >= 0) {
      replyLength = dispatcher.dispatch(slot, requestLength);
      continue;
    }
    switch (requestLength) {
      case -Errno.ENODEV:
        return 'unmounted';
      case -Errno.ECONNABORTED:
        return 'aborted';
      case -Errno.ECANCELED:
        return 'woken';
      default:
        if (requestLength > WRITE_FAILED) {
          throw new Error(`reading from /dev/fuse failed: ${errnoName(requestLength)}`);
        }
        reportRefusedReply(
          `the kernel refused the reply to ${opcodeName(slot.request.opcode)}: ` +
            errnoName(requestLength - WRITE_FAILED),
        );
        replyLength = 0;
    }
  }
}
