// The completions of each shell, asked in that shell: they offer the long options of --help and no others,
// the values of options, files and commands.

import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { commandPath, mustRun, runCommand } from '../support/command.ts';
import { describeWith, type Requirement } from '../support/requirements.ts';
import { scopeOfAllTests } from '../support/scope.ts';

const folder = join(import.meta.dirname, '../../completions');
const zshScript = join(import.meta.dirname, '../support/complete.zsh');
const LIMIT_MS = 30_000;

/** What is offered for the last of some words, in a current directory and home of the test's. */
type Ask = (words: readonly string[], home: string) => Promise<string[]>;

/** Bash cuts words at = as its readline does. */
const BASH_SCRIPT = `
source "$1/$2"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
name=$(complete -p "$1")
[[ $name =~ -F\\ ([^ ]+) ]] && "\${BASH_REMATCH[1]}" "$1" "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "\${COMPREPLY[@]}"
`;

const linesOf = (text: string): string[] => text.split('\n').filter(Boolean);

const askBash: Ask = async (words, home) => {
  const cut = words.flatMap((word) => word.split(/(?<==)|(?==)/));
  const args = ['--norc', '-c', BASH_SCRIPT, 'bash', join(folder, 'bash'), ...cut];
  const outcome = await mustRun('bash', args, { cwd: home });
  expect(outcome.stderr).toBe('');
  return linesOf(outcome.stdout);
};

const askZsh: Ask = async (words, home) => {
  const args = ['-f', zshScript, join(folder, 'zsh'), words.join(' ')];
  const env = { PATH: process.env['PATH'], HOME: home, TERM: 'xterm' };
  const outcome = await mustRun('zsh', args, { cwd: home, env, timeoutMs: LIMIT_MS });
  // Files are offered by more than one of its functions.
  return [...new Set(linesOf(outcome.stdout).map((line) => line.replace(/^offered:/, '')))];
};

const askFish: Ask = async (words, home) => {
  const file = join(folder, 'fish', `${words[0]}.fish`);
  const script = 'source $argv[1]; complete --do-complete $argv[2]';
  const env = { PATH: process.env['PATH'], HOME: home };
  const args = ['--no-config', '-c', script, file, words.join(' ')];
  const outcome = await mustRun('fish', args, { cwd: home, env, timeoutMs: LIMIT_MS });
  return linesOf(outcome.stdout).map((line) => line.split('\t')[0]!);
};

const needs = (shell: string): Requirement => ({
  what: shell,
  isMet: () => spawnSync(shell, ['--version'], { timeout: LIMIT_MS }).status === 0,
});

const commands = ['composefs-fuse', 'mkcomposefs', 'composefs-info'] as const;
const shells: readonly [string, Ask][] = [
  ['bash', askBash],
  ['zsh', askZsh],
  ['fish', askFish],
];

for (const [shell, ask] of shells) {
  describeWith([needs(shell)], `completion in ${shell}`, () => {
    const scope = scopeOfAllTests();
    let home: string;

    beforeAll(() => {
      home = scope.directory();
      mkdirSync(join(home, 'objects'));
      writeFileSync(join(home, 'image.cfs'), '');
    });

    test.each(commands)('offers the long options of %s --help', async (command) => {
      const program = join(dirname(commandPath), `${command}.js`);
      const { stdout: help } = await runCommand(process.execPath, [program, '--help']);
      const documented = new Set(help.match(/(?<![\w-])--[a-z][a-z-]*/g));
      expect(documented).toContain('--version');
      const offered = (await ask([command, '--'], home)).map((word) => word.replace(/=$/, ''));
      expect(new Set(offered)).toEqual(documented);
    });

    test.each([
      ['--verity', ['off', 'if-present', 'require']],
      ['--verify-engine', ['auto', 'kernel', 'user']],
      ['--verify-at', ['open', 'read']],
      ['--data', ['auto', 'passthrough', 'daemon', 'overlay']],
      ['--transport', ['auto', 'device', 'io_uring', 'fuse-native']],
      ['--log-format', ['auto', 'text', 'json']],
      ['--log-level', ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']],
    ])('offers the values of %s', async (option, values) => {
      const offered = await ask(['composefs-fuse', option, ''], home);
      expect(offered.sort()).toEqual(values.sort());
    });

    test('offers values behind =', async () => {
      const offered = await ask(['composefs-fuse', '--verity=re'], home);
      expect(offered.map((word) => word.replace(/^.*=/, ''))).toEqual(['require']);
    });

    test('offers mount options, also behind a comma', async () => {
      expect(await ask(['composefs-fuse', '-o', 'allow'], home)).toEqual(['allow_other']);
      const second = await ask(['composefs-fuse', '-o', 'noacl,allow'], home);
      expect(second.map((word) => word.replace(/^.*,/, ''))).toEqual(['allow_other']);
    });

    test('offers the mount options of composefs-fuse --help', async () => {
      const { stdout: help } = await runCommand(process.execPath, [commandPath, '--help']);
      const list = /Mount options:\n(.*?)\n\n/s.exec(help)![1]!;
      const heads = list.match(/^ {2}\S.*?(?= {2}|$)/gm)!.join(' ');
      const offered = await ask(['composefs-fuse', '-o', ''], home);
      const names = offered.map((word) => word.replace(/=$/, ''));
      expect(names).toContain('basedir');
      expect(new Set(names)).toEqual(new Set(heads.match(/(?<![=A-Z])[a-z][a-z_]+/g)));
    });

    test('offers the commands of composefs-info, and then files', async () => {
      const offered = await ask(['composefs-info', ''], home);
      expect(offered.sort()).toEqual([
        ...['diff', 'dump', 'fsck', 'ls', 'measure-file', 'missing-objects', 'objects', 'stat'],
      ]);
      expect(await ask(['composefs-info', 'ls', 'im'], home)).toEqual(['image.cfs']);
    });

    test('offers directories for objects, and files for images', async () => {
      const directory = await ask(['composefs-fuse', '--basedir', ''], home);
      expect(directory.map((word) => word.replace(/\/$/, ''))).toEqual(['objects']);
      expect(await ask(['composefs-fuse', 'im'], home)).toEqual(['image.cfs']);
    });
  });
}
