// Our mount below other parts of the kernel: as a lower layer of overlayfs, which is how containers
// use it, and behind file handles, which is how an NFS server does. The kernel's mount of the same
// image is the reference for the first.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mustRun, python } from '../support/command.ts';
import { compareTrees, showDifferences, walkTree } from '../support/compare-trees.ts';
import {
  fuseNativeExceptions,
  overlayUnderTest,
  transportsUnderTest,
} from '../support/fuse-native.ts';
import { buildImage } from '../support/image-builder.ts';
import {
  directory,
  escapedWhiteout,
  escapedWhiteoutsMarkers,
  file,
  symlink,
} from '../support/image-nodes.ts';
import { detach, mountKernel, mountOurs } from '../support/mounts.ts';
import { ObjectFolder } from '../support/object-folder.ts';
import { describeWith, needsKernelComposefs, needsOurMount } from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';
import { everyKind } from '../support/sample-trees.ts';
import { Scope, scopeOfEachTest } from '../support/scope.ts';

/** Mounts overlayfs over `lower`, with a writable layer on top: its own, or that of `folder`. */
async function mountOverlay(
  scope: Scope,
  lower: readonly string[],
  { folder = scope.directory(), options = '' } = {},
): Promise<string> {
  for (const name of ['upper', 'work', 'mnt']) mkdirSync(join(folder, name), { recursive: true });
  const mountpoint = join(folder, 'mnt');
  const layers = `lowerdir=${lower.join(':')},upperdir=upper,workdir=work${options}`;
  // Relative paths keep the option string short and free of what would need escaping.
  const args = ['-t', 'overlay', 'overlay', '-o', layers, mountpoint];
  await mustRun('mount', args, { cwd: folder });
  scope.defer(() => detach(mountpoint));
  return mountpoint;
}

for (const transport of [...transportsUnderTest, overlayUnderTest])
  describeWith(
    [...needsOurMount, needsKernelComposefs, ...transport.requirements],
    `overlayfs on top of our mount, ${transport.title}`,
    () => {
      const { isFuseNative, args } = transport;
      const scope = new Scope();
      let overKernel: string;
      let overOurs: string;
      const parts = ['stat', 'dirent', 'xattr', 'link', 'read', 'access'];

      beforeAll(async () => {
        const folder = scope.directory();
        const objects = new ObjectFolder(join(folder, 'objects'));
        const below = scope.directory();
        for (const name of ['whiteouts/escaped', 'hidden', 'merged'])
          mkdirSync(join(below, name), { recursive: true });
        for (const name of [
          'whiteouts/escaped/gone',
          'hidden/by-a-file',
          'merged/from-below',
          'gone',
        ])
          writeFileSync(join(below, name), 'below');
        const image = join(folder, 'image.cfs');
        const root = everyKind(objects);
        root.children.push(
          ['hidden', file('a file where there is a directory below')],
          ['merged', directory({ 'from-image': file('image'), link: symlink('from-below') })],
          ['gone', escapedWhiteout()],
        );
        writeFileSync(image, buildImage({ ...root, xattrs: escapedWhiteoutsMarkers }));
        const basedirs = [objects.path];
        const kernel = await mountKernel(scope, image, basedirs, { noAcl: isFuseNative });
        const ours = await mountOurs(scope, { image, basedirs, args });
        overKernel = await mountOverlay(scope, [kernel, below]);
        overOurs = await mountOverlay(scope, [ours.mountpoint, below]);
      });
      afterAll(() => scope.close());

      /** Inode numbers in a merged tree are made up by overlayfs at first sight of each directory. */
      const madeUp = ['ino', 'd_ino', 'dots..', 'dots...'];
      /** What is in the upper layer has the times of the test, and room for what overlayfs notes. */
      const ofTheUpperLayer = ['mtime', 'atime', 'ctime', 'blocks'];

      async function differences(ignored: readonly string[]): Promise<string> {
        const found = await compareTrees(overKernel, overOurs, { parts });
        return showDifferences(
          found.differences.filter(
            // The root is the upper layer's own directory.
            (difference) =>
              !ignored.includes(difference.field) &&
              !(difference.path === '' && ofTheUpperLayer.includes(difference.field)) &&
              !(isFuseNative && fuseNativeExceptions.some((entry) => entry.matches(difference))),
          ),
        );
      }

      test('shows the same tree as on top of the kernel mount', async () => {
        expect(await differences(madeUp)).toBe('');
      });

      test('hides what the image has whiteouts for', async () => {
        const entries = await walkTree(overOurs, { parts: ['stat'] });
        expect(entries.has('merged/from-below')).toBe(true);
        expect(entries.has('gone')).toBe(false);
        expect(entries.has('hidden/by-a-file')).toBe(false);
        expect(entries.has('whiteouts/escaped/gone')).toBe(false);
      });

      test('copies up, renames, removes and adds as on top of the kernel mount', async () => {
        // One of them is not UTF-8, and cp stops there.
        const symlinks = isFuseNative ? 'symlinks/to-file' : 'symlinks';
        const script = `
      mkdir changed
      cp -a inline external/4097 ${symlinks} changed/
      echo more >> inline/64-inline
      chmod 600 inline/65-inline
      chown 12:13 external/4096
      mv inline/63-inline inline/moved
      rm external/65536
      rm -r directories/deep
      mkdir directories/deep
      ln inline/2048-block inline/linked
      touch -d @5 external/131072`;
        for (const root of [overKernel, overOurs])
          await mustRun('sh', ['-ec', script], { cwd: root });
        expect(await differences([...madeUp, ...ofTheUpperLayer])).toBe('');
      });
    },
  );

describeWith(needsOurMount, 'a writable overlayfs of somebody else on top', () => {
  const scope = scopeOfEachTest();

  // What podman, Docker and their storage drivers are set to; each looks for copied files in another way.
  test.each(['', 'metacopy=on,redirect_dir=on', 'xino=on', 'index=on'])(
    'has its changes when it is mounted again, with "%s"',
    async (words) => {
      const folder = scope.directory();
      const sample = sampleImage(scope);
      const options = words === '' ? '' : `,${words}`;
      const changes = 'echo more >> hello; echo more >> big; mv sub/inner moved; chmod 600 sub';
      const look = "tail -n1 hello; tail -c5 big; cat moved; stat -c '%n %a' sub hello";
      for (const time of ['first', 'second', 'third']) {
        const ours = await mountOurs(scope, sample);
        const cwd = await mountOverlay(scope, [ours.mountpoint], { folder, options });
        if (time === 'first') await mustRun('sh', ['-ec', changes], { cwd });
        // Twice: what was found once is asked for again.
        for (let i = 0; i < 2; i++) {
          const { stdout } = await mustRun('sh', ['-ec', look], { cwd });
          expect(stdout).toBe('more\nmore\ninner\nsub 600\nhello 644\n');
        }
        await mustRun('umount', [cwd]);
        expect(await ours.unmount()).toBe(0);
      }
    },
  );
});

describeWith(needsOurMount, 'file handles, with nfs_export', () => {
  const scope = new Scope();
  let mountpoint: string;

  beforeAll(async () => {
    const folder = scope.directory();
    const objects = new ObjectFolder(join(folder, 'objects'));
    const image = join(folder, 'image.cfs');
    writeFileSync(image, buildImage(everyKind(objects)));
    const args = ['-o', 'nfs_export'];
    ({ mountpoint } = await mountOurs(scope, { image, basedirs: [objects.path], args }));
  });
  afterAll(() => scope.close());

  describe('after the kernel has forgotten the inodes', () => {
    test.each([
      ['a file in the image', 'inline/4097-block'],
      ['an external file', 'external/65536'],
      ['a hard link', 'hard-links/sub/c'],
      ['a directory', 'directories/two-pieces'],
      ['a deep directory', 'directories/deep/level59/level58/level57'],
      ['the root', '.'],
    ])('open %s', async (_what, path) => {
      const script = join(import.meta.dirname, '../support/file-handles.py');
      const { stdout } = await mustRun(python, ['-I', script, mountpoint, path]);
      const answer = JSON.parse(stdout) as { same?: boolean; error?: string; where?: string };
      expect(answer).toMatchObject({ path, same: true });
      if (answer.where !== undefined) expect(answer.where).toBe(path);
    });
  });
});
