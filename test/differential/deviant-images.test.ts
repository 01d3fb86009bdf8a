// Images that break rules without being damaged: redirects, metacopy values and objects that no
// writer makes. Where we answer otherwise than the kernel, the table says so with the reason; a
// difference that is not in the table fails, and so does a row that no longer differs.

import { createHash } from 'node:crypto';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mustRun } from '../support/command.ts';
import { type Entry, walkTree } from '../support/compare-trees.ts';
import { overlayUnderTest, transportsUnderTest } from '../support/fuse-native.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, external, file, metacopyValue } from '../support/image-nodes.ts';
import type { TestChild, TestExternal } from '../support/image-nodes.ts';
import { mountKernel, mountOurs } from '../support/mounts.ts';
import { ObjectFolder } from '../support/object-folder.ts';
import { describeWith, needsKernelComposefs, needsOurMount } from '../support/requirements.ts';
import { Scope } from '../support/scope.ts';

const withMetacopy = (metacopy: Uint8Array | undefined): TestExternal =>
  external(6, { redirect: '/object' }, { metacopy });

async function makeTree(objects: ObjectFolder): Promise<TestChild[]> {
  objects.write('object', Buffer.from('object'));
  objects.write('dir/object', Buffer.from('object'));
  objects.write('shorter', Buffer.from('abc'));
  objects.write('longer', Buffer.from('abcdefghi'));
  objects.write('empty', Buffer.from(''));
  mkdirSync(objects.at('directory'));
  symlinkSync('object', objects.at('symlink'));
  symlinkSync('dir', objects.at('symlink-directory'));
  writeFileSync(join(objects.path, '../outside'), 'object');
  symlinkSync('../outside', objects.at('symlink-outside'));
  await mustRun('mkfifo', [objects.at('fifo')]);
  await mustRun('mknod', [objects.at('device'), 'c', '1', '3']);

  const redirects: [name: string, redirect: string | Uint8Array | undefined][] = [
    ['plain', '/object'],
    ['no-leading-slash', 'object'],
    ['relative-with-slash', 'dir/object'],
    ['double-slash', '/dir//object'],
    ['leading-double-slash', '//object'],
    ['trailing-slash', '/object/'],
    ['only-slash', '/'],
    ['empty', ''],
    ['none', undefined],
    ['dot', '/./object'],
    ['dot-dot-inside', '/dir/../object'],
    ['dot-dot-outside', '/../outside'],
    ['nul', '/object\0'],
    ['long-name', `/${'x'.repeat(300)}`],
    ['long-path', `/${'x/'.repeat(500)}x`],
    ['through-a-file', '/object/x'],
    ['directory', '/directory'],
    ['symlink', '/symlink'],
    ['through-symlink', '/symlink-directory/object'],
    ['symlink-outside', '/symlink-outside'],
    ['fifo', '/fifo'],
    ['device', '/device'],
    ['shorter-object', '/shorter'],
    ['longer-object', '/longer'],
    ['empty-object', '/empty'],
    ['absent', '/absent'],
  ];
  const children: TestChild[] = redirects.map(([name, redirect]) => [
    `redirect-${name}`,
    external(6, {}, { redirect }),
  ]);
  const digest = new Uint8Array(32).fill(7);
  const metacopies: [name: string, value: Uint8Array | undefined][] = [
    ['none', undefined],
    ['0', new Uint8Array(0)],
    ['1', new Uint8Array(1)],
    ['3', new Uint8Array(3)],
    ['4', metacopyValue(new Uint8Array(0))],
    ['5', new Uint8Array([0, 5, 0, 0, 0])],
    ['20', metacopyValue(digest.subarray(16))],
    ['version-1', metacopyValue(digest).with(0, 1)],
    ['wrong-length', metacopyValue(digest).with(1, 20)],
    ['flags', metacopyValue(digest).with(2, 255)],
    ['unknown-algorithm', metacopyValue(digest).with(3, 9)],
    ['no-algorithm-but-digest', metacopyValue(digest).with(3, 0)],
    ['sha512-length-32', metacopyValue(digest).with(3, 2)],
    ['69', new Uint8Array(69).with(1, 69)],
  ];
  for (const [name, value] of metacopies) children.push([`metacopy-${name}`, withMetacopy(value)]);
  // Attributes of overlayfs where no writer puts them.
  children.push(
    ['inline-with-metacopy', file('inline', { xattrs: [['trusted.overlay.metacopy', '']] })],
    ['inline-with-redirect', file('inline', { xattrs: [['trusted.overlay.redirect', '/object']] })],
    [
      'inline-with-both',
      file('inline', {
        xattrs: [
          ['trusted.overlay.metacopy', ''],
          ['trusted.overlay.redirect', '/object'],
        ],
      }),
    ],
    [
      'directory-redirect',
      directory({ inner: file('x') }, { xattrs: [['trusted.overlay.redirect', '/dir']] }),
    ],
    [
      'directory-opaque',
      directory({ inner: file('x') }, { xattrs: [['trusted.overlay.opaque', 'y']] }),
    ],
    [
      'directory-opaque-x',
      directory({ inner: file('x') }, { xattrs: [['trusted.overlay.opaque', 'x']] }),
    ],
    ['unescaped-whiteout', file('', { xattrs: [['trusted.overlay.whiteout', '']] })],
    [
      'unescaped-whiteout-in-opaque-x',
      directory(
        { gone: file('', { xattrs: [['trusted.overlay.whiteout', '']] }), stays: file('stays') },
        { xattrs: [['trusted.overlay.opaque', 'x']] },
      ),
    ],
  );
  return children;
}

/** What a user gets from an entry, in a few words. */
function outcome(entry: Entry | undefined, contents: ReadonlyMap<unknown, string>): string {
  if (entry === undefined) return 'not there';
  if (entry['lstat'] !== undefined) return `lstat ${String(entry['lstat'])}`;
  if (entry['list'] !== undefined) return `list ${String(entry['list'])}`;
  if (entry['open'] !== undefined) return `open ${String(entry['open'])}`;
  if (entry['read'] === undefined) return 'directory';
  return `reads ${contents.get(entry['read']) ?? String(entry['read'])}`;
}

/** As tree-walk.py describes content. */
const described = (content: string): string =>
  `${content.length}:${createHash('sha256').update(content).digest('hex')}`;

const contents = new Map<unknown, string>(
  ['object', 'inline', 'abc', 'abcdefghi', '', 'stays', 'x', '\0\0\0\0\0\0'].map((content) => [
    described(content),
    JSON.stringify(content),
  ]),
);

/** Where we answer otherwise than the kernel, and why. */
interface Meant {
  reason: string;
  rows: Readonly<Record<string, readonly [kernel: string, ours: string]>>;
}

const meant: readonly Meant[] = [
  {
    reason:
      'An object must be a regular file with the size that the image states, reached ' +
      'without symlinks; anything else is EIO and a log line, so that it is not taken ' +
      'for a file that was never there.',
    rows: {
      'redirect-device': ['open ENOENT', 'open EIO'],
      'redirect-directory': ['open ENOENT', 'open EIO'],
      'redirect-fifo': ['open ENOENT', 'open EIO'],
      'redirect-symlink': ['open ENOENT', 'open EIO'],
      'redirect-symlink-outside': ['open ENOENT', 'open EIO'],
      'redirect-through-symlink': ['open ELOOP', 'open EIO'],
      'redirect-shorter-object': ['reads "abc"', 'open EIO'],
      'redirect-longer-object': ['reads "abcdefghi"', 'open EIO'],
      'redirect-empty-object': ['reads ""', 'open EIO'],
      'redirect-long-name': ['open ENAMETOOLONG', 'open EIO'],
    },
  },
  {
    reason:
      'No writer makes `.`, `..` or NUL in a redirect. The kernel resolves the first ' +
      'two and stops at the third; we refuse all of them.',
    rows: {
      'redirect-dot': ['reads "object"', 'open EIO'],
      'redirect-dot-dot-inside': ['reads "object"', 'open EIO'],
      'redirect-dot-dot-outside': ['open EXDEV', 'open EIO'],
      'redirect-nul': ['reads "object"', 'open EIO'],
    },
  },
  {
    reason:
      'A redirect without sense costs the content of the file. In the kernel it costs ' +
      'the attributes as well, so that a directory with such a file cannot be listed ' +
      'with `ls -l`.',
    rows: {
      'redirect-double-slash': ['lstat EINVAL', 'open EIO'],
      'redirect-empty': ['lstat EINVAL', 'open EIO'],
      'redirect-leading-double-slash': ['lstat EINVAL', 'open EIO'],
      'redirect-no-leading-slash': ['lstat EIO', 'open EIO'],
      'redirect-none': ['lstat EIO', 'open EIO'],
      'redirect-only-slash': ['lstat EINVAL', 'open EIO'],
      'redirect-relative-with-slash': ['lstat EINVAL', 'open EIO'],
      'redirect-trailing-slash': ['lstat EINVAL', 'open EIO'],
      'metacopy-1': ['lstat EIO', 'open EIO'],
      'metacopy-3': ['lstat EIO', 'open EIO'],
    },
  },
  {
    reason: 'An object below a file is not there, like any other that is missing.',
    rows: {
      'redirect-through-a-file': ['open ENOTDIR', 'open ENOENT'],
    },
  },
  {
    reason:
      'A metacopy value that does not say clearly what the digest is. The kernel looks ' +
      'at it only when it is told to verify; a file without a clear digest would be ' +
      'served unverified for ever.',
    rows: {
      'metacopy-5': ['reads "object"', 'open EIO'],
      'metacopy-20': ['reads "object"', 'open EIO'],
      'metacopy-69': ['reads "object"', 'open EIO'],
      'metacopy-flags': ['reads "object"', 'open EIO'],
      'metacopy-no-algorithm-but-digest': ['reads "object"', 'open EIO'],
      'metacopy-sha512-length-32': ['reads "object"', 'open EIO'],
      'metacopy-unknown-algorithm': ['reads "object"', 'open EIO'],
      'metacopy-version-1': ['reads "object"', 'open EIO'],
      'metacopy-wrong-length': ['reads "object"', 'open EIO'],
    },
  },
  {
    reason:
      'A file without content of its own and without reference to an object: damage. ' +
      'The kernel makes zeros of it.',
    rows: {
      'metacopy-none': ['reads "\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000"', 'open EUCLEAN'],
    },
  },
  {
    reason:
      'The image holds the content of these files. Attributes of overlayfs on them make ' +
      'no difference.',
    rows: {
      'inline-with-both': ['reads "object"', 'reads "inline"'],
      'inline-with-metacopy': ['lstat EIO', 'reads "inline"'],
    },
  },
  {
    reason:
      'Whiteouts as attributes, not escaped: the kernel lists them and hides them from ' +
      'lookups once it has seen any directory marked for it, which depends on what was ' +
      'looked at before. No writer makes them.',
    rows: {
      'unescaped-whiteout': ['lstat ENOENT', 'reads ""'],
      'unescaped-whiteout-in-opaque-x/gone': ['lstat ENOENT', 'reads ""'],
    },
  },
];

/** What overlayfs itself answers otherwise above our mount than above erofs. */
const meantOfOverlay = {
  'metacopy-none': ['reads "\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000"', 'reads EUCLEAN'],
};

for (const way of [...transportsUnderTest, overlayUnderTest]) {
  const { title, args, requirements, isFuseNative } = way;
  describeWith(
    [...needsOurMount, needsKernelComposefs, ...requirements],
    `an image that breaks rules, ${title}`,
    () => {
      const scope = new Scope();
      let kernel: Map<string, Entry>;
      let ours: Map<string, Entry>;

      beforeAll(async () => {
        const folder = scope.directory();
        const objects = new ObjectFolder(join(folder, 'objects'));
        const image = join(folder, 'image.cfs');
        writeFileSync(image, buildImage(directory(await makeTree(objects))));
        const basedirs = [objects.path];
        kernel = await walkTree(await mountKernel(scope, image, basedirs, { noAcl: isFuseNative }));
        ours = await walkTree((await mountOurs(scope, { image, basedirs, args })).mountpoint);
      });
      afterAll(() => scope.close());

      test('is answered as the kernel does except where the table says otherwise', () => {
        const expected =
          way === overlayUnderTest
            ? meantOfOverlay
            : (Object.assign({}, ...meant.map(({ rows }) => rows)) as object);
        const names = new Set([...kernel.keys(), ...ours.keys()]);
        const different = [...names].flatMap((name) => {
          const answers = [outcome(kernel.get(name), contents), outcome(ours.get(name), contents)];
          return answers[0] === answers[1] ? [] : [[name, answers]];
        });
        expect(Object.fromEntries(different)).toEqual(expected);
      });

      test('shows the same attributes wherever both show any', () => {
        const fields = ['mode', 'nlink', 'uid', 'gid', 'size', 'blocks', 'mtime', 'ino', 'xattrs'];
        const attributes = (entry: Entry): unknown[] => fields.map((field) => entry[field]);
        for (const [name, entry] of ours) {
          const other = kernel.get(name);
          if (other === undefined || other['lstat'] !== undefined) continue;
          expect(attributes(entry), name).toEqual(attributes(other));
        }
      });
    },
  );
}
