// Types of statistics.mjs, which is plain Node: the benchmark runs without a compiler.

import type { Measurement } from './result.d.mts';

export function median(numbers: readonly number[]): number;
export function summarize(samples: readonly number[]): { median: number; min: number; max: number };
export function addRatios(measurement: Measurement): Measurement;
