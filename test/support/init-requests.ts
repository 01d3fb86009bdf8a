// INIT as kernels send it: recorded ones, and those of kernels that are not at hand, put together from what
// their sources offer (fuse_send_init in fs/fuse/inode.c) for a plain mount without DAX.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IN_HEADER, INIT_IN, Opcode } from '../../src/fuse/abi.ts';

/** What a kernel offers. */
export interface InitOffer {
  major?: number;
  minor: number;
  /** Bits 0 to 31. */
  flags: number;
  /** Bits 32 to 63; undefined for a kernel that sends 16 bytes only. */
  flags2?: number | undefined;
}

interface Recorded {
  release: string;
  hex: string;
}

const fixture = join(import.meta.dirname, '../fixtures/init-requests.json');

export const recordedRequests: readonly Recorded[] = (
  JSON.parse(readFileSync(fixture, 'utf8')) as { requests: Recorded[] }
).requests;

/** The recorded request of a kernel with this `major.minor` version. */
export function recordedRequest(version: string): Uint8Array {
  const found = recordedRequests.find(({ release }) => release.startsWith(`${version}.`));
  if (found === undefined) throw new Error(`no INIT of Linux ${version} is recorded`);
  return Uint8Array.from(Buffer.from(found.hex, 'hex'));
}

/** Bits 0, 1 and 3 to 25: all that there were by then, but FILE_OPS, which no kernel has ever had. */
const UP_TO_5_4 = 0x03ff_fffb;
const HANDLE_KILLPRIV_V2 = 1 << 28;
const SETXATTR_EXT = 1 << 29;
const INIT_EXT = 1 << 30;
const UP_TO_5_15 = UP_TO_5_4 | HANDLE_KILLPRIV_V2 | SETXATTR_EXT;
const UP_TO_6_1 = UP_TO_5_15 | INIT_EXT;

const SECURITY_CTX = 0x1;
/** Where the kernel is built with DAX for FUSE (CONFIG_FUSE_DAX), as Debian's are. */
const HAS_INODE_DAX = 0x2;
const CREATE_SUPP_GROUP = 0x4;
const HAS_EXPIRE_ONLY = 0x8;
const DIRECT_IO_ALLOW_MMAP = 0x10;
const PASSTHROUGH = 0x20;
const NO_EXPORT_SUPPORT = 0x40;
const HAS_RESEND = 0x80;
const ALLOW_IDMAP = 0x100;
const OVER_IO_URING = 0x200;
const REQUEST_TIMEOUT = 0x400;
const UP_TO_6_6 = SECURITY_CTX | CREATE_SUPP_GROUP | HAS_EXPIRE_ONLY | DIRECT_IO_ALLOW_MMAP;
const UP_TO_6_9 = UP_TO_6_6 | PASSTHROUGH | NO_EXPORT_SUPPORT | HAS_RESEND;
const UP_TO_6_12 = UP_TO_6_9 | ALLOW_IDMAP;
const UP_TO_6_15 = UP_TO_6_12 | REQUEST_TIMEOUT;

/** By version of Linux. Passthrough and io_uring are configured and switched on. */
export const offers: Readonly<Record<string, InitOffer>> = {
  5.4: { minor: 31, flags: UP_TO_5_4 },
  '5.10': { minor: 32, flags: UP_TO_5_4 },
  5.15: { minor: 34, flags: UP_TO_5_15 },
  '6.1.0': { minor: 37, flags: UP_TO_6_1, flags2: SECURITY_CTX },
  // Its stable releases have been given 7.38 of Linux 6.2.
  6.1: { minor: 38, flags: UP_TO_6_1, flags2: SECURITY_CTX | HAS_INODE_DAX | HAS_EXPIRE_ONLY },
  6.6: { minor: 39, flags: UP_TO_6_1, flags2: UP_TO_6_6 },
  6.9: { minor: 40, flags: UP_TO_6_1, flags2: UP_TO_6_9 },
  6.12: { minor: 41, flags: UP_TO_6_1, flags2: UP_TO_6_12 | HAS_INODE_DAX },
  6.14: { minor: 42, flags: UP_TO_6_1, flags2: UP_TO_6_12 | OVER_IO_URING },
  6.15: { minor: 43, flags: UP_TO_6_1, flags2: UP_TO_6_15 },
  6.16: { minor: 44, flags: UP_TO_6_1, flags2: UP_TO_6_15 },
  6.18: { minor: 45, flags: UP_TO_6_1, flags2: UP_TO_6_15 },
};

/** The request with header. What a kernel without flags2 leaves out is not there. */
export function initRequest(offer: InitOffer): Uint8Array {
  const bodySize = offer.flags2 === undefined ? INIT_IN.FLAGS + 4 : INIT_IN.SIZE;
  const bytes = new Uint8Array(IN_HEADER.SIZE + bodySize);
  const view = new DataView(bytes.buffer);
  view.setUint32(IN_HEADER.LEN, bytes.length, true);
  view.setUint32(IN_HEADER.OPCODE, Opcode.INIT, true);
  view.setUint32(IN_HEADER.UNIQUE, 2, true);
  const at = IN_HEADER.SIZE;
  view.setUint32(at + INIT_IN.MAJOR, offer.major ?? 7, true);
  view.setUint32(at + INIT_IN.MINOR, offer.minor, true);
  view.setUint32(at + INIT_IN.MAX_READAHEAD, 131_072, true);
  view.setInt32(at + INIT_IN.FLAGS, offer.flags, true);
  if (offer.flags2 !== undefined) view.setUint32(at + INIT_IN.FLAGS2, offer.flags2, true);
  return bytes;
}
