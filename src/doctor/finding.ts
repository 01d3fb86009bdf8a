// What doctor finds out: its checks by their stable names, and the shape of what is said of each.

/** Every check, in the order in which they are shown. docs/doctor.md says what each one means. */
export const CHECKS = [
  'kernel',
  'addon',
  'open-files',
  'mount-helper',
  'dev-fuse',
  'fusermount3',
  'fuse-conf',
  'user-namespaces',
  'subids',
  'apparmor-userns',
  'fuse-mount',
  'io-uring',
  'passthrough',
  'overlay',
  'overlay-userns',
  'erofs-file',
  'erofs-loop',
  'overlay-verity',
  'basedir',
  'basedir-verity',
  'basedir-reflink',
] as const;
export type CheckId = (typeof CHECKS)[number];

/**
 * `ok`: it works. `warn`: mounts can do without, in a slower or weaker way. `fail`: something that
 * mounts are made with cannot be used. `skip`: it was not tried, and `found` says why.
 */
export type State = 'ok' | 'warn' | 'fail' | 'skip';

/** What one check found. */
export interface Finding {
  id: CheckId;
  /** What it is about where a check is made several times: a base directory. */
  subject?: string;
  state: State;
  /** What is there, in one line. */
  found: string;
  /** What to do about it, in one line. */
  remedy?: string;
}

/** What a check says, before it has its name. */
export type Verdict = Omit<Finding, 'id'>;

export const ok = (found: string): Verdict => ({ state: 'ok', found });
export const skip = (found: string): Verdict => ({ state: 'skip', found });
export const warn = (found: string, remedy?: string): Verdict => verdict('warn', found, remedy);
export const fail = (found: string, remedy?: string): Verdict => verdict('fail', found, remedy);

function verdict(state: State, found: string, remedy: string | undefined): Verdict {
  return remedy === undefined ? { state, found } : { state, found, remedy };
}
