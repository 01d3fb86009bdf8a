/** Who mounts. */
export interface Identity {
  title: string;
  /** A command in front of the shell that mounts: setpriv, unshare. */
  as: readonly string[];
}

/** One row of the ladder: who, what was asked for, and what came of it. */
export interface LadderRow {
  who: string;
  asked: Wish;
  /** The rung that was taken, or the exit code. */
  rung: string;
  /** What it verifies, in its own words. */
  verifies: string;
  /** Why not by the rungs above. */
  refused: Record<string, string>;
}

/** What can be asked for; the image's digest stands behind the last one. */
export type Wish = 'nothing' | 'tryverity' | 'verity' | 'digest=';

/**
 * Mounts as each identity with each wish (all, if nothing else is said), reads the file `hello`, unmounts, and tells what was taken.
 * `command` is mount.composefs, `mountpoint` must be every identity's to mount on.
 */
export function tryLadder(
  command: readonly string[],
  sample: { image: string; basedir: string; mountpoint: string; digest: string },
  identities: readonly Identity[],
  wishes?: readonly Wish[],
): Promise<LadderRow[]>;

/** The rows as docs/mounting.md has them. */
export function ladderTable(rows: readonly LadderRow[]): string;
