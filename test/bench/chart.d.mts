// Types of chart.mjs, which is plain Node: the benchmark runs without a compiler.

import type { Result } from './result.d.mts';

export function ticksAround(ratios: readonly number[]): number[];
export function drawChart(result: Result): string;
