// What every transport's daemon can be told, whatever it speaks with the kernel.

/** How the service ended: as somebody wished, or because of a failure. */
export type Outcome = 'clean' | 'failed';

/** How long open files may keep a lazily unmounted tree alive after a request to stop. */
export const STOP_GRACE_MS = 5000;

export interface MountService {
  /** Settles when the mount is gone and everything is released. */
  readonly ended: Promise<Outcome>;
  /**
   * Mounts. When it resolves the mount is served. Rejects with ImageError, UnsupportedFeatureError,
   * InputError or MountError; nothing is left behind then.
   */
  start(): Promise<void>;
  /** Checks everything that can be checked without mounting. Rejects as start does. */
  check(): Promise<void>;
  /**
   * Ends the mount: unmounts, lazily if it is in use; files that are still open are served for a
   * grace period. Called a second time, it ends at once.
   */
  stop(): void;
  /** After a bug: ends the mount with whatever still works. */
  fail(error: unknown, what?: string): void;
  /** Verifies every object anew from now on, and logs every problem again. */
  forget(): void;
  /** Logs what has been verified and refused so far. */
  logStatistics(): void;
}
