// Tests whose cases run in a guest: one boot for a describe block, one result for each case, and one
// `test` on this side for what it should be.

import { afterAll, beforeAll } from 'vitest';
import { describeWith } from './requirements.ts';
import { Scope } from './scope.ts';
import { bootVm } from './vm.ts';
import type { VmOptions, VmRun } from './vm.ts';
import { needsVm } from './vm-requirements.ts';
import type { KernelName } from './vm-requirements.ts';

/** A line of harness.mjs. */
interface CaseReport {
  case: string;
  state: 'begun' | 'done' | 'failed';
  value?: unknown;
  error?: string;
}

export interface Guest {
  kernel: KernelName;
  /** What a case handed back. Throws what it threw, or why there is no result. */
  result(name: string): unknown;
  /** All that the guest's console showed. */
  console(): string;
}

export type GuestOptions = Omit<VmOptions, 'kernel' | 'script'> & { module: string };

/** Longer than a guest is given, which says more about what it was at. */
const HOOK_TIMEOUT_MS = 600_000;

function resultOf(run: VmRun | undefined, name: string): unknown {
  if (run === undefined) throw new Error('the guest did not run');
  const reports = run.lines as CaseReport[];
  const report = reports.findLast((line) => line.case === name);
  if (report?.state === 'done') return report.value;
  if (report?.state === 'failed') throw new Error(`in the guest: ${report.error}`);
  const last = reports.at(-1);
  const where =
    last?.state === 'begun' ? `ended in "${last.case}"` : `ended with status ${run.status}`;
  const late = run.isLate ? ' at its time limit' : '';
  throw new Error(`no result of "${name}": the guest ${where}${late}:\n${run.console}`);
}

/**
 * A describe block whose cases run in one guest. `prepare` says, right before the boot, what the
 * guest gets; `body` declares the tests.
 */
export function describeInVm(
  kernel: KernelName,
  title: string,
  prepare: (scope: Scope) => GuestOptions,
  body: (guest: Guest) => void,
): void {
  describeWith([needsVm(kernel)], `${title}, kernel of Debian ${kernel}`, () => {
    const scope = new Scope();
    let run: VmRun | undefined;
    beforeAll(async () => {
      run = await bootVm(scope, { ...prepare(scope), kernel });
    }, HOOK_TIMEOUT_MS);
    afterAll(() => scope.close());
    body({
      kernel,
      result: (name) => resultOf(run, name),
      console: () => run?.console ?? '',
    });
  });
}
