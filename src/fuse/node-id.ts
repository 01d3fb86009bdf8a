// Two number spaces that look alike. A nid is EROFS's: the slot of an inode in the image, any value
// from 0. A nodeid is FUSE's: what the kernel calls an inode in requests; 1 is always the root and 0
// means "none". nodeid = nid + 2 for everything but the root keeps the two apart: no nid, however
// the image was forged, can be taken for the root, and the mapping needs no table, so a nodeid
// stays valid after FORGET, over a restart of the daemon, and in NFS file handles.

import { FUSE_ROOT_ID } from './abi.ts';

const FIRST_ORDINARY_NODEID = 2;

/** The nodeid under which the kernel knows `nid`. */
export function nodeidOf(nid: number, rootNid: number): number {
  return nid === rootNid ? FUSE_ROOT_ID : nid + FIRST_ORDINARY_NODEID;
}

/** The nid behind a nodeid of a request; -1 for a number that was never handed out. */
export function nidOf(nodeid: number, rootNid: number): number {
  return nodeid === FUSE_ROOT_ID ? rootNid : nodeid - FIRST_ORDINARY_NODEID;
}
