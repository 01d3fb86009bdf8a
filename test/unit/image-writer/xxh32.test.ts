import { expect, it } from 'vitest';
import { XattrNames } from '../../../src/image-writer/xattr-names.ts';
import { ByteHeap } from '../../../src/image-writer/byte-heap.ts';
import { XattrTable } from '../../../src/image-writer/xattr-table.ts';
import { xxh32 } from '../../../src/image-writer/xxh32.ts';

it.each([
  ['', 0, 0x02cc5d05],
  ['a', 0, 0x550d7456],
  ['abc', 0, 0x32d153ff],
  ['abcdefghijklmnop', 0, 0x9d2d8b62],
  ['abcdefghijklmnopq', 0x25bbe08f, 0x056b60db],
])('xxh32 of %j with seed %i', (text, seed, expected) => {
  expect(xxh32(Buffer.from(text), seed)).toBe(expected);
});

it('xxh32 of the bytes 0 to 63, at an odd offset', () => {
  const bytes = Uint8Array.from({ length: 65 }, (_, i) => i - 1);
  expect(xxh32(bytes.subarray(1), 1)).toBe(0x55e9e5a0);
});

it.each([
  ['system.posix_acl_access', 2, '', 30],
  ['system.posix_acl_default', 3, '', 21],
  ['system.posix_acl_accessX', 2, 'X', undefined],
  ['security.selinux', 6, 'selinux', 11],
  ['security.capability', 6, 'capability', 29],
  ['trusted.overlay.redirect', 4, 'overlay.overlay.redirect', undefined],
  ['trusted.overlay.whiteout', 4, 'overlay.overlay.whiteout', 4],
  ['trusted.overlay.whiteouts', 4, 'overlay.overlay.whiteouts', 12],
  ['trusted.overlay.opaque', 4, 'overlay.overlay.opaque', 5],
  ['trusted.overlay.', 4, 'overlay.overlay.', undefined],
  ['trusted.other', 4, 'other', undefined],
  ['user.overlay.whiteout', 1, 'overlay.whiteout', 9],
  ['user.overlay.whiteouts', 1, 'overlay.whiteouts', 20],
  ['user.overlay.opaque', 1, 'overlay.opaque', 10],
  ['foo.bar', 0, 'foo.bar', 24],
  ['lustre.x', 0, 'lustre.x', undefined],
])('%s is stored with index %i as %j', (name, index, rest, bit) => {
  const table = new XattrTable(new ByteHeap());
  const bytes = Buffer.from(name);
  const number = table.names.intern(bytes, 0, bytes.length);
  const names = new XattrNames(table);
  expect(names.indexOf(number)).toBe(index);
  expect(Buffer.from(names.restOf(number)).toString()).toBe(rest);
  if (bit !== undefined) expect(names.filterBits[number]).toBe((1 << bit) >>> 0);
});

it('the names that only the writer makes have the filter bits of the format', () => {
  const names = new XattrNames(new XattrTable(new ByteHeap()));
  expect(names.filterBits[names.opaque]).toBe(2 ** 20);
  expect(names.filterBits[names.metacopy]).toBe(2 ** 31);
  expect(names.filterBits[names.redirect]).toBe(2 ** 17);
});
