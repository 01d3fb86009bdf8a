// Dump texts and the images that the reference implementation (mkcomposefs of composefs 1.0.8) makes
// of them. Small texts lie in test/fixtures/dumps, long ones follow a rule and are made here.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VersionRange } from '../../src/image-writer/index.ts';

export interface PinnedDump {
  title: string;
  text: Buffer;
  versions: VersionRange;
  sizeBytes: number;
  /** Of the image. */
  sha256: string;
}

export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');

const fixtureFolder = join(import.meta.dirname, '../fixtures/dumps');
export const fixture = (name: string): Buffer => readFileSync(join(fixtureFolder, `${name}.dump`));

const ROOT_LINE = '/ 4096 40755 2 0 0 0 0.0 - - -';
const dump = (...lines: string[]): Buffer => Buffer.from([ROOT_LINE, ...lines, ''].join('\n'));
const range = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));
const digits = (value: number, width: number, base = 10): string =>
  value.toString(base).padStart(width, '0');

const emptyFile = (path: string): string => `${path} 0 100644 1 0 0 0 0.0 - - -`;
const emptyDirectory = (path: string): string => `${path} 0 40755 2 0 0 0 0.0 - - -`;
const symlink = (path: string, target: string): string =>
  `${path} ${target.length} 120777 1 0 0 0 0.0 ${target} - -`;
const contentFile = (size: number): string => {
  const content = range(size, (i) => String.fromCharCode(97 + (i % 26))).join('');
  return `/f${digits(size, 4)} ${size} 100644 1 0 0 0 0.0 - ${content} -`;
};

const both = (version: number): VersionRange => ({ minVersion: version, maxVersion: version });

type Row = [title: string, text: Buffer, sizeBytes: number, sha256: string, VersionRange?];

const rows: Row[] = [
  [
    'an empty root',
    fixture('empty-root'),
    16384,
    'c3dc5b0fc4afb0693a95e017fe5815e1f88f204d485df617541b5ea659aefb8b',
  ],
  [
    'a small inline file',
    fixture('inline-file'),
    16384,
    '555bf68ce5a1b21fa52e3ff1694ef671a16f0b84aa513a53c468651346b733ca',
  ],
  [
    'external files',
    fixture('external-files'),
    16384,
    'b9085b9098e5897b6e27b85f8be59a247ba7cb1dbe2075032da6c7ee017f9953',
  ],
  [
    'hard links',
    fixture('hard-links'),
    16384,
    'd2dcca37a35f6a18208f2b271319cb3691b135d2fae6b26ff380c261ca728f2c',
  ],
  [
    'symlinks behind the inode and in blocks',
    dump(
      symlink('/l1', 'a/b'),
      symlink('/l2', 'x'.repeat(4064)),
      symlink('/l3', 'y'.repeat(4063)),
      symlink('/l4', 'z'.repeat(4095)),
    ),
    36864,
    'd48fdf0cf9fb1b76c58e4f1fa597f95a48fabb589670762a357db21acaaf5ac6',
  ],
  [
    'attributes shared between files',
    fixture('shared-xattrs'),
    16384,
    '3879d0bcc71567a9fc6c541cdffd834b65b017313659245189f9da056566f1b9',
  ],
  [
    'more than 128 shared attributes',
    dump(
      ...['/a', '/b'].map((path) =>
        [emptyFile(path), ...range(150, (i) => `user.x${digits(i, 3)}=${i % 7}`)].join(' '),
      ),
    ),
    20480,
    'b5d38e6e97f583c2a814ecf709c761510da45d84bd201051e08021f1171db5a0',
  ],
  [
    'a directory of several blocks',
    dump(
      '/d 4096 40755 2 0 0 0 0.0 - - -',
      ...range(350, (i) => emptyFile(`/d/file-number-${digits(i, 4)}`)),
    ),
    36864,
    'f7424f36c52d69315daf4b0b16f769312aa77af3008b86ae4a15c3d40927219c',
  ],
  [
    'whiteouts in version 0',
    fixture('whiteouts'),
    16384,
    '30a676af1b696d1ee7038476e912b3fda6f616ae21fd3d3b752ecb53fed4c088',
    both(0),
  ],
  [
    'whiteouts in version 1',
    fixture('whiteouts'),
    16384,
    'ea8dbfe71c81927a34606f782835c17f82009828a33d89001f165d348a9120af',
    both(1),
  ],
  [
    'whiteouts, which choose version 1',
    fixture('whiteouts'),
    16384,
    'ea8dbfe71c81927a34606f782835c17f82009828a33d89001f165d348a9120af',
  ],
  [
    'devices, fifo and socket',
    fixture('device-nodes'),
    16384,
    'e4b86dde26686df2572b77b534a5b0775fb31e5f4af9205b891fbc61508a6d25',
  ],
  [
    'escaped names and values',
    fixture('escapes'),
    16384,
    'aa1a3dd46fe7fbaf10706ad52e45131dfff181c478211d4727fbc3f23dda943e',
  ],
  [
    'files of 4 GiB and 8 TiB',
    fixture('huge-files'),
    16384,
    'fd2abeff56d70385d8d6d4d20b834220b5609a35128717242c61af54f47fd172',
  ],
  [
    'negative and mixed mtimes',
    fixture('mixed-mtimes'),
    24576,
    '662ec710620db1d8b41d77816b271ab33ff39615b59c3cd389cc4c9fe5bfabf7',
  ],
  [
    'large uid, gid and nlink',
    fixture('large-ids'),
    16384,
    '4dd7154483151524894780c119c57744d0334131e3e3f697fda779bd53fca2e0',
  ],
  [
    'overlay attributes, an ACL and a label',
    fixture('overlay-xattrs'),
    24576,
    'e06acd507eabae467735d2c552cf089dab1d53bb0566fe853f838391f3e496d1',
  ],
  [
    'inline contents of critical sizes',
    dump(...[1, 2048, 2049, 4095, 4096, 4097, 5000].map(contentFile)),
    40960,
    '6fdf3f231972a7452290bb521724ac95b330051051a8a0e39bab1538bfc7d030',
  ],
  [
    'a root that has the names 00 to ff',
    dump(...range(256, (i) => emptyDirectory(`/${digits(i, 2, 16)}`)), emptyFile('/00/x')),
    24576,
    'e3d3b6b3d4625fc596484ad560b76c28efbaa49e5ef65666916669926036ccc1',
  ],
  [
    'padding before directories',
    dump(
      ...range(4, (i) => emptyDirectory(`/g${digits(i, 2)}`)),
      ...range(80, (i) =>
        emptyFile(`/g${digits(Math.floor(i / 20), 2)}/${'n'.repeat(80)}${digits(i % 20, 2)}`),
      ),
    ),
    28672,
    '8a89b1e27c5a22a5c76338f61d8408c48cbc70941e0508713e742834f74f71c9',
  ],
];

export const pinnedDumps: readonly PinnedDump[] = rows.map(
  ([title, text, sizeBytes, digest, versions = {}]) => ({
    title,
    text,
    versions,
    sizeBytes,
    sha256: digest,
  }),
);
