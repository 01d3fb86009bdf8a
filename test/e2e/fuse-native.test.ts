// The second transport as users meet it: verified contents, what its API cannot carry, and every way in
// which it cannot start. What it shares with the first one is in lifecycle.test.ts and test/differential.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { flip } from '../support/attacks.mjs';
import { mustRun, python, runCommand, waitUntil, within } from '../support/command.ts';
import { countsOf, eventsOf, refusalsOf } from '../support/daemon-log.ts';
import { fuseNativeArgs } from '../support/fuse-native.ts';
import { directory, external, file, symlink } from '../support/image-nodes.ts';
import {
  detach,
  mountAt,
  mountForeground,
  mountOurs,
  ourCommand,
  type OurMount,
  runOurs,
} from '../support/mounts.ts';
import { patternBytes, zerosDigest } from '../support/object-folder.ts';
import {
  asNobody,
  describeWith,
  needsFuseNative,
  needsFusermount,
  needsNobody,
  needsOpenFuse,
  needsOurMount,
} from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const USAGE = 1;
const INPUT = 3;
const MOUNT = 4;
const inEnglish = { ...process.env, LC_ALL: 'C' };
const requirements = [...needsOurMount, needsFuseNative];

/** Hashing so many zeros takes seconds. */
const HUGE = 4096 * 128 ** 3;

const cat = (mount: OurMount, name: string) =>
  runCommand('cat', [join(mount.mountpoint, name)], { env: inEnglish });

/** Runs Python with `args` behind the mountpoint; what it prints. */
async function runPython(script: string, ...args: string[]): Promise<string> {
  return (await mustRun(python, ['-c', script, ...args])).stdout.trim();
}

describeWith(requirements, 'a mount through fuse-native', () => {
  const scope = scopeOfEachTest();
  const large = patternBytes(3_000_000, 1);
  let sample: SampleImage;
  let good: string;
  let bad: string;

  beforeEach(() => {
    sample = makeImage(scope, (objects) => {
      const goodNode = objects.add(large);
      const badNode = objects.add(patternBytes(20_000, 2));
      good = objects.at(String(goodNode.redirect));
      bad = objects.at(String(badNode.redirect));
      return directory({
        good: goodNode,
        bad: badNode,
        absent: external(10, { redirect: '/absent' }),
        huge: external(HUGE, {
          redirect: objects.addSparse('huge', HUGE, []).redirect!,
          digest: zerosDigest(HUGE),
        }),
        hello: file('hello\n', {
          xattrs: [
            ['user.one', 'x'.repeat(100)],
            ['user.two', ''],
            ['trusted.three', 'for root'],
          ],
        }),
      });
    });
  });

  const mountWith = (...args: string[]) =>
    mountOurs(scope, {
      ...sample,
      args: [...fuseNativeArgs, '--verify-engine', 'user', ...args],
    });

  test('says in its log how it serves', async () => {
    const mount = await mountWith();
    const mounted = eventsOf(mount).find(({ msg }) => msg === 'mounted');
    expect(mounted).toMatchObject({ transport: 'fuse-native', data: 'daemon' });
    expect(mounted?.['how']).toMatch(/^libfuse 2 \((system|bundled)\)$/);
  });

  test.each(['open', 'read'])('verifies at %s', async (time) => {
    flip(bad, 5000);
    const mount = await mountWith('--verify-at', time);
    const all = ['good', 'good', 'good', 'hello'];
    const readers = all.map((name) => cat(mount, name));
    for (const outcome of await Promise.all(readers)) expect(outcome.code).toBe(0);
    expect(await runCommand('cmp', [join(mount.mountpoint, 'good'), good])).toMatchObject({
      code: 0,
    });
    const refused = await cat(mount, 'bad');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('Input/output error');
    expect((await cat(mount, 'absent')).stderr).toContain('No such file');
    // Paths are looked for when the daemon has a moment.
    await waitUntil('the refusal is logged', () => refusalsOf(mount).length > 0);
    expect(refusalsOf(mount)).toMatchObject([{ path: '/bad', measuredBy: 'composefs-fuse' }]);
    const { computed, refusedObjects } = await countsOf(mount);
    // Four readers, and one computation of the large object.
    expect(computed).toBe(1);
    expect(refusedObjects).toBeGreaterThan(0);
    expect(await mount.unmount()).toBe(0);
  });

  test('refuses a block that changes while the file is open', async () => {
    const mount = await mountWith();
    const script = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(len(os.pread(fd, 4096, 0)), flush=True)
sys.stdin.readline()
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
try:
    print(len(os.pread(fd, 4096, 2000000)))
except OSError as error:
    print("errno", error.errno)
`;
    const reader = spawn(python, ['-c', script, join(mount.mountpoint, 'good')]);
    scope.defer(() => void reader.kill('SIGKILL'));
    let output = '';
    reader.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    await waitUntil('the first block is read', () => output.includes('4096'));
    flip(good, 2_000_000);
    reader.stdin.end('\n');
    await waitUntil('the second one is answered', () => /\n.*\n/.test(output));
    expect(output).toBe('4096\nerrno 5\n');
  });

  test('serves others while it hashes, and ends while it does', async () => {
    const mount = await mountWith();
    const reader = spawn('head', ['-c', '1', join(mount.mountpoint, 'huge')]);
    scope.defer(() => void reader.kill('SIGKILL'));
    const ended = new Promise((resolve) => reader.once('exit', resolve));
    expect((await cat(mount, 'hello')).stdout).toBe('hello\n');
    expect(reader.exitCode).toBeNull();
    process.kill(mount.pid, 'SIGTERM');
    await waitUntil('it is detached', () => mountAt(mount.mountpoint) === undefined);
    process.kill(mount.pid, 'SIGTERM');
    expect(await within('its end', 5000, mount.ended)).toBe(0);
    await within('the end of the reader', 5000, ended);
  });

  test('forgets what was verified on SIGHUP', async () => {
    const mount = await mountForeground(scope, {
      ...sample,
      args: [...fuseNativeArgs, '--verify-engine', 'user'],
    });
    await cat(mount, 'bad');
    process.kill(mount.pid, 'SIGHUP');
    await waitUntil('it says so', () => mount.log().includes('forgot what was verified'));
    await cat(mount, 'bad');
    expect((await countsOf(mount)).computed).toBe(2);
  });

  test('answers for attributes whatever room the caller has', async () => {
    const mount = await mountWith();
    const script = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
path = os.fsencode(sys.argv[1])
def call(function, *args):
    result = function(*args)
    return result if result >= 0 else -ctypes.get_errno()
for size in (0, 1, 99, 100, 101, 65536):
    buffer = ctypes.create_string_buffer(max(size, 1))
    print(call(libc.getxattr, path, b"user.one", buffer, size), end=" ")
for size in (0, 1, 17, 18, 65536):
    buffer = ctypes.create_string_buffer(max(size, 1))
    print(call(libc.listxattr, path, buffer, size), end=" ")
print(os.getxattr(path, "user.two"), os.getxattr(path, "trusted.three"), os.listxattr(path))
`;
    expect(await runPython(script, join(mount.mountpoint, 'hello'))).toBe(
      "100 -34 -34 100 100 100 18 -34 -34 18 18 b'' b'for root' ['user.one', 'user.two']",
    );
  });

  test('is not changed even where the kernel lets changes through', async () => {
    const mount = await mountWith();
    const { mountpoint } = mount;
    await mustRun('mount', ['-i', '-o', 'remount,rw', mountpoint]);
    const script = `
import errno, os, sys
os.chdir(sys.argv[1])
changes = [
    lambda: os.open("hello", os.O_WRONLY), lambda: os.open("new", os.O_CREAT | os.O_WRONLY),
    lambda: os.truncate("hello", 0), lambda: os.chmod("hello", 0o600), lambda: os.chown("hello", 1, 1),
    lambda: os.utime("hello"), lambda: os.unlink("hello"), lambda: os.rename("hello", "new"),
    lambda: os.link("hello", "new"), lambda: os.symlink("hello", "new"), lambda: os.mkdir("new"),
    lambda: os.mkfifo("new"), lambda: os.setxattr("hello", "user.new", b"value"),
    lambda: os.setxattr("hello", "user.new", b""), lambda: os.removexattr("hello", "user.one"),
]
for change in changes:
    try:
        print(change(), end=" ")
    except OSError as error:
        print(errno.errorcode[error.errno], end=" ")
`;
    const answers = (await runPython(script, mountpoint)).split(' ');
    expect(answers).toEqual(new Array(15).fill('EROFS'));
    expect((await cat(mount, 'hello')).stdout).toBe('hello\n');
  });

  test('has file handles that are stale once the kernel has forgotten the file', async () => {
    const mount = await mountWith();
    const handles = join(import.meta.dirname, '../support/file-handles.py');
    const { stdout } = await mustRun(python, ['-I', handles, mount.mountpoint, 'hello', '.']);
    const [hello, root] = stdout.trim().split('\n');
    expect(JSON.parse(hello ?? '')).toEqual({ path: 'hello', error: 'ESTALE' });
    expect(JSON.parse(root ?? '')).toMatchObject({ path: '.', same: true });
  });

  test('ends when its connection is aborted, and leaves no dead mount', async () => {
    const mount = await mountWith();
    const connections = '/sys/fs/fuse/connections';
    if (mountAt(connections) === undefined)
      await mustRun('mount', ['-t', 'fusectl', 'fusectl', connections]);
    const { stdout } = await mustRun('stat', ['-c', '%d', mount.mountpoint]);
    writeFileSync(join(connections, stdout.trim(), 'abort'), '1');
    expect(await within('its end', 5000, mount.ended)).toBe(0);
    expect(mountAt(mount.mountpoint)).toBeUndefined();
  });

  describeWith([needsNobody, needsFusermount, needsOpenFuse], 'by an ordinary user', () => {
    test.each(['umount', 'signal'])('is made through fusermount3 and ends by %s', async (way) => {
      const mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      await mustRun('chown', ['65534', mountpoint]);
      const mount = await mountOurs(scope, {
        ...sample,
        mountpoint,
        as: asNobody,
        args: fuseNativeArgs,
      });
      const reader = [...asNobody.slice(1), 'cat', join(mountpoint, 'hello')];
      expect((await mustRun('setpriv', reader)).stdout).toBe('hello\n');
      if (way === 'signal') process.kill(mount.pid, 'SIGTERM');
      else await mustRun('fusermount3', ['-u', mountpoint]);
      expect(await within('its end', 10_000, mount.ended)).toBe(0);
      expect(mountAt(mountpoint)).toBeUndefined();
    });
  });
});

describeWith(requirements, 'names through fuse-native', () => {
  const scope = scopeOfEachTest();

  test('that are odd are served, and those that are not UTF-8 refused, without harm', async () => {
    const utf8 = [
      'ä',
      '\u{feff}bom',
      '\u{fffd}',
      'new\nline',
      '"quotes\' $(id) `id` \\',
      '\u{1f600}',
      'x'.repeat(255),
      '€'.repeat(85),
      'combining a\u{300}',
      '\u{7f}\u{1}',
    ];
    const other = ['ff', 'c080', 'eda080', 'f8808080', `e2${'ff'.repeat(254)}`, '80'];
    const names = [
      ...utf8.map((name) => Buffer.from(name)),
      ...other.map((name) => Buffer.from(name, 'hex')),
    ];
    const sample = makeImage(scope, () =>
      directory([
        ...names.map((name, i): [Uint8Array, ReturnType<typeof file>] => [name, file(`${i}`)]),
        [Buffer.from('dff0', 'hex'), directory({ inner: file('inner') })],
        ['link', symlink(Buffer.from('ff', 'hex'))],
      ]),
    );
    const mount = await mountOurs(scope, { ...sample, args: fuseNativeArgs });
    const script = `
import errno, os, sys
for name in sys.argv[2:]:
    path = os.path.join(os.fsencode(sys.argv[1]), bytes.fromhex(name))
    try:
        print(open(path).read(), end=" ")
    except OSError as error:
        print(errno.errorcode[error.errno], end=" ")
try:
    os.readlink(os.path.join(sys.argv[1], "link"))
except OSError as error:
    print(errno.errorcode[error.errno], end=" ")
print(len(os.listdir(sys.argv[1])))
`;
    const asked = [...names.map((name) => name.toString('hex')), 'dff0', 'dff02f696e6e6572', '61'];
    // One byte that is no UTF-8 is decoded as the name that is there: see docs/transports.md.
    const replacement = String(utf8.indexOf('\u{fffd}'));
    const expected = [
      ...utf8.map((_name, i) => String(i)),
      ...other.map((name) => (name.length === 2 ? replacement : 'EILSEQ')),
    ];
    const answers = (await runPython(script, mount.mountpoint, ...asked)).split(' ');
    expect(answers).toEqual([
      ...expected,
      // The directory, what is in it, a name that is not there, the link's target.
      'EILSEQ',
      'EILSEQ',
      'ENOENT',
      'EILSEQ',
      String(names.length + 2),
    ]);
    expect(await mount.unmount()).toBe(0);
  });
});

for (const mode of ['in the background', 'in the foreground']) {
  const modeFlags = mode === 'in the foreground' ? ['--foreground'] : [];

  describeWith(requirements, `starting through fuse-native ${mode}`, () => {
    const scope = scopeOfEachTest();
    let sample: SampleImage;
    let mountpoint: string;
    beforeEach(() => {
      sample = makeImage(scope, () =>
        directory({
          hello: file('hello', { xattrs: [['system.posix_acl_access', acl()]] }),
        }),
      );
      mountpoint = join(scope.directory(), 'mnt');
      mkdirSync(mountpoint);
      scope.defer(() => detach(mountpoint));
    });

    const start = (args: readonly string[], as: readonly string[] = []) =>
      runOurs([...modeFlags, ...args, sample.image, mountpoint], as);

    /** Runs the command with `script` loaded before it. */
    async function startAfter(script: string) {
      const path = join(scope.directory(), 'before.cjs');
      writeFileSync(path, script);
      return await start(fuseNativeArgs, ['env', `NODE_OPTIONS=--require=${path}`]);
    }

    test('names the package where it is not installed', async () => {
      const outcome = await startAfter(`
        const Module = require('node:module');
        const resolve = Module._resolveFilename;
        Module._resolveFilename = function (name, ...rest) {
          if (name !== 'fuse-native') return resolve.call(this, name, ...rest);
          throw Object.assign(new Error('not found'), { code: 'MODULE_NOT_FOUND' });
        };`);
      expect(outcome).toMatchObject({ code: MOUNT, stdout: '' });
      expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]*npm install fuse-native[^\n]*\n$/);
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test('names libfuse 2 where it cannot be loaded', async () => {
      const outcome = await startAfter(`
        const { dlopen } = process;
        process.dlopen = (module, path, ...rest) => {
          if (!path.includes('fuse-')) return dlopen.call(process, module, path, ...rest);
          throw new Error('libfuse.so.2: cannot open shared object file: No such file or directory');
        };`);
      expect(outcome).toMatchObject({ code: MOUNT, stdout: '' });
      expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]*\n$/);
      for (const part of ['libfuse.so.2', 'apt-get install libfuse2', 'npm install fuse-native'])
        expect(outcome.stderr).toContain(part);
    });

    test('refuses ACLs, which would not be enforced, unless they are hidden', async () => {
      const outcome = await start(['--transport', 'fuse-native']);
      expect(outcome.code).toBe(MOUNT);
      expect(outcome.stderr).toMatch(/^composefs-fuse: [^\n]*ACLs[^\n]*-o noacl[^\n]*\n$/);
      expect(outcome.stderr).toContain(sample.image);
      const mount = await mountOurs(scope, { ...sample, args: fuseNativeArgs });
      expect(await mount.unmount()).toBe(0);
    });

    test('refuses a mountpoint that is a mount', async () => {
      await mustRun('mount', ['-t', 'tmpfs', 'tmpfs', mountpoint]);
      const outcome = await start(fuseNativeArgs);
      expect(outcome.code).toBe(INPUT);
      expect(outcome.stderr).toContain(`mountpoint ${mountpoint} is itself a mount`);
    });

    test('refuses what libfuse 2 does not know or have room for', async () => {
      const unknown = await start([...fuseNativeArgs, '-o', 'nosymfollow']);
      expect(unknown.code).toBe(MOUNT);
      expect(unknown.stderr).toContain('nosymfollow');
      const long = await start([...fuseNativeArgs, '-o', `fsname=${'x'.repeat(1000)}`]);
      expect(long.code).toBe(INPUT);
      expect(long.stderr).toContain('fsname');
      expect(mountAt(mountpoint)).toBeUndefined();
    });

    test('refuses passthrough and unknown transports', async () => {
      for (const args of [
        ['--data', 'passthrough'],
        ['--transport', 'pigeon'],
      ]) {
        const outcome = await start([...fuseNativeArgs, ...args]);
        expect(outcome.code).toBe(USAGE);
        expect(outcome.stderr).toMatch(/^composefs-fuse: --(data|transport)/);
      }
    });
  });
}

describe('the other transports', () => {
  test('load nothing of the package', async () => {
    const script = `
      import(process.argv[1]).then(() => {
        const loaded = Object.keys(require('node:module')._cache).filter((path) => /fuse-native/.test(path));
        console.log(loaded.length, process.report.getReport().sharedObjects.filter((path) => /libfuse/.test(path)).length);
      });`;
    const path = join(ourCommand[1] ?? '', '../run-daemon.js');
    expect((await mustRun(process.execPath, ['-e', script, path])).stdout).toBe('0 0\n');
  });
});

/** user::rw-, user:1000:---, group::r--, mask::r--, other::r-- as the kernel's xattr. */
function acl(): Uint8Array {
  const entries = [
    [1, 6, 0xffffffff],
    [2, 0, 1000],
    [4, 4, 0xffffffff],
    [0x10, 4, 0xffffffff],
    [0x20, 4, 0xffffffff],
  ];
  const bytes = Buffer.alloc(4 + 8 * entries.length);
  bytes.writeUInt32LE(2, 0);
  entries.forEach(([tag = 0, mode = 0, id = 0], i) => {
    bytes.writeUInt16LE(tag, 4 + 8 * i);
    bytes.writeUInt16LE(mode, 6 + 8 * i);
    bytes.writeUInt32LE(id, 8 + 8 * i);
  });
  return bytes;
}
