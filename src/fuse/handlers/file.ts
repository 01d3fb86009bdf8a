// OPEN, READ, LSEEK and RELEASE of regular files.

import { Errno } from '../../errors.ts';
import { LSEEK_IN, OPEN_IN, OpenFlag, READ_IN, RELEASE_IN } from '../abi.ts';
import { NO_OBJECT } from '../../filesystem/contents.ts';
import type { Slot } from '../slot.ts';

/** O_ACCMODE: everything but O_RDONLY (0) would write. */
const ACCESS_MODE = 3;
/** Contents cannot change, so the page cache survives every open; nothing is ever flushed. */
const CACHED = OpenFlag.FOPEN_KEEP_CACHE | OpenFlag.FOPEN_NOFLUSH;
/** The kernel reads the object by itself, through the object's own page cache. */
const PASSTHROUGH = OpenFlag.FOPEN_PASSTHROUGH | OpenFlag.FOPEN_NOFLUSH;

export function open(slot: Slot): number {
  // Never asked again: the kernel opens files by itself, and the first read opens the object.
  if (slot.filesystem.opensOnRead) return -Errno.ENOSYS;
  if ((slot.request.u32(OPEN_IN.FLAGS) & ACCESS_MODE) !== 0) return -Errno.EROFS;
  const handle = slot.filesystem.open(slot.nid);
  if (handle < 0) return handle;
  const backingId = handle === NO_OBJECT ? 0 : slot.filesystem.backingId;
  if (backingId === 0) slot.filesystem.preload(handle, slot.request.nodeid);
  return slot.reply.open(handle, backingId === 0 ? CACHED : PASSTHROUGH, backingId);
}

export function read(slot: Slot): number {
  const { request, reply } = slot;
  const length = request.u32(READ_IN.SIZE_FIELD);
  // The mount option max_read forbids it; a short answer would truncate the file for everyone.
  if (length > reply.bodyCapacity) return -Errno.EIO;
  const handle = request.u64(READ_IN.FH);
  const offset = request.u64(READ_IN.OFFSET);
  return slot.filesystem.read(slot.nid, handle, offset, length, slot, reply.bodyStart);
}

export function lseek(slot: Slot): number {
  const { request, reply } = slot;
  const handle = request.u64(LSEEK_IN.FH);
  const offset = request.u64(LSEEK_IN.OFFSET);
  const found = slot.filesystem.seek(slot.nid, handle, offset, request.u32(LSEEK_IN.WHENCE));
  return found < 0 ? found : reply.seekOffset(found);
}

export function release(slot: Slot): number {
  return slot.filesystem.release(slot.nid, slot.request.u64(RELEASE_IN.FH));
}
