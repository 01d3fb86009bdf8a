// INIT: what the kernel offers, what we take and why. Everything an immutable tree allows is asked
// for; nothing that only helps writers.

import { Errno } from '../errors.ts';
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_OLDEST_MINOR_VERSION,
  INIT_IN,
  INIT_IN_OLD_SIZE,
  INIT_OUT,
  InitFlag,
  InitFlag2,
} from './abi.ts';
import type { Reply } from './reply.ts';
import type { Request } from './request.ts';

/** Largest READ answer, in bytes; bounds the reply buffer. The mount option max_read says the same. */
export const MAX_READ = 0x10_0000;
/** Pages per request: MAX_READ with 4 KiB pages; with larger pages max_read is what limits. */
const MAX_PAGES = 256;
/** Nothing is ever written; the smallest value the kernel accepts keeps the read buffer small. */
const MAX_WRITE = 4096;
/** Readahead and RELEASE requests in flight; the kernel's 12 and 9 leave 16 readers waiting. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

export interface InitWishes {
  /** The image has POSIX ACLs that the kernel shall enforce. Costs a request per root walk. */
  posixAcl: boolean;
  /**
   * For passthrough, how deep the filesystems of the objects are stacked, plus one: 1 for ordinary
   * ones, 2 where one is an overlayfs (then this mount cannot be a layer of an overlayfs itself). 0:
   * no passthrough.
   */
  stackDepth: number;
  /** Requests come over io_uring once INIT is answered, and only when every queue is served. */
  overIoUring: boolean;
  /**
   * A writable overlayfs may come on top, ours or a container's. It would remember what it copied up by
   * file handles, and since Linux 6.16 the kernel takes what it finds by one for stale
   * (fuse_dentry_revalidate and its epoch), so that the upper layer could not be mounted again. Where FUSE
   * has none, it goes by paths.
   */
  withoutHandles: boolean;
}

/** What both sides agreed on. */
export interface Negotiated {
  minor: number;
  flags: number;
  flags2: number;
}

const WANTED =
  // READs of readahead are sent concurrently.
  InitFlag.FUSE_ASYNC_READ |
  // Node ids are a function of the image, so file handles survive eviction; see withoutHandles.
  InitFlag.FUSE_EXPORT_SUPPORT |
  // One request instead of one per name; without AUTO, which falls back to single lookups.
  InitFlag.FUSE_DO_READDIRPLUS |
  // LOOKUP and READDIR of one directory need not wait for each other.
  InitFlag.FUSE_PARALLEL_DIROPS |
  // Tells an abort by the administrator from an unmount.
  InitFlag.FUSE_ABORT_ERROR |
  InitFlag.FUSE_MAX_PAGES |
  InitFlag.FUSE_CACHE_SYMLINKS |
  // A changed size cannot happen; never drop pages on suspicion.
  InitFlag.FUSE_EXPLICIT_INVAL_DATA |
  InitFlag.FUSE_INIT_EXT;

/**
 * Answers INIT. Returns the reply body's length and fills `negotiated`, or -EIO when the kernel is older than
 * Linux 5.4. To a kernel with a larger major version it names ours, leaves `negotiated` alone, and the
 * kernel is expected to send INIT again.
 */
export function negotiate(
  request: Request,
  reply: Reply,
  wishes: InitWishes,
  negotiated: Negotiated,
): number {
  const major = request.u32(INIT_IN.MAJOR);
  const offeredMinor = request.u32(INIT_IN.MINOR);
  if (major < FUSE_KERNEL_VERSION) return -Errno.EIO;
  const body = reply.bodyStart;
  for (let at = body; at < body + INIT_OUT.SIZE; at += 4) reply.view.setUint32(at, 0, true);
  reply.view.setUint32(body + INIT_OUT.MAJOR, FUSE_KERNEL_VERSION, true);
  if (major > FUSE_KERNEL_VERSION) {
    reply.view.setUint32(body + INIT_OUT.MINOR, FUSE_KERNEL_MINOR_VERSION, true);
    return INIT_OUT.SIZE;
  }
  if (offeredMinor < FUSE_OLDEST_MINOR_VERSION) return -Errno.EIO;

  const offered = request.u32(INIT_IN.FLAGS);
  const isExtended =
    (offered & InitFlag.FUSE_INIT_EXT) !== 0 && request.bodyLength > INIT_IN_OLD_SIZE;
  const offered2 = isExtended ? request.u32(INIT_IN.FLAGS2) : 0;
  negotiated.minor = Math.min(offeredMinor, FUSE_KERNEL_MINOR_VERSION);
  negotiated.flags = offered & (WANTED | (wishes.posixAcl ? InitFlag.FUSE_POSIX_ACL : 0));
  // Id-mapped mounts of this mount (Linux 6.12); the mount always has default_permissions.
  negotiated.flags2 =
    offered2 &
    (InitFlag2.FUSE_ALLOW_IDMAP |
      (wishes.withoutHandles ? InitFlag2.FUSE_NO_EXPORT_SUPPORT : 0) |
      (wishes.stackDepth > 0 ? InitFlag2.FUSE_PASSTHROUGH : 0) |
      (wishes.overIoUring ? InitFlag2.FUSE_OVER_IO_URING : 0));

  // Both at once the kernel does not know.
  if ((negotiated.flags2 & InitFlag2.FUSE_NO_EXPORT_SUPPORT) !== 0) {
    negotiated.flags &= ~InitFlag.FUSE_EXPORT_SUPPORT;
  }

  reply.view.setUint32(body + INIT_OUT.MINOR, negotiated.minor, true);
  reply.view.setUint32(body + INIT_OUT.MAX_READAHEAD, request.u32(INIT_IN.MAX_READAHEAD), true);
  reply.view.setUint32(body + INIT_OUT.FLAGS, negotiated.flags, true);
  reply.view.setUint32(body + INIT_OUT.FLAGS2, negotiated.flags2, true);
  reply.view.setUint16(body + INIT_OUT.MAX_BACKGROUND, MAX_BACKGROUND, true);
  reply.view.setUint16(body + INIT_OUT.CONGESTION_THRESHOLD, CONGESTION_THRESHOLD, true);
  reply.view.setUint32(body + INIT_OUT.MAX_WRITE, MAX_WRITE, true);
  reply.view.setUint32(body + INIT_OUT.TIME_GRAN, 1, true);
  reply.view.setUint16(body + INIT_OUT.MAX_PAGES, MAX_PAGES, true);
  reply.view.setUint32(body + INIT_OUT.MAX_STACK_DEPTH, wishes.stackDepth, true);
  return INIT_OUT.SIZE;
}
