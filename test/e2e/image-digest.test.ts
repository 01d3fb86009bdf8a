// `--digest`: a mount shows the image that its user meant, or there is no mount; and what was mounted
// stays what it was.

import {
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type * as Library from '../../src/index.ts';
import { beforeEach, describe, expect, test } from 'vitest';
import { commandPath, mustRun, runCommand } from '../support/command.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, file, toHex } from '../support/image-nodes.ts';
import { detach, mountAt, mountOurs, runOurs } from '../support/mounts.ts';
import { patternBytes, verityDigest } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const packageName = 'composefs-fuse';
const library = (await import(packageName)) as typeof Library;

const WRONG_DIGEST = 5;
const USAGE = 1;
const NO_IMAGE = 2;

describeWith(needsOurMount, '--digest', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let sha256: string;
  let sha512: string;
  let mountpoint: string;
  const content = patternBytes(10_000);

  beforeEach(() => {
    sample = makeImage(scope, (objects) =>
      directory({
        hello: file('hello\n'),
        big: objects.add(content),
        // The image is larger than what is read of it at first.
        padding: file(patternBytes(300_000, 5)),
        last: file('last\n'),
      }),
    );
    const bytes = readFileSync(sample.image);
    sha256 = toHex(verityDigest(bytes));
    sha512 = toHex(verityDigest(bytes, 'sha512'));
    mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
  });

  /** Another digest of the same length. */
  const changed = (digest: string): string =>
    digest.replace(/^./, (digit) => (digit === '0' ? '1' : '0'));
  const ours = (...args: string[]) =>
    runOurs(['--basedir', sample.objects.path, ...args, sample.image, mountpoint]);

  test.each<[string, () => string[]]>([
    ['SHA-256', () => ['--digest', sha256]],
    ['SHA-512 in upper case', () => ['--digest', sha512.toUpperCase()]],
    ['a mount option', () => ['-o', `ro,digest=${sha256}`]],
  ])('mounts the right image: %s', async (_how, args) => {
    const mount = await mountOurs(scope, { ...sample, args: args() });
    await mustRun('cat', [join(mount.mountpoint, 'big')]);
    await mount.unmount();
    const event = eventsOf(mount).find(({ msg }) => msg === 'mounted');
    expect(event).toMatchObject({ verity: 'require' });
    expect([sha256, sha512]).toContain(event!['digest']);
  });

  test.each<[string, () => string[], () => string, () => string]>([
    ['SHA-256', () => ['--digest', changed(sha256)], () => changed(sha256), () => sha256],
    ['SHA-512', () => ['--digest', changed(sha512)], () => changed(sha512), () => sha512],
    [
      'a mount option',
      () => ['-o', `digest=${changed(sha256)}`],
      () => changed(sha256),
      () => sha256,
    ],
    [
      'in the foreground',
      () => ['-f', '--digest', changed(sha256)],
      () => changed(sha256),
      () => sha256,
    ],
  ])('does not mount another image and names both digests: %s', async (_how, args, want, have) => {
    const outcome = await ours(...args());
    expect(outcome).toMatchObject({ code: WRONG_DIGEST, stdout: '' });
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1);
    for (const text of [want(), have(), sample.image]) expect(outcome.stderr).toContain(text);
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test('sees every byte of the image', async () => {
    const bytes = readFileSync(sample.image);
    for (const at of [5000, Math.floor(bytes.length / 2), bytes.length - 1]) {
      const other = Buffer.from(bytes);
      other[at]! ^= 1;
      writeFileSync(sample.image, other);
      expect((await ours('--digest', sha256)).code, `byte ${at}`).toBe(WRONG_DIGEST);
    }
    for (const length of [bytes.length - 4096, bytes.length + 4096]) {
      writeFileSync(sample.image, bytes);
      truncateSync(sample.image, length);
      expect((await ours('--digest', sha256)).code, `${length} bytes`).toBe(WRONG_DIGEST);
    }
    writeFileSync(sample.image, bytes);
    expect((await ours('--digest', sha256)).code).toBe(0);
  });

  // What does not begin like an image is not read to its end.
  test.each([
    ['something else', 'no image at all', NO_IMAGE],
    ['empty', '', WRONG_DIGEST],
  ])('does not mount what is no image: %s', async (_what, text, code) => {
    writeFileSync(sample.image, text);
    expect((await ours('--digest', sha256)).code).toBe(code);
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test.each([
    ['too short', '00'.repeat(31)],
    ['too long', '00'.repeat(33)],
    ['not hexadecimal', 'g0'.repeat(32)],
    ['empty', ''],
  ])('that is no digest is a usage error: %s', async (_what, digest) => {
    expect((await ours('--digest', digest)).code).toBe(USAGE);
    expect((await ours('-o', `digest=${digest}`)).code).toBe(USAGE);
  });

  test.each(['off', 'if-present'])('is not taken together with --verity %s', async (policy) => {
    expect((await ours('--digest', sha256, '--verity', policy)).code).toBe(USAGE);
  });

  test('refuses objects without a digest', async () => {
    const image = join(scope.directory(), 'image.cfs');
    const bytes = buildImage(
      directory({ file: sample.objects.addAt('unverified', content), hello: file('hello\n') }),
    );
    writeFileSync(image, bytes);
    const args = ['--digest', toHex(verityDigest(bytes))];
    const mount = await mountOurs(scope, { ...sample, image, args });
    expect((await runCommand('cat', [join(mount.mountpoint, 'file')])).code).toBe(1);
    expect((await mustRun('cat', [join(mount.mountpoint, 'hello')])).stdout).toBe('hello\n');
  });

  test('holds for as long as the mount does, whatever becomes of the file', async () => {
    const mount = await mountOurs(scope, { ...sample, args: ['--digest', sha256] });
    const other = buildImage(directory({ hello: file('other\n'), last: file('other\n') }));
    const changes: Record<string, (image: string) => void> = {
      overwritten: (image) => writeFileSync(image, other, { flag: 'r+' }),
      truncated: (image) => truncateSync(image, 100),
      emptied: (image) => writeFileSync(image, ''),
      replaced: (image) => {
        writeFileSync(`${image}.new`, other);
        renameSync(`${image}.new`, image);
      },
    };
    for (const [how, change] of Object.entries(changes)) {
      change(sample.image);
      writeFileSync('/proc/sys/vm/drop_caches', '3');
      const cat = await mustRun('sh', ['-c', 'cd "$1" && cat hello last', 'sh', mount.mountpoint]);
      expect(cat.stdout, how).toBe('hello\nlast\n');
      const input = patternBytes(300_000, 5);
      const padding = runCommand('cmp', [join(mount.mountpoint, 'padding'), '-'], { input });
      expect(await padding, how).toMatchObject({ code: 0 });
    }
  });

  test('is checked by mount -f, which mounts nothing', async () => {
    const helper = join(scope.directory(), 'mount.composefs-fuse');
    symlinkSync(commandPath, helper);
    const mount = (digest: string) => {
      const options = `basedir=${sample.objects.path},digest=${digest}`;
      return runCommand(helper, [sample.image, mountpoint, '-f', '-o', options]);
    };
    expect(await mount(sha256)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    expect(await mount(changed(sha256))).toMatchObject({ code: WRONG_DIGEST });
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  describe('of the library', () => {
    test('mounts the right image', async () => {
      const mount = await library.mount(sample.image, mountpoint, {
        basedir: sample.objects.path,
        digest: sha512,
      });
      expect(Buffer.compare(readFileSync(join(mountpoint, 'big')), content)).toBe(0);
      await mount.unmount();
    });

    test('rejects with both digests', async () => {
      const error = await library
        .mount(sample.image, mountpoint, { basedir: sample.objects.path, digest: changed(sha256) })
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(library.ImageDigestError);
      expect(error).toMatchObject({
        expected: `sha256:${changed(sha256)}`,
        actual: `sha256:${sha256}`,
      });
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test('reports refused objects', async () => {
      const objects = sample.objects;
      const mount = await library.mount(sample.image, mountpoint, {
        basedir: objects.path,
        digest: sha256,
        verifyEngine: 'user',
        verifyAt: 'read',
      });
      const problem = new Promise<Record<string, unknown>>((resolve) => {
        mount.once('problem', resolve);
      });
      const hex = toHex(verityDigest(content));
      writeFileSync(objects.at(`${hex.slice(0, 2)}/${hex.slice(2)}`), patternBytes(10_000, 9));
      expect(() => readFileSync(join(mountpoint, 'big'))).toThrow('EIO');
      expect(await problem).toMatchObject({ path: '/big', errno: 'EIO' });
      await mount.unmount();
    });
  });
});
