// Measures mounts of one image side by side; `npm run bench -- --help` says how. This file puts the
// parts together: what is compared is in mounts.mjs, what is done in workloads.mjs, costs.mjs and
// scale.mjs, how it is repeated in rounds.mjs, what cold means in caches.mjs.

import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { root, setup } from '../../scripts/setup.mjs';
import { drawChart } from './chart.mjs';
import { makeCorpus, makeSquashfs } from './corpus.mjs';
import { idleName, measureIdle, measureMemory, pageCacheTask, startTask } from './costs.mjs';
import { describeMachine } from './machine.mjs';
import { kindsOf, mountAs, peerMount, unmountAll } from './mounts.mjs';
import { help, parseOptions, UsageError } from './options.mjs';
import { isStopping, run, stop } from './processes.mjs';
import { measureInRounds, showProgress } from './rounds.mjs';
import { measureScale } from './scale.mjs';
import { toMarkdown, toText } from './table.mjs';
import { workloadsOf } from './workloads.mjs';

const resultFormat = 'composefs-fuse-bench-1';

/** Squashfs images of both images, made of what a mount of them shows. */
async function addSquashfs(source, mount, corpus, folder) {
  showProgress('making the squashfs');
  source.squashfs = await makeSquashfs(join(folder, 'image.sqfs'), mount.directory);
  if (corpus.big.path === undefined || source.squashfs.reason !== undefined) return;
  const big = join(mount.directory, corpus.big.path);
  source.second.squashfs = await makeSquashfs(join(folder, 'second.sqfs'), big);
}

/** Mounts each kind. A kind that cannot be mounted is a fact with a reason, not a failure. */
async function mountEach(kinds, source, corpus, folder) {
  const [mounts, facts] = [[], []];
  for (const kind of kinds) {
    showProgress(`mounting ${kind.name}`);
    try {
      if (kind.storage === 'squashfs' && mounts.length > 0)
        await addSquashfs(source, mounts[0], corpus, folder);
      mounts.push(await mountAs(kind, source, join(folder, `mount-${kind.name}`)));
      facts.push({ name: kind.name, is: kind.is });
    } catch (error) {
      if (isStopping()) throw error;
      facts.push({ name: kind.name, is: kind.is, reason: error.message });
    }
  }
  return { mounts, facts };
}

/** Everything that is measured on the mounts, in the order of the table. */
async function measureMounts(mounts, corpus, folder, { rounds, only, quick }) {
  const wanted = ({ name, moreNames = [] }) =>
    [name, ...moreNames].some((row) => row.includes(only));
  const tasks = [
    ...workloadsOf(corpus),
    startTask(corpus, folder),
    pageCacheTask(corpus, folder),
  ].filter(wanted);
  const measured = await measureInRounds(tasks, mounts, rounds);
  // After the workloads, so that the daemons have done some work.
  const memory = measureMemory(mounts).filter(wanted);
  const idleSeconds = quick ? 1 : 10;
  const idle = wanted({ name: idleName(idleSeconds) })
    ? [await measureIdle(mounts, idleSeconds)]
    : [];
  return [...measured, ...memory, ...idle];
}

/** What the daemons logged: a problem that no workload has seen is one all the same. */
function complaintsOf(mounts) {
  return mounts.flatMap((mount) => {
    const lines = mount.complaints?.() ?? [];
    return lines.length === 0 ? [] : [`${mount.name} logged ${lines.length} lines: ${lines[0]}`];
  });
}

async function measure(folder, options) {
  const started = performance.now();
  const [machine, loadBefore] = [describeMachine(), loadavg()];
  const program = join(folder, 'workload');
  const source = join(root, 'test/bench/workload.c');
  await run('cc', ['-O2', '-Wall', '-Wextra', '-o', program, source]);
  showProgress('making the image');
  const corpus = { ...(await makeCorpus(folder, options, program)), program };
  const { image, basedirs } = corpus;
  const files = {
    image,
    basedirs,
    squashfs: { reason: 'there is no mount to make a squashfs of' },
    second: { image: corpus.big.second, basedirs },
  };
  const kinds = kindsOf(options.modes, options.threads);
  const { mounts, facts } = await mountEach(kinds, files, corpus, folder);
  if (mounts.length === 0) throw new Error(`nothing could be mounted: ${facts[0].reason}`);
  const peers = options.peers.map(({ name, directory }) => peerMount(name, directory, files));
  const all = [...mounts, ...peers];
  const measurements = await measureMounts(all, corpus, folder, options);
  const problems = complaintsOf(mounts);
  const ours = mounts.find((mount) => mount.kind.isOurs)?.kind;
  problems.push(...(await unmountAll()));
  if (options.scale) {
    const scaled = mounts
      .map(({ kind }) => kind)
      .filter((kind) => kind.name === 'kernel' || kind === ours);
    try {
      measurements.push(...(await measureScale(scaled, folder, program, options)));
    } catch (error) {
      // What is measured already is worth keeping.
      if (isStopping()) throw error;
      problems.push(`scale: ${error.message}`);
    }
  }
  return {
    format: resultFormat,
    machine,
    loadBefore,
    loadAfter: loadavg(),
    seconds: (performance.now() - started) / 1000,
    rounds: options.rounds,
    quick: options.quick,
    image: { source: corpus.source, bytes: corpus.bytes, entries: corpus.entries },
    mounts: [...facts, ...peers.map(({ name, kind }) => ({ name, is: kind.is }))],
    measurements,
    problems,
  };
}

/** Measures in a directory of its own and leaves nothing behind. */
async function measureAndCleanUp(options) {
  const folder = mkdtempSync(join(tmpdir(), 'composefs-bench-'));
  chmodSync(folder, 0o755);
  try {
    return await measure(folder, options);
  } finally {
    showProgress('');
    const problems = await unmountAll();
    for (const problem of problems) console.error(`bench: ${problem}`);
    rmSync(folder, { recursive: true, force: true });
  }
}

function readResult(path) {
  let result;
  try {
    result = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new UsageError(`--report ${path}: ${error.message}`);
  }
  if (result.format !== resultFormat)
    throw new UsageError(`--report ${path}: not a result of npm run bench -- --json`);
  return result;
}

/** Finds out before the work whether its result can be written. */
function prepareOutput(name, path) {
  if (path === undefined) return;
  try {
    mkdirSync(dirname(path), { recursive: true });
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    throw new UsageError(`--${name} ${path}: ${error.message}`);
  }
}

async function main() {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) return void process.stdout.write(help);
  prepareOutput('json', options.json);
  prepareOutput('svg', options.svg);
  let result;
  if (options.report === undefined) {
    if (process.getuid() !== 0) throw new Error('needs root: it mounts and drops caches');
    await setup(['bench']);
    result = await measureAndCleanUp(options);
    process.stdout.write(toText(result));
  } else {
    result = readResult(options.report);
    process.stdout.write(toMarkdown(result));
  }
  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify(result, undefined, 2)}\n`);
  if (options.svg !== undefined) writeFileSync(options.svg, drawChart(result));
  if (options.report !== undefined) return;
  const failed = result.measurements.some(({ cells }) => cells.some((cell) => cell.failed));
  if (failed || result.problems.length > 0) process.exitCode = 1;
}

// A second signal changes nothing: unmounting must come to its end.
let stopped;
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
])
  process.on(signal, () => {
    stopped ??= { code, why: `stopped by ${signal}` };
    stop(stopped.why);
  });
try {
  await main();
} catch (error) {
  // A stopped run fails with whatever was killed then, which is not what its user wants to know.
  console.error(`bench: ${stopped?.why ?? error.message}`);
  process.exitCode = stopped?.code ?? (error instanceof UsageError ? 2 : 1);
}
