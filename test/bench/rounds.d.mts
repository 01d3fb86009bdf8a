// Types of rounds.mjs, which is plain Node: the benchmark runs without a compiler.

import type { Measurement } from './result.d.mts';

export interface MeasuredMount {
  name: string;
  pids: readonly number[];
}

export interface Sample {
  value: number;
  more?: number[];
  work?: string;
}

export interface Task {
  section: string;
  name: string;
  moreNames?: string[];
  unit: string;
  skip?: (mount: MeasuredMount) => string | undefined;
  prepare?: (mount: MeasuredMount) => unknown;
  run: (mount: MeasuredMount) => Promise<Sample>;
}

export function measureInRounds(
  tasks: readonly Task[],
  mounts: readonly MeasuredMount[],
  rounds: number,
): Promise<Measurement[]>;
