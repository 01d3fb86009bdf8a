// mkcomposefs as a user runs it: directories and dumps in, images and objects out, and nothing half
// made whatever happens.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { openImage } from '../../src/image-reader/index.ts';
import { mustRun, runCommand } from '../support/command.ts';
import { patternBytes } from '../support/object-folder.ts';
import { describeWith, goldenFolder, needsGoldens, needsRoot } from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const script = join(import.meta.dirname, '../../dist/cli/mkcomposefs.js');
const make = (args: readonly string[], input?: string | Buffer) =>
  runCommand(process.execPath, [script, ...args], input === undefined ? {} : { input });

/** All files below a directory, relative to it. */
function filesBelow(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1));
}

describe('mkcomposefs', () => {
  const scope = scopeOfEachTest();
  let folder: string;
  let source: string;
  let image: string;
  let store: string;

  beforeEach(() => {
    folder = scope.directory();
    source = join(folder, 'source');
    image = join(folder, 'image.cfs');
    store = join(folder, 'objects');
    mkdirSync(join(source, 'sub'), { recursive: true });
    writeFileSync(join(source, 'short'), 'in the image');
    writeFileSync(join(source, 'long'), patternBytes(5000));
    writeFileSync(join(source, 'sub/same'), patternBytes(5000));
    writeFileSync(join(source, 'sub/empty'), '');
    symlinkSync('short', join(source, 'link'));
    chmodSync(join(source, 'long'), 0o4711);
    utimesSync(join(source, 'long'), 1, 1_600_000_000.5);
  });

  test('makes an image of a directory and fills the store', async () => {
    const outcome = await make(['--digest-store', store, '--json', source, image]);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    const facts = JSON.parse(outcome.stdout) as Record<string, unknown>;
    expect(facts).toMatchObject({
      externalFiles: 2,
      inlineFiles: 1,
      objects: { added: 1, present: 1 },
    });
    const made = openImage(new Uint8Array(readFileSync(image)));
    const paths = [...made.walk()].filter((entry) => !entry.isWhiteout).map((entry) => entry.path);
    expect(paths.toSorted()).toEqual(
      ['/', '/link', '/long', '/short', '/sub', '/sub/empty', '/sub/same'].slice(
        paths.includes('/') ? 0 : 1,
      ),
    );
    const long = made.lookup('/long')!;
    expect(long.mode).toBe(0o104711);
    expect(long.mtime).toEqual({ seconds: 1_600_000_000n, nanoseconds: 500_000_000 });
    const object = join(store, long.object()!.path);
    expect(Buffer.compare(readFileSync(object), patternBytes(5000))).toBe(0);
    expect(statSync(object).mode & 0o777).toBe(0o644);
    expect(filesBelow(store)).toHaveLength(1);
  });

  test('prints the digest that fsverity computes, and with -only writes nothing', async () => {
    await make([source, image]);
    const printed = await make(['--print-digest-only', source]);
    const again = await make(['--print-digest', source, image]);
    expect(printed.stdout).toBe(again.stdout);
    const fsverity = await runCommand('fsverity', ['digest', image]).catch(() => undefined);
    if (fsverity?.code === 0) {
      expect(`sha256:${printed.stdout.trim()}`).toBe(fsverity.stdout.split(' ')[0]);
    }
    expect(printed.stdout).toMatch(/^[0-9a-f]{64}\n$/);
  });

  test('does not depend on the number of threads or the order of the directory', async () => {
    for (let i = 0; i < 300; i++) writeFileSync(join(source, `sub/f${i}`), patternBytes(65 + i));
    const digests = new Set<string>();
    for (const threads of ['1', '2', '7']) {
      digests.add((await make(['--threads', threads, '--print-digest-only', source])).stdout);
    }
    expect(digests.size).toBe(1);
  });

  test('leaves out what it is told to', async () => {
    const epoch = openImage(await imageOf('--use-epoch'));
    expect(epoch.lookup('/long')!.mtime.seconds).toBe(0n);
    linkSync(join(source, 'long'), join(source, 'name-of-long'));
    const apart = openImage(await imageOf());
    expect(apart.lookup('/long')!.nid).not.toBe(apart.lookup('/name-of-long')!.nid);
    const kept = openImage(await imageOf('--hardlinks'));
    expect(kept.lookup('/long')!.nid).toBe(kept.lookup('/name-of-long')!.nid);
    expect(kept.lookup('/long')!.nlink).toBe(2);
  });

  async function imageOf(...options: string[]): Promise<Uint8Array> {
    const outcome = await make([...options, source, image]);
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    return new Uint8Array(readFileSync(image));
  }

  test('does not rewrite an object, and reports one that is not what its name says', async () => {
    await make(['--digest-store', store, source, image]);
    const [name] = filesBelow(store);
    const object = join(store, name!);
    const before = statSync(object, { bigint: true });
    expect((await make(['--digest-store', store, source, image])).code).toBe(0);
    expect(statSync(object, { bigint: true }).ctimeNs).toBe(before.ctimeNs);
    for (const spoil of [
      () => truncateSync(object, 4999),
      () => writeFileSync(object, Buffer.alloc(5000)),
    ]) {
      spoil();
      writeFileSync(image, 'the old image');
      const outcome = await make(['--digest-store', store, source, image]);
      expect(outcome.code).toBe(1);
      expect(outcome.stderr).toContain(`object ${name} is there with another content than`);
      expect(readFileSync(image, 'utf8')).toBe('the old image');
    }
  });

  test('may fill one store from several processes at once', async () => {
    for (let i = 0; i < 200; i++) writeFileSync(join(source, `sub/f${i}`), patternBytes(100 + i));
    const outcomes = await Promise.all(
      [0, 1, 2].map((i) => make(['--digest-store', store, source, `${image}.${i}`])),
    );
    expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(filesBelow(store)).toHaveLength(201);
  });

  test('leaves whole objects only, and no image, when it is killed', async () => {
    for (let i = 0; i < 3000; i++) writeFileSync(join(source, `sub/f${i}`), patternBytes(1000 + i));
    for (const afterMs of [150, 250, 350, 450]) {
      const child = spawn(process.execPath, [script, '--digest-store', store, source, image]);
      const ended = new Promise((resolve) => child.on('exit', resolve));
      setTimeout(() => child.kill('SIGKILL'), afterMs);
      await ended;
    }
    const objects = existsSync(store) ? filesBelow(store) : [];
    for (const name of objects) {
      const digest = await digestOf(join(store, name));
      expect(name.replace('/', '')).toBe(digest);
      if (objects.indexOf(name) > 20) break;
    }
    expect((await make(['--digest-store', store, source, image])).code).toBe(0);
    expect(filesBelow(store)).toHaveLength(3001);
  });

  async function digestOf(path: string): Promise<string> {
    const { measureFile } = await import('../../src/verify/index.ts');
    return (await measureFile(path)).hex;
  }

  test.each([
    [['--from-file', '-', 'IMAGE'], 'nonsense\n', /^mkcomposefs: line 1: .+\n$/],
    [['/nowhere', 'IMAGE'], '', /error accessing \/nowhere: No such file or directory/],
    [['SOURCE'], '', /No destination path specified/],
    [[], '', /No source path specified/],
    [['--print-digest-only', 'SOURCE', 'IMAGE'], '', /Cannot specify destination/],
    [['--min-version=x', 'SOURCE', 'IMAGE'], '', /Invalid min version x/],
    [['--threads=0', 'SOURCE', 'IMAGE'], '', /Invalid threads count 0/],
    [['--bogus', 'SOURCE', 'IMAGE'], '', /Unknown option '--bogus'/],
    [['--print', 'SOURCE', 'IMAGE'], '', /ambiguous/],
    [['SOURCE', '/nowhere/image'], '', /cannot be written \(ENOENT\)/],
  ])('refuses %j in one line, exit code 1, without an image', async (args, input, says) => {
    const real = args.map((arg) => ({ SOURCE: source, IMAGE: image })[arg] ?? arg);
    const outcome = await make(real, input);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(says);
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(existsSync(image)).toBe(false);
    expect(readdirSync(folder)).toEqual(['source']);
  });

  describeWith([needsRoot], 'as root', () => {
    test('reports a full disk and leaves neither half an object nor half an image', async () => {
      const small = join(folder, 'small');
      mkdirSync(small);
      await mustRun('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'small', small]);
      scope.defer(async () => void (await runCommand('umount', ['-l', small])));
      writeFileSync(join(source, 'large'), patternBytes(200_000));
      const target = join(small, 'image');
      const outcome = await make(['--digest-store', join(small, 'objects'), source, target]);
      expect(outcome.code).toBe(1);
      expect(outcome.stderr).toMatch(/cannot fill store: .*large: No space left on device/);
      expect(existsSync(target)).toBe(false);
      for (const name of filesBelow(join(small, 'objects'))) {
        expect(name.replace('/', '')).toBe(await digestOf(join(small, 'objects', name)));
      }
    });
  });
});

describeWith([needsGoldens], 'the dumps of the reference', () => {
  const scope = scopeOfEachTest();
  const dumps = join(goldenFolder, 'dumps');
  const lines = existsSync(join(dumps, 'expected.txt'))
    ? readFileSync(join(dumps, 'expected.txt'), 'utf8').trimEnd().split('\n')
    : [];

  test('become the reference images, byte for byte', async () => {
    const image = join(scope.directory(), 'image');
    expect(lines.length).toBeGreaterThan(30);
    for (const line of lines) {
      const [sha256, verity, size, name = '', ...options] = line.trim().split(/\s+/);
      const packed = readFileSync(join(dumps, name));
      const text = name.endsWith('.gz') ? gunzipSync(packed) : packed;
      const outcome = await make([...options, '--print-digest', '--from-file', '-', image], text);
      expect(outcome, line).toMatchObject({ code: 0, stderr: '', stdout: `${verity}\n` });
      const bytes = readFileSync(image);
      expect(bytes.length, line).toBe(Number(size));
      expect(createHash('sha256').update(bytes).digest('hex'), line).toBe(sha256);
    }
  });

  test('are refused where the reference refuses them', async () => {
    const refused = readdirSync(dumps).filter((name) => name.includes('should-fail'));
    expect(refused.length).toBeGreaterThan(5);
    const image = join(scope.directory(), 'image');
    for (const name of refused) {
      const outcome = await make(['--from-file', join(dumps, name), image]);
      expect(outcome.code, name).toBe(1);
      expect(outcome.stderr, name).toMatch(/^mkcomposefs: .+\n$/);
      expect(existsSync(image), name).toBe(false);
    }
  });
});
