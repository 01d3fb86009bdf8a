// The proof that serving allocates nothing per request: a million canned requests, no growth of the
// heap and no garbage collection. Runs the built code in a process of its own, where nothing else
// allocates.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { IdRule, OwnershipRules } from '../../../src/filesystem/ownership.ts';
import { FUSE_ROOT_ID, IN_HEADER, Opcode } from '../../../src/fuse/abi.ts';
import { acl, Tag } from '../../support/acl.ts';
import { CannedServer } from '../../support/canned-server.ts';
import { measureBytes } from '../../../src/verify/index.ts';
import { buildImage } from '../../support/image-builder.ts';
import { directory, external, file, symlink } from '../../support/image-nodes.ts';

const child = fileURLToPath(new URL('../../support/no-alloc-child.mjs', import.meta.url));
/** The smallest object has 12 bytes; what is left here is the measurement's own. */
const ALLOWED_BYTES_PER_REQUEST = 0.5;

let scratch: string;
let results: Record<string, { requests: number; grownBytes: number; collections: number }>;

function request(opcode: number, nodeid: number, body: Uint8Array): string {
  const bytes = new Uint8Array(IN_HEADER.SIZE + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(IN_HEADER.LEN, bytes.length, true);
  view.setUint32(IN_HEADER.OPCODE, opcode, true);
  view.setBigUint64(IN_HEADER.UNIQUE, 4n, true);
  view.setBigUint64(IN_HEADER.NODEID, BigInt(nodeid), true);
  bytes.set(body, IN_HEADER.SIZE);
  return Buffer.from(bytes).toString('hex');
}

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'cfs-alloc-'));
  const content = new Uint8Array(4096);
  const image = buildImage(
    directory({
      small: file('x'.repeat(64), { xattrs: [['security.selinux', 'label']] }),
      acl: file('', {
        xattrs: [['system.posix_acl_access', acl([Tag.USER, 4, 1000], [Tag.GROUP, 4, 2000])]],
      }),
      link: symlink('target'),
      object: external(4096, { redirect: '/object' }),
      verified: external(4096, { redirect: '/object', digest: measureBytes(content).digest }),
      many: directory(
        Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`entry-${i}`, file('')])),
      ),
    }),
  );
  writeFileSync(join(scratch, 'image'), image);
  writeFileSync(join(scratch, 'object'), content);

  const canned = new CannedServer(image);
  const nul = (name: string) => canned.nul(name);
  const [small, link, object, verified, many] = ['small', 'link', 'object', 'verified', 'many'].map(
    (name) => canned.resolve(name),
  ) as [number, number, number, number, number];
  const readBody = canned.readBody(0, 0, 4096);
  const xattr = new Uint8Array(8 + 'security.selinux'.length + 1);
  xattr.set([64], 0);
  xattr.set(nul('security.selinux'), 8);
  const requests = {
    lookup: [request(Opcode.LOOKUP, many, nul('entry-123'))],
    negative: [request(Opcode.LOOKUP, many, nul('nothing'))],
    getattr: [request(Opcode.GETATTR, small, new Uint8Array(16))],
    readlink: [request(Opcode.READLINK, link, new Uint8Array(0))],
    getxattr: [request(Opcode.GETXATTR, small, xattr)],
    listxattr: [request(Opcode.LISTXATTR, small, Uint8Array.from([64, 0, 0, 0, 0, 0, 0, 0]))],
    readdirplus: [request(Opcode.READDIRPLUS, many, canned.readBody(0, 0, 4096))],
    'open, read, release inside the image': [
      request(Opcode.OPEN, small, new Uint8Array(8)),
      request(Opcode.READ, small, readBody),
      request(Opcode.RELEASE, small, new Uint8Array(24)),
    ],
    'open, read, release of an object': [
      request(Opcode.OPEN, object, new Uint8Array(8)),
      request(Opcode.READ, object, readBody),
      request(Opcode.RELEASE, object, new Uint8Array(24)),
    ],
    'open, read, release of a verified object': [
      request(Opcode.OPEN, verified, new Uint8Array(8)),
      request(Opcode.READ, verified, readBody),
      request(Opcode.RELEASE, verified, new Uint8Array(24)),
    ],
    root: [request(Opcode.GETATTR, FUSE_ROOT_ID, new Uint8Array(16))],
  };
  results = run(requests);
  const aclName = nul('system.posix_acl_access');
  const aclBody = new Uint8Array(8 + aclName.length);
  aclBody.set([64], 0);
  aclBody.set(aclName, 8);
  const { lookup, getattr, readdirplus } = requests;
  const getAcl = [request(Opcode.GETXATTR, canned.resolve('acl'), aclBody)];
  const rule: IdRule = {
    ranges: [{ image: 0, host: 100_000, count: 65_536 }],
    otherwise: 65_534,
    existing: [[0, 1_000_000]],
  };
  const mapped = run({ lookup, getattr, readdirplus, getAcl }, { uids: rule, gids: rule });
  for (const [name, result] of Object.entries(mapped)) results[`${name}, mapped`] = result;
}, 90_000);

function run(requests: Record<string, string[]>, ownership?: OwnershipRules): typeof results {
  writeFileSync(join(scratch, 'requests.json'), JSON.stringify(requests));
  const args = ['image', '', 'requests.json'].map((name) => join(scratch, name));
  if (ownership !== undefined) args.push(JSON.stringify(ownership));
  const printed = execFileSync(process.execPath, ['--expose-gc', child, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return JSON.parse(printed) as typeof results;
}

afterAll(() => rmSync(scratch, { recursive: true }));

it('a million canned requests allocate nothing', () => {
  let total = 0;
  for (const [name, { requests, grownBytes, collections }] of Object.entries(results)) {
    total += requests;
    expect.soft(grownBytes / requests, name).toBeLessThan(ALLOWED_BYTES_PER_REQUEST);
    expect.soft(collections, `collections during ${name}`).toBe(0);
  }
  expect(total).toBeGreaterThanOrEqual(1_000_000);
});
