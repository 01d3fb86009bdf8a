// composefs-fuse doctor: says what works on this machine, what does not, and what to do about it.

import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Examination, examine } from '../doctor/examine.ts';
import { toJson, toText } from '../doctor/report.ts';
import type { RungName } from '../doctor/rung.ts';
import { UsageError } from '../errors.ts';
import { escapeControls } from './escape-controls.ts';
import { oneLine } from './error-line.ts';
import { exitCodeOf } from './exit.ts';
import { ExitCode, fail } from './exit-code.ts';
import { splitBasedirs } from './mount-options.ts';
import { firstSentence } from './parse-error.ts';
import { ProgressLine } from './progress.ts';
import { version } from './version.ts';

export const DOCTOR_HELP: string = `Usage: composefs-fuse doctor [options]

Says what works on this machine, what does not, and what to do about it. What can be tried is tried, in
private mount namespaces; nothing is changed and nothing stays.

  --basedir DIR[:DIR…]  also look at this directory of objects (repeatable)
  --json                one JSON object instead of lines
  -h, --help            show this text
  -V, --version         show the version

The last line names the best way in which mount.composefs can mount here. An image of the name doctor is
./doctor.

Exit codes: the best way is 0 the kernel's own mount, 10 overlay, 11 passthrough, 12 FUSE;
4 none can be had; 1 usage; 70 internal error.
`;

/** By the best rung. Those of composefs-fuse keep their meaning. */
const EXIT_CODES: Record<RungName, number> = {
  kernel: ExitCode.OK,
  overlay: 10,
  passthrough: 11,
  fuse: 12,
  none: ExitCode.MOUNT,
};

interface DoctorOptions {
  basedirs: string[];
  json: boolean;
}

type DoctorCommand = { kind: 'help' } | { kind: 'version' } | ({ kind: 'run' } & DoctorOptions);

/** Reads the arguments behind `doctor`. Throws UsageError. */
export function parseDoctorCommand(args: readonly string[]): DoctorCommand {
  const { values, positionals } = parse(args);
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const [superfluous] = positionals;
  if (superfluous !== undefined) {
    throw new UsageError(
      `doctor takes no argument ${JSON.stringify(superfluous)}; to mount an image of the name doctor say ./doctor`,
    );
  }
  const basedirs = (values.basedir ?? []).flatMap(splitBasedirs).map((path) => resolve(path));
  return { kind: 'run', basedirs: [...new Set(basedirs)], json: values.json === true };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      strict: true,
      options: {
        basedir: { type: 'string', multiple: true },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
      },
    });
  } catch (error) {
    throw new UsageError(`${firstSentence(error)}; see composefs-fuse doctor --help`);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const command = parseDoctorCommand(args);
  switch (command.kind) {
    case 'help':
      process.stdout.write(DOCTOR_HELP);
      return ExitCode.OK;
    case 'version':
      process.stdout.write(`composefs-fuse ${version()}\n`);
      return ExitCode.OK;
    case 'run':
      return await report(command);
  }
}

async function report({ basedirs, json }: DoctorOptions): Promise<number> {
  const progress = new ProgressLine();
  const found = await examine(basedirs, (what) => progress.update(() => `trying ${what}`));
  progress.clear();
  const noColour = process.env['NO_COLOR'] ?? '';
  const text = json
    ? JSON.stringify(toJson(found, version()), null, 2)
    : toText(escaped(found), process.stdout.isTTY && noColour === '');
  process.stdout.write(`${text}\n`);
  return EXIT_CODES[found.rungs.plain];
}

/** Names of directories may hold anything; JSON has its own escapes. */
function escaped(found: Examination): Examination {
  const findings = found.findings.map((finding) => ({
    ...finding,
    found: escapeControls(finding.found),
    ...(finding.subject !== undefined && { subject: escapeControls(finding.subject) }),
  }));
  return { ...found, findings };
}

/** Runs the command; its exit code is the process's. */
export async function runDoctor(args: readonly string[]): Promise<void> {
  process.stdout.on('error', () => (process.exitCode = exitCodeOf(undefined)));
  try {
    process.exitCode = await main(args);
  } catch (error) {
    fail(oneLine(error), exitCodeOf(error));
  }
}
