// What cold means. Before a cold walk, listing, stat or xattr run `echo 2` goes to drop_caches: the
// kernel forgets the dentries and inodes of all mounts alike, and a daemon is asked again for each.
// Before a cold run that reads contents `echo 3` does the same and empties the page cache as well;
// then the image and the objects behind the files are read once by themselves (squashfuse_ll: the
// squashfs): the mount starts from nothing, the disk has no part in it. What a daemon of ours has
// verified it still remembers.
//
// Forgetting is work for the daemons too (a FORGET for every inode), and they do it behind our back.
// Every measured run therefore waits until no daemon uses the processor any more.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { pause, run } from './processes.mjs';

const settleTimeoutMs = 5_000;
const settleStepMs = 15;
const quietNanoseconds = 500_000;

function dropCaches(level) {
  writeFileSync('/proc/sys/vm/drop_caches', level);
}

/** Nanoseconds of processor time that all threads of these processes have used. */
function usedNanoseconds(pids) {
  let sum = 0;
  for (const pid of pids) {
    try {
      for (const thread of readdirSync(`/proc/${pid}/task`))
        sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      // A thread or a process that has ended uses no more.
    }
  }
  return sum;
}

/** Waits until the daemons are quiet. Returns false when they were not after five seconds. */
export async function settle(pids) {
  if (pids.length === 0) return true;
  let before = usedNanoseconds(pids);
  for (const end = performance.now() + settleTimeoutMs; performance.now() < end;) {
    await pause(settleStepMs);
    const after = usedNanoseconds(pids);
    if (after - before < quietNanoseconds) return true;
    before = after;
  }
  return false;
}

/** Makes the kernel forget all names and attributes. */
export function forgetNames() {
  dropCaches('2');
}

/** Makes the kernel forget everything, except what `mount` reads from: that is read into memory. */
export async function forgetAll(mount, objectList) {
  dropCaches('3');
  const { source, kind } = mount;
  if (kind.storage === 'squashfs') {
    await run('sh', ['-c', 'cat "$1" > /dev/null', 'sh', source.squashfs.path]);
    return;
  }
  // Many at a time, since each small object is a wait for the disk.
  const script = `xargs -r -d '\\n' -n 200 -P 8 cat < "$1" > /dev/null; cat "$2" > /dev/null`;
  await run('sh', ['-c', script, 'sh', objectList, source.image]);
}

/** Empties the caches, for what is measured in memory and not in time. */
export function forgetEverything() {
  dropCaches('3');
}
