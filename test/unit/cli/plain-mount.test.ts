// isPlainMount may only say yes where the option parser, too, finds a mount in the background, or
// refuses; the shell that starts the daemon must agree with it.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { array, assert, constantFrom, property, sample } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../../src/cli/options.ts';
import { isPlainMount } from '../../../src/cli/plain-mount.ts';
import { UsageError } from '../../../src/errors.ts';

const words = [
  ...[
    'doctor',
    'image.cfs',
    '/mnt',
    '-',
    '--',
    '',
    '-f',
    '-d',
    '-h',
    '-V',
    '-n',
    '-s',
    '-v',
    '-sf',
    '-fs',
  ],
  ...['-o', '-odebug', '-oro', 'debug', 'ro,debug', 'basedir=a', 'source=b', '-t', '-tcomposefs'],
  ...['--basedir', '--basedir=a', '--basedir=', '--verity', 'off', '--verity=off', '--threads'],
  ...['2', '--threads=x', '--log-file=x', '--log-level', '--log-level=debug', '--debug', '--help'],
  ...['--version', '--foreground', '--foreground=x', '--no-foreground', '--verbose', '--single'],
  ...['--options=debug', '--options', '--digest', '--data=auto', '--pid-file', '--nonsense'],
  ...[
    '--uid-map',
    '0:1:2',
    '--gid-map=0:1:2',
    '--squash',
    '--squash=0:0',
    '--upperdir',
    '--workdir=w',
  ],
  ...['--verify-at=open', '--verify-engine', 'kernel', '-x', '---', '--=', '-of', '-nf', '-no'],
];
const commandLines = array(constantFrom(...words), { maxLength: 6 });

/** What the shell decides, one line of arguments after another. */
function shellSays(lines: readonly (readonly string[])[]): boolean[] {
  const path = join(import.meta.dirname, '../../../src/cli/composefs-fuse.sh');
  const source = readFileSync(path, 'utf8');
  const decision = /^is_plain\(\) \{\n[^]*?^\}\n/m.exec(source)?.[0] ?? 'exit 9';
  const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
  const questions = lines.map((line) => `is_plain ${line.map(quote).join(' ')}; echo $?`);
  const input = [decision, ...questions].join('\n');
  const { COMPOSEFS_FUSE_READY_FD: _unused, ...env } = process.env;
  const { stdout, status } = spawnSync('/bin/sh', ['-s'], { input, encoding: 'utf8', env });
  expect(status).toBe(0);
  return stdout
    .trimEnd()
    .split('\n')
    .map((code) => code === '0');
}

describe('a plain mount', () => {
  it.each([
    [['image.cfs', '/mnt']],
    [['image.cfs', '/mnt', '--basedir', 'objects']],
    [['-o', 'source=image.cfs,basedir=objects', '/mnt']],
    [['--verity=require', '--log-file', 'log', '-s', 'image.cfs', '/mnt']],
  ])('is %j', (line) => {
    expect(isPlainMount(line)).toBe(true);
  });

  it.each([[['doctor']], [['doctor', '/mnt']], [['doctor', '--json']]])(
    'is not %j, which is another command',
    (line) => {
      expect(isPlainMount(line)).toBe(false);
    },
  );

  it('is one of an image called doctor that is named with its directory', () => {
    expect(isPlainMount(['./doctor', '/mnt'])).toBe(true);
    expect(isPlainMount(['--basedir', 'doctor', 'image.cfs', '/mnt'])).toBe(true);
  });

  it('is never what the parser takes for something else', () => {
    assert(
      property(commandLines, constantFrom('composefs-fuse', 'mount.composefs'), (line, name) => {
        if (!isPlainMount(line)) return;
        try {
          const command = parseCommandLine(line, name);
          expect(command).toMatchObject({
            kind: 'mount',
            options: { foreground: false, fake: false },
          });
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('is the same to the shell', () => {
    const lines = sample(commandLines, 2000);
    const said = shellSays(lines);
    // Without arguments the shell asks nobody: the parser has something to say about that.
    for (const [i, line] of lines.entries())
      expect(said[i], JSON.stringify(line)).toBe(line.length > 0 && isPlainMount(line));
  });
});
