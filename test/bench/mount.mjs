// Measures mounts of one image side by side: the kernel's erofs + overlayfs, ours, and any others.
//
//   npm run bench -- [--image FILE --basedir DIR] [--peer NAME=DIR]... [--rounds N] [--quick]
//                    [--modes LIST] [--threads N] [--only WORD] [--json FILE]
//
// Ours is mounted once for each of the modes that LIST names (default: open,passthrough,read; see `modes` below).
//
// Every round runs every workload on every mount, in an order that rotates, so that a slow minute
// of the machine falls on all of them. The table shows the median, the range and the ratio to the
// kernel's median. The work is done by workload.c, which adds next to nothing of its own.
//
// What cold means: before each cold walk and stat run `echo 2` goes to drop_caches (the kernel
// forgets dentries and inodes; a daemon is asked again for each). Before each cold open+read run
// `echo 3` does the same and empties the page cache as well, and then the objects are read once by
// themselves: the mount starts from nothing, the disk has no part in it.

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { importTypeScript } from '../../scripts/lib/typescript.mjs';
import { root, setup } from '../../scripts/setup.mjs';

const STATS = 50_000;
const READS = 20_000;
const SMALL_BYTES = 256 * 1024;
const runTimeoutMs = 600_000;

/** Ways to mount ours: what stands behind the name of the mount in the table, and the options. */
const modes = {
  off: ['--verity', 'off'],
  open: [],
  passthrough: ['--data', 'passthrough'],
  read: ['--verify-at', 'read'],
};

const { values: options } = parseArgs({
  options: {
    image: { type: 'string' },
    basedir: { type: 'string', multiple: true, default: [] },
    peer: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string' },
    modes: { type: 'string', default: 'open,passthrough,read' },
    threads: { type: 'string' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
    quick: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 2 : 7));

function must(command, args, spawnOptions = {}) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: runTimeoutMs,
    maxBuffer: 1 << 30,
    ...spawnOptions,
  });
  if (result.status === 0) return result.stdout;
  const why = result.error?.message ?? result.stderr ?? '';
  throw new Error(`${command} ${args.join(' ')}: ${why.trim() || `exit code ${result.status}`}`);
}

const folder = mkdtempSync(join(tmpdir(), 'composefs-bench-'));
chmodSync(folder, 0o755);
const undo = [() => rmSync(folder, { recursive: true, force: true })];

function makeDirectory(name) {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
}

function mountKernel(image, basedirs) {
  const [lower, mountpoint] = [makeDirectory('erofs'), makeDirectory('kernel')];
  must('mount', ['-t', 'erofs', '-o', 'loop,ro', image, lower]);
  undo.push(() => must('umount', ['-l', lower]));
  const layers = [lower, ...basedirs].join('::');
  const overlayOptions = `ro,metacopy=on,redirect_dir=on,lowerdir=${layers}`;
  must('mount', ['-t', 'overlay', 'overlay', '-o', overlayOptions, mountpoint]);
  undo.push(() => must('umount', ['-l', mountpoint]));
  return mountpoint;
}

function mountOurs(mode, image, basedirs) {
  if (modes[mode] === undefined)
    throw new Error(`no mode ${mode}; modes are ${Object.keys(modes).join(', ')}`);
  const mountpoint = makeDirectory(`ours-${mode}`);
  const threads = options.threads === undefined ? [] : ['--threads', options.threads];
  const basedirOptions = basedirs.flatMap((path) => ['--basedir', path]);
  const args = [...basedirOptions, ...modes[mode], ...threads, image, mountpoint];
  must(process.execPath, [join(root, 'dist/cli/composefs-fuse.js'), ...args]);
  undo.push(() => must('umount', ['-l', mountpoint]));
  return mountpoint;
}

/** Every k-th of the list, so that `count` are left, in an order that jumps about. */
function pick(list, count) {
  if (list.length === 0) return [];
  const step = 7919; // A prime beyond any common divisor with the list's length in practice.
  const picked = [];
  for (let i = 0; i < Math.min(count, list.length); i++)
    picked.push(list[(i * step) % list.length]);
  return picked;
}

function dropCaches(level) {
  writeFileSync('/proc/sys/vm/drop_caches', level);
}

/** Reads the objects behind the paths, so that only the mount itself is cold. */
function warmObjects(basedirs) {
  must('sh', ['-c', 'find "$@" -type f -exec cat {} + > /dev/null', 'sh', ...basedirs]);
}

const median = (numbers) => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

function makeWorkloads(program, lists, big, basedirs) {
  const run = (...args) => {
    const [operations, bytes, seconds] = must(program, args).trim().split(' ').map(Number);
    return { operations, bytes, seconds };
  };
  const walk = (dir) => run('walk', dir);
  const stat = (dir) => run('stat', dir, lists.stat);
  const read = (dir) => run('read', dir, lists.read);
  const forgetNames = () => dropCaches('2');
  const forgetAll = () => {
    dropCaches('3');
    warmObjects(basedirs);
  };
  const cold = (name, prepare, work) => ({ name: `${name}, cold`, prepare, run: work });
  // A warm run comes right after one of the same that is not measured.
  const warm = (name, work) => ({ name: `${name}, warm`, prepare: work, run: work });
  return [
    cold('walk + stat', forgetNames, walk),
    warm('walk + stat', walk),
    cold(`${lists.statCount} stats by path`, forgetNames, stat),
    warm(`${lists.statCount} stats by path`, stat),
    cold(`open+read ${lists.readCount} small files`, forgetAll, read),
    warm(`open+read ${lists.readCount} small files`, read),
    ...(big === undefined
      ? []
      : [
          warm(`read ${big.megabytes} MB file`, (dir) => run('big', join(dir, big.path))),
          warm(`touch ${big.megabytes} MB by mmap`, (dir) => run('touch', join(dir, big.path))),
        ]),
  ].filter((workload) => workload.name.includes(options.only));
}

function writeLists(program, reference) {
  const files = must(program, ['files', reference]).split('\n').filter(Boolean);
  const sized = files.map((path) => ({ path, size: statSync(join(reference, path)).size }));
  const small = sized.filter((file) => file.size > 0 && file.size <= SMALL_BYTES);
  const largest = sized.reduce((a, b) => (b.size > a.size ? b : a), { size: 0 });
  const write = (name, paths) => {
    const file = join(folder, name);
    writeFileSync(file, paths.map((path) => `${path}\n`).join(''));
    return file;
  };
  const stat = pick(files, options.quick ? 2_000 : STATS);
  const read = pick(
    small.map((file) => file.path),
    options.quick ? 1_000 : READS,
  );
  const lists = {
    stat: write('stat.list', stat),
    statCount: stat.length,
    read: write('read.list', read),
    readCount: read.length,
  };
  const big =
    largest.size >= 1 << 20
      ? { path: largest.path, megabytes: Math.round(largest.size / 1e6) }
      : undefined;
  return { lists, big, files: files.length };
}

function measure(mounts, workloads) {
  const samples = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const workload of workloads) {
      for (let turn = 0; turn < mounts.length; turn++) {
        const mount = mounts[(turn + round) % mounts.length];
        workload.prepare(mount.directory);
        const { seconds } = workload.run(mount.directory);
        const key = `${workload.name}\n${mount.name}`;
        samples.set(key, [...(samples.get(key) ?? []), seconds]);
      }
    }
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
  return workloads.map(({ name }) => ({
    workload: name,
    mounts: mounts.map((mount) => {
      const seconds = samples.get(`${name}\n${mount.name}`);
      return {
        name: mount.name,
        seconds,
        median: median(seconds),
        min: Math.min(...seconds),
        max: Math.max(...seconds),
      };
    }),
  }));
}

function printTable(rows, mounts) {
  const cell = (text) => text.padEnd(34);
  const number = (seconds) => seconds.toPrecision(3);
  console.log(
    `\n${'seconds: median (min..max) ratio'.padEnd(38)}${mounts.map((m) => cell(m.name)).join('')}`,
  );
  for (const row of rows) {
    const reference = row.mounts[0].median;
    const cells = row.mounts.map((entry, i) => {
      const range = `${number(entry.median)} (${number(entry.min)}..${number(entry.max)})`;
      return cell(i === 0 ? range : `${range} x${(entry.median / reference).toFixed(2)}`);
    });
    console.log(row.workload.padEnd(38) + cells.join(''));
  }
}

function describeMachine() {
  const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], {
    cwd: root,
    encoding: 'utf8',
  });
  return {
    cpu: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    kernel: release(),
    node: process.version,
    commit: commit.status === 0 ? commit.stdout.trim() : 'none',
    date: new Date().toISOString(),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
  };
}

async function main() {
  if (process.getuid() !== 0) throw new Error('needs root: it mounts and drops caches');
  await setup(['bench']);
  let { image, basedir: basedirs } = options;
  if (image === undefined) {
    const { makeBenchImage } = await importTypeScript('test/bench/bench-image.ts');
    ({ image, basedirs } = makeBenchImage(makeDirectory('image'), options.quick));
  }
  const program = join(folder, 'workload');
  must('cc', ['-O2', '-o', program, join(root, 'test/bench/workload.c')]);
  const mounts = [
    { name: 'kernel', directory: mountKernel(image, basedirs) },
    ...options.modes.split(',').map((mode) => ({
      name: `ours, ${mode}`,
      directory: mountOurs(mode, image, basedirs),
    })),
    ...options.peer.map((text) => {
      const [name, directory] = text.split('=', 2);
      return { name, directory };
    }),
  ];
  const { lists, big, files } = writeLists(program, mounts[0].directory);
  const machine = describeMachine();
  for (const [key, value] of Object.entries(machine)) console.log(`${key.padEnd(8)} ${value}`);
  console.log(`image    ${options.image ?? 'made for this run'}, ${files} regular files`);
  const rows = measure(mounts, makeWorkloads(program, lists, big, basedirs));
  printTable(rows, mounts);
  if (options.json !== undefined)
    writeFileSync(
      options.json,
      `${JSON.stringify({ machine, files, rounds, rows }, undefined, 2)}\n`,
    );
}

function cleanUp() {
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      step();
    } catch (error) {
      console.error(`bench: ${error.message}`);
    }
  }
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
try {
  await main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
} finally {
  cleanUp();
}
