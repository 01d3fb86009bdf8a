// What a command says about an error: one line that names the thing; bugs keep their stack.

import { AddonError, ComposefsError } from '../errors.ts';
import { escapeControls } from './escape-controls.ts';

/** Without the command's name. Control characters in it cannot forge another line. */
export function oneLine(error: unknown): string {
  if (error instanceof ComposefsError) {
    const cause = error instanceof AddonError && error.cause instanceof Error ? error.cause : null;
    const line =
      cause === null ? error.message : `${error.message} (${cause.message.split('\n')[0]})`;
    return escapeControls(line);
  }
  if (isWithoutDirectory(error)) {
    return 'the current directory does not exist any more; give absolute paths';
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Whether a path could not be made absolute, or a thread not be started, for want of a directory. */
export function isWithoutDirectory(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.syscall === 'uv_cwd';
}
