// What doctor found, as lines for people and as JSON for programs.

import type { Examination } from './examine.ts';
import { CHECKS, type Finding, type State } from './finding.ts';

/** Grows when the meaning of a field changes; new fields and checks do not count. */
const FORMAT = 1;

const COLOURS: Record<State, number> = { ok: 32, warn: 33, fail: 31, skip: 2 };
const STATE_WIDTH = 4;
const ID_WIDTH: number = Math.max(...CHECKS.map((id) => id.length));

/** Lines without a newline behind the last one. `hasColours`: for a terminal. */
export function toText({ findings, rungs }: Examination, hasColours: boolean): string {
  const paint = (code: number, text: string): string =>
    hasColours ? `\u001b[${code}m${text}\u001b[0m` : text;
  const lines = findings.flatMap((finding) => linesOf(finding, paint));
  const { plain, verified, inNamespace } = rungs;
  const rung = [
    `best rung: ${plain}`,
    verified === undefined ? '' : `; with verity: ${verified}`,
    inNamespace === undefined
      ? ''
      : `; in a user namespace (unshare -Urm --map-auto): ${inNamespace}`,
  ].join('');
  lines.push('', paint(1, rung));
  return lines.join('\n');
}

function linesOf(
  { id, subject, state, found, remedy }: Finding,
  paint: (code: number, text: string) => string,
): string[] {
  const where = subject === undefined ? '' : `${subject}: `;
  const lines = [
    `${paint(COLOURS[state], state.padEnd(STATE_WIDTH))}  ${id.padEnd(ID_WIDTH)}  ${where}${found}`,
  ];
  if (remedy !== undefined) lines.push(`${' '.repeat(STATE_WIDTH + ID_WIDTH + 4)}-> ${remedy}`);
  return lines;
}

/** docs/doctor.md has the fields. */
export function toJson({ kernel, caller, findings, rungs }: Examination, version: string): unknown {
  return {
    format: FORMAT,
    version,
    kernel,
    uid: caller.uid,
    admin: caller.scope,
    rung: rungs.plain,
    verifiedRung: rungs.verified ?? null,
    namespaceRung: rungs.inNamespace ?? null,
    checks: findings.map(({ id, subject, state, found, remedy }) => ({
      id,
      subject: subject ?? null,
      state,
      found,
      remedy: remedy ?? null,
    })),
  };
}
