// What the log of a mount says, as data.

import { waitUntil } from './command.ts';
import type { OurMount } from './mounts.ts';
import type { VerificationCounts } from '../../src/objects/verification.ts';

export type LogEvent = Record<string, unknown>;

/** Lines that are complete. */
export function eventsOf(mount: Pick<OurMount, 'log'>): LogEvent[] {
  const lines = mount.log().split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as LogEvent);
}

/** Warnings that a file was refused because of its content. */
export function refusalsOf(mount: Pick<OurMount, 'log'>): LogEvent[] {
  return eventsOf(mount).filter(({ msg }) => String(msg).startsWith('object refused'));
}

/** What the daemon has verified by now, as it says on SIGUSR1. */
export async function countsOf(mount: OurMount): Promise<VerificationCounts> {
  const statistics = (): LogEvent[] =>
    eventsOf(mount).filter(({ msg }) => msg === 'verification so far');
  const before = statistics().length;
  process.kill(mount.pid, 'SIGUSR1');
  await waitUntil('SIGUSR1 is answered', () => statistics().length > before);
  const { reopened, byKernel, remembered, computed, refusedObjects, refusedReads } =
    statistics().at(-1) as LogEvent & VerificationCounts;
  return { reopened, byKernel, remembered, computed, refusedObjects, refusedReads };
}

/** What it had verified when it ended. */
export function finalCountsOf(mount: Pick<OurMount, 'log'>): VerificationCounts {
  const last = eventsOf(mount).find(({ msg }) => msg === 'unmounted');
  return last?.['verified'] as VerificationCounts;
}
