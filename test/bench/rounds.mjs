// Measures in rounds: every round runs every task on every mount, in an order that rotates, so that
// a slow minute of the machine falls on all of them. A run that fails, or that did not do the same
// work as on the first mount, leaves a reason in the result and no number.

import { settle } from './caches.mjs';
import { isStopping } from './processes.mjs';
import { addRatios, summarize } from './statistics.mjs';

/** A line on standard error that overwrites itself; nothing where that is not a terminal. */
export function showProgress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** The task on the mount once. */
async function runOnce(task, mount, daemons) {
  await task.prepare?.(mount);
  await settle(daemons);
  return await task.run(mount);
}

/** Adds a sample to the cell, or the reason why there is none. */
async function sample(cell, task, mount, daemons) {
  try {
    const { value, more = [], work = '' } = await runOnce(task, mount, daemons);
    if (cell.work !== undefined && cell.work !== work)
      throw new Error(`${work} in one run, ${cell.work} in another`);
    cell.work = work;
    for (const [row, number] of [value, ...more].entries()) cell.samples[row].push(number);
  } catch (error) {
    if (isStopping()) throw error;
    cell.failed = true;
    cell.reason = `failed: ${error.message}`;
  }
}

/** A cell as it goes into the result: with its samples' summary, or with the reason for none. */
function finishCell(cell, row, reference) {
  const { mount, reason, failed, work } = cell;
  if (reason !== undefined) return { mount, reason, ...(failed ? { failed } : {}) };
  if (reference !== undefined && reference !== work)
    return { mount, failed: true, reason: `failed: did ${work}, the first mount ${reference}` };
  const samples = cell.samples[row];
  return { mount, samples, ...summarize(samples), ...(work === '' ? {} : { work }) };
}

/** A measurement for each row of the task. */
function finish(task, cells) {
  const { section, unit } = task;
  const reference = cells.find((cell) => cell.reason === undefined)?.work;
  return namesOf(task).map((name, row) => {
    const done = cells.map((cell) => finishCell(cell, row, reference));
    return addRatios({ section, name, unit, cells: done });
  });
}

const namesOf = (task) => [task.name, ...(task.moreNames ?? [])];

/**
 * Runs the tasks. A task has `section`, `name`, `unit`, `skip(mount)` with a reason or undefined,
 * `prepare(mount)` that is not measured, and `run(mount)` that returns `{ value, work }`: the sample
 * and a text of what was done, which must be the same for each mount. With `moreNames` it also
 * returns `more`, the samples of these rows. Returns a measurement for each row.
 */
export async function measureInRounds(tasks, mounts, rounds) {
  const daemons = mounts.flatMap((mount) => mount.pids);
  const table = tasks.map((task) =>
    mounts.map((mount) => {
      const reason = task.skip?.(mount);
      return {
        mount: mount.name,
        samples: namesOf(task).map(() => []),
        ...(reason === undefined ? {} : { reason }),
      };
    }),
  );
  for (let round = 0; round < rounds; round++)
    for (const [place, task] of tasks.entries())
      for (let turn = 0; turn < mounts.length; turn++) {
        const i = (turn + round + place) % mounts.length;
        const cell = table[place][i];
        if (cell.reason !== undefined) continue;
        showProgress(`round ${round + 1} of ${rounds}: ${task.name}: ${mounts[i].name}`);
        await sample(cell, task, mounts[i], daemons);
      }
  showProgress('');
  return tasks.flatMap((task, place) => finish(task, table[place]));
}
