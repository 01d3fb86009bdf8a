// A result of the mount benchmark, for the tests of what is printed and drawn of it.

import { addRatios, summarize } from '../../bench/statistics.mjs';
import type { Cell, Measurement, Result } from '../../bench/result.d.mts';

export const cell = (mount: string, ...samples: number[]): Cell => ({
  mount,
  samples,
  ...summarize(samples),
});

export const measurement = (name: string, unit: string, cells: Cell[]): Measurement =>
  addRatios({ section: 'workloads', name, unit, cells });

export function sampleResult(): Result {
  return {
    format: 'composefs-fuse-bench-1',
    machine: {
      cpu: '2 x <Processor> & Co',
      kernel: '6.18.1',
      node: 'v20.0.0',
      commit: 'abc1234',
      date: '2026-01-02T03:04:05.000Z',
      command: 'npm run bench',
    },
    loadBefore: [0, 0.1, 0.2],
    loadAfter: [1, 1, 1],
    seconds: 61.5,
    rounds: 3,
    quick: false,
    image: { source: 'made for this run', bytes: 31_000_000, entries: 123_456 },
    mounts: [
      { name: 'kernel', is: 'erofs + overlayfs' },
      { name: 'open', is: 'composefs-fuse' },
      { name: 'fast', is: 'composefs-fuse --fast', reason: 'there is no such option' },
      { name: 'peer', is: 'another' },
    ],
    measurements: [
      measurement('walk, cold', 's', [
        cell('kernel', 1, 2, 1.5),
        cell('open', 3, 3, 3),
        cell('peer', 0.75, 0.5, 0.9),
      ]),
      measurement('start of a program', 's', [
        cell('kernel', 0.01),
        { mount: 'open', reason: 'failed: exit code 1', failed: true },
        cell('peer', 0.2),
      ]),
      measurement('walk of 1,000 entries', 'entries/s', [
        cell('kernel', 80_000),
        cell('open', 40_000),
        { mount: 'peer', reason: 'only one image' },
      ]),
      measurement('memory', 'MB', [
        { mount: 'kernel', reason: 'no process' },
        cell('open', 103),
        { mount: 'peer', reason: 'only one image' },
      ]),
    ],
    problems: ['open logged 1 lines: trouble'],
  };
}
