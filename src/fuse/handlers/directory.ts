// READDIR and READDIRPLUS. A cookie is the position of the next entry in the directory's blocks, so
// a listing can be resumed anywhere, by any worker, without state.

import { Errno } from '../../errors.ts';
import { isDots } from '../../image-reader/index.ts';
import { DIRENT, ENTRY_OUT, READ_IN } from '../abi.ts';
import { nodeidOf } from '../node-id.ts';
import type { Slot } from '../slot.ts';

/** DT_* of dirent(3) by erofs file type. */
const DT_BY_FILE_TYPE = new Uint8Array([0, 8, 4, 2, 6, 1, 12, 10]);

export function readdir(slot: Slot): number {
  return list(slot, 0);
}

export function readdirplus(slot: Slot): number {
  return list(slot, ENTRY_OUT.SIZE);
}

/** Packs as many whole records as fit; `plus` is the room for each one's entry, 0 for READDIR. */
function list(slot: Slot, plus: number): number {
  const { request, reply, filesystem } = slot;
  const entry = filesystem.entry;
  const room = Math.min(request.u32(READ_IN.SIZE_FIELD), reply.bodyCapacity);
  const opened = filesystem.openDirectory(slot.nid, request.u64(READ_IN.OFFSET));
  if (opened < 0) return opened;

  let used = 0;
  for (;;) {
    const more = filesystem.nextEntry();
    // Damage after the first records is reported when the listing is resumed there.
    if (more < 0) return used > 0 ? used : more;
    if (more === 0) return used;
    const size = plus + DIRENT.SIZE + ((entry.nameLength + 7) & ~7);
    if (used + size > room) return used > 0 ? used : -Errno.EINVAL;
    const at = reply.bodyStart + used;
    if (plus > 0) writeEntry(slot, at);
    reply.dirent(
      at + plus,
      entry.nid,
      entry.nextCookie,
      DT_BY_FILE_TYPE[entry.fileType] ?? 0,
      filesystem.image.bytes,
      entry.nameStart,
      entry.nameLength,
    );
    used += size;
  }
}

/** The kernel ignores the entry of `.` and `..`; a child that cannot be shown is only named. */
function writeEntry(slot: Slot, at: number): void {
  const { reply, filesystem } = slot;
  const { entry, image, inode } = filesystem;
  const named = isDots(image.bytes, entry.nameStart, entry.nameLength);
  if (named || filesystem.entryInode() < 0) reply.namelessEntry(at);
  else reply.entry(at, nodeidOf(inode.nid, slot.rootNid), inode);
}
