// Which error leads to which exit code of composefs-fuse, and what a starter is told about it.

import {
  AddonError,
  ComposefsError,
  ImageDigestError,
  ImageError,
  InputError,
  MountError,
  UnsupportedFeatureError,
  UsageError,
} from '../errors.ts';
import type { Readiness } from '../fuse/readiness.ts';
import { isWithoutDirectory, oneLine } from './error-line.ts';
import { ExitCode } from './exit-code.ts';

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return ExitCode.USAGE;
  if (error instanceof AddonError) return ExitCode.ADDON;
  if (error instanceof ImageDigestError) return ExitCode.DIGEST;
  if (error instanceof ImageError || error instanceof UnsupportedFeatureError) {
    return ExitCode.IMAGE;
  }
  if (error instanceof InputError) return ExitCode.INPUT;
  if (isWithoutDirectory(error)) return ExitCode.INPUT;
  if (error instanceof MountError) return error.isInput ? ExitCode.INPUT : ExitCode.MOUNT;
  return ExitCode.INTERNAL;
}

/** What a starter is told about a daemon that could not start. */
export function unreadiness(error: unknown): Readiness {
  const readiness: Readiness = {
    ready: false,
    message: oneLine(error),
    exitCode: exitCodeOf(error),
  };
  if (error instanceof ComposefsError) readiness.code = error.code;
  if (error instanceof InputError || error instanceof MountError) readiness.path = error.path;
  if (error instanceof ImageDigestError) {
    const { path, expected, actual } = error;
    Object.assign(readiness, { path, expected, actual });
  }
  return readiness;
}
