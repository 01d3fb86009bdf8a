// Using what is mounted: reading it in every way, by many at once, running it, and trying to write.

import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mustRun, python, runCommand } from '../support/command.ts';
import { walkTree } from '../support/compare-trees.ts';
import { directory, file, symlink } from '../support/image-nodes.ts';
import { mountOurs, openDescriptors } from '../support/mounts.ts';
import type { OurMount } from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import { asNobody, describeWith, needsOurMount } from '../support/requirements.ts';
import { bushyTree } from '../support/sample-trees.ts';
import { makeImage } from '../support/sample-image.ts';
import { Scope } from '../support/scope.ts';

/** Runs a Python program with arguments; it prints one JSON value. */
async function ask<T>(program: string, ...args: string[]): Promise<T> {
  const { stdout } = await mustRun(python, ['-c', program, ...args], { timeoutMs: 60_000 });
  return JSON.parse(stdout) as T;
}

function runAsNobody(...command: string[]): ReturnType<typeof runCommand> {
  return runCommand(asNobody[0]!, [...asNobody.slice(1), ...command]);
}

describeWith(needsOurMount, 'a mounted image', () => {
  const scope = new Scope();
  let mount: OurMount;
  let big: string;
  const bigBytes = patternBytes(5_000_001, 1);

  beforeAll(async () => {
    const sample = makeImage(scope, (objects) =>
      directory({
        hello: file('hello\n'),
        inline: file(patternBytes(10_000, 2)),
        link: symlink('hello'),
        big: objects.addAt('big', bigBytes),
        script: file('#!/bin/sh\necho "ran with $1"\n', { permissions: 0o755 }),
        program: objects.addAt('program', readFileSync('/bin/true'), { permissions: 0o755 }),
        'not-executable': objects.addAt('program', readFileSync('/bin/true')),
        setuid: file('#!/bin/sh\n', { permissions: 0o4755 }),
        tree: bushyTree(2_000, 20, (i) =>
          i % 3 === 0 ? objects.addAt(`tree/${i % 50}`, `object ${i % 50}`) : file(`inline ${i}`),
        ),
      }),
    );
    // With passthrough O_DIRECT wants the alignment that the filesystem below the objects wants.
    mount = await mountOurs(scope, { ...sample, args: ['--data', 'daemon'] });
    big = join(mount.mountpoint, 'big');
  });
  afterAll(() => scope.close());

  const at = (name: string): string => join(mount.mountpoint, name);

  test('reads the same at every offset and length', async () => {
    const program = `
import json, os, random, sys
path, reference = sys.argv[1:]
with open(reference, "rb") as f: want = f.read()
fd = os.open(path, os.O_RDONLY)
random.seed(5)
wrong = []
for i in range(2000):
    at = random.randrange(0, len(want) + 5000)
    n = random.choice([0, 1, 511, 4095, 4096, 4097, 65536, 1048577, 3000000])
    if os.pread(fd, n, at) != want[at:at + n]: wrong.append([at, n])
    if i % 100 == 0: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(json.dumps(wrong))`;
    const expected = join(scope.directory(), 'expected');
    await mustRun('cp', [big, expected]);
    expect(readFileSync(expected).equals(bigBytes)).toBe(true);
    expect(await ask(program, big, expected)).toEqual([]);
  });

  test('reads the same through mappings and O_DIRECT at odd offsets', async () => {
    const parts = ['read', 'mmap', 'direct', 'odd'];
    for (const [path, entry] of await walkTree(mount.mountpoint, { parts })) {
      if (entry['read'] === undefined) continue;
      const { read, mmap, direct, odd } = entry;
      expect({ path, mmap, direct, odd }).toEqual({ path, mmap: read, direct: read, odd: read });
    }
  });

  test('maps private pages that can be written without changing the file', async () => {
    const program = `
import json, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
m[0:3] = b"abc"
print(json.dumps([m[0:3].decode(), os.pread(fd, 5, 0).decode()]))`;
    expect(await ask(program, at('hello'))).toEqual(['abc', 'hello']);
  });

  test('gives 16 readers at once the same content', async () => {
    const reads = Array.from({ length: 16 }, () =>
      walkTree(mount.mountpoint, { parts: ['stat', 'dirent', 'read', 'link'] }),
    );
    const [first, ...others] = await Promise.all(reads);
    expect(first?.size).toBeGreaterThan(2000);
    for (const other of others) expect(other).toEqual(first);
  });

  test('opens files 10,000 times without leaving a descriptor in the daemon', async () => {
    const program = `
import json, os, sys
n = 0
for i in range(int(sys.argv[2])):
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.pread(fd, 10, i)
    os.close(fd)
    n += 1
print(json.dumps(n))`;
    await ask(program, big, '100');
    const before = openDescriptors(mount.pid).length;
    expect(await ask(program, big, '10000')).toBe(10_000);
    // Releases are answered after close(2) has returned; one synchronous request waits for them.
    await mustRun('stat', ['-f', mount.mountpoint]);
    expect(openDescriptors(mount.pid).length).toBeLessThanOrEqual(before + 2);
  });

  test('runs scripts and programs, and nothing without the permission', async () => {
    expect((await mustRun(at('script'), ['it'])).stdout).toBe('ran with it\n');
    expect((await runCommand(at('program'), [])).code).toBe(0);
    await expect(runCommand(at('not-executable'), [])).rejects.toThrow('EACCES');
  });

  test('lists directories with positions that can be returned to', async () => {
    const program = `
import ctypes, json, sys
libc = ctypes.CDLL(None)
class dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_ulong), ("off", ctypes.c_long), ("len", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(dirent)
libc.telldir.restype = ctypes.c_long
for f in (libc.readdir, libc.telldir): f.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = libc.opendir(sys.argv[1].encode())
names, places = [], []
while True:
    place = libc.telldir(d)
    entry = libc.readdir(d)
    if not entry: break
    names.append(entry.contents.name.decode()); places.append(place)
wrong = []
for i in reversed(range(len(places))):
    libc.seekdir(d, places[i])
    if libc.readdir(d).contents.name.decode() != names[i]: wrong.append(i)
print(json.dumps([len(names), wrong]))`;
    const [count, wrong] = await ask<[number, number[]]>(program, at('tree/group-0'));
    expect(count).toBeGreaterThan(10);
    expect(wrong).toEqual([]);
  });

  test('reports its size without looking full', async () => {
    const facts = await ask<Record<string, number>>(
      `
import json, os, sys
s = os.statvfs(sys.argv[1])
print(json.dumps({"blocks": s.f_blocks, "free": s.f_bavail, "inodes": s.f_files,
                  "free_inodes": s.f_favail, "name": s.f_namemax, "size": s.f_frsize}))`,
      mount.mountpoint,
    );
    expect(facts['name']).toBe(255);
    expect(facts['size']).toBeGreaterThan(0);
    // df and monitoring compute used / (used + available); both zero or some space left is no alarm.
    const used = (facts['blocks'] ?? 0) - (facts['free'] ?? 0);
    if (facts['blocks'] !== 0) expect(used / (facts['blocks'] ?? 1)).toBeLessThan(0.95);
    if (facts['inodes'] !== 0) expect(facts['free_inodes']).toBeGreaterThan(0);
    expect((await mustRun('df', ['--output=pcent', mount.mountpoint])).stdout).not.toContain(
      '100%',
    );
  });

  describe('is read-only', () => {
    async function expectNoWrites(): Promise<void> {
      const entries = await walkTree(mount.mountpoint, { parts: ['write'] });
      const answers = new Set<unknown>();
      for (const entry of entries.values())
        for (const answer of Object.values(entry['write'] as Record<string, unknown>))
          if (answer !== null) answers.add(answer);
      // The root itself cannot be renamed, linked or removed for a reason of its own.
      for (const answer of ['EBUSY', 'EPERM', 'EXDEV']) answers.delete(answer);
      expect([...answers]).toEqual(['EROFS']);
    }

    test('for every kind of change', expectNoWrites);

    test('also after an attempt to remount it writable', async () => {
      await runCommand('mount', ['-o', 'remount,rw', mount.mountpoint]);
      await expectNoWrites();
      await runCommand('mount', ['-o', 'remount,ro', mount.mountpoint]);
    });
  });

  test('keeps its permissions for other users', async () => {
    const outcome = await runAsNobody('cat', at('hello'));
    expect(outcome).toMatchObject({ code: 0, stdout: 'hello\n' });
  });
});

describeWith(needsOurMount, "a mount that is nobody else's business", () => {
  const scope = new Scope();
  afterAll(() => scope.close());

  test('is closed to other users with noallow_other', async () => {
    const sample = makeImage(scope, () => directory({ hello: file('hello\n') }));
    chmodSync(sample.image, 0o644);
    const { mountpoint } = await mountOurs(scope, { ...sample, args: ['-o', 'noallow_other'] });
    const outcome = await runAsNobody('cat', join(mountpoint, 'hello'));
    expect(outcome.code).not.toBe(0);
    expect((await mustRun('cat', [join(mountpoint, 'hello')])).stdout).toBe('hello\n');
  });
});
