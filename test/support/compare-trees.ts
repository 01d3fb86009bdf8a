// Compares two mounted trees entry by entry. The looking is done by tree-walk.py in processes of
// their own: this process never touches a mount, so a hanging one costs a time limit and no more.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { exitOf, python } from './command.ts';

const walkScript = readFileSync(join(import.meta.dirname, 'tree-walk.py'), 'utf8');

export interface Difference {
  /** Escaped as tree-walk.py prints it; empty for the root. */
  path: string;
  /** A field of the line, or `entry` when one side lacks it altogether. */
  field: string;
  expected: string | undefined;
  actual: string | undefined;
}

export interface Comparison {
  /** Lines of the expected tree. */
  entries: number;
  differences: Difference[];
}

export interface WalkOptions {
  /** Parts of tree-walk.py; its default when absent. */
  parts?: readonly string[];
  /** A command in front of python3 that changes who walks, such as setpriv with its options. */
  as?: readonly string[];
  timeoutMs?: number;
  direntBuffer?: number;
}

export type Entry = Record<string, unknown> & { path: string };

/** The lines tree-walk.py prints for a directory, as they come. Throws when it fails or is late. */
export async function* walkLines(root: string, options: WalkOptions = {}): AsyncGenerator<string> {
  const { parts, as = [], timeoutMs = 60_000, direntBuffer } = options;
  const command = [...as, python, '-I', '-', root];
  if (parts !== undefined) command.push(`--parts=${parts.join(',')}`);
  if (direntBuffer !== undefined) command.push(`--dirent-buffer=${direntBuffer}`);
  const child = spawn(command[0]!, command.slice(1), { stdio: 'pipe' });
  let failure = '';
  let late = false;
  child.stderr.setEncoding('utf8').on('data', (text: string) => (failure += text));
  child.on('error', (error) => (failure += error.message));
  child.stdin.on('error', () => undefined);
  // Through standard input, since another user may not be able to read our checkout.
  child.stdin.end(walkScript);
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  try {
    yield* createInterface({ input: child.stdout, crlfDelay: Infinity });
    const code = await exitOf(child);
    if (late) throw new Error(`walking ${root}: not done after ${timeoutMs} ms`);
    if (code !== 0) throw new Error(`walking ${root}: exit code ${code}: ${failure}`);
  } finally {
    clearTimeout(timer);
    child.kill('SIGKILL');
  }
}

/** All entries of a tree by their escaped path. */
export async function walkTree(root: string, options?: WalkOptions): Promise<Map<string, Entry>> {
  const entries = new Map<string, Entry>();
  for await (const line of walkLines(root, options)) {
    const entry = JSON.parse(line) as Entry;
    entries.set(entry.path, entry);
  }
  return entries;
}

/** The fields of an entry as text, those of nested objects (xattrs) one by one. */
function flatten(entry: Entry): Map<string, string> {
  const fields = new Map<string, string>();
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      fields.set(key, JSON.stringify(value));
    else
      for (const [name, inner] of Object.entries(value))
        fields.set(`${key}.${name}`, JSON.stringify(inner));
  }
  return fields;
}

/** The fields in which two entries differ, keyed as `flatten` names them. */
function compareEntries(expected: Entry, actual: Entry): Difference[] {
  const left = flatten(expected);
  const right = flatten(actual);
  const names = new Set([...left.keys(), ...right.keys()]);
  return [...names]
    .filter((field) => left.get(field) !== right.get(field))
    .map((field) => ({
      path: expected.path,
      field,
      expected: left.get(field),
      actual: right.get(field),
    }));
}

/**
 * Walks both trees at the same time and returns every difference. Lines that are equal as text are
 * not parsed; lines out of step are paired by path, so memory grows only with what differs.
 */
export async function compareTrees(
  expectedRoot: string,
  actualRoot: string,
  options: WalkOptions = {},
): Promise<Comparison> {
  const expectedLines = walkLines(expectedRoot, options);
  const actualLines = walkLines(actualRoot, options);
  const onlyExpected = new Map<string, Entry>();
  const onlyActual = new Map<string, Entry>();
  const differences: Difference[] = [];
  let entries = 0;

  const take = (entry: Entry, own: Map<string, Entry>, other: Map<string, Entry>): void => {
    const partner = other.get(entry.path);
    if (partner === undefined) {
      if (own.has(entry.path))
        differences.push({
          path: entry.path,
          field: 'listed more than once',
          expected: own === onlyExpected ? 'twice' : undefined,
          actual: own === onlyActual ? 'twice' : undefined,
        });
      own.set(entry.path, entry);
      return;
    }
    other.delete(entry.path);
    differences.push(
      ...(own === onlyExpected ? compareEntries(entry, partner) : compareEntries(partner, entry)),
    );
  };

  try {
    for (;;) {
      const [expected, actual] = await Promise.all([expectedLines.next(), actualLines.next()]);
      if (expected.done === true && actual.done === true) break;
      if (expected.done !== true) entries++;
      if (expected.value === actual.value) continue;
      if (expected.done !== true)
        take(JSON.parse(expected.value) as Entry, onlyExpected, onlyActual);
      if (actual.done !== true) take(JSON.parse(actual.value) as Entry, onlyActual, onlyExpected);
    }
  } finally {
    await Promise.all([expectedLines.return(undefined), actualLines.return(undefined)]);
  }
  for (const { path } of onlyExpected.values())
    differences.push({ path, field: 'entry', expected: 'present', actual: undefined });
  for (const { path } of onlyActual.values())
    differences.push({ path, field: 'entry', expected: undefined, actual: 'present' });
  return { entries, differences };
}

/** Differences as lines a person can read, the first `limit` of them. */
export function showDifferences(differences: readonly Difference[], limit = 25): string {
  const lines = differences
    .slice(0, limit)
    .map(
      ({ path, field, expected, actual }) =>
        `/${path}: ${field}: kernel ${expected ?? '(none)'}, ours ${actual ?? '(none)'}`,
    );
  if (differences.length > limit) lines.push(`... ${differences.length - limit} more`);
  return lines.join('\n');
}
