// One row per opcode: which handler answers, or which errno stands for "never ask again" (ENOSYS,
// remembered by the kernel) and for "this tree cannot be changed" (EROFS). The only place where an
// exception from a handler is caught: a bug answers EIO to one request and the mount goes on.

import { Errno } from '../errors.ts';
import { DEFER } from '../filesystem/contents.ts';
import { INTERRUPT_IN, Opcode } from './abi.ts';
import { getattr, readlink, statfs } from './handlers/attr.ts';
import { readdir, readdirplus } from './handlers/directory.ts';
import { lseek, open, read, release } from './handlers/file.ts';
import { batchForget, forget } from './handlers/forget.ts';
import { ioctl } from './handlers/ioctl.ts';
import { lookup } from './handlers/lookup.ts';
import { getxattr, listxattr } from './handlers/xattr.ts';
import type { Slot } from './slot.ts';

/** What a handler returns when the request takes no reply at all. */
const NO_REPLY = -0x1_0000;

/** Told about every exception that reached the dispatcher: a bug in this program. */
export type ReportBug = (error: unknown, opcode: number, nodeid: number) => void;

/** Told about every request and its result, when tracing. */
export type Trace = (slot: Slot, result: number) => void;

export class Dispatcher {
  readonly #reportBug: ReportBug;
  readonly #trace: Trace | undefined;

  constructor(reportBug: ReportBug, trace?: Trace) {
    this.#reportBug = reportBug;
    this.#trace = trace;
  }

  /**
   * Serves the request of `requestLength` bytes at the start of the slot's request buffer. The
   * length of the reply in the slot's reply buffer, 0 if none is to be sent.
   */
  dispatch(slot: Slot, requestLength: number): number {
    let result: number;
    const { request, reply } = slot;
    try {
      const loaded = request.loadAdjacent(requestLength);
      result = loaded < 0 ? loaded : serve(slot, request.opcode);
      if (result === DEFER) result = defer(slot, requestLength);
    } catch (error) {
      this.#reportBug(error, request.opcode, request.nodeid);
      result = -Errno.EIO;
    }
    if (this.#trace !== undefined) this.#trace(slot, result === NO_REPLY ? 0 : result);
    return result === NO_REPLY ? 0 : reply.finish(request, result);
  }
}

function serve(slot: Slot, opcode: number): number {
  switch (opcode) {
    case Opcode.LOOKUP:
      return lookup(slot);
    case Opcode.GETATTR:
      return getattr(slot);
    case Opcode.READLINK:
      return readlink(slot);
    case Opcode.OPEN:
      return open(slot);
    case Opcode.READ:
      return read(slot);
    case Opcode.RELEASE:
      return release(slot);
    case Opcode.READDIR:
      return readdir(slot);
    case Opcode.READDIRPLUS:
      return readdirplus(slot);
    case Opcode.GETXATTR:
      return getxattr(slot);
    case Opcode.LISTXATTR:
      return listxattr(slot);
    case Opcode.LSEEK:
      return lseek(slot);
    case Opcode.STATFS:
      return statfs(slot);

    case Opcode.FORGET:
      forget(slot);
      return NO_REPLY;
    case Opcode.BATCH_FORGET:
      batchForget(slot);
      return NO_REPLY;
    case Opcode.NOTIFY_REPLY:
      return NO_REPLY;

    // Remembered by the kernel as "succeeds without asking" or "use the simpler request".
    case Opcode.OPENDIR:
    case Opcode.FLUSH:
    case Opcode.FSYNC:
    case Opcode.FSYNCDIR:
    case Opcode.ACCESS:
    case Opcode.STATX:
    case Opcode.POLL:
    case Opcode.SYNCFS:
      return -Errno.ENOSYS;

    case Opcode.INTERRUPT:
      return interrupt(slot);

    case Opcode.IOCTL:
      return ioctl(slot);

    case Opcode.RELEASEDIR:
    case Opcode.DESTROY:
      return 0;

    // The mount is read-only, but an administrator can remount it.
    case Opcode.SETATTR:
    case Opcode.SYMLINK:
    case Opcode.MKNOD:
    case Opcode.MKDIR:
    case Opcode.UNLINK:
    case Opcode.RMDIR:
    case Opcode.RENAME:
    case Opcode.LINK:
    case Opcode.WRITE:
    case Opcode.SETXATTR:
    case Opcode.REMOVEXATTR:
    case Opcode.CREATE:
    case Opcode.FALLOCATE:
    case Opcode.RENAME2:
    case Opcode.COPY_FILE_RANGE:
    case Opcode.COPY_FILE_RANGE_64:
    case Opcode.TMPFILE:
      return -Errno.EROFS;

    default:
      return -Errno.ENOSYS;
  }
}

/** Hands the request to another thread, which replies. */
function defer(slot: Slot, requestLength: number): number {
  if (slot.deferrals === undefined) return -Errno.EIO;
  slot.deferrals.defer(slot.request.bytes.slice(0, requestLength), slot.nid);
  return NO_REPLY;
}

/** Only a deferred request can still be interrupted; all others are answered by now. */
function interrupt(slot: Slot): number {
  if (slot.deferrals === undefined) return -Errno.ENOSYS;
  const { request } = slot;
  const low = BigInt(request.u32(INTERRUPT_IN.UNIQUE));
  slot.deferrals.interrupt((BigInt(request.u32(INTERRUPT_IN.UNIQUE + 4)) << 32n) | low);
  return NO_REPLY;
}
