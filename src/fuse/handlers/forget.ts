// FORGET and BATCH_FORGET, which take no reply. Node ids are a function of the image, so only what the
// kernel had cached is of interest.

import { BATCH_FORGET_IN, FORGET_ONE } from '../abi.ts';
import { nidOf } from '../node-id.ts';
import type { Slot } from '../slot.ts';

export function forget(slot: Slot): void {
  unload(slot, slot.nid);
}

export function batchForget(slot: Slot): void {
  const { request, rootNid } = slot;
  const room = Math.floor((request.bodyLength - BATCH_FORGET_IN.SIZE) / FORGET_ONE.SIZE);
  const count = Math.min(request.u32(BATCH_FORGET_IN.COUNT), room);
  for (let i = 0, at: number = BATCH_FORGET_IN.SIZE; i < count; i++, at += FORGET_ONE.SIZE) {
    unload(slot, nidOf(request.u64(at + FORGET_ONE.NODEID), rootNid));
  }
}

/** A number that was never handed out is none of an inode. */
function unload(slot: Slot, nid: number): void {
  if (nid >= 0) slot.filesystem.unload(nid);
}
