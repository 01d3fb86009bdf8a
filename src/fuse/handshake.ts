// The first exchange with the kernel: INIT is read, answered, and read again where the kernel speaks a
// newer major version and is to come down to ours.

import { errnoName } from '../errors.ts';
import type { NativeSession } from '../native.ts';
import {
  FUSE_KERNEL_VERSION,
  FUSE_OLDEST_MINOR_VERSION,
  INIT_IN,
  Opcode,
  opcodeName,
} from './abi.ts';
import { type InitWishes, type Negotiated, negotiate } from './init.ts';
import type { Reply } from './reply.ts';
import type { Request } from './request.ts';

/** A newer kernel asks a second time, and then with our major version. */
const MAX_INITS = 2;

/**
 * Answers INIT, which the kernel has queued by the time the mount call returns; `request` and `reply` have
 * the session's buffers. What was agreed on, or the reason why nothing was, to complete "no agreement with
 * the kernel: …". Then the mount is there, and everybody who touches it gets ECONNREFUSED.
 */
export function shakeHands(
  session: Pick<NativeSession, 'exchange' | 'reply'>,
  request: Request,
  reply: Reply,
  wishes: InitWishes,
): Negotiated | string {
  const negotiated: Negotiated = { minor: 0, flags: 0, flags2: 0 };
  for (let count = 0; count < MAX_INITS; count++) {
    const length = session.exchange(0);
    if (length < 0) return errnoName(length);
    if (request.loadAdjacent(length) < 0) return 'its first request is malformed';
    if (request.opcode !== Opcode.INIT) {
      return `its first request is ${opcodeName(request.opcode)} and not INIT`;
    }
    const result = negotiate(request, reply, wishes, negotiated);
    const status = session.reply(reply.finish(request, result));
    if (result < 0) return `${spoken(request)}, which is too old: ${needed}`;
    if (status < 0) return errnoName(status);
    if (negotiated.minor > 0) return negotiated;
  }
  return `${spoken(request)} and does not come down to ${FUSE_KERNEL_VERSION}: ${needed}`;
}

const needed = `composefs-fuse needs ${FUSE_KERNEL_VERSION}.${FUSE_OLDEST_MINOR_VERSION} (Linux 5.4) or a later minor`;

function spoken(request: Request): string {
  return `it speaks FUSE ${request.u32(INIT_IN.MAJOR)}.${request.u32(INIT_IN.MINOR)}`;
}
