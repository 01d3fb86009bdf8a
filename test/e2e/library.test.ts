// The library as a program uses it: the built package, imported by its own name.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type * as Library from '../../src/index.ts';
import { beforeEach, expect, test } from 'vitest';
import { waitUntil } from '../support/command.ts';
import { patternBytes } from '../support/object-folder.ts';
import { detach, isRunning, mountAt } from '../support/mounts.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

// Not resolved by the compiler: the built package, as its users get it.
const packageName = 'composefs-fuse';
const library = (await import(packageName)) as typeof Library;

const scope = scopeOfEachTest();

test('opens an image from a path and from bytes, and walks it without mounting', () => {
  const { image } = sampleImage(scope);
  const fromPath = [...library.openImage(image).walk()].map((entry) => entry.path).toSorted();
  const bytes = new Uint8Array(readFileSync(image));
  const fromBytes = [...library.openImage(bytes).walk()].map((entry) => entry.path).toSorted();
  expect(fromPath).toEqual(fromBytes);
  expect(fromPath).toEqual(expect.arrayContaining(['/big', '/hello', '/link', '/sub/inner']));
  const hello = library.openImage(image).lookup('/hello')?.content();
  expect(Buffer.from(hello!).toString()).toBe('hello\n');
});

test('throws an error with a code and one line for what is no image', () => {
  expect(() => library.openImage('/nowhere/image')).toThrow(library.ImageError);
  expect(() => library.openImage(new Uint8Array(8192))).toThrow(/^not a composefs image/);
});

describeWith(needsOurMount, 'mount()', () => {
  let sample: SampleImage;
  let mountpoint: string;

  beforeEach(() => {
    sample = sampleImage(scope);
    mountpoint = join(scope.directory(), 'mnt');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
  });

  const settings = () => ({ basedir: sample.basedirs });

  test('gives a mount that the calling program itself may read, synchronously', async () => {
    const mount = await library.mount(sample.image, mountpoint, settings());
    expect(mountAt(mountpoint)).toMatchObject({ type: 'fuse.composefs', source: sample.image });
    expect(readdirSync(mountpoint).toSorted()).toEqual(['big', 'hello', 'link', 'sub']);
    // Not toEqual, which takes seconds for so many bytes.
    const big = readFileSync(join(mountpoint, 'big'));
    expect(Buffer.compare(big, patternBytes(3_000_000))).toBe(0);
    expect(statfsSync(mountpoint).blocks).toBeGreaterThan(0);
    await mount.unmount();
    expect(mountAt(mountpoint)).toBeUndefined();
    expect(isRunning(mount.pid)).toBe(false);
    await mount.unmount();
  });

  test('refuses a setting that it does not know', async () => {
    const misspelt = { ...settings(), verfy: 'require' };
    await expect(library.mount(sample.image, mountpoint, misspelt)).rejects.toThrow(
      /^unknown setting verfy; expected basedir, /,
    );
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test('tells of the end when someone else unmounts', async () => {
    const mount = await library.mount(sample.image, mountpoint, settings());
    const ended = once(mount, 'end');
    spawn('umount', [mountpoint]);
    expect(await ended).toEqual([0, null]);
  });

  test('tells of a file that cannot be served, naming file and object', async () => {
    const mount = await library.mount(sample.image, mountpoint, settings());
    rmSync(sample.objects.at('big'));
    const told = once(mount, 'problem');
    expect(() => readFileSync(join(mountpoint, 'big'))).toThrow(/ENOENT/);
    const [event] = (await told) as [Record<string, unknown>];
    expect(event).toMatchObject({ path: '/big', objectPath: 'big', errno: 'ENOENT' });
    await mount.unmount();
  });

  test('rejects with the kind of error and the line that the command would print', async () => {
    const broken = join(scope.directory(), 'broken');
    writeFileSync(broken, 'no image');
    await expect(library.mount(broken, mountpoint)).rejects.toThrow(library.ImageError);
    const nowhere = join(mountpoint, 'nowhere');
    await expect(library.mount(sample.image, nowhere, settings())).rejects.toThrow(
      `mountpoint ${nowhere} does not exist`,
    );
    expect(mountAt(mountpoint)).toBeUndefined();
  });

  test('takes the mount along when the program is killed', async () => {
    const program = `
      import { mount } from ${JSON.stringify(packageName)};
      const settings = { basedir: ${JSON.stringify(sample.basedirs[0])} };
      const mounted = await mount(process.argv[1], process.argv[2], settings);
      console.log(mounted.pid);
      setInterval(() => {}, 1000);`;
    const args = ['--input-type=module', '--eval', program, sample.image, mountpoint];
    const child = spawn(process.execPath, args, {
      cwd: join(import.meta.dirname, '../..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    expect(mountAt(mountpoint)).toBeDefined();
    child.kill('SIGKILL');
    await waitUntil(
      'the mount and its server are gone',
      () => mountAt(mountpoint) === undefined && !isRunning(Number(line)),
    );
  });
});
