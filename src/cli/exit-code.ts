// Exit codes of composefs-fuse, which README.md documents, and ending with one.

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

/** Says one line on the terminal; the process will end with the code. */
export function fail(message: string, exitCode: number): void {
  process.stderr.write(`composefs-fuse: ${message}\n`);
  process.exitCode = exitCode;
}
