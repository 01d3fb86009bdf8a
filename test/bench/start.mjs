// Measures how long a mount takes from the command to its return, where the time goes, and how much
// memory the daemon has then.
//
//   npm run bench:start -- [--image FILE]... [--dist NAME=DIR]... [--rounds N] [--json FILE]
//
// Without --image, of 1 MB and of 31 MB, which it makes. --dist compares builds, each a dist/ with its
// package beside it; for each there are the command (a shell script) and composefs-fuse.js behind it. Rounds
// interleave everything, so that a slow minute of the machine falls on all. Times are in milliseconds.
// Processor time is what counts on a busy machine; the least of the other times is the nearest to
// that of an idle one. The phases come from further runs, which a probe makes some milliseconds slower.

import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { root, setup } from '../../scripts/setup.mjs';
import { benchArguments } from './arguments.mjs';
import { writeDumpOf } from './generated-dump.mjs';

const timeoutMs = 60_000;
/** Lines of a dump whose image has about so many bytes. */
const imageLines = { '1 MB': 4_500, '31 MB': 135_000 };
/** Each lasts from the mark before it to its own. */
const phases = [
  ['command', 'process', 'until the process of the daemon is there'],
  ['node', 'node', 'Node.js starts'],
  ['modules', 'addon', 'modules load, options are read'],
  ['prepare', 'worker', 'addon, image and base directories open'],
  ['image', 'openDevice', 'the image is read and checked; workers start meanwhile'],
  ['mount', 'cloneDevice', 'mount(2) and INIT'],
  ['workers', 'serving', 'the last worker serves'],
  ['ready', 'announced', 'logged and announced'],
  ['exit', 'end', 'the command returns'],
];

const options = benchArguments(import.meta.url, {
  image: { type: 'string', multiple: true, default: [] },
  dist: { type: 'string', multiple: true, default: [`now=${join(root, 'dist')}`] },
  rounds: { type: 'string', default: '15' },
  json: { type: 'string' },
});

const folder = mkdtempSync(join(tmpdir(), 'composefs-bench-'));
const mountpoint = join(folder, 'mnt');
const basedir = join(folder, 'objects');
const marksFile = join(folder, 'marks');
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

// Their reading would be measured instead of us (docs/performance.md).
const { NODE_EXTRA_CA_CERTS: _unused, ...environment } = process.env;

function must(command, args, env = environment) {
  const result = spawnSync(command, args, { encoding: 'utf8', timeout: timeoutMs, env });
  if (result.status === 0) return result.stdout;
  const why = result.error?.message ?? result.stderr.trim();
  throw new Error(`${command} ${args.join(' ')}: ${why}`);
}

function makeImages() {
  if (options.image.length > 0) return options.image.map((path) => [basename(path), resolve(path)]);
  return Object.entries(imageLines).map(([name, lines]) => {
    const dump = join(folder, 'dump');
    const image = join(folder, `${lines}.cfs`);
    writeDumpOf(lines, dump);
    const script = join(root, 'dist/cli/mkcomposefs.js');
    must(process.execPath, [script, '--from-file', dump, image]);
    return [name, image];
  });
}

function makeCommands() {
  return options.dist.flatMap((text) => {
    const [name, dist] = text.split('=', 2);
    const launcher = join(dist, 'cli/composefs-fuse');
    const script = [`${name}, node`, [process.execPath, `${launcher}.js`]];
    return existsSync(launcher) ? [[name, [launcher]], script] : [script];
  });
}

/** The process that has the mountpoint among its arguments. */
function findDaemon() {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (args.includes(mountpoint)) return Number(pid);
    } catch {
      // Ended meanwhile.
    }
  }
  throw new Error('there is no daemon');
}

function processorMs(pid) {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const nanoseconds = (task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return tasks.reduce((sum, task) => sum + nanoseconds(task), 0) / 1e6;
}

/** In MiB: what is resident, and how much of it nobody else has. */
function memoryOf(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const value = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)[1]) / 1024;
  return { rss: value('Rss'), own: value('Private_Dirty') + value('Private_Clean') };
}

async function unmount(pid) {
  must('umount', [mountpoint]);
  for (const end = nowMs() + 10_000; existsSync(`/proc/${pid}`); await delay(5))
    if (nowMs() > end) throw new Error(`daemon ${pid} does not end`);
}

async function mountOnce([program, ...args], image, probed) {
  const env = { ...environment };
  if (probed) {
    rmSync(marksFile, { force: true });
    Object.assign(env, {
      NODE_OPTIONS: `--require ${join(import.meta.dirname, 'start-probe.cjs')}`,
      COMPOSEFS_BENCH_MARKS: marksFile,
      COMPOSEFS_BENCH_IMAGE: image,
    });
  }
  const startedAt = nowMs();
  must(program, [...args, image, mountpoint, '--basedir', basedir], env);
  const endedAt = nowMs();
  const pid = findDaemon();
  try {
    if (probed) return readPhases(startedAt, endedAt);
    const processor = processorMs(pid);
    const atStart = memoryOf(pid);
    must('find', [mountpoint, '-size', '+1G']);
    const walked = memoryOf(pid);
    const memory = { rss: atStart.rss, own: atStart.own, walkedRss: walked.rss };
    return { total: endedAt - startedAt, processor, ...memory };
  } finally {
    await unmount(pid);
  }
}

/** Of a mark that comes several times the last one counts, except of the start of processes. */
function readPhases(startedAt, endedAt) {
  const lines = readFileSync(marksFile, 'utf8').trimEnd().split('\n');
  const marks = lines.map((line) => /^(\S+) (.+)$/.exec(line)).map(([, ms, name]) => [name, +ms]);
  marks.sort((a, b) => a[1] - b[1]);
  // The daemon is the process that was started last.
  const daemon = marks.slice(marks.findLastIndex(([name]) => name === 'process'));
  const at = new Map([...daemon, ['end', endedAt]]);
  at.set('worker', daemon.find(([name]) => name === 'worker')[1]);
  let last = startedAt;
  return Object.fromEntries(
    phases.map(([name, mark]) => {
      const length = at.get(mark) - last;
      last = at.get(mark);
      return [name, length];
    }),
  );
}

function statisticsOf(runs) {
  const names = Object.keys(runs[0]);
  return Object.fromEntries(
    names.map((name) => {
      const sorted = runs.map((run) => run[name]).sort((a, b) => a - b);
      return [name, { min: sorted[0], median: sorted[sorted.length >> 1] }];
    }),
  );
}

function print({ image, command, totals, phases: parts }) {
  const text = ({ min, median }) => `${min.toFixed(0)} (${median.toFixed(0)})`;
  console.log(`\n${image}, ${command}: least (median)`);
  console.log(`  until it returns ${text(totals.total)} ms`);
  console.log(`  processor time of the daemon ${text(totals.processor)} ms`);
  console.log(
    `  memory of the daemon ${text(totals.rss)} MiB, its own ${text(totals.own)}, ` +
      `after a walk ${text(totals.walkedRss)}`,
  );
  for (const [name, , meaning] of phases)
    console.log(`    ${name.padEnd(8)} ${text(parts[name]).padStart(10)}  ${meaning}`);
}

async function main() {
  if (process.getuid() !== 0) throw new Error('needs root: it mounts');
  await setup(['bench']);
  mkdirSync(mountpoint);
  mkdirSync(basedir);
  const commands = makeCommands();
  const cases = makeImages().flatMap(([image, path]) =>
    commands.map(([command, args]) => ({ image, command, path, args, runs: [], probed: [] })),
  );
  const loadBefore = loadavg()[0];
  for (let round = 0; round < Number(options.rounds); round++)
    for (const { path, args, runs, probed } of cases) {
      runs.push(await mountOnce(args, path, false));
      probed.push(await mountOnce(args, path, true));
    }
  const rows = cases.map(({ image, command, path, runs, probed }) => ({
    image,
    bytes: statSync(path).size,
    command,
    totals: statisticsOf(runs),
    phases: statisticsOf(probed),
  }));
  const cpu = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`;
  const load = `${loadBefore.toFixed(1)} before, ${loadavg()[0].toFixed(1)} after`;
  const machine = { cpu, kernel: release(), node: process.version, load, rounds: options.rounds };
  for (const [key, value] of Object.entries(machine)) console.log(`${key.padEnd(8)} ${value}`);
  for (const row of rows) print(row);
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify({ machine, rows }, undefined, 2)}\n`);
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
} finally {
  spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
  rmSync(folder, { recursive: true, force: true });
}
