// Measures fs-verity digests in user space, by every engine and by `fsverity digest`.
//
//   npm run build && node test/bench/verify.mjs [--rounds N] [--size MIB] [--files N]
//                                               [--folder DIR] [--dist DIR] [--quick]
//
// One large file, and many files of 1 to 64 KiB (a fixed pseudo-random mix), in tmpfs. Every round
// runs every contender once, in an order that rotates, so that a slow minute of the machine falls on
// all of them; the table gives the median, the best and worst, and the ratio of the medians. Ours
// are measured inside one process that is warm; fsverity's includes its start (the table says how
// long that takes). Slow engines get a part of the files; their rate is what counts.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string' },
    size: { type: 'string', default: '512' },
    files: { type: 'string', default: '20000' },
    folder: { type: 'string', default: '/dev/shm' },
    dist: { type: 'string', default: join(import.meta.dirname, '../../dist') },
    quick: { type: 'boolean', default: false },
  },
});
const rounds = Number(options.rounds ?? (options.quick ? 3 : 9));
const fileCount = Number(options.files);
const MiB = 1 << 20;

const { createNativeEngine, measureFile, measureFiles, nativeVariants, nobleEngine, nodeEngine } =
  await import(pathToFileURL(resolve(options.dist, 'verify/index.js')).href);
const folder = mkdtempSync(join(options.folder, 'composefs-verify-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Not compressible by a filesystem, and the same in every run. */
function fill(bytes, seed) {
  const words = new Uint32Array(bytes.buffer, 0, bytes.length >> 2);
  let state = seed | 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return state >>> 0;
}

const large = join(folder, 'large');
const part = join(folder, 'part');
const largeBytes = new Uint8Array(Number(options.size) * MiB);
fill(largeBytes, 1);
writeFileSync(large, largeBytes);
const partSize = Math.min(largeBytes.length, 32 * MiB);
writeFileSync(part, largeBytes.subarray(0, partSize));
const sizes = [];
const paths = [];
const content = new Uint8Array(65536);
let seed = 7;
for (let i = 0; i < fileCount; i++) {
  seed = fill(content, seed);
  sizes.push(1024 + (seed % (63 * 1024)));
  paths.push(join(folder, `f${i}`));
  writeFileSync(paths[i], content.subarray(0, sizes[i]));
}
const bytesOf = (count) => sizes.slice(0, count).reduce((sum, size) => sum + size, 0);

function fsverity(algorithm, names) {
  const args = ['digest', '--compact', `--hash-alg=${algorithm}`, ...names];
  const result = spawnSync('fsverity', args, { maxBuffer: 1 << 28 });
  if (result.status !== 0) throw new Error(`fsverity: ${result.error ?? result.stderr}`);
  return String(result.stdout).trim().split('\n').at(-1);
}

async function last(names, settings) {
  let hex = '';
  for await (const measured of measureFiles(names, settings)) hex = measured.hex;
  return hex;
}

/** Name, bytes hashed, and a function that gives the digest of the last file. */
function contenders(algorithm, isLarge) {
  const whole = isLarge ? largeBytes.length : bytesOf(fileCount);
  const few = Math.min(fileCount, 2000);
  const run = (settings, isSlow) => {
    const names = isSlow ? paths.slice(0, few) : paths;
    const file = isSlow ? part : large;
    return async () => (isLarge ? (await measureFile(file, settings)).hex : last(names, settings));
  };
  const slowBytes = isLarge ? partSize : bytesOf(few);
  const list = [
    ['fsverity digest', whole, async () => fsverity(algorithm, isLarge ? [large] : paths)],
    ['native', whole, run({ algorithm, engine: createNativeEngine() })],
  ];
  for (const variant of nativeVariants(algorithm)) {
    const engine = createNativeEngine(variant);
    const title = `native, ${variant}, one thread`;
    const isSlow = variant === 'portable';
    const bytes = isSlow ? slowBytes : whole;
    list.push([title, bytes, run({ algorithm, engine, concurrency: 1 }, isSlow)]);
  }
  list.push(['node:crypto', slowBytes, run({ algorithm, engine: nodeEngine }, true)]);
  list.push(['noble', slowBytes, run({ algorithm, engine: nobleEngine }, true)]);
  return list;
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

async function compare(title, algorithm, isLarge) {
  const list = contenders(algorithm, isLarge);
  const rates = list.map(() => []);
  const digests = new Map();
  for (let round = -1; round < rounds; round++) {
    for (let k = 0; k < list.length; k++) {
      const i = (k + round + 1) % list.length;
      const [, bytes, run] = list[i];
      const start = performance.now();
      const digest = await run();
      const seconds = (performance.now() - start) / 1000;
      // Round -1 warms up. The digests must agree among those that measured the same.
      if (round >= 0) rates[i].push(bytes / seconds / 1e6);
      if ((digests.get(bytes) ?? digest) !== digest) throw new Error(`${list[i][0]}: ${digest}`);
      digests.set(bytes, digest);
    }
  }
  console.log(`\n${title}, ${algorithm} (MB/s, ${rounds} rounds)`);
  console.log(`${''.padEnd(32)}  median     best    worst    to fsverity`);
  const reference = median(rates[0]);
  for (const [i, [name]] of list.entries()) {
    const numbers = [median(rates[i]), Math.max(...rates[i]), Math.min(...rates[i])];
    const columns = numbers.map((rate) => rate.toFixed(0).padStart(8));
    const ratio = (numbers[0] / reference).toFixed(2).padStart(8);
    console.log(`${name.padEnd(30)}${columns.join(' ')}${ratio}`);
  }
}

const empty = join(folder, 'empty');
writeFileSync(empty, '');
const starts = [];
for (let i = 0; i < 11; i++) {
  const start = performance.now();
  fsverity('sha256', [empty]);
  starts.push(performance.now() - start);
}
console.log(
  `${cpus()[0]?.model}, ${availableParallelism()} cores, Linux ${release()}, Node ${process.version}; ` +
    `fsverity starts in ${median(starts).toFixed(1)} ms`,
);
const mix = `${fileCount} files of 1..64 KiB, ${(bytesOf(fileCount) / MiB).toFixed(0)} MiB`;
for (const algorithm of options.quick ? ['sha256'] : ['sha256', 'sha512']) {
  await compare(`One file of ${options.size} MiB`, algorithm, true);
  await compare(mix, algorithm, false);
}
