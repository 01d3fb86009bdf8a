// Requests over io_uring instead of /dev/fuse: the same tree, the same ways to end. What is new is that
// each CPU has a queue of its own, which the daemon must never leave alone.

import { chmodSync, chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ImageEntry } from '../../src/image-reader/entry.ts';
import { Image } from '../../src/image-reader/image.ts';
import { python, mustRun, runCommand, waitUntil, within } from '../support/command.ts';
import { eventsOf } from '../support/daemon-log.ts';
import { compareWithKernel } from '../support/differential.ts';
import { buildImage } from '../support/image-builder.ts';
import { directory, file, type TestNode } from '../support/image-nodes.ts';
import { detach, mountOurs, type OurMount, ourCommand, runOurs } from '../support/mounts.ts';
import { ObjectFolder, patternBytes } from '../support/object-folder.ts';
import {
  asNobody,
  describeWith,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
  needsPassthrough,
  needsUserNamespaces,
} from '../support/requirements.ts';
import { makeImage, sampleImage } from '../support/sample-image.ts';
import { everyKind, wideTree } from '../support/sample-trees.ts';
import { type Scope, scopeOfEachTest } from '../support/scope.ts';
import {
  mountForegroundOverRing,
  mountOverRing,
  needsUring,
  switchOn,
  uringParameter,
} from '../support/uring.ts';

const MOUNT = 4;
const needs = [...needsOurMount, needsUring];
const ring = ['--transport', 'io_uring'];

const mountedEvent = (mount: OurMount): Record<string, unknown> | undefined =>
  eventsOf(mount).find(({ msg }) => msg === 'mounted');
const complaintsOf = (mount: OurMount): unknown[] =>
  eventsOf(mount).filter(({ level }) => Number(level) >= 40);

describeWith(needs, 'over io_uring', () => {
  for (const args of [[], ['--threads', '1'], ['--verify-engine', 'user']]) {
    compareWithKernel(`a tree with one of everything ${args.join(' ')}`.trim(), {
      image: (scope) => {
        switchOn(scope);
        return makeImage(scope, everyKind);
      },
      args: [...ring, ...args],
      minimumEntries: 300,
      deviceOnly: true,
      ...(args.length > 0 && { seenBy: ['root'] }),
    });
  }
});

/** An image with an entry `sub` that leads back to its root, and a file behind it. */
function imageWithLoop(): Uint8Array {
  const bytes = buildImage(directory({ a: file('a'), sub: directory({}), z: file('z') }));
  const image = Image.open(bytes);
  const wanted = Buffer.alloc(8);
  wanted.writeBigUInt64LE(BigInt(ImageEntry.root(image).child('sub')!.nid));
  const replacement = Buffer.alloc(8);
  replacement.writeBigUInt64LE(BigInt(image.rootNid));
  // The first one is in the root's list; the next would be the directory's own `.`.
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).set(
    replacement,
    Buffer.from(bytes).indexOf(wanted),
  );
  return bytes;
}

/** Folders with files of many sizes, and the same as plain files. */
function stressTree(scope: Scope): { image: string; basedirs: string[]; source: string } {
  const folder = scope.directory();
  const source = join(folder, 'source');
  const objects = new ObjectFolder(join(folder, 'objects'));
  const sizes = [0, 1, 100, 4096, 5000, 70_000, 131_072, 131_073, 400_000, 1_500_000];
  const folders: Record<string, TestNode> = {};
  for (let i = 0; i < 12; i++) {
    const children: Record<string, TestNode> = {};
    mkdirSync(join(source, `folder ${i}`), { recursive: true });
    for (const [j, size] of sizes.entries()) {
      const content = patternBytes(size, 100 * i + j);
      children[`file ${j}`] = objects.add(content);
      writeFileSync(join(source, `folder ${i}`, `file ${j}`), content);
    }
    folders[`folder ${i}`] = directory(children);
  }
  const image = join(folder, 'image.cfs');
  writeFileSync(image, buildImage(directory(folders)));
  return { image, basedirs: [objects.path], source };
}

describeWith(needs, 'io_uring', () => {
  const scope = scopeOfEachTest();

  test('is what the log names, with the threads that serve', async () => {
    const mount = await mountOverRing(scope, sampleImage(scope));
    expect(mountedEvent(mount)).toMatchObject({ transport: 'io_uring' });
    expect(Number(mountedEvent(mount)!['threads'])).toBeGreaterThan(0);
    expect(await mount.unmount()).toBe(0);
    expect(complaintsOf(mount)).toEqual([]);
  });

  test('goes on after an entry that the kernel does not take', async () => {
    // It then sends a FORGET by the ring, and waits until that is given back.
    const image = join(scope.directory(), 'image.cfs');
    writeFileSync(image, imageWithLoop());
    const mount = await mountOverRing(scope, { image, args: ['--log-level', 'trace'] });
    const { stdout } = await runCommand('ls', ['-l', mount.mountpoint], { timeoutMs: 5_000 });
    expect(stdout).toMatch(/ a\n/);
    expect(stdout).toMatch(/ z\n/);
    const wasForgotten = (): boolean =>
      eventsOf(mount).some(({ msg }) => / FORGET /.test(String(msg)));
    await waitUntil('FORGET is logged', wasForgotten);
    for (let i = 0; i < 3; i++) await mustRun('stat', [join(mount.mountpoint, `a`)]);
    expect(await mount.unmount()).toBe(0);
  });

  test('is not used where the device is asked for', async () => {
    switchOn(scope);
    const sample = sampleImage(scope);
    const mount = await mountOurs(scope, { ...sample, args: ['-o', 'transport=device'] });
    expect(mountedEvent(mount)).toMatchObject({ transport: 'device', threads: 2 });
    await mustRun('cmp', [join(mount.mountpoint, 'big'), sample.objects.at('big')]);
    expect(await mount.unmount()).toBe(0);
  });

  test.each([
    ['8 processes', [], 8, 1500],
    ['one thread', ['--threads', '1'], 4, 800],
    ['two threads', ['--threads', '2'], 4, 800],
    ['--verify-at read', ['--verify-at', 'read', '--verify-engine', 'user'], 4, 800],
    ['--verity off, where the kernel reads by itself', ['--verity', 'off'], 4, 800],
    ['--data passthrough', ['--data', 'passthrough'], 4, 800],
  ])('gives the right bytes under mixed load: %s', async (_what, args, processes, count) => {
    const { image, basedirs, source } = stressTree(scope);
    const mount = await mountOverRing(scope, { image, basedirs, args });
    const script = join(import.meta.dirname, '../support/stress.py');
    const load = { isDone: false };
    const forgetting = (async () => {
      while (!load.isDone) {
        writeFileSync('/proc/sys/vm/drop_caches', '2');
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    })();
    try {
      const { stdout } = await mustRun(
        python,
        ['-I', script, mount.mountpoint, source, String(processes), String(count), '7'],
        { timeoutMs: 200_000 },
      );
      expect(JSON.parse(stdout)).toEqual({ operations: processes * count, faults: [] });
    } finally {
      load.isDone = true;
      await forgetting;
    }
    expect(await mount.unmount()).toBe(0);
    expect(complaintsOf(mount)).toEqual([]);
  });

  describeWith([needsPassthrough], 'with passthrough', () => {
    test('has the kernel read by itself', async () => {
      const sample = sampleImage(scope);
      const args = ['--log-level', 'trace', '--data', 'passthrough'];
      const mount = await mountForegroundOverRing(scope, { ...sample, args });
      await mustRun('cmp', [join(mount.mountpoint, 'big'), sample.objects.at('big')]);
      expect(await mount.unmount()).toBe(0);
      expect(mount.log()).toMatch(/ OPEN /);
      expect(mount.log()).not.toMatch(/ READ /);
    });
  });

  test('answers while 50,000 names are forgotten', async () => {
    const image = makeImage(scope, () => wideTree(50_000));
    const mount = await mountOverRing(scope, image);
    const script = `
import os, sys
folder = os.path.join(sys.argv[1], "wide")
for round in range(3):
    for i in range(50_000):
        os.stat(f"{folder}/file-{i:06}")
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")
    for i in range(0, 50_000, 10):
        with open(f"{folder}/file-{i:06}") as file:
            assert file.read() == f"content {i}", i
print("all read")`;
    const { stdout } = await mustRun(python, ['-I', '-c', script, mount.mountpoint], {
      timeoutMs: 200_000,
    });
    expect(stdout).toBe('all read\n');
    expect(await mount.unmount()).toBe(0);
    expect(complaintsOf(mount)).toEqual([]);
  });
});

describeWith(needs, 'where io_uring is off', () => {
  const scope = scopeOfEachTest();

  /** Puts something else over the parameter, for one process and its children. */
  function hiding(content: string): string[] {
    const file = join(scope.directory(), 'parameter');
    writeFileSync(file, content);
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
    return ['unshare', '--mount', 'sh', '-c', script, 'sh', file, uringParameter];
  }

  test('--transport io_uring is one line with the remedy, and exit code 4', async () => {
    const sample = sampleImage(scope);
    const mountpoint = scope.directory();
    for (const flags of [[], ['--foreground']]) {
      const args = [...flags, ...ring, '--basedir', sample.objects.path, sample.image, mountpoint];
      const outcome = await runOurs(args, hiding('N\n'));
      expect(outcome).toMatchObject({ code: MOUNT, stdout: '' });
      expect(outcome.stderr).toMatch(
        /^composefs-fuse: --transport io_uring: [^\n]*echo Y > \/sys\/module\/fuse\/[^\n]*--transport auto\n$/,
      );
    }
  });

  test('another word is one line that names the choices', async () => {
    const outcome = await runOurs(['--transport', 'carrier-pigeon', 'image', 'mnt']);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]*--transport[^\n]*io_uring[^\n]*\n/);
  });

  test('auto takes the device', async () => {
    const mount = await mountOurs(scope, { ...sampleImage(scope), as: hiding('N\n') });
    expect(mountedEvent(mount)).toMatchObject({ transport: 'device', threads: 2 });
    const inside = join('/proc', String(mount.pid), 'root', mount.mountpoint, 'hello');
    expect((await mustRun('cat', [inside])).stdout).toBe('hello\n');
    process.kill(mount.pid, 'SIGTERM');
    expect(await within('its end', 10_000, mount.ended)).toBe(0);
  });
});

/** Lets a program have rings but no requests in them, as SELinux may. */
const refusal = `
  #define _GNU_SOURCE
  #include <dlfcn.h>
  #include <errno.h>
  #include <stdarg.h>
  #include <sys/syscall.h>
  long syscall(long number, ...) {
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_uring_enter) return errno = EACCES, -1;
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }`;

const needsCompiler = {
  what: 'a C compiler (cc)',
  isMet: () => existsSync('/usr/bin/cc'),
};

describeWith([...needs, needsCompiler], 'where io_uring is refused after all', () => {
  const scope = scopeOfEachTest();

  async function refusing(): Promise<NodeJS.ProcessEnv> {
    const library = join(scope.directory(), 'refusal.so');
    const args = ['-shared', '-fPIC', '-x', 'c', '-o', library, '-', '-ldl'];
    await mustRun('cc', args, { input: refusal });
    switchOn(scope);
    return { ...process.env, LD_PRELOAD: library };
  }

  test.each(['auto', 'io_uring'])('--transport %s: one line, and nothing stays', async (name) => {
    const env = await refusing();
    const sample = sampleImage(scope);
    const mountpoint = scope.directory();
    scope.defer(() => detach(mountpoint));
    const args = ['--transport', name, '--basedir', sample.objects.path, sample.image, mountpoint];
    const [command = '', ...rest] = [...ourCommand, ...args];
    const outcome = await runCommand(command, rest, { env });
    expect(outcome).toMatchObject({ code: MOUNT, stdout: '' });
    expect(outcome.stderr).toMatch(
      /^composefs-fuse: [^\n]*io_uring[^\n]*EACCES[^\n]*--transport device\n$/,
    );
    expect((await runCommand('mountpoint', [mountpoint])).code).not.toBe(0);
  });
});

describeWith(
  [...needs, needsNobody, needsFusermount, needsOpenFuse],
  'io_uring of an ordinary user',
  () => {
    const scope = scopeOfEachTest();
    const [command = '', ...prefix] = asNobody;
    const nobodyRuns = (...args: string[]): ReturnType<typeof runCommand> =>
      runCommand(command, [...prefix, ...args]);

    test('works through fusermount3', async () => {
      const sample = sampleImage(scope);
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      chownSync(mountpoint, 65534, 65534);
      const mount = await mountOverRing(scope, { ...sample, mountpoint, as: asNobody });
      expect(mountedEvent(mount)).toMatchObject({ transport: 'io_uring', how: 'fusermount3' });
      const [inMount, object] = [join(mountpoint, 'big'), sample.objects.at('big')];
      expect((await nobodyRuns('cmp', inMount, object)).code).toBe(0);
      expect((await nobodyRuns('fusermount3', '-u', mountpoint)).code).toBe(0);
      expect(await within('its end', 10_000, mount.ended)).toBe(0);
    });

    describeWith([needsUserNamespaces], 'in a namespace of their own', () => {
      test('works with no help from outside', async () => {
        const sample = sampleImage(scope);
        const folder = scope.directory();
        chmodSync(folder, 0o777);
        switchOn(scope);
        const script = `
          set -e
          mkdir "$1/mnt"
          folder="$1"; image="$2"; basedir="$3"; shift 3
          "$@" --log-file "$folder/log" --basedir "$basedir" "$image" "$folder/mnt"
          cat "$folder/mnt/hello"
          cmp "$folder/mnt/big" "$basedir/big"
          umount "$folder/mnt"
          grep -o '"transport":"[a-z_]*"' "$folder/log"`;
        const namespace = ['unshare', '--user', '--map-root-user', '--mount'];
        const args = [folder, sample.image, sample.objects.path, ...ourCommand, ...ring];
        const outcome = await nobodyRuns(...namespace, 'sh', '-c', script, 'sh', ...args);
        const stdout = 'hello\n"transport":"io_uring"\n';
        expect(outcome).toMatchObject({ code: 0, stdout, stderr: '' });
      });
    });
  },
);
