// The answer to INIT, field by field. handshake.test.ts has what kernels from 5.4 to 6.18 send.

import { describe, expect, it } from 'vitest';
import {
  INIT_IN,
  INIT_OUT,
  InitFlag,
  InitFlag2,
  IN_HEADER,
  Opcode,
} from '../../../src/fuse/abi.ts';
import { type InitWishes, type Negotiated, negotiate } from '../../../src/fuse/init.ts';
import { Reply } from '../../../src/fuse/reply.ts';
import { Request } from '../../../src/fuse/request.ts';

interface Offer {
  minor: number;
  flags: number;
  flags2?: number;
  bodySize?: number;
}

/** Everything Linux 6.18 offers a plain mount, from the protocol's table. */
const ALL_FLAGS = 0x73ffff_fb | 0;
const ALL_FLAGS2 = 0x7ff;
const EVERYTHING: InitWishes = {
  posixAcl: true,
  stackDepth: 2,
  overIoUring: false,
  withoutHandles: false,
};

function init(
  offer: Offer,
  { posixAcl = false, stackDepth = 0, withoutHandles = false }: Partial<InitWishes> = {},
) {
  const bytes = new Uint8Array(8192);
  const view = new DataView(bytes.buffer);
  const bodySize = offer.bodySize ?? (offer.minor >= 36 ? INIT_IN.SIZE : 16);
  const length = IN_HEADER.SIZE + bodySize;
  view.setUint32(IN_HEADER.LEN, length, true);
  view.setUint32(IN_HEADER.OPCODE, Opcode.INIT, true);
  const at = IN_HEADER.SIZE;
  view.setUint32(at + INIT_IN.MAJOR, 7, true);
  view.setUint32(at + INIT_IN.MINOR, offer.minor, true);
  view.setUint32(at + INIT_IN.MAX_READAHEAD, 131_072, true);
  view.setInt32(at + INIT_IN.FLAGS, offer.flags, true);
  // Beyond a short body lies whatever was there: it must not be taken for flags.
  view.setUint32(at + INIT_IN.FLAGS2, offer.flags2 ?? 0xffff_ffff, true);
  const request = new Request(bytes);
  expect(request.loadAdjacent(length)).toBe(0);
  const reply = new Reply(new Uint8Array(8192));
  reply.bytes.fill(0xee);
  const negotiated: Negotiated = { minor: 0, flags: 0, flags2: 0 };
  const result = negotiate(
    request,
    reply,
    { posixAcl, stackDepth, overIoUring: false, withoutHandles },
    negotiated,
  );
  const out = new DataView(reply.bytes.buffer, reply.bodyStart, INIT_OUT.SIZE);
  return { result, negotiated, out };
}

describe('INIT', () => {
  it('limits what the kernel sends and keeps in flight', () => {
    const { out } = init({ minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 });
    expect(out.getUint32(INIT_OUT.MAX_WRITE, true)).toBe(4096);
    expect(out.getUint16(INIT_OUT.MAX_PAGES, true)).toBe(256);
    expect(out.getUint16(INIT_OUT.MAX_BACKGROUND, true)).toBe(64);
    expect(out.getUint16(INIT_OUT.CONGESTION_THRESHOLD, true)).toBe(48);
    expect(out.getUint32(INIT_OUT.TIME_GRAN, true)).toBe(1);
    expect(out.getUint32(INIT_OUT.MAX_READAHEAD, true)).toBe(131_072);
  });

  it('answers a newer minor with the newest it knows', () => {
    expect(init({ minor: 99, flags: ALL_FLAGS, flags2: 0 }).negotiated.minor).toBe(45);
  });

  it.each(Array.from({ length: 32 }, (_, bit) => bit))(
    'never takes more than is offered when only bit %i is',
    (bit) => {
      const flags = 1 << bit;
      const { out } = init({ minor: 45, flags, flags2: ALL_FLAGS2 }, EVERYTHING);
      expect(out.getInt32(INIT_OUT.FLAGS, true) & ~flags).toBe(0);
      if (flags !== InitFlag.FUSE_INIT_EXT) expect(out.getUint32(INIT_OUT.FLAGS2, true)).toBe(0);
    },
  );

  it('takes what an immutable tree allows, and nothing for writers', () => {
    const { negotiated } = init({ minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 });
    expect(negotiated.flags).toBe(
      InitFlag.FUSE_ASYNC_READ |
        InitFlag.FUSE_EXPORT_SUPPORT |
        InitFlag.FUSE_DO_READDIRPLUS |
        InitFlag.FUSE_PARALLEL_DIROPS |
        InitFlag.FUSE_ABORT_ERROR |
        InitFlag.FUSE_MAX_PAGES |
        InitFlag.FUSE_CACHE_SYMLINKS |
        InitFlag.FUSE_EXPLICIT_INVAL_DATA |
        InitFlag.FUSE_INIT_EXT,
    );
    expect(negotiated.flags2).toBe(InitFlag2.FUSE_ALLOW_IDMAP);
  });

  it('asks for ACL enforcement only when the image needs it', () => {
    const offer = { minor: 45, flags: ALL_FLAGS, flags2: 0 };
    expect(init(offer, { posixAcl: false }).negotiated.flags & InitFlag.FUSE_POSIX_ACL).toBe(0);
    expect(init(offer, { posixAcl: true }).negotiated.flags & InitFlag.FUSE_POSIX_ACL).not.toBe(0);
  });

  it.each([1, 2])(
    'asks for passthrough to objects at stack depth %i, if it is offered',
    (depth) => {
      const wishes = { stackDepth: depth };
      const offer = { minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 };
      const { negotiated, out } = init(offer, wishes);
      const both = InitFlag2.FUSE_ALLOW_IDMAP | InitFlag2.FUSE_PASSTHROUGH;
      expect(negotiated.flags2).toBe(both);
      expect(out.getUint32(INIT_OUT.FLAGS2, true)).toBe(both);
      expect(out.getUint32(INIT_OUT.MAX_STACK_DEPTH, true)).toBe(depth);

      const without = ALL_FLAGS2 & ~InitFlag2.FUSE_PASSTHROUGH;
      for (const less of [
        { ...offer, flags2: without },
        { ...offer, flags: ALL_FLAGS & ~InitFlag.FUSE_INIT_EXT },
        { minor: 35, flags: ALL_FLAGS, bodySize: 16 },
      ]) {
        const answer = init(less, wishes);
        expect(answer.negotiated.flags2 & InitFlag2.FUSE_PASSTHROUGH).toBe(0);
        expect(answer.out.getUint32(INIT_OUT.FLAGS2, true) & InitFlag2.FUSE_PASSTHROUGH).toBe(0);
      }
    },
  );

  it('asks for no passthrough at stack depth 0', () => {
    const { negotiated, out } = init({ minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 });
    expect(negotiated.flags2 & InitFlag2.FUSE_PASSTHROUGH).toBe(0);
    expect(out.getUint32(INIT_OUT.MAX_STACK_DEPTH, true)).toBe(0);
  });

  it('does not read flags2 from a body that has none', () => {
    const { negotiated, out } = init({ minor: 35, flags: ALL_FLAGS, bodySize: 16 });
    expect(negotiated.flags2).toBe(0);
    expect(out.getUint32(INIT_OUT.FLAGS2, true)).toBe(0);
  });

  it('leaves every byte it does not mean zero', () => {
    const { out } = init({ minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 }, EVERYTHING);
    const end = INIT_OUT.MAX_STACK_DEPTH + 4;
    for (let at = end; at < INIT_OUT.SIZE; at++) expect(out.getUint8(at)).toBe(0);
  });

  it('has no file handles where none are wanted and the kernel can do without', () => {
    const wishes = { withoutHandles: true };
    const recent = init({ minor: 45, flags: ALL_FLAGS, flags2: ALL_FLAGS2 }, wishes);
    expect(recent.negotiated.flags & InitFlag.FUSE_EXPORT_SUPPORT).toBe(0);
    expect(recent.out.getUint32(INIT_OUT.FLAGS, true) & InitFlag.FUSE_EXPORT_SUPPORT).toBe(0);
    expect(recent.negotiated.flags2 & InitFlag2.FUSE_NO_EXPORT_SUPPORT).not.toBe(0);
    const old = init({ minor: 39, flags: ALL_FLAGS, flags2: 0 }, wishes);
    expect(old.negotiated.flags & InitFlag.FUSE_EXPORT_SUPPORT).not.toBe(0);
    expect(old.negotiated.flags2).toBe(0);
  });
});
