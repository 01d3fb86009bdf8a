// The manual pages say what --help says, no option more and none less, and are sound roff.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { INFO_HELP } from '../../src/cli/composefs-info-options.ts';
import { MKCOMPOSEFS_HELP } from '../../src/cli/mkcomposefs-options.ts';
import { HELP } from '../../src/cli/help.ts';
import { HELP as MOUNT_HELP } from '../../src/cli/mount-composefs-options.ts';
import { describeWith, type Requirement } from '../support/requirements.ts';

const root = join(import.meta.dirname, '../..');
const folder = join(root, 'docs/man');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  bin: Record<string, string>;
  man: string[];
};
/** A command, its --help, and its exit code without an addon. */
const pages = [
  ['composefs-fuse', HELP, '69'],
  ['mkcomposefs', MKCOMPOSEFS_HELP, '69'],
  ['composefs-info', INFO_HELP, '69'],
  ['mount.composefs', MOUNT_HELP, '2'],
] as const;

const pathOf = (command: string): string =>
  join(folder, `${command}.${command.startsWith('mount.') ? 8 : 1}`);

/** A page's words, without font changes: `\fB`, and the blanks that macros take out. */
const plain = (roff: string): string =>
  roff
    .replace(/^\.\\".*$/gm, '')
    .replace(/\\f[BIR]/g, '')
    .replace(/\\-/g, '-');

const optionsIn = (text: string): string[] => {
  const found = text.matchAll(/(?<![\w-])(?:--[a-z][a-z-]*|-[A-Za-z])(?![\w-])/g);
  return [...new Set([...found].map(([option]) => option))].sort();
};

/** Part of a text between a heading and the next one that `end` finds. */
function section(text: string, heading: string, end: RegExp): string {
  const [, rest = ''] = text.split(heading);
  return rest.split(end)[0]!;
}

describe.each(pages)('the manual page of %s', (command, help, codeWithoutAddon) => {
  const page = plain(readFileSync(pathOf(command), 'utf8'));

  test('has the options of --help and no others', () => {
    const options = optionsIn(help);
    expect(options).toContain('--help');
    // Those of other commands are quoted in sentences.
    expect(optionsIn(section(page, '.SH OPTIONS\n', /^\.S[HS] /m))).toEqual(options);
  });

  test('has the exit codes of --help', () => {
    const codes = (text: string): string[] =>
      [...new Set(text.match(/\b\d+\b/g))].sort((a, b) => Number(a) - Number(b));
    const documented = codes(section(page, '.SH EXIT STATUS\n', /^\.SH /m));
    const [, listed = ''] = help.split(/Exit codes(?: are those of mount\(8\))?:/);
    expect(documented).toEqual(codes(listed));
    expect(documented).toContain(codeWithoutAddon);
  });

  test('is of this version', () => {
    expect(page).toContain(`"composefs-fuse ${manifest.version}"`);
  });
});

test('the manual page of composefs-fuse has the mount options of --help and no others', () => {
  const page = plain(readFileSync(pathOf('composefs-fuse'), 'utf8'));
  const described = section(page, '.SS Mount options\n', /^\.PP/m).match(/(?<=^\.TP\n).*$/gm)!;
  // The heads of the items: `.BI basedir= DIR`, `.BR suid ", " dev`.
  const heads = described.flatMap((head) => head.match(/[a-z][a-z_]+/g)!);
  const list = section(HELP, 'Mount options:\n', /\n\n/);
  const names = list
    .match(/^ {2}\S.*?(?= {2}|$)/gm)!
    .flatMap((line) => line.match(/[a-z][a-z_]+/g)!);
  expect(names).toContain('verify_engine');
  expect(new Set(heads)).toEqual(new Set(names));
});

test('the manual page of composefs-info has its commands', () => {
  const page = plain(readFileSync(pathOf('composefs-info'), 'utf8'));
  const heads = section(page, '.SH COMMANDS\n', /^\.SH /m).match(/(?<=^\.TP\n\.BI )\S+/gm);
  const commands = section(INFO_HELP, '\n\n', /\n\n/).match(/(?<=^ {2})\S+/gm);
  expect(commands).toContain('fsck');
  expect(heads).toEqual(commands);
});

test('every command of the package has a page that npm installs', () => {
  const names = Object.keys(manifest.bin).map((name) => `./docs/man/${name}`);
  expect(manifest.man.map((path) => path.replace(/\.\d$/, '')).sort()).toEqual(names.sort());
});

describe('roff', () => {
  const checkers: [string, string[], RegExp][] = [
    ['groff', ['-man', '-Tutf8', '-ww', '-P-cbou'], /warning|error/i],
    ['mandoc', ['-Tlint'], /STYLE|WARNING|ERROR/],
  ];
  for (const [program, args, complaint] of checkers) {
    const isThere: Requirement = {
      what: program,
      isMet: () => spawnSync(program, ['--version']).error === undefined,
    };
    describeWith([isThere], program, () => {
      test.each(pages)(`finds no fault in the page of %s`, (command) => {
        const { status, stderr, stdout } = spawnSync(program, [...args, pathOf(command)], {
          encoding: 'utf8',
        });
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
        // mandoc complains on standard output, where groff puts the page.
        if (program === 'mandoc') expect(stdout).toBe('');
        else expect(stdout).toContain('SYNOPSIS');
      });

      test('would complain', () => {
        const input = '.TH X 1\n.SH NAME\nx \\- y\n.NOSUCH\n';
        const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input });
        expect(stdout + stderr).toMatch(complaint);
      });
    });
  }
});
