// Verification as users of a mount meet it: what is hashed when, what the log and the counters say,
// and that everything one does with files also works with verified ones.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { flip } from '../support/attacks.mjs';
import { mustRun, python, runCommand, waitUntil } from '../support/command.ts';
import { countsOf, eventsOf, refusalsOf } from '../support/daemon-log.ts';
import { talkTo } from '../support/dialogue.ts';
import { directory, external, toHex } from '../support/image-nodes.ts';
import { mountOurs, type OurMount } from '../support/mounts.ts';
import { type ObjectFolder, patternBytes, verityDigest } from '../support/object-folder.ts';
import { describeWith, needsOurMount, type Requirement } from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const BLOCK = 4096;
const waiter = join(import.meta.dirname, '../support/waiter.py');
const program = '/bin/true';
const inEnglish = { ...process.env, LC_ALL: 'C' };

const dropCaches = (): void => writeFileSync('/proc/sys/vm/drop_caches', '1');
const times = ['open', 'read'] as const;

describeWith(needsOurMount, 'with verification', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let paths: Record<string, string>;

  const small = patternBytes(20_000, 1);
  const large = patternBytes(1_000_000, 2);
  const holes = new Uint8Array(600_000);
  holes.set(patternBytes(BLOCK, 3), 65_536);

  /** Adds an object and remembers where it is. */
  function add(objects: ObjectFolder, name: string, content: Uint8Array) {
    const node = objects.add(content);
    paths[name] = objects.at(String(node.redirect));
    return node;
  }

  beforeEach(() => {
    paths = {};
    sample = makeImage(scope, (objects) => {
      const sparse = objects.addSparse('sparse', holes.length, [
        [65_536, holes.subarray(65_536, 65_536 + BLOCK)],
      ]);
      paths['sparse'] = objects.at('sparse');
      return directory({
        small: add(objects, 'small', small),
        large: add(objects, 'large', large),
        program: { ...add(objects, 'program', readFileSync(program)), permissions: 0o755 },
        sparse: external(holes.length, {
          redirect: sparse.redirect!,
          digest: verityDigest(holes),
        }),
        unverified: objects.addAt('unverified', small),
        'unverified sparse': sparse,
        sha512: objects.addAt('sha512', small, {
          metacopy: external(0, { digest: verityDigest(small, 'sha512') }).metacopy,
        }),
      });
    });
  });

  const mountWith = (...args: string[]): Promise<OurMount> =>
    mountOurs(scope, { ...sample, args: ['--verify-engine', 'user', ...args] });
  const cat = (mount: OurMount, name: string) =>
    runCommand('cat', [join(mount.mountpoint, name)], { env: inEnglish });
  const isSame = (mount: OurMount, name: string) =>
    runCommand('cmp', [join(mount.mountpoint, name), paths[name]!]);

  test('every object is hashed once, however often it is opened', async () => {
    const mount = await mountWith();
    for (let round = 0; round < 3; round++) {
      expect(await isSame(mount, 'small')).toMatchObject({ code: 0 });
      expect(await isSame(mount, 'large')).toMatchObject({ code: 0 });
      dropCaches();
    }
    const counts = await countsOf(mount);
    expect(counts).toMatchObject({ computed: 2, byKernel: 0, refusedObjects: 0, refusedReads: 0 });
    // The one that was hashed elsewhere was opened after that; then both stayed open.
    expect(counts).toMatchObject({ remembered: 1, reopened: 2 * 2 });
    expect(await mount.unmount()).toBe(0);
    const end = eventsOf(mount).find(({ msg }) => msg === 'unmounted');
    expect(end).toMatchObject({ verified: counts });
  });

  test('SIGHUP has everything hashed and every refusal logged again', async () => {
    const mount = await mountWith();
    flip(paths['large']!, 0);
    const forgetful = () => eventsOf(mount).filter(({ msg }) => String(msg).startsWith('forgot'));
    for (let round = 1; round <= 3; round++) {
      for (let i = 0; i < 3; i++) {
        expect(await isSame(mount, 'small')).toMatchObject({ code: 0 });
        expect(await cat(mount, 'large')).toMatchObject({ code: 1, stdout: '' });
      }
      expect(await countsOf(mount)).toMatchObject({
        computed: 2 * round,
        refusedObjects: 3 * round,
      });
      await waitUntil('it is logged', () => refusalsOf(mount).length >= round);
      expect(refusalsOf(mount)).toHaveLength(round);
      process.kill(mount.pid, 'SIGHUP');
      await waitUntil('everything is forgotten', () => forgetful().length === round);
      expect(forgetful().at(-1)).toMatchObject({ files: 2 });
    }
  });

  test('a refusal names file, object, both digests and who measured', async () => {
    const mount = await mountWith();
    flip(paths['small']!, 0);
    expect(await cat(mount, 'small')).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('Input/output error') as string,
    });
    expect((await runCommand('stat', [join(mount.mountpoint, 'small')])).code).toBe(0);
    await mount.unmount();
    const [refusal, ...more] = refusalsOf(mount);
    expect(more).toEqual([]);
    expect(refusal).toMatchObject({
      level: 40,
      path: '/small',
      objectPath: paths['small']!.slice(sample.objects.path.length + 1),
      expected: `sha256:${toHex(verityDigest(small))}`,
      actual: `sha256:${toHex(verityDigest(readFileSync(paths['small']!)))}`,
      measuredBy: 'composefs-fuse',
      errno: 'EIO',
    });
  });

  test.each(times)(
    'an object that was put right is served again, with --verify-at %s',
    async (at) => {
      const mount = await mountWith('--verify-at', at);
      for (const name of ['small', 'large']) {
        expect(await isSame(mount, name)).toMatchObject({ code: 0 });
        flip(paths[name]!, 5000);
        dropCaches();
        expect(await cat(mount, name)).toMatchObject({ code: 1 });
        flip(paths[name]!, 5000);
        expect(await isSame(mount, name)).toMatchObject({ code: 0 });
      }
    },
  );

  test('files are opened without a request with --verify-at read', async () => {
    const mount = await mountOurs(scope, {
      ...sample,
      args: ['--verify-at', 'read'],
      logLevel: 'trace',
    });
    const names = ['small', 'large', 'program', 'small'];
    for (const name of names) expect(await isSame(mount, name)).toMatchObject({ code: 0 });
    rmSync(paths['sparse']!);
    // Opened, but not read.
    const opened = await runCommand('sh', ['-c', '<"$1"', 'sh', join(mount.mountpoint, 'sparse')]);
    expect(opened.code).toBe(0);
    await mount.unmount();
    const requests = (opcode: string) =>
      eventsOf(mount).filter(({ msg }) => String(msg).includes(` ${opcode} `));
    expect(requests('READ').length).toBeGreaterThan(2);
    expect(requests('OPEN')).toHaveLength(1);
    expect(requests('OPEN')[0]!['msg']).toContain('ENOSYS');
    expect(requests('RELEASE')).toEqual([]);
  });

  test('a file can be opened again and again without its object with --verify-at read', async () => {
    const mount = await mountWith('--verify-at', 'read', '--threads', '1');
    expect(await isSame(mount, 'small')).toMatchObject({ code: 0 });
    const content = readFileSync(paths['small']!);
    rmSync(paths['small']!);
    dropCaches();
    const outcome = await runCommand('cmp', [join(mount.mountpoint, 'small'), '-'], {
      input: content,
    });
    expect(outcome).toMatchObject({ code: 0 });
  });

  describe.each(times)('with --verify-at %s', (at) => {
    test('a mapped file can be read, and a bad block of it is SIGBUS', async () => {
      const mount = await mountWith('--verify-at', at);
      const bad = 100 * BLOCK;
      const reader = talkTo(scope, python, [
        '-I',
        waiter,
        'touch',
        join(mount.mountpoint, 'large'),
      ]);
      expect(await reader.hear()).toBe('mapped');
      expect(await reader.ask('0')).toBe(String(large[0]));
      flip(paths['large']!, bad + 1);
      dropCaches();
      const last = large.length - 1;
      expect(await reader.ask(String(last))).toBe(String(large[last]));
      reader.say(String(bad));
      await expect(reader.hear()).rejects.toThrow('said nothing more');
      expect(await reader.ended).toBe(128);
      expect(await mount.unmount()).toBe(0);
      expect(refusalsOf(mount)).toHaveLength(1);
    });

    test('programs run, unless they are not what they should be', async () => {
      const mount = await mountWith('--verify-at', at);
      const path = join(mount.mountpoint, 'program');
      await mustRun(path, []);
      flip(paths['program']!, 24);
      dropCaches();
      const outcome = await runCommand('sh', ['-c', '"$1"', 'sh', path], { env: inEnglish });
      expect(outcome.code).toBeGreaterThan(0);
      expect(outcome.stderr).toContain('Input/output error');
    });

    // Who looks for data first (cp, tar) would take zeros for the bytes in a hole.
    test("holes are nobody's word that may have changed", async () => {
      const mount = await mountWith('--verify-at', at);
      const script = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
for line in sys.stdin:
    try:
        print(os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE), flush=True)
    except OSError as error:
        print(error.errno, flush=True)`;
      const seekIn = (name: string) =>
        talkTo(scope, python, ['-I', '-c', script, join(mount.mountpoint, name)]);
      expect(await seekIn('unverified sparse').ask('')).toBe('65536 0');
      expect(await seekIn('sparse').ask('')).toBe(`0 ${holes.length}`);
      const reader = seekIn('large');
      expect(await reader.ask('')).toBe(`0 ${large.length}`);
      await mustRun('fallocate', ['-p', '-o', '0', '-l', '400000', paths['large']!]);
      expect(await reader.ask('')).toBe(`0 ${large.length}`);
      expect((await cat(mount, 'large')).code).toBe(1);
      flip(paths['small']!, 0);
      const bad = runCommand(python, ['-I', '-c', script, join(mount.mountpoint, 'small')], {
        input: '\n',
      });
      const { stdout, stderr } = await bad;
      if (at === 'open') expect(stderr).toContain('Input/output error');
      else expect(stdout).toBe('5\n');
    });

    test('more files are read at a time than the daemon may have open', async () => {
      const count = 400;
      const many = makeImage(scope, (objects) => {
        const files = Array.from({ length: count }, (_, i) => objects.add(patternBytes(9000, i)));
        return directory(Object.fromEntries(files.map((node, i) => [`file ${i}`, node])));
      });
      const mount = await mountOurs(scope, {
        ...many,
        args: ['--verify-engine', 'user', '--verify-at', at, '--threads', '8'],
        as: ['sh', '-c', 'ulimit -n 256; exec "$@"', 'sh'],
      });
      const good = join(scope.directory(), 'good');
      mkdirSync(good);
      for (let i = 0; i < count; i++) writeFileSync(join(good, `file ${i}`), patternBytes(9000, i));
      // One reader alone is served by few threads, and eight by more.
      for (const readerCount of [1, 8, 1]) {
        const readers = Array.from({ length: readerCount }, () =>
          runCommand('diff', ['-r', good, mount.mountpoint]),
        );
        for (const outcome of await Promise.all(readers))
          expect(outcome).toMatchObject({ code: 0, stdout: '', stderr: '' });
        dropCaches();
      }
      expect(await mount.unmount()).toBe(0);
      expect(eventsOf(mount).filter(({ level }) => Number(level) >= 40)).toEqual([]);
    });
  });

  const command = (name: string, packageName: string): Requirement => ({
    what: `${name} (${packageName})`,
    isMet: () => ['/usr/bin/', '/bin/'].some((folder) => existsSync(folder + name)),
  });

  describeWith([command('fsverity', 'fsverity')], 'fsverity measure', () => {
    test('shows the digest that a file is held to', async () => {
      const mount = await mountWith();
      const measure = (name: string) =>
        runCommand('fsverity', ['measure', join(mount.mountpoint, name)], { env: inEnglish });
      expect((await measure('small')).stdout).toContain(`sha256:${toHex(verityDigest(small))} `);
      expect((await measure('sha512')).stdout).toContain(
        `sha512:${toHex(verityDigest(small, 'sha512'))} `,
      );
      expect(await measure('unverified')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('No data available') as string,
      });
    });

    test('shows none when nothing is verified', async () => {
      const mount = await mountWith('--verity', 'off');
      const outcome = await runCommand('fsverity', ['measure', join(mount.mountpoint, 'small')]);
      expect(outcome.code).toBe(1);
    });
  });

  describeWith([command('lsattr', 'e2fsprogs')], 'lsattr', () => {
    test('shows which files are verified', async () => {
      const mount = await mountWith();
      const attributes = async (name: string) =>
        (await mustRun('lsattr', [join(mount.mountpoint, name)])).stdout.split(' ')[0];
      expect(await attributes('small')).toContain('V');
      expect(await attributes('sha512')).toContain('V');
      expect(await attributes('unverified')).not.toContain('V');
    });
  });
});
