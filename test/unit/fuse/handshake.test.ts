// The first exchange with kernels from 5.4 to 6.18, recorded or put together, and with those that there is no
// agreement with. The session is a made-up one that a kernel's bytes come from.

import { describe, expect, it } from 'vitest';
import { INIT_OUT, InitFlag, InitFlag2, OUT_HEADER } from '../../../src/fuse/abi.ts';
import { shakeHands } from '../../../src/fuse/handshake.ts';
import type { InitWishes, Negotiated } from '../../../src/fuse/init.ts';
import { Reply } from '../../../src/fuse/reply.ts';
import { Request } from '../../../src/fuse/request.ts';
import {
  type InitOffer,
  initRequest,
  offers,
  recordedRequest,
  recordedRequests,
} from '../../support/init-requests.ts';

const EIO = 5;
const ENODEV = 19;
const EVERYTHING: InitWishes = {
  posixAcl: true,
  stackDepth: 1,
  overIoUring: true,
  withoutHandles: false,
};
const NOTHING: InitWishes = {
  posixAcl: false,
  stackDepth: 0,
  overIoUring: false,
  withoutHandles: false,
};

interface Answered {
  outcome: Negotiated | string;
  /** Every reply, with its header. */
  replies: DataView[];
  asked: number;
}

/** Lets a kernel that sends these requests, one after the other, meet us. */
function meet(requests: readonly Uint8Array[], wishes: InitWishes = EVERYTHING): Answered {
  const request = new Request(new Uint8Array(8192));
  const reply = new Reply(new Uint8Array(8192));
  // What is not written, neither by the kernel nor by us, is not zero.
  for (const bytes of [request.bytes, reply.bytes]) bytes.fill(0xee);
  const replies: DataView[] = [];
  let asked = 0;
  const session = {
    exchange: (replyLength: number) => {
      expect(replyLength).toBe(0);
      const next = requests[asked++];
      if (next === undefined) return -ENODEV;
      request.bytes.set(next);
      return next.length;
    },
    reply: (length: number) => {
      replies.push(new DataView(reply.bytes.slice(0, length).buffer));
      return 0;
    },
  };
  return { outcome: shakeHands(session, request, reply, wishes), replies, asked };
}

const body = (reply: DataView | undefined): DataView =>
  new DataView(reply!.buffer, OUT_HEADER.SIZE);

/** What a kernel reads in a reply, and does not if it has not offered INIT_EXT. */
function taken(reply: DataView | undefined): { flags: number; flags2: number } {
  return {
    flags: body(reply).getUint32(INIT_OUT.FLAGS, true),
    flags2: body(reply).getUint32(INIT_OUT.FLAGS2, true),
  };
}

const always =
  InitFlag.FUSE_ASYNC_READ |
  InitFlag.FUSE_EXPORT_SUPPORT |
  InitFlag.FUSE_DO_READDIRPLUS |
  InitFlag.FUSE_PARALLEL_DIROPS |
  InitFlag.FUSE_POSIX_ACL |
  InitFlag.FUSE_ABORT_ERROR |
  InitFlag.FUSE_MAX_PAGES |
  InitFlag.FUSE_CACHE_SYMLINKS |
  InitFlag.FUSE_EXPLICIT_INVAL_DATA;
const extended = always | InitFlag.FUSE_INIT_EXT;
const { FUSE_PASSTHROUGH, FUSE_ALLOW_IDMAP, FUSE_OVER_IO_URING } = InitFlag2;

/** By version of Linux: what it sends at least, and all that is taken of it where everything is wished for. */
const agreements: [version: string, requestSize: number, flags: number, flags2: number][] = [
  ['5.4', 56, always, 0],
  ['5.10', 56, always, 0],
  ['5.15', 56, always, 0],
  ['6.1.0', 104, extended, 0],
  ['6.1', 104, extended, 0],
  ['6.6', 104, extended, 0],
  ['6.9', 104, extended, FUSE_PASSTHROUGH],
  ['6.12', 104, extended, FUSE_PASSTHROUGH | FUSE_ALLOW_IDMAP],
  ['6.14', 104, extended, FUSE_PASSTHROUGH | FUSE_ALLOW_IDMAP | FUSE_OVER_IO_URING],
  ['6.15', 104, extended, FUSE_PASSTHROUGH | FUSE_ALLOW_IDMAP],
  ['6.16', 104, extended, FUSE_PASSTHROUGH | FUSE_ALLOW_IDMAP],
  ['6.18', 104, extended, FUSE_PASSTHROUGH | FUSE_ALLOW_IDMAP],
];

describe.each(agreements)('the handshake with Linux %s', (version, requestSize, flags, flags2) => {
  const offer = offers[version]!;
  const request = initRequest(offer);

  it('takes of what is offered what an immutable tree allows', () => {
    expect(request).toHaveLength(requestSize);
    const { outcome, replies, asked } = meet([request]);
    expect(outcome).toEqual({ minor: offer.minor, flags, flags2 });
    expect(replies).toHaveLength(1);
    expect(asked).toBe(1);
    expect(taken(replies[0])).toEqual({ flags, flags2 });
    expect(taken(replies[0]).flags & ~offer.flags).toBe(0);
    expect(taken(replies[0]).flags2 & ~(offer.flags2 ?? 0)).toBe(0);
  });

  it('answers with the 64 bytes of every minor since 7.23', () => {
    const [reply] = meet([request]).replies;
    expect(reply!.byteLength).toBe(OUT_HEADER.SIZE + 64);
    expect(reply!.getUint32(OUT_HEADER.LEN, true)).toBe(reply!.byteLength);
    expect(reply!.getInt32(OUT_HEADER.ERROR, true)).toBe(0);
    expect(reply!.getBigUint64(OUT_HEADER.UNIQUE, true)).toBe(2n);
    expect(body(reply).getUint32(INIT_OUT.MAJOR, true)).toBe(7);
    expect(body(reply).getUint32(INIT_OUT.MINOR, true)).toBe(offer.minor);
    expect(body(reply).getUint16(INIT_OUT.MAP_ALIGNMENT, true)).toBe(0);
    // Nothing that is undefined, and nothing of an earlier message.
    for (let at = INIT_OUT.REQUEST_TIMEOUT; at < 64; at++) expect(body(reply).getUint8(at)).toBe(0);
  });

  it('takes nothing that is not wished for', () => {
    const wished = meet([request], NOTHING).outcome as Negotiated;
    expect(wished.flags).toBe(flags & ~InitFlag.FUSE_POSIX_ACL);
    expect(wished.flags2).toBe(flags2 & FUSE_ALLOW_IDMAP);
  });
});

describe('what kernels really sent', () => {
  it('is recorded of 5.10, 6.1, 6.12 and 6.18', () => {
    const versions = recordedRequests.map(({ release }) => release.split('.', 2).join('.'));
    expect(versions).toEqual(['5.10', '6.1', '6.12', '6.18']);
  });

  it.each(['5.10', '6.1', '6.12', '6.18'])(
    'is what this test takes Linux %s to offer',
    (version) => {
      expect(recordedRequest(version)).toEqual(initRequest(offers[version]!));
    },
  );
});

describe('a kernel that there is no agreement with', () => {
  const all = { flags: 0x73ff_fffb, flags2: 0x7ff };

  it.each([
    ['Linux 5.2', { minor: 30, ...all, flags2: undefined }, '7.30'],
    ['Linux 4.19', { minor: 27, ...all, flags2: undefined }, '7.27'],
    ['Linux 2.6.24', { minor: 9, ...all, flags2: undefined }, '7.9'],
    ['FUSE 6', { major: 6, minor: 1, ...all, flags2: undefined }, '6.1'],
    ['FUSE 5, whose minor is large', { major: 5, minor: 99, ...all, flags2: undefined }, '5.99'],
  ] satisfies [string, InitOffer, string][])('is refused: %s', (_, offer, spoken) => {
    const { outcome, replies } = meet([initRequest(offer)]);
    expect(outcome).toBe(
      `it speaks FUSE ${spoken}, which is too old: ` +
        'composefs-fuse needs 7.31 (Linux 5.4) or a later minor',
    );
    expect(replies).toHaveLength(1);
    expect(replies[0]!.byteLength).toBe(OUT_HEADER.SIZE);
    expect(replies[0]!.getInt32(OUT_HEADER.ERROR, true)).toBe(-EIO);
  });

  it('is met on ours if it speaks FUSE 8 and comes down', () => {
    const { outcome, replies } = meet([
      initRequest({ major: 8, minor: 3, ...all }),
      initRequest({ minor: 45, ...all }),
    ]);
    expect(replies).toHaveLength(2);
    expect(body(replies[0]).getUint32(INIT_OUT.MAJOR, true)).toBe(7);
    expect(body(replies[0]).getUint32(INIT_OUT.MINOR, true)).toBe(45);
    // Nothing that FUSE 8 may mean otherwise.
    expect(taken(replies[0])).toEqual({ flags: 0, flags2: 0 });
    expect(outcome).toMatchObject({ minor: 45, flags: extended });
  });

  it('is refused if it insists on FUSE 8', () => {
    const insists = initRequest({ major: 8, minor: 0, ...all });
    const { outcome, asked } = meet([insists, insists, insists]);
    expect(asked).toBe(2);
    expect(outcome).toBe(
      'it speaks FUSE 8.0 and does not come down to 7: composefs-fuse needs 7.31 (Linux 5.4) or a later minor',
    );
  });

  it('is named by what it says instead of INIT', () => {
    const lookup = initRequest({ minor: 45, ...all });
    lookup[4] = 1;
    expect(meet([lookup]).outcome).toBe('its first request is LOOKUP and not INIT');
    expect(meet([lookup.subarray(0, 20)]).outcome).toBe('its first request is malformed');
    expect(meet([]).outcome).toMatch(/^ENODEV/);
  });
});
