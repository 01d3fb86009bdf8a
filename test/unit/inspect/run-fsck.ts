// Runs fsck as the command does, and keeps what it reports.

import { expect } from 'vitest';
import type { Image } from '../../../src/image-reader/index.ts';
import { checkImage, describeSummary, type FsckSummary } from '../../../src/inspect/fsck.ts';
import { describeProblem, problemToJson } from '../../../src/inspect/problem.ts';

/** The lines are sorted. Without base directories objects are left out. */
export async function fsck(
  image: Image,
  basedirs: string[] | undefined,
): Promise<{ lines: string[]; summary: FsckSummary }> {
  const lines: string[] = [];
  const report: Parameters<typeof checkImage>[1] = (problem) => {
    lines.push(describeProblem(problem).trimEnd());
    expect(JSON.parse(JSON.stringify(problemToJson(problem)))).toHaveProperty('kind');
  };
  const summary = await checkImage(image, report, { basedirs });
  expect(describeSummary(summary)).toMatch(summary.exitCode === 0 ? /^clean: / : /^NOT CLEAN: /);
  return { lines: lines.sort(), summary };
}
