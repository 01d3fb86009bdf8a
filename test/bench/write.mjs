// Measures mkcomposefs: the whole command, its start included.
//
//   npm run build && npm run bench:write -- [--tree DIR] [--rounds N] [--long-rounds N] [--only WORD]
//                                           [--work DIR] [--dist NAME=DIR]... [--json FILE] [--quick]
//
// Every round runs every work once for each build (--dist, for a comparison of two), in an order that
// rotates, so that a slow minute of the machine falls on all of them. The tree is read once before
// the first round, so its files are in the page cache. Every store is filled in a directory of its
// own; it is removed behind the timed part, and sync(1) runs before the next one. --work says where:
// what the filesystem does with many new files is most of the first number.
//
// The peak of memory is VmHWM. The bytes per entry of a dump are what its peak has beyond that of a
// dump of the root alone.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { benchArguments } from './arguments.mjs';
import { writeDumpOf } from './generated-dump.mjs';

const root = resolve(import.meta.dirname, '../..');
const preload = join(import.meta.dirname, 'report-usage.cjs');
const defaultTree = '/usr/share';
const runTimeoutMs = 900_000;

/**
 * Seconds of the C tool (composefs 1.0.8) on this kind of machine as the requirements state them. It
 * cannot be installed here, so they come from another time, and the dump from another generator:
 * ratios to them are orders of magnitude.
 */
const statedForC = { fresh: 8.9, present: 1.4, dump: 0.23 };

const options = benchArguments(import.meta.url, {
  tree: { type: 'string' },
  rounds: { type: 'string' },
  'long-rounds': { type: 'string', default: '1' },
  only: { type: 'string', default: '' },
  work: { type: 'string', default: tmpdir() },
  dist: { type: 'string', multiple: true, default: [`mkcomposefs=${join(root, 'dist')}`] },
  json: { type: 'string' },
  quick: { type: 'boolean', default: false },
});
const { quick } = options;
const rounds = Number(options.rounds ?? (quick ? 2 : 5));
const longRounds = Math.min(Number(options['long-rounds']), rounds);
const tree = resolve(options.tree ?? (quick ? join(root, 'src') : defaultTree));
const [shortLines, longLines] = quick ? [2_000, 20_000] : [64_000, 1_000_000];
const builds = options.dist.map((text) => {
  const [name, directory] = text.split('=', 2);
  return { name, command: join(resolve(directory ?? name), 'cli/mkcomposefs.js') };
});

const folder = mkdtempSync(join(options.work, 'composefs-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
const image = join(folder, 'image.cfs');
const dumpOf = (lines) => join(folder, `${lines}.dump`);

/** Runs a build's mkcomposefs to its end. */
function run(build, args) {
  const started = performance.now();
  const result = spawnSync(process.execPath, ['--require', preload, build.command, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    timeout: runTimeoutMs,
  });
  const seconds = (performance.now() - started) / 1000;
  if (result.status !== 0) {
    const why = result.error?.message ?? result.stderr.trim();
    throw new Error(`${build.name} ${args.join(' ')}: ${why || `ended with ${result.signal}`}`);
  }
  return { seconds, ...JSON.parse(result.output[3]) };
}

function removeStore(store) {
  rmSync(store, { recursive: true, force: true });
  spawnSync('sync', { timeout: runTimeoutMs });
}

const storeOf = (build) => join(folder, `objects-${builds.indexOf(build)}`);
const fill = (build) => run(build, ['--digest-store', storeOf(build), tree, image]);
const read = (build, lines) => run(build, ['--from-file', dumpOf(lines), image]);

/** What is measured; `prepare` is not timed. */
const works = [
  {
    key: 'fresh',
    name: `${tree} into a fresh store`,
    prepare: (build) => removeStore(storeOf(build)),
    run: fill,
  },
  {
    key: 'present',
    name: `${tree}, all objects present`,
    prepare: (build) => {
      if (statSync(storeOf(build), { throwIfNoEntry: false }) === undefined) fill(build);
    },
    run: fill,
  },
  {
    key: 'digest',
    name: `${tree}, digest only, no store`,
    run: (build) => run(build, ['--print-digest-only', tree]),
  },
  {
    key: 'dump',
    name: `dump of ${shortLines.toLocaleString('en')} lines`,
    lines: shortLines,
    run: (build) => read(build, shortLines),
  },
  {
    key: 'long dump',
    name: `dump of ${longLines.toLocaleString('en')} lines`,
    lines: longLines,
    rounds: longRounds,
    run: (build) => read(build, longLines),
  },
].filter(({ name }) => name.includes(options.only));

if (works.length === 0) {
  console.error(`bench: no work has ${options.only} in its name`);
  process.exit(2);
}

function measure() {
  const samples = new Map(works.map(({ key }) => [key, builds.map(() => [])]));
  for (let round = 0; round < rounds; round++) {
    for (const work of works) {
      if (round >= (work.rounds ?? rounds)) continue;
      for (let turn = 0; turn < builds.length; turn++) {
        const i = (turn + round) % builds.length;
        work.prepare?.(builds[i]);
        samples.get(work.key)[i].push(work.run(builds[i]));
      }
    }
    for (const build of builds) removeStore(storeOf(build));
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
  return samples;
}

const median = (numbers) => {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

function summarize(work, build, samples, emptyPeakKiB) {
  const seconds = samples.map((sample) => sample.seconds);
  const peakKiB = median(samples.map((sample) => sample.peakKiB));
  const middle = median(seconds);
  const stated =
    quick || (work.lines === undefined && tree !== defaultTree) ? undefined : statedForC[work.key];
  return {
    work: work.name,
    build: build.name,
    samples,
    median: middle,
    min: Math.min(...seconds),
    max: Math.max(...seconds),
    cpuMedian: median(samples.map((sample) => sample.cpuSeconds)),
    peakMiB: peakKiB / 1024,
    bytesPerEntry:
      work.key === 'long dump' ? ((peakKiB - emptyPeakKiB) * 1024) / work.lines : undefined,
    ...(stated === undefined ? {} : { statedForC: stated, ratioToC: middle / stated }),
  };
}

function printTable(rows) {
  const head = [
    'work',
    'build',
    's: median (min..max)',
    'cpu s',
    'peak MiB',
    'B/entry',
    'C tool s',
  ];
  const cells = rows.map((row) => [
    row.work,
    row.build,
    `${row.median.toFixed(3)} (${row.min.toFixed(3)}..${row.max.toFixed(3)})`,
    row.cpuMedian.toFixed(2),
    row.peakMiB.toFixed(0),
    row.bytesPerEntry?.toFixed(0) ?? '',
    row.statedForC === undefined ? '' : `${row.statedForC}, x${row.ratioToC.toFixed(2)}`,
  ]);
  const widths = head.map((_, i) => Math.max(...[head, ...cells].map((line) => line[i].length)));
  console.log('');
  for (const line of [head, ...cells]) {
    console.log(
      line
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    );
  }
  if (rows.some((row) => row.statedForC !== undefined)) {
    console.log('C tool: composefs 1.0.8 as stated for such a machine; not measured in this run.');
  }
}

function describeMachine() {
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' });
  return {
    cpu: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    kernel: release(),
    node: process.version,
    commit: git.status === 0 ? git.stdout.trim() : 'none',
    date: new Date().toISOString(),
    work: folder,
    command: `npm run bench:write -- ${process.argv.slice(2).join(' ')}`.trim(),
  };
}

const showLoad = (load) => load.map((number) => number.toFixed(2)).join(' ');

function main() {
  const machine = describeMachine();
  const loadBefore = loadavg();
  for (const [key, value] of Object.entries(machine)) console.log(`${key.padEnd(8)} ${value}`);
  console.log(`load     ${showLoad(loadBefore)} before`);
  writeDumpOf(1, dumpOf(1));
  for (const { lines } of works) if (lines !== undefined) writeDumpOf(lines, dumpOf(lines));
  spawnSync('sync', { timeout: runTimeoutMs });
  if (works.some(({ lines }) => lines === undefined)) {
    run(builds[0], ['--print-digest-only', tree]);
  }
  const emptyPeaks = builds.map((build) => median([0, 1, 2].map(() => read(build, 1).peakKiB)));
  const samples = measure();
  const rows = works.flatMap((work) =>
    builds.map((build, i) => summarize(work, build, samples.get(work.key)[i], emptyPeaks[i])),
  );
  const loadAfter = loadavg();
  printTable(rows);
  console.log(`load ${showLoad(loadAfter)} after; above 1 before the run means disturbed numbers`);
  if (options.json === undefined) return;
  const result = { machine, loadBefore, loadAfter, rounds, longRounds, rows };
  writeFileSync(options.json, `${JSON.stringify(result, undefined, 2)}\n`);
}

try {
  main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
