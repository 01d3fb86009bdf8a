// The command line of composefs-info: the reference's commands and options, and stat, fsck, diff and
// --json beyond them.

import { parseArgs } from 'node:util';
import { UsageError } from '../errors.ts';
import { expandAbbreviations } from './gnu-options.ts';
import { firstSentence } from './parse-error.ts';

export const COMMANDS = [
  'ls',
  'dump',
  'objects',
  'missing-objects',
  'measure-file',
  'stat',
  'fsck',
  'diff',
] as const;
export type InfoCommandName = (typeof COMMANDS)[number];

export interface InfoOptions {
  command: InfoCommandName;
  /** Images or files; at least one, exactly one for stat and fsck, two for diff. */
  operands: string[];
  basedirs: string[];
  filter: string[];
  json: boolean;
  metadataOnly: boolean;
  /** How diff reads directories: as mkcomposefs with these options. */
  hardLinks: boolean;
  useEpoch: boolean;
  skipDevices: boolean;
  skipXattrs: boolean;
  userXattrs: boolean;
}

export type InfoCommand =
  { kind: 'help' } | { kind: 'version' } | { kind: 'run'; options: InfoOptions };

export const INFO_USAGE: string = `usage: composefs-info [--basedir=path] [${COMMANDS.join('|')}] IMAGES...`;

export const INFO_HELP: string = `Usage: composefs-info [options] COMMAND ARGS

  ls IMAGE...               list all names
  dump IMAGE...             print the composefs-dump(5) text
  objects IMAGE...          list the objects that the images refer to
  missing-objects IMAGE...  list those that the base directories do not have
  measure-file FILE...      print the fs-verity digest of files
  stat IMAGE                count what is in an image, and print its digests
  fsck IMAGE                check the image, and its objects
  diff A B                  compare images, dumps or directories

  --basedir=PATH    where the objects are; repeated, searched in this order
  --filter=NAME     only this entry of the root directory; may be repeated
  --json            print JSON: one value a line, or one array for the lists of objects
  --metadata-only   fsck: do not look at objects
  --hardlinks, --use-epoch, --skip-devices, --skip-xattrs, --user-xattrs
                    diff: read directories as mkcomposefs does with these options
  --help, --version

Exit codes: 0 done, 1 failure, 69 the native addon is missing where one is needed. fsck: 0 clean,
1 wrong usage or a file that cannot be opened; else the sum of 2 image damaged, 4 objects missing,
8 objects wrong. diff: 0 equal, 1 different, 2 trouble.
`;

const OPTIONS = {
  basedir: { type: 'string', multiple: true },
  filter: { type: 'string', multiple: true },
  json: { type: 'boolean' },
  'metadata-only': { type: 'boolean' },
  hardlinks: { type: 'boolean' },
  'use-epoch': { type: 'boolean' },
  'skip-devices': { type: 'boolean' },
  'skip-xattrs': { type: 'boolean' },
  'user-xattrs': { type: 'boolean' },
  help: { type: 'boolean' },
  version: { type: 'boolean' },
} as const;

/** A wrong command line after which the usage is shown. */
export class InfoUsageError extends UsageError {
  static {
    this.prototype.name = 'InfoUsageError';
  }
}

/** Reads the arguments behind the program name. Throws UsageError. */
export function parseInfoCommand(args: readonly string[]): InfoCommand {
  const { values, positionals } = parse(args);
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const filter = values.filter ?? [];
  for (const name of filter) {
    if (name.includes('/')) throw new UsageError(`Filter must be a single name: ${name}`);
  }
  const [name, ...operands] = positionals;
  if (name === undefined) throw new InfoUsageError('No command specified');
  const command = COMMANDS.find((known) => known === name);
  if (command === undefined) throw new UsageError(`Unknown command '${name}'`);
  const basedirs = values.basedir ?? [];
  checkOperands(command, operands.length);
  const metadataOnly = values['metadata-only'] === true;
  const isWhole = command === 'stat' || command === 'fsck' || command === 'diff';
  if (isWhole && filter.length > 0) throw new InfoUsageError(`${command} takes no --filter`);
  if (command === 'fsck' && basedirs.length === 0 && !metadataOnly) {
    throw new UsageError('fsck needs --basedir=PATH for the objects, or --metadata-only');
  }
  return {
    kind: 'run',
    options: {
      command,
      operands,
      basedirs,
      filter,
      json: values.json === true,
      metadataOnly,
      hardLinks: values.hardlinks === true,
      useEpoch: values['use-epoch'] === true,
      skipDevices: values['skip-devices'] === true,
      skipXattrs: values['skip-xattrs'] === true,
      userXattrs: values['user-xattrs'] === true,
    },
  };
}

function parse(args: readonly string[]) {
  try {
    const full = expandAbbreviations(args, Object.keys(OPTIONS));
    return parseArgs({ args: full, allowPositionals: true, strict: true, options: OPTIONS });
  } catch (error) {
    throw new InfoUsageError(firstSentence(error));
  }
}

function checkOperands(command: InfoCommandName, count: number): void {
  if (count === 0) {
    const what = command === 'measure-file' ? 'No files specified' : 'No image path specified';
    throw new InfoUsageError(what);
  }
  const wanted = command === 'diff' ? 2 : command === 'stat' || command === 'fsck' ? 1 : count;
  if (count === wanted) return;
  const what = command === 'diff' ? 'diff takes two operands' : `${command} takes one image`;
  throw new InfoUsageError(`${what}, not ${count}`);
}
