// How filesystems made by tests verify objects, unless they say otherwise: as the command does.

import type { VerificationSetup } from '../../src/fuse/worker-setup.ts';
import { VerificationState } from '../../src/objects/verification.ts';

export function verificationSetup(overrides: Partial<VerificationSetup> = {}): VerificationSetup {
  const { shared } = new VerificationState();
  return { policy: 'if-present', engine: 'auto', at: 'open', state: shared, ...overrides };
}
