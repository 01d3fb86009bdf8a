import { describe, expect, test } from 'vitest';
import { median, summarize } from '../../bench/statistics.mjs';
import { cell, measurement } from './sample-result.ts';

describe('the statistics of the benchmark', () => {
  test('the median is the middle, or between the two in the middle', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([10, 1, 2, 3])).toBe(2.5);
    expect(summarize([5, 9, 7])).toEqual({ median: 7, min: 5, max: 9 });
  });

  test('a ratio is to the kernel, and above 1 is worse for times and for rates', () => {
    const ratios = (unit: string): (number | undefined)[] =>
      measurement('x', unit, [cell('kernel', 10), cell('open', 20)]).cells.map(
        ({ ratio }) => ratio,
      );
    expect(ratios('s')).toEqual([1, 2]);
    expect(ratios('entries/s')).toEqual([1, 0.5]);
  });

  test('without a number of the kernel there is no ratio', () => {
    const failed = { mount: 'kernel', reason: 'failed', failed: true };
    const { cells } = measurement('x', 's', [failed, cell('open', 20)]);
    expect(cells[1]).not.toHaveProperty('ratio');
    expect(
      measurement('x', 'ms', [cell('kernel', 0), cell('open', 0)]).cells[1],
    ).not.toHaveProperty('ratio');
  });
});
