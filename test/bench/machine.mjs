// Where and when a result was measured.

import { spawnSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import { root } from '../../scripts/setup.mjs';

function git(...args) {
  const result = spawnSync('git', args, { cwd: root, encoding: 'utf8', timeout: 20_000 });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

function describeCommit() {
  const commit = git('rev-parse', '--short', 'HEAD');
  if (commit === undefined) return 'none';
  return git('status', '--porcelain', '--', 'src', 'native') === ''
    ? commit
    : `${commit} + changes`;
}

/** Processor, kernel, Node.js, commit (with a word when src or native differ from it), date, command. */
export function describeMachine() {
  return {
    cpu: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    kernel: release(),
    node: process.version,
    commit: describeCommit(),
    date: new Date().toISOString(),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
  };
}

/** The three load averages as text. */
export function showLoad(load) {
  return load.map((number) => number.toFixed(2)).join(' ');
}
