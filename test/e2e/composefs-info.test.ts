// The built composefs-info as a user runs it: output, exit codes, errors and closed pipes.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { locateImage } from '../support/image-builder.ts';
import { directory, file } from '../support/image-nodes.ts';
import { mustRun, runCommand } from '../support/command.ts';
import { describeWith, goldenFolder, needsGoldens } from '../support/requirements.ts';
import {
  EXAMPLE_DUMP,
  EXAMPLE_FILTERED,
  EXAMPLE_LS,
  EXAMPLE_OBJECT,
  EXAMPLE_SOURCE,
  imageBytes,
  ROOT,
} from '../unit/inspect/samples.ts';

const command = join(import.meta.dirname, '../../dist/cli/composefs-info.js');
const folder = mkdtempSync(join(tmpdir(), 'composefs-test-info-'));
const inFolder = (name: string): string => join(folder, name);
const example = inFolder('example.cfs');
const broken = inFolder('broken.cfs');
const damaged = inFolder('damaged.cfs');
const store = inFolder('store');
const usage = /\nusage: composefs-info .*measure-file.*\n$/;

const info = (...args: string[]) => runCommand(process.execPath, [command, ...args]);

beforeAll(() => {
  writeFileSync(example, imageBytes(EXAMPLE_SOURCE));
  writeFileSync(broken, imageBytes(EXAMPLE_SOURCE).fill(0xff, 1024, 1100));
  // Its headers and root are sound, an inode is not.
  const inode = file('x');
  const located = locateImage(directory({ inode }));
  located.view.setUint16(located.locate(inode).offset, 0xfff0, true);
  writeFileSync(damaged, located.bytes);
  writeFileSync(inFolder('example.dump'), EXAMPLE_SOURCE);
  mkdirSync(join(store, 'some'), { recursive: true });
  writeFileSync(join(store, 'some/where'), 'x'.repeat(100));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the commands of the reference', () => {
  const twice = EXAMPLE_DUMP + EXAMPLE_DUMP;
  const rows: [args: string[], stdout: string][] = [
    [['dump', example], EXAMPLE_DUMP],
    [['dump', example, example], twice],
    [['ls', example], EXAMPLE_LS],
    [['--filter=bin', '--filter', 'zero', 'dump', example], EXAMPLE_FILTERED],
    [['dump', '--f', 'bin', example, '--fil=zero'], EXAMPLE_FILTERED],
    [['objects', example, example], `${EXAMPLE_OBJECT}\nsome/where\n`],
    [['missing-objects', '--based', store, example], `${EXAMPLE_OBJECT}\n`],
    [['missing-objects', example], `${EXAMPLE_OBJECT}\nsome/where\n`],
    [['--json', 'objects', example], `${JSON.stringify([EXAMPLE_OBJECT, 'some/where'])}\n`],
  ];
  test.each(rows)('%j', async (args, stdout) => {
    expect(await info(...args)).toMatchObject({ code: 0, stderr: '', stdout });
  });

  test('measure-file prints digests in order, up to the first failure', async () => {
    const files = ['foo', 'bar\n', 'foo', ''].map((content, i) => {
      const path = inFolder(`measured-${i}`);
      writeFileSync(path, content);
      return path;
    });
    const foo = '84c7384b3239274691380d7042dc3d8c13f9e606ef546544fe9e348afb0e8af5\n';
    const bar = '21de27314f37b3d6a98e9a3a318c1376e8d814de22f78ed4df465080431fe5ff\n';
    const empty = '3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95\n';
    const stdout = `${foo}${bar}${foo}${empty}`;
    expect(await info('measure-file', ...files)).toMatchObject({ code: 0, stdout });
    expect(await info('measure-file', files[0]!, folder, files[1]!)).toMatchObject({
      code: 1,
      stdout: foo,
      stderr: `composefs-info: failed to measure '${folder}': No data available\n`,
    });
    const json = await mustRun(process.execPath, [command, 'measure-file', '--json', files[0]!]);
    expect(JSON.parse(json.stdout)).toEqual([
      { path: files[0], digest: foo.trim(), sizeBytes: 3, isKernels: false },
    ]);
  });

  test('ls and dump as JSON: one value a line, the root in dump only', async () => {
    const lines = async (name: string): Promise<{ path: string }[]> =>
      (await mustRun(process.execPath, [command, name, '--js', example])).stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { path: string });
    const dump = await lines('dump');
    expect(dump[0]).toMatchObject({ path: '/', type: 'directory' });
    expect(dump).toHaveLength(13);
    expect(await lines('ls')).toEqual(dump.slice(1));
  });
});

describe('errors', () => {
  const absent = inFolder('absent');
  const rows: [args: string[], code: number, stderr: RegExp][] = [
    [[], 1, /^composefs-info: No command specified\nusage: /],
    [['lsx', example], 1, /^composefs-info: Unknown command 'lsx'\n$/],
    [['ls'], 1, /^composefs-info: No image path specified\nusage: /],
    [['measure-file'], 1, /^composefs-info: No files specified\nusage: /],
    [['ls', absent], 1, /^composefs-info: Failed to open '.*absent': No such file or directory\n$/],
    [['measure-file', absent], 1, /: Failed to open '.*absent': No such file or directory\n$/],
    [
      ['ls', broken],
      1,
      /: Failed to load '.*broken.cfs': Invalid argument \(damaged image: .*\)\n$/,
    ],
    [['ls', '/dev/null'], 1, /: Failed to open '\/dev\/null': is not a regular file\n$/],
    [['--filter=a/b', 'ls', example], 1, /: Filter must be a single name: a\/b\n$/],
    [['--nope', 'ls', example], 1, usage],
    [['--skip=1', 'ls', example], 1, /ambiguous.*\nusage: /],
    [
      ['missing-objects', `--basedir=${absent}`, example],
      1,
      /: Can't open basedir `.*absent`: No such/,
    ],
    [['fsck', example], 1, /: fsck needs --basedir=PATH/],
    [['fsck', `--basedir=${absent}`, example], 1, /: Can't open basedir `.*absent`: No such/],
    [['fsck', '--metadata-only', absent], 1, /: Failed to open/],
    [['fsck', '--metadata-only', broken], 2, /: Failed to load/],
    [['diff', example], 2, /: diff takes two operands, not 1\nusage: /],
    [['diff', example, absent], 2, /: Failed to open '.*absent'/],
    [['diff', example, broken], 2, /: Failed to load '.*broken.cfs'/],
    [['stat', '--filter=a', example], 1, /: stat takes no --filter\nusage: /],
    [['dump', damaged], 1, /: Failed to load '.*damaged.cfs': Invalid argument \(damaged image: /],
    [['objects', damaged], 1, /: Failed to load '.*damaged.cfs'/],
    [['stat', damaged], 1, /: Failed to load '.*damaged.cfs'/],
    [['diff', example, damaged], 2, /: Failed to load '.*damaged.cfs'/],
    [['stat', example, example], 1, /: stat takes one image, not 2\nusage: /],
  ];
  test.each(rows)('%j ends with %i', async (args, code, stderr) => {
    const outcome = await info(...args);
    expect(outcome).toMatchObject({ code, stdout: '' });
    expect(outcome.stderr).toMatch(stderr);
  });

  test('of a later image leave the output of the earlier ones; objects print nothing', async () => {
    expect(await info('ls', example, broken)).toMatchObject({ code: 1, stdout: EXAMPLE_LS });
    expect(await info('objects', example, broken)).toMatchObject({ code: 1, stdout: '' });
  });

  test('a pipe that is closed early ends it without a word', () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `/f${i} 0 100644 1 0 0 0 0.0 - - -`);
    const big = inFolder('big.cfs');
    writeFileSync(big, imageBytes([ROOT, ...lines, ''].join('\n')));
    for (const args of ['dump', 'ls', '--json dump']) {
      const script = `"$0" "$1" ${args} "$2" | head -1; echo "\${PIPESTATUS[0]}"`;
      const argv = ['-c', script, process.execPath, command, big];
      const { stdout, stderr } = spawnSync('bash', argv, { encoding: 'utf8', timeout: 30_000 });
      expect(stderr).toBe('');
      expect(stdout.split('\n').slice(1)).toEqual(['141', '']);
    }
  });

  test('a full disk is one', () => {
    const script = '"$0" "$1" dump "$2" > /dev/full';
    const argv = ['-c', script, process.execPath, command, example];
    const { status, stderr } = spawnSync('sh', argv, { encoding: 'utf8' });
    expect(stderr).toMatch(/^composefs-info: cannot write standard output: No space left/);
    expect(status).toBe(1);
  });
});

describe('stat, fsck and diff', () => {
  test('stat counts', async () => {
    const text = await info('stat', example);
    expect(text.stdout).toContain('distinct objects:  2 with 170 bytes\n');
    const { stdout } = await info('stat', '--json', example);
    expect(JSON.parse(stdout)).toMatchObject({ formatVersion: 1, referencedBytes: 270 });
  });

  test('fsck says what is wrong by its exit code', async () => {
    const clean = inFolder('clean.cfs');
    writeFileSync(clean, imageBytes(`${ROOT}\n/w 100 100644 1 0 0 0 0.0 some/where - -\n`));
    const wrong = inFolder('wrong.cfs');
    writeFileSync(wrong, imageBytes(`${ROOT}\n/w 99 100644 1 0 0 0 0.0 some/where - -\n`));
    expect(await info('fsck', '--basedir', store, clean)).toMatchObject({ code: 0, stderr: '' });
    expect(await info('fsck', '--basedir', store, wrong)).toMatchObject({ code: 8 });
    const outcome = await info('fsck', '--basedir', store, example);
    expect(outcome.code).toBe(2 | 4);
    expect(outcome.stdout).toContain(`/tool2: the object is missing (object ${EXAMPLE_OBJECT})\n`);
    expect(outcome.stdout).toContain('/nopayload: an external file names no object');
    expect(await info('fsck', '--meta', example)).toMatchObject({ code: 2 });
    const { stdout } = await info('fsck', '--json', '--basedir', store, wrong);
    const [problem, end] = stdout.trim().split('\n');
    expect(JSON.parse(problem!)).toMatchObject({ kind: 'object', path: '/w', found: '100' });
    expect(JSON.parse(end!)).toMatchObject({ summary: { exitCode: 8, objects: { count: 1 } } });
  });

  test('diff compares an image with a dump, and with one that comes through a pipe', async () => {
    const dump = inFolder('example.dump');
    expect(await info('diff', example, dump)).toMatchObject({ code: 0, stdout: '', stderr: '' });
    const changed = EXAMPLE_SOURCE.replace('/zero 0 100644', '/zero 0 100600');
    const options = { input: changed };
    const outcome = await runCommand(process.execPath, [command, 'diff', dump, '-'], options);
    expect(outcome).toMatchObject({ code: 1, stderr: '' });
    expect(outcome.stdout).toMatch(/^\/zero: mode 100644 != 100600\n/);
    expect(outcome.stdout).toContain('the first is /zero\n');
  });

  test('diff compares directories', async () => {
    for (const name of ['one', 'two']) {
      mkdirSync(inFolder(name));
      writeFileSync(join(inFolder(name), 'file'), name.padEnd(100, name));
    }
    const { code, stdout } = await info('diff', '--use-epoch', inFolder('one'), inFolder('two'));
    expect(code).toBe(1);
    expect(stdout).toMatch(
      /^\/file: object [0-9a-f]{2}\/[0-9a-f]{62} != [0-9a-f]{2}\/[0-9a-f]{62}\n/,
    );
    expect(await info('diff', '--use-epoch', inFolder('one'), inFolder('one'))).toMatchObject({
      code: 0,
      stdout: '',
    });
  });
});

describeWith([needsGoldens], 'the golden images', () => {
  const zoo = join(goldenFolder, 'zoo.cfs');
  const objects = join(goldenFolder, 'objects');

  test('refer to the objects that lie beside them, and are clean', async () => {
    const files = readdirSync(objects, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${join(entry.parentPath, entry.name).slice(objects.length + 1)}\n`)
      .sort();
    const markers = join(goldenFolder, 'overlay-markers.cfs');
    const listed = await info('objects', zoo, markers);
    expect(listed.stdout).toBe(files.join(''));
    expect(await info('missing-objects', `--basedir=${objects}`, zoo)).toMatchObject({
      code: 0,
      stdout: '',
    });
    for (const image of [zoo, markers]) {
      const outcome = await info('fsck', `--basedir=${objects}`, image);
      expect(outcome).toMatchObject({ code: 0, stderr: '' });
      expect(outcome.stdout).toMatch(/^clean: .* 60 objects .* 0 warnings\n$/);
    }
  });
});
