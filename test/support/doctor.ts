// composefs-fuse doctor for tests: runs it, reads its report, and sees that nothing is left behind.

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect } from 'vitest';
import { launcherPath, type Outcome, runCommand } from './command.ts';
import { mountTable } from './mounts.ts';
import type { Requirement } from './requirements.ts';
import { type Scope, scopeOfEachTest } from './scope.ts';

export interface Check {
  id: string;
  subject: string | null;
  state: 'ok' | 'warn' | 'fail' | 'skip';
  found: string;
  remedy: string | null;
}

export interface Report {
  format: number;
  uid: number;
  admin: string;
  rung: string;
  verifiedRung: string | null;
  namespaceRung: string | null;
  checks: Check[];
}

/** A command in front of another that runs it as the user tester. */
export const tester: readonly string[] = [
  'setpriv',
  '--reuid=tester',
  '--regid=tester',
  '--clear-groups',
];

export const needsTester: Requirement = {
  what: 'a user called tester, with subordinate ids',
  isMet: () =>
    /^tester:/m.test(readFileSync('/etc/passwd', 'utf8')) &&
    existsSync('/etc/subuid') &&
    /^tester:/m.test(readFileSync('/etc/subuid', 'utf8')),
};

/** Longer than all its own limits that a test runs into. */
export const LIMIT_MS = 120_000;

/** The check of that name; the first where there are several. */
export function find(report: Report, id: string): Check {
  const check = report.checks.find((one) => one.id === id);
  if (check === undefined) throw new Error(`no check ${id}`);
  return check;
}

/** Directories for the runs of one test, which must be as empty afterwards. */
export class DoctorRoom {
  readonly scope: Scope = scopeOfEachTest();
  /** Its TMPDIR. */
  temporary = '';
  /** A base directory without objects. */
  objects = '';

  constructor() {
    beforeEach(() => this.#prepare());
  }

  #prepare(): void {
    const { scope } = this;
    this.temporary = scope.directory();
    chmodSync(this.temporary, 0o1777);
    this.objects = join(scope.directory(), 'objects');
    mkdirSync(this.objects);
    // Runs before the directories are removed, after the test.
    scope.defer(() => {
      expect(readdirSync(this.temporary)).toEqual([]);
      expect(readdirSync(this.objects)).toEqual([]);
      const mounts = mountTable().map(({ mountpoint }) => mountpoint);
      expect(mounts.filter((path) => path.startsWith(this.temporary))).toEqual([]);
    });
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, TMPDIR: this.temporary };
  }

  /** `as` is a command in front of it. */
  run(args: readonly string[] = [], as: readonly string[] = []): Promise<Outcome> {
    const [program = '', ...rest] = [...as, launcherPath, 'doctor', ...args];
    return runCommand(program, rest, { env: this.env, timeoutMs: LIMIT_MS });
  }

  /** What it says with --json, and the states by the names of the checks. */
  async report(
    as: readonly string[] = [],
    args: readonly string[] = [],
  ): Promise<{ code: number | null; report: Report; states: Record<string, string> }> {
    const { code, stdout, stderr } = await this.run(['--json', ...args], as);
    expect(stderr).toBe('');
    const report = JSON.parse(stdout) as Report;
    const states = Object.fromEntries(report.checks.map(({ id, state }) => [id, state]));
    return { code, report, states };
  }
}
