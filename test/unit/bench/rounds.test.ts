import { describe, expect, test } from 'vitest';
import { measureInRounds } from '../../bench/rounds.mjs';
import type { Sample, Task } from '../../bench/rounds.d.mts';
import type { Cell } from '../../bench/result.d.mts';

const mounts = ['kernel', 'open', 'peer'].map((name) => ({ name, pids: [] }));

/** Measures one task on the three mounts. `run` gets the mount's name and how often it was called. */
async function cellsOf(
  run: (mount: string, time: number) => Sample,
  more: Partial<Task> = {},
): Promise<Cell[]> {
  const times = new Map<string, number>();
  const task: Task = {
    section: 'workloads',
    name: 'work',
    unit: 's',
    run: async ({ name }) => {
      times.set(name, (times.get(name) ?? 0) + 1);
      return await Promise.resolve(run(name, times.get(name)!));
    },
    ...more,
  };
  const measurements = await measureInRounds([task], mounts, 3);
  return measurements.flatMap(({ cells }) => cells);
}

describe('measuring in rounds', () => {
  test('every round runs every mount once, and another one first', async () => {
    const order: string[] = [];
    const cells = await cellsOf((mount, time) => {
      order.push(mount);
      return { value: mount === 'kernel' ? 1 : time };
    });
    expect(order.map((name) => name[0]).join('')).toBe('kopopkpko');
    expect(cells[1]).toEqual({
      mount: 'open',
      samples: [1, 2, 3],
      median: 2,
      min: 1,
      max: 3,
      ratio: 2,
    });
  });

  test('a run that fails leaves its reason and no number, and is not tried again', async () => {
    let tries = 0;
    const [kernel, open, peer] = await cellsOf((mount, time) => {
      if (mount === 'open') tries++;
      if (mount === 'open' && time === 2) throw new Error('no such file');
      return { value: 5 };
    });
    expect(open).toEqual({ mount: 'open', reason: 'failed: no such file', failed: true });
    expect(tries).toBe(2);
    expect([kernel, peer]).toMatchObject([
      { samples: [5, 5, 5] },
      { samples: [5, 5, 5], ratio: 1 },
    ]);
  });

  test('a run that did other work than on the first mount, or than before, does not count', async () => {
    const work = (mount: string, time: number): string =>
      mount === 'open' ? '9 files' : mount === 'peer' && time === 3 ? '8 files' : '10 files';
    const cells = await cellsOf((mount, time) => ({ value: 1, work: work(mount, time) }));
    expect(cells).toMatchObject([
      { mount: 'kernel', samples: [1, 1, 1], work: '10 files' },
      { mount: 'open', failed: true, reason: 'failed: did 9 files, the first mount 10 files' },
      { mount: 'peer', failed: true, reason: 'failed: 8 files in one run, 10 files in another' },
    ]);
  });

  test('what is skipped keeps its reason and is neither prepared nor run', async () => {
    const used: string[] = [];
    const cells = await cellsOf(() => ({ value: 1 }), {
      skip: ({ name }) => (name === 'peer' ? 'not here' : undefined),
      prepare: ({ name }) => used.push(name),
    });
    expect(cells[2]).toEqual({ mount: 'peer', reason: 'not here' });
    expect(used).not.toContain('peer');
  });

  test('a task of several rows gives a measurement for each', async () => {
    const cells = await cellsOf((_mount, time) => ({ value: time, more: [time * 10] }), {
      moreNames: ['and more'],
    });
    expect(cells.map(({ median }) => median)).toEqual([2, 2, 2, 20, 20, 20]);
  });
});
