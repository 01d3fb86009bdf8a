// What a mount costs besides the time of its users: to start it, memory, page cache, processor time
// while nobody uses it.

import { readFileSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { forgetEverything } from './caches.mjs';
import { mountAs } from './mounts.mjs';
import { pause, run } from './processes.mjs';
import { addRatios, summarize } from './statistics.mjs';

const firstStatTimeoutMs = 20_000;
const ticksPerSecond = 100; // USER_HZ, the same on every architecture that Node.js runs on.
const isPeer = 'a peer is mounted already';
const noProcess = 'no process serves it';

/** lstat(2) that gives up: a mount that hangs would hold up the benchmark for ever otherwise. */
async function statInTime(path) {
  let timer;
  const late = new Promise((_, reject) => {
    const why = new Error(`stat of ${path} did not return`);
    timer = setTimeout(() => reject(why), firstStatTimeoutMs);
  });
  try {
    await Promise.race([lstat(path), late]);
  } finally {
    clearTimeout(timer);
  }
}

let mountsMade = 0;

/** Mounts once more beside the mount that is there, hands the new one to `use`, unmounts. */
async function withAnother(mount, source, folder, use) {
  const another = await mountAs(mount.kind, source, join(folder, `another-${mountsMade++}`));
  try {
    return await use(another);
  } finally {
    await another.end();
  }
}

/** Seconds from the start of the mount command(s) to their end, and to the first answer. */
export function startTask(corpus, folder) {
  const size = `${Math.round(corpus.bytes / 1e6)} MB image`;
  return {
    section: 'start',
    name: `mount command, ${size}`,
    moreNames: [`mount command and first stat, ${size}`],
    unit: 's',
    skip: (mount) => (mount.kind.storage === undefined ? isPeer : undefined),
    run: (mount) =>
      withAnother(mount, mount.source, folder, async (another) => {
        const returned = performance.now();
        await statInTime(join(another.directory, corpus.firstPath));
        const answered = (performance.now() - returned) / 1000;
        return { value: another.startSeconds, more: [another.startSeconds + answered] };
      }),
  };
}

function cachedMegabytes() {
  const [, kilobytes] = /^Cached:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'latin1'));
  return (Number(kilobytes) * 1024) / 1e6;
}

/** Page cache that is used when the big object is read through two images that hold it. */
export function pageCacheTask(corpus, folder) {
  const { big } = corpus;
  const size = big.bytes === undefined ? 'a big file' : `${Math.round(big.bytes / 1e6)} MB`;
  return {
    section: 'memory',
    name: `page cache for ${size} read through two images`,
    unit: 'MB',
    skip: (mount) => (mount.kind.storage === undefined ? isPeer : big.reason),
    run: (mount) =>
      withAnother(mount, mount.source.second, folder, async (another) => {
        forgetEverything();
        const before = cachedMegabytes();
        const paths = [join(mount.directory, big.path), join(another.directory, 'big')];
        for (const path of paths) await run('sh', ['-c', 'cat "$1" > /dev/null', 'sh', path]);
        const value = cachedMegabytes() - before;
        if (value < (big.bytes / 1e6) * 0.5)
          throw new Error(`only ${value.toFixed(1)} MB more, other programs gave back memory`);
        return { value };
      }),
  };
}

/** One measurement whose single samples come from the daemons of each mount. */
function ofDaemons(name, section, unit, mounts, sampleOf) {
  const cells = mounts.map((mount) => {
    if (mount.kind.storage === undefined) return { mount: mount.name, reason: isPeer };
    if (mount.pids.length === 0) return { mount: mount.name, reason: noProcess };
    try {
      const samples = [sampleOf(mount)];
      return { mount: mount.name, samples, ...summarize(samples) };
    } catch (error) {
      return { mount: mount.name, failed: true, reason: `failed: ${error.message}` };
    }
  });
  return addRatios({ section, name, unit, cells });
}

function memoryMegabytes(pids, field) {
  let sum = 0;
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    sum += (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)[1]) * 1024) / 1e6;
  }
  return sum;
}

/** Resident memory of the daemons at this moment. */
export function measureMemory(mounts) {
  const ask = (name, field) =>
    ofDaemons(name, 'memory', 'MB', mounts, ({ pids }) => memoryMegabytes(pids, field));
  return [
    ask('memory of the daemon after the workloads (RSS)', 'Rss'),
    ask('the same, shared pages in part (PSS)', 'Pss'),
  ];
}

/** utime + stime, with all threads. */
function ticksOf(pids) {
  let sum = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1).split(' ');
    sum += Number(fields[11]) + Number(fields[12]);
  }
  return sum;
}

export const idleName = (seconds) => `processor time in ${seconds} s without use`;

/** Processor time of the daemons while nobody uses the mounts, all of them at the same time. */
export async function measureIdle(mounts, seconds) {
  const before = new Map(mounts.map((mount) => [mount, ticksOf(mount.pids)]));
  await pause(seconds * 1000);
  return ofDaemons(idleName(seconds), 'idle', 'ms', mounts, (mount) => {
    const ticks = ticksOf(mount.pids) - before.get(mount);
    return (ticks * 1000) / ticksPerSecond;
  });
}
