// What fsck reports, and how it is printed.

import { toEscaped, toJsonBytes } from './texts.ts';

/** Bits of fsck's exit code beside 1, a wrong command line or a file that cannot be opened. */
export const FsckBit = { IMAGE: 2, MISSING: 4, OBJECT: 8 } as const;

export type ProblemKind =
  /** Damage of the image. */
  | 'image'
  /** An object that no base directory has. */
  | 'missing'
  /** An object that is not what the image expects. */
  | 'object'
  /** Harmless, but no writer makes it, or other readers refuse it. */
  | 'warning';

export interface Problem {
  readonly kind: ProblemKind;
  /** In the image; undefined for the image as a whole. */
  readonly path?: Uint8Array | undefined;
  readonly what: string;
  readonly expected?: string | undefined;
  readonly found?: string | undefined;
  /** Where the object is or should be, below its base directory. */
  readonly object?: Uint8Array | undefined;
}

export type Report = (problem: Problem) => void;

/** Of a path that is longer, only the end is shown: deep trees must not multiply the report. */
export const PATH_SHOWN = 4096;

/** One line. */
export function describeProblem(problem: Problem): string {
  const { path, what, expected, found, object } = problem;
  const place = path === undefined ? 'image' : shownPath(path);
  const facts = [
    ...(expected === undefined ? [] : [`expected ${expected}`]),
    ...(found === undefined ? [] : [`found ${found}`]),
  ].join(', ');
  const mark = problem.kind === 'warning' ? 'warning: ' : '';
  const about = object === undefined ? '' : ` (object ${toEscaped(object)})`;
  return `${place}: ${mark}${what}${about}${facts === '' ? '' : `: ${facts}`}\n`;
}

function shownPath(path: Uint8Array): string {
  if (path.length <= PATH_SHOWN) return toEscaped(path);
  return `[${path.length - PATH_SHOWN} bytes]...${toEscaped(path.subarray(-PATH_SHOWN))}`;
}

export function problemToJson({ kind, path, what, expected, found, object }: Problem): object {
  return {
    kind,
    path: path === undefined ? null : toJsonBytes(path.subarray(-PATH_SHOWN)),
    problem: what,
    expected: expected ?? null,
    found: found ?? null,
    object: object === undefined ? null : toJsonBytes(object),
  };
}
