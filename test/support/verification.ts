// How filesystems made by tests open and verify objects, unless they say otherwise: as the command does.

import type { FilesystemSetup } from '../../src/fuse/serving.ts';
import type { VerificationSetup } from '../../src/fuse/worker-setup.ts';
import type { NativeAddon } from '../../src/native.ts';
import { createFileTable } from '../../src/objects/open-files.ts';
import { VerificationState } from '../../src/objects/verification.ts';

export function verificationSetup(overrides: Partial<VerificationSetup> = {}): VerificationSetup {
  const { shared } = new VerificationState();
  return { policy: 'if-present', engine: 'auto', at: 'open', state: shared, ...overrides };
}

/** For a filesystem over objects in `basedirs`. */
export function filesystemSetup(
  native: NativeAddon,
  basedirs: readonly number[],
  overrides: Partial<Omit<FilesystemSetup, 'verification'>> & {
    verification?: Partial<VerificationSetup> | undefined;
  } = {},
): FilesystemSetup {
  const { verification, ...rest } = overrides;
  return {
    basedirs,
    acl: true,
    view: 'composefs',
    ownership: undefined,
    passthrough: 'never',
    fileTable: rest.fileTable ?? createFileTable(native, 256),
    ...rest,
    verification: verificationSetup(verification),
  };
}
