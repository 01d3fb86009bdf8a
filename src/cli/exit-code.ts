// Exit codes of composefs-fuse, which README.md documents, and ending with one. ADDON is also that of the
// other commands, beside what they have in common with the C tools.

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
  /** Node.js or the native addon is not there, or does not fit this machine. */
  ADDON: 69,
  /** A bug in composefs-fuse. */
  INTERNAL: 70,
} as const;

/** Says one line on the terminal; the process will end with the code. */
export function fail(message: string, exitCode: number): void {
  process.stderr.write(`composefs-fuse: ${message}\n`);
  process.exitCode = exitCode;
}
