// LOOKUP: a name in a directory to an entry, or to the cached knowledge that there is none.

import { Errno } from '../../errors.ts';
import { nodeidOf } from '../node-id.ts';
import type { Slot } from '../slot.ts';

export function lookup(slot: Slot): number {
  const { request, reply, filesystem } = slot;
  const nameLength = request.nameLength;
  if (nameLength < 0) return -Errno.EIO;
  const status = filesystem.lookup(slot.nid, request.bytes, request.payloadStart, nameLength);
  // ENOENT as an error is asked again every time; nodeid 0 with a timeout is remembered.
  if (status === -Errno.ENOENT) return reply.negativeEntry(reply.bodyStart);
  if (status < 0) return status;
  const inode = filesystem.inode;
  return reply.entry(reply.bodyStart, nodeidOf(inode.nid, slot.rootNid), inode);
}
