// The serving loop: exchange, dispatch, repeat. One native call per request, no event loop.

import { Errno, errnoName } from '../errors.ts';
import { type ServingSession, SLOT_UNIT, WRITE_FAILED } from '../native.ts';
import { opcodeName } from './abi.ts';
import type { Dispatcher } from './dispatch.ts';
import type { Slot } from './slot.ts';

/** Why a session ended. */
export type SessionEnd = 'unmounted' | 'aborted' | 'woken';

/** Told about every reply that the kernel refused: a bug in this program. */
export type ReportRefusedReply = (text: string) => void;

/** Serves until the connection ends. Throws on an errno of read(2) that should not happen. */
export function serveSession(
  session: ServingSession,
  slots: readonly Slot[],
  dispatcher: Dispatcher,
  reportRefusedReply: ReportRefusedReply,
): SessionEnd {
  let replyLength = 0;
  let slot = slots[0]!;
  for (;;) {
    const received = session.exchange(replyLength);
    if (received >= 0) {
      slot = slots[(received / SLOT_UNIT) | 0]!;
      replyLength = dispatcher.dispatch(slot, received & (SLOT_UNIT - 1));
      continue;
    }
    switch (received) {
      case -Errno.ENODEV:
        return 'unmounted';
      case -Errno.ECONNABORTED:
        return 'aborted';
      case -Errno.ECANCELED:
        return 'woken';
      default:
        if (received > WRITE_FAILED) {
          throw new Error(`waiting for a request failed: ${errnoName(received)}`);
        }
        reportRefusedReply(
          `the kernel refused the reply to ${opcodeName(slot.request.opcode)}: ` +
            errnoName(received - WRITE_FAILED),
        );
        replyLength = 0;
    }
  }
}
