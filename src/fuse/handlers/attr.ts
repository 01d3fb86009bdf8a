// GETATTR, READLINK and STATFS.

import { Errno } from '../../errors.ts';
import { copyBytes } from '../../filesystem/copy-bytes.ts';
import type { Slot } from '../slot.ts';

export function getattr(slot: Slot): number {
  const { reply, filesystem } = slot;
  const status = filesystem.attributes(slot.nid);
  return status < 0 ? status : reply.attributes(reply.bodyStart, filesystem.inode);
}

export function readlink(slot: Slot): number {
  const { reply, filesystem } = slot;
  const length = filesystem.readLink(slot.nid);
  if (length < 0) return length;
  if (length > reply.bodyCapacity) return -Errno.EIO;
  const from = filesystem.linkTargetStart;
  copyBytes(filesystem.image.bytes, from, reply.bytes, reply.bodyStart, length);
  return length;
}

export function statfs(slot: Slot): number {
  return slot.reply.statfs(slot.statistics.read());
}
