// The tree of the reference images made again with system calls, written by this project's
// mkcomposefs and mounted: the images are the reference's byte for byte, and what the mount shows is
// what the kernel's mount shows and what the directory holds.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { dumpImage } from '../../src/dump/index.ts';
import { Image } from '../../src/image-reader/image.ts';
import { compareTrees, type Difference } from '../support/compare-trees.ts';
import { compareWithKernel } from '../support/differential.ts';
import {
  type GoldenTree,
  makeGoldenTree,
  makeImageOf,
  needsEveryXattr,
} from '../support/golden-tree.ts';
import { toHex } from '../support/image-nodes.ts';
import { mountOurs } from '../support/mounts.ts';
import { verityDigest } from '../support/object-folder.ts';
import {
  describeWith,
  goldenFolder,
  needsGoldens,
  needsOurMount,
  needsPython,
  needsRoot,
} from '../support/requirements.ts';
import { scopeOfAllTests, scopeOfEachTest } from '../support/scope.ts';

const needsTree = [needsRoot, needsPython, needsEveryXattr];

/** Reference images and their fs-verity digests, from ../shared/golden/README.md. */
const references: readonly [tree: GoldenTree, file: string, digest: string][] = [
  ['zoo', 'zoo.cfs', 'b3cc3faf7926dd2ccbc7dc5bbcc079aa6d6025068f6d97742bfea4051b4119ae'],
  [
    'markers',
    'overlay-markers.cfs',
    '86435b332f7aee110ef8ab9c7f13679808e1fb57ba1ef646835c8cfd46cb19a0',
  ],
];

const trees = scopeOfAllTests();
const made = new Map<GoldenTree, string>();

/** The directory of a tree, made once: nothing here writes to it. */
function sourceOf(tree: GoldenTree): string {
  const source = made.get(tree) ?? makeGoldenTree(trees, tree);
  made.set(tree, source);
  return source;
}

describeWith(needsTree, 'the tree of the reference images, made again', () => {
  const scope = scopeOfEachTest();
  test.each(references)('%s becomes %s, byte for byte', (tree, _file, digest) => {
    const { image } = makeImageOf(scope, sourceOf(tree));
    expect(toHex(verityDigest(readFileSync(image)))).toBe(digest);
    // The image is made as a whole for its digest, and in pieces without.
    const again = makeImageOf(scope, sourceOf(tree), ['--print-digest']);
    expect(again.printed).toBe(`${digest}\n`);
    expect(readFileSync(again.image).equals(readFileSync(image))).toBe(true);
  });
});

const linesOf = (image: string): string[] =>
  Buffer.from(dumpImage(Image.open(new Uint8Array(readFileSync(image)))))
    .toString()
    .split('\n');

/**
 * The root has more directories, the two references have different times here, and a whiteout marks
 * the directory that holds it.
 */
const differingLine = /^\/(times|special)? /;

describeWith([...needsTree, needsGoldens], 'the tree with more kinds of files', () => {
  const scope = scopeOfEachTest();
  test.each(references)('has every entry of %s', (_tree, file) => {
    const rebuilt = new Set(linesOf(makeImageOf(scope, sourceOf('more')).image));
    const golden = linesOf(join(goldenFolder, file));
    expect(golden.length).toBeGreaterThan(3000);
    const missing = golden.filter((line) => !rebuilt.has(line) && !differingLine.test(line));
    expect(missing).toEqual([]);
  });
});

/** What becomes of a whiteout of the source: a file with attributes that mean one to overlayfs. */
const whiteoutInMount = [
  'special: xattrs.trusted.overlay.whiteouts: "="',
  'special: xattrs.user.overlay.whiteouts: "="',
  'special/whiteout: d_type: 8',
  'special/whiteout: mode: "0o100000"',
  'special/whiteout: read: "0:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"',
  'special/whiteout: xattrs.trusted.overlay.whiteout: "="',
  'special/whiteout: xattrs.user.overlay.whiteout: "="',
];
/** Version 1 adds what Linux 6.8 and later look for. */
const whiteoutInVersion1 = [
  'special: xattrs.trusted.overlay.opaque: "=x"',
  'special: xattrs.user.overlay.opaque: "=x"',
];

/** Fields of tree-walk.py that an image does not keep: the filesystem that serves it makes them. */
const notKept = ['ino', 'd_ino', 'dots', 'blocks', 'blksize', 'atime', 'ctime'];

/** Without the differences that any copy of a directory has. */
function keptFields(differences: readonly Difference[]): Difference[] {
  const nameOf = ({ field }: Difference): string => field.split('.')[0] ?? '';
  // Only directories have dots, and those never have the same inode numbers.
  const directories = new Set(
    differences.filter((entry) => nameOf(entry) === 'dots').map(({ path }) => path),
  );
  return differences.filter((entry) => {
    if (notKept.includes(nameOf(entry))) return false;
    return !(entry.field === 'size' && directories.has(entry.path));
  });
}

for (const version of [0, 1]) {
  const options = [`--min-version=${version}`, `--max-version=${version}`, '--hardlinks'];

  describeWith(needsTree, `the tree with more kinds of files, format version ${version}`, () => {
    compareWithKernel('mounted by the kernel and by us', {
      image: (scope) => {
        const { image, objects } = makeImageOf(scope, sourceOf('more'), options);
        return { image, basedirs: [objects] };
      },
      minimumEntries: 3500,
      seenBy: ['root', 'an unknown user', ...(version === 0 ? [] : ['a user named in ACLs'])],
    });
  });

  describeWith([...needsTree, ...needsOurMount], `the same, format version ${version}`, () => {
    const scope = scopeOfEachTest();
    test('mounted by us is what the directory is', async () => {
      const source = sourceOf('more');
      const { image, objects } = makeImageOf(scope, source, options);
      const { mountpoint } = await mountOurs(scope, { image, basedirs: [objects] });
      const parts = ['stat', 'dirent', 'xattr', 'link', 'read'];
      const { entries, differences } = await compareTrees(source, mountpoint, { parts });
      const shown = keptFields(differences).map(
        ({ path, field, actual }) => `${path}: ${field}: ${actual ?? '(none)'}`,
      );
      const expected = [...whiteoutInMount, ...(version === 0 ? [] : whiteoutInVersion1)];
      expect(shown.toSorted()).toEqual(expected.toSorted());
      expect(entries).toBeGreaterThanOrEqual(3500);
    });
  });
}
