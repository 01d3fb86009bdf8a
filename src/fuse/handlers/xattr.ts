// GETXATTR and LISTXATTR. A request with size 0 asks for the length only.

import { Errno } from '../../errors.ts';
import { copyBytes } from '../../filesystem/copy-bytes.ts';
import { GETXATTR_IN } from '../abi.ts';
import type { Slot } from '../slot.ts';

export function getxattr(slot: Slot): number {
  const { request, reply, filesystem } = slot;
  const nameLength = request.nameLength;
  if (nameLength < 0) return -Errno.EIO;
  const length = filesystem.getXattr(slot.nid, request.bytes, request.payloadStart, nameLength);
  if (length < 0) return length;
  const room = request.u32(GETXATTR_IN.SIZE_FIELD);
  if (room === 0) return reply.xattrSize(length);
  if (length > room || length > reply.bodyCapacity) return -Errno.ERANGE;
  const { valueBytes, valueStart } = filesystem.xattrs;
  copyBytes(valueBytes, valueStart, reply.bytes, reply.bodyStart, length);
  return length;
}

export function listxattr(slot: Slot): number {
  const { request, reply, filesystem, caller } = slot;
  const room = request.u32(GETXATTR_IN.SIZE_FIELD);
  const capacity = Math.min(room, reply.bodyCapacity);
  caller.pid = request.pid;
  const length = filesystem.listXattrs(slot.nid, caller, reply.bytes, reply.bodyStart, capacity);
  if (length < 0) return length;
  if (room === 0) return reply.xattrSize(length);
  return length > capacity ? -Errno.ERANGE : length;
}
