// Who reads the objects: the kernel by itself, or the daemon. What differs, and what must not.

import { join } from 'node:path';
import { chownSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { flip } from '../support/attacks.mjs';
import { python, runCommand, waitUntil } from '../support/command.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { talkTo } from '../support/dialogue.ts';
import { directory } from '../support/image-nodes.ts';
import { mountForeground, mountOurs, type OurMount } from '../support/mounts.ts';
import { ObjectFolder, patternBytes } from '../support/object-folder.ts';
import {
  asNobody,
  describeWith,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsPassthrough,
} from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { storeKinds } from '../support/stores.ts';

const content = patternBytes(300_000, 1);
const other = patternBytes(300_000, 2);

describeWith([...needsOurMount, needsPassthrough], 'passthrough', () => {
  const scope = scopeOfEachTest();

  /** `object` and `twin` have the same object and its digest, `plain` has another and no digest. */
  function sample(): SampleImage & { path: string } {
    let path = '';
    const image = makeImage(scope, (objects) => {
      const object = objects.add(content);
      path = objects.at(String(object.redirect));
      return directory({ object, twin: { ...object }, plain: objects.addAt('plain', content) });
    });
    return { ...image, path };
  }
  const requestsOf = (mount: OurMount): string =>
    eventsOf(mount)
      .map(({ msg }) => String(msg))
      .filter((msg) => msg.startsWith('#'))
      .join('\n');
  const read = (path: string) => runCommand('cmp', [path, '-'], { input: content });

  test.each([
    ['--data passthrough', ['--data', 'passthrough'], ['object', 'twin', 'plain']],
    ['--data auto, where nothing is to be checked', [], ['plain']],
    ['--data auto --verity off', ['--verity', 'off'], ['object', 'twin', 'plain']],
  ])('reads without asking the daemon: %s', async (_how, options, names) => {
    const args = ['--log-level', 'trace', ...options];
    const mount = await mountForeground(scope, { ...sample(), args });
    const map = `import hashlib, mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
    print(hashlib.sha256(memory).hexdigest(), end="")`;
    for (const name of names) {
      const path = join(mount.mountpoint, name);
      expect(await read(path)).toMatchObject({ code: 0 });
      const mapped = await runCommand(python, ['-I', '-c', map, path]);
      expect(mapped.stdout).toBe(createHash('sha256').update(content).digest('hex'));
    }
    await waitUntil('OPEN is logged', () => / OPEN /.test(requestsOf(mount)));
    expect(requestsOf(mount)).not.toMatch(/ READ /);
    expect(await mount.unmount()).toBe(0);
  });

  test('of objects that only the daemon guards is for those who ask for it', async () => {
    for (const options of [[], ['--data', 'passthrough', '--verity', 'require']]) {
      const args = ['--log-level', 'trace', '--verify-engine', 'user', ...options];
      const mount = await mountForeground(scope, { ...sample(), args });
      expect(await read(join(mount.mountpoint, 'object'))).toMatchObject({ code: 0 });
      // The log comes through another thread.
      await waitUntil('READ is logged', () => / READ /.test(requestsOf(mount)));
      expect(await mount.unmount()).toBe(0);
    }
  });

  test('holds many readers of one object, and of files that share it', async () => {
    const mount = await mountOurs(scope, { ...sample(), args: ['--data', 'passthrough'] });
    const readers = Array.from({ length: 12 }, (_, i) =>
      read(join(mount.mountpoint, ['object', 'twin'][i % 2]!)),
    );
    for (const outcome of await Promise.all(readers)) expect(outcome).toMatchObject({ code: 0 });
    expect(await mount.unmount()).toBe(0);
  });

  test('trusts what was verified when it was opened, and verifies it at the next opening', async () => {
    const image = sample();
    const { path } = image;
    const mount = await mountOurs(scope, { ...image, args: ['--data', 'passthrough'] });
    const script = `import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
for _ in sys.stdin:
    print(os.pread(file, 1, 0)[0], flush=True)`;
    const reader = talkTo(scope, python, ['-I', '-c', script, join(mount.mountpoint, 'object')]);
    expect(await reader.ask('')).toBe(String(content[0]));
    flip(path, 0);
    // This is what passthrough costs where the kernel has no fs-verity.
    expect(await reader.ask('')).not.toBe(String(content[0]));
    expect((await runCommand('cat', [join(mount.mountpoint, 'object')])).code).not.toBe(0);
    flip(path, 0);
    expect(await read(join(mount.mountpoint, 'object'))).toMatchObject({ code: 0 });
    reader.kill();
    await reader.ended;
    expect(await mount.unmount()).toBe(0);
  });

  test('keeps the object that is open when another one takes its place', async () => {
    const image = sample();
    const { path } = image;
    const args = ['--data', 'passthrough', '--verity', 'off'];
    const mount = await mountOurs(scope, { ...image, args });
    const script = `import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
for _ in sys.stdin:
    print(os.pread(file, 1, 0)[0], flush=True)`;
    const reader = talkTo(scope, python, ['-I', '-c', script, join(mount.mountpoint, 'object')]);
    expect(await reader.ask('')).toBe(String(content[0]));
    writeFileSync(`${path}.new`, other);
    renameSync(`${path}.new`, path);
    // The kernel takes no second backing file for an inode that is open.
    expect(await read(join(mount.mountpoint, 'object'))).toMatchObject({ code: 0 });
    expect(await reader.ask('')).toBe(String(content[0]));
    reader.kill();
    await reader.ended;
    const again = await runCommand('cmp', [join(mount.mountpoint, 'object'), '-'], {
      input: other,
    });
    expect(again).toMatchObject({ code: 0 });
    expect(await mount.unmount()).toBe(0);
  });

  test('is possible with objects on an overlayfs when it is asked for', async () => {
    const store = await storeKinds.find(({ name }) => name === 'overlayfs')!.make(scope);
    const objects = new ObjectFolder(join(store, 'objects'));
    const image = makeImage(scope, () => directory({ object: objects.addAt('object', content) }));
    for (const [options, asks] of [
      [['--data', 'passthrough'], false],
      [['--verity', 'off'], true],
    ] as const) {
      const args = ['--log-level', 'trace', ...options];
      const basedirs = [objects.path];
      const mount = await mountForeground(scope, { image: image.image, basedirs, args });
      expect(await read(join(mount.mountpoint, 'object'))).toMatchObject({ code: 0 });
      expect(/ READ /.test(requestsOf(mount))).toBe(asks);
      const said = eventsOf(mount).filter(({ msg }) => String(msg).includes('stacked filesystem'));
      expect(said).toHaveLength(asks ? 1 : 0);
      expect(await mount.unmount()).toBe(0);
    }
  });

  test('leaves no object open when the mount ends', async () => {
    const image = sample();
    const mount = await mountOurs(scope, { ...image, args: ['--data', 'passthrough'] });
    expect(await read(join(mount.mountpoint, 'object'))).toMatchObject({ code: 0 });
    const folder = join(scope.directory(), 'elsewhere');
    mkdirSync(folder);
    expect(await mount.unmount()).toBe(0);
    const users = await runCommand('fuser', [image.path]);
    expect(users.stdout).toBe('');
  });
});

describeWith(
  [...needsOurMount, needsNobody, needsFusermount, needsOpenFuse],
  'passthrough for an ordinary user',
  () => {
    const scope = scopeOfEachTest();

    test('is refused by the kernel, and the daemon reads', async () => {
      const image = makeImage(scope, (objects) =>
        directory({ object: objects.addAt('object', content) }),
      );
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      chownSync(mountpoint, 65534, 65534);
      const mount = await mountOurs(scope, {
        ...image,
        mountpoint,
        as: asNobody,
        args: ['--data', 'passthrough'],
      });
      const [command = '', ...prefix] = asNobody;
      const outcome = await runCommand(command, [
        ...prefix,
        'cmp',
        join(mount.mountpoint, 'object'),
        image.objects.at('object'),
      ]);
      expect(outcome).toMatchObject({ code: 0 });
      const said = eventsOf(mount).map(({ msg }) => String(msg));
      expect(said.filter((msg) => /passthrough|reads? (?:no )?objects/.test(msg))).toHaveLength(1);
    });
  },
);
