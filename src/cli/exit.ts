// Which error leads to which exit code of composefs-fuse, and what is said about it.

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
import { escapeControls } from './escape-controls.ts';
import { ExitCode } from './exit-code.ts';

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return ExitCode.USAGE;
  if (error instanceof ImageDigestError) return ExitCode.DIGEST;
  if (error instanceof ImageError || error instanceof UnsupportedFeatureError) {
    return ExitCode.IMAGE;
  }
  if (error instanceof InputError) return ExitCode.INPUT;
  if ((error as NodeJS.ErrnoException | undefined)?.syscall === 'uv_cwd') return ExitCode.INPUT;
  if (error instanceof MountError) return error.isInput ? ExitCode.INPUT : ExitCode.MOUNT;
  return ExitCode.INTERNAL;
}

/** What a starter is told about a daemon that could not start. */
export function unreadiness(error: unknown): Readiness {
  const readiness: Readiness = {
    ready: false,
    message: describeError(error),
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

/** One line for the terminal; bugs keep their stack. Control characters cannot forge a line. */
export function describeError(error: unknown): string {
  if (error instanceof ComposefsError) {
    const cause = error instanceof AddonError && error.cause instanceof Error ? error.cause : null;
    const line =
      cause === null ? error.message : `${error.message} (${cause.message.split('\n')[0]})`;
    return escapeControls(line);
  }
  if ((error as NodeJS.ErrnoException).syscall === 'uv_cwd') {
    return 'the current directory does not exist any more; give absolute paths';
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
