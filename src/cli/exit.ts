// Exit codes of composefs-fuse, and which error leads to which. README.md documents them.

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

export const ExitCode = {
  OK: 0,
  /** Unknown option, missing or superfluous argument, impossible value. */
  USAGE: 1,
  /** The image is missing, not a composefs image, truncated, damaged or of an unsupported kind. */
  IMAGE: 2,
  /** A base directory, the mountpoint or another file named on the command line cannot be used. */
  INPUT: 3,
  /** Mounting is not possible or not permitted. */
  MOUNT: 4,
  /** The image does not have the digest that was asked for. */
  DIGEST: 5,
  /** A bug in composefs-fuse, or an addon that was not built. */
  INTERNAL: 70,
} as const;

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
