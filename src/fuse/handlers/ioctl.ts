// IOCTL: the two that tell of fs-verity, so that `fsverity measure` and lsattr work through the mount.

import { Errno } from '../../errors.ts';
import { IOCTL_IN, IOCTL_OUT } from '../abi.ts';
import type { Slot } from '../slot.ts';

/** Command numbers and flags of <linux/fs.h> and <linux/fsverity.h>. */
const FS_IOC_GETFLAGS = 0x8008_6601;
const FS_IOC_MEASURE_VERITY = 0xc004_6686;
const FS_VERITY_FL = 0x0010_0000;
/** struct fsverity_digest: u16 algorithm, u16 size, the digest. */
const VERITY_DIGEST = { ALGORITHM: 0, SIZE_FIELD: 2, DIGEST: 4 } as const;
const GETFLAGS_SIZE = 4;

export function ioctl(slot: Slot): number {
  switch (slot.request.u32(IOCTL_IN.CMD)) {
    case FS_IOC_MEASURE_VERITY:
      return measureVerity(slot);
    case FS_IOC_GETFLAGS:
      return getFlags(slot);
    default:
      // Not remembered, and sent by every open() of some runtimes: the fast answer.
      return -Errno.ENOTTY;
  }
}

/** The digest that the image gives and that every read is checked against. */
function measureVerity(slot: Slot): number {
  const { filesystem, reply, request } = slot;
  const length = filesystem.contentDigest(slot.nid);
  if (length < 0) return length;
  const inSize = request.u32(IOCTL_IN.IN_SIZE);
  if (inSize < VERITY_DIGEST.DIGEST) return -Errno.EINVAL;
  const room = request.view.getUint16(request.payloadStart + VERITY_DIGEST.SIZE_FIELD, true);
  if (room < length) return -Errno.EOVERFLOW;
  const size = VERITY_DIGEST.DIGEST + length;
  // Before Linux 6.10 the kernel copies as many bytes as the command's number says, and those are 4.
  if (request.u32(IOCTL_IN.OUT_SIZE) < size) return -Errno.ENOTTY;
  const at = result(slot);
  reply.view.setUint16(at + VERITY_DIGEST.ALGORITHM, filesystem.digestAlgorithm, true);
  reply.view.setUint16(at + VERITY_DIGEST.SIZE_FIELD, length, true);
  const { digestStart } = filesystem;
  reply.bytes.set(
    filesystem.image.bytes.subarray(digestStart, digestStart + length),
    at + VERITY_DIGEST.DIGEST,
  );
  return IOCTL_OUT.SIZE + size;
}

function getFlags(slot: Slot): number {
  if (slot.request.u32(IOCTL_IN.OUT_SIZE) < GETFLAGS_SIZE) return -Errno.EINVAL;
  const length = slot.filesystem.contentDigest(slot.nid);
  if (length < 0 && length !== -Errno.ENODATA) return length;
  slot.reply.view.setUint32(result(slot), length > 0 ? FS_VERITY_FL : 0, true);
  return IOCTL_OUT.SIZE + GETFLAGS_SIZE;
}

/** Writes struct fuse_ioctl_out for a call that returns 0; where its data begins. */
function result({ reply }: Slot): number {
  const at = reply.bodyStart;
  reply.bytes.fill(0, at, at + IOCTL_OUT.SIZE);
  return at + IOCTL_OUT.SIZE;
}
