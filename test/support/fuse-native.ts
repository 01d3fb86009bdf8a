// The second transport in tests: how it is asked for, and what it cannot show. docs/transports.md says
// the same to users.

import { isUtf8 } from 'node:buffer';
import type { Expected } from './differential.ts';
import { needsFuseNative, type Requirement } from './requirements.ts';

/** ACLs are left out on both sides: libfuse 2 cannot have the kernel enforce them. */
export const fuseNativeArgs: readonly string[] = ['--transport', 'fuse-native', '-o', 'noacl'];

const NS_PER_MS = 1_000_000;
/** Numbers of tree-walk.py become doubles; so far apart are two of this size. */
const spacing = (value: number): number => Math.max(1, Math.abs(value) * 2 ** -51);

/** The bytes that tree-walk.py has escaped. */
const bytesOf = (escaped: string): Buffer =>
  Buffer.from(
    escaped.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    ),
    'latin1',
  );
const REPLACEMENT = String.raw`\xef\xbf\xbd`;

/** A transport, for tests that hold each of them to the same. */
export interface TransportUnderTest {
  /** Completes a title. */
  title: string;
  isFuseNative: boolean;
  args: readonly string[];
  requirements: readonly Requirement[];
}

export const transportsUnderTest: readonly TransportUnderTest[] = [
  { title: 'over the device', isFuseNative: false, args: [], requirements: [] },
  {
    title: 'through fuse-native',
    isFuseNative: true,
    args: fuseNativeArgs,
    requirements: [needsFuseNative],
  },
];

export const overlayArgs: readonly string[] = ['--data', 'overlay', '--verity', 'off'];

/** The same with an overlayfs over the device's mount. */
export const overlayUnderTest: TransportUnderTest = {
  title: 'with an overlayfs',
  isFuseNative: false,
  args: overlayArgs,
  requirements: [],
};

/** What the package cannot express. Every other difference to the kernel's mount is a failure. */
export const fuseNativeExceptions: readonly Expected[] = [
  {
    reason: 'times are cut to milliseconds, and to 1970 where they are earlier',
    matches: ({ field, expected, actual }) => {
      if (!['mtime', 'atime', 'ctime'].includes(field)) return false;
      const [kernel, ours] = [Number(expected), Number(actual)];
      if (kernel < 0) return ours === 0;
      const lost = kernel - ours;
      return lost > -spacing(kernel) && lost < NS_PER_MS + spacing(kernel);
    },
  },
  {
    reason: 'names that are not UTF-8 cannot be reached; U+FFFD is listed in their place',
    matches: ({ path, field, expected, actual }) => {
      if (!isUtf8(bytesOf(path))) return field === 'entry' && actual === undefined;
      return path.includes(REPLACEMENT) && expected === undefined;
    },
  },
  {
    reason: 'targets of symlinks that are not UTF-8 are EILSEQ',
    matches: ({ field, expected, actual }) =>
      field === 'target' &&
      actual === '"EILSEQ"' &&
      !isUtf8(bytesOf(JSON.parse(expected ?? '""') as string)),
  },
  {
    reason: 'trusted.* is in no list of names, for the package does not say who asks',
    matches: ({ field, actual }) => field.startsWith('xattrs.trusted.') && actual === undefined,
  },
  {
    reason: 'SEEK_HOLE finds no holes, for libfuse 2 has no lseek',
    matches: ({ field, actual }) =>
      field === 'seek' && /^\[\[0,\d+\],\["ENXIO","ENXIO"\]\]$/.test(actual ?? ''),
  },
];
