// The command line of mkcomposefs: the reference's options, and --hardlinks, --json, --help and
// --version beyond them.

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { UsageError } from '../errors.ts';
import { expandAbbreviations } from './gnu-options.ts';
import { firstSentence } from './parse-error.ts';

export interface MakeOptions {
  source: string;
  /** Where the image goes; `-` is standard output. None with printDigest 'only'. */
  image: string | undefined;
  fromFile: boolean;
  digestStore: string | undefined;
  printDigest: boolean;
  useEpoch: boolean;
  skipDevices: boolean;
  skipXattrs: boolean;
  userXattrs: boolean;
  hardLinks: boolean;
  json: boolean;
  threads: number;
  minVersion: number | undefined;
  maxVersion: number | undefined;
}

export type MakeCommand =
  { kind: 'help' } | { kind: 'version' } | { kind: 'make'; options: MakeOptions };

export const MKCOMPOSEFS_HELP: string = `Usage: mkcomposefs [options] SOURCE IMAGE
       mkcomposefs [options] --print-digest-only SOURCE

Makes a composefs image of the directory SOURCE, or of a dump text. IMAGE may be - for standard output.

  --digest-store=PATH   copy files over 64 bytes into this object directory
  --from-file           SOURCE is a composefs-dump(5) text, - is standard input
  --print-digest        print the image's fs-verity digest
  --print-digest-only   the same, and write no image
  --use-epoch           set all modification times to 0
  --skip-devices        leave out device nodes
  --skip-xattrs         leave out extended attributes
  --user-xattrs         keep only user.* attributes
  --hardlinks           keep hard links (they become separate files otherwise, as with composefs 1.0)
  --min-version=N       oldest format version to use, 0 or 1 (default 0)
  --max-version=N       newest format version to use, 0 or 1 (default 1)
  --threads=N           threads for digests and copying (default: processors)
  --json                print what was made as JSON on standard output
  --help, --version

Exit codes: 0 done; 69 the native addon is missing, which directories need; 1 any other failure. No
image is written then.
`;

const OPTIONS = {
  'digest-store': { type: 'string' },
  'from-file': { type: 'boolean' },
  'print-digest': { type: 'boolean' },
  'print-digest-only': { type: 'boolean' },
  'use-epoch': { type: 'boolean' },
  'skip-devices': { type: 'boolean' },
  'skip-xattrs': { type: 'boolean' },
  'user-xattrs': { type: 'boolean' },
  hardlinks: { type: 'boolean' },
  'min-version': { type: 'string' },
  'max-version': { type: 'string' },
  threads: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean' },
  version: { type: 'boolean' },
} as const;

/** Reads the arguments behind the program name. Throws UsageError. */
export function parseMakeCommand(args: readonly string[]): MakeCommand {
  const { values, positionals } = parse(expandAbbreviations(args, Object.keys(OPTIONS)));
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const only = values['print-digest-only'] === true;
  const minVersion = versionOf('min', values['min-version']);
  const maxVersion = versionOf('max', values['max-version']);
  const threads = threadsOf(values.threads);
  const { source, image } = operandsOf(positionals, only);
  if (values['skip-xattrs'] === true && values['user-xattrs'] === true) {
    throw new UsageError('--skip-xattrs and --user-xattrs exclude each other');
  }
  return {
    kind: 'make',
    options: {
      source,
      image,
      fromFile: values['from-file'] === true,
      digestStore: values['digest-store'],
      printDigest: only || values['print-digest'] === true,
      useEpoch: values['use-epoch'] === true,
      skipDevices: values['skip-devices'] === true,
      skipXattrs: values['skip-xattrs'] === true,
      userXattrs: values['user-xattrs'] === true,
      hardLinks: values.hardlinks === true,
      json: values.json === true,
      threads,
      minVersion,
      maxVersion,
    },
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, allowPositionals: true, strict: true, options: OPTIONS });
  } catch (error) {
    throw new UsageError(`${firstSentence(error)}; see mkcomposefs --help`);
  }
}

function operandsOf(
  positionals: readonly string[],
  only: boolean,
): { source: string; image: string | undefined } {
  const [source, image] = positionals;
  if (source === undefined) throw new UsageError('No source path specified; expected SOURCE IMAGE');
  if (source === '') throw new UsageError('Empty source path specified');
  if (positionals.length > 2) throw new UsageError('Too many arguments; expected SOURCE IMAGE');
  if (only && image !== undefined) {
    throw new UsageError('Cannot specify destination path with --print-digest-only');
  }
  if (!only && image === undefined) {
    throw new UsageError('No destination path specified; expected SOURCE IMAGE');
  }
  return { source, image };
}

function versionOf(which: 'min' | 'max', text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const version = /^[ \t]*[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(version)) return version;
  throw new UsageError(`Invalid ${which} version ${text}; expected 0 or 1`);
}

function threadsOf(text: string | undefined): number {
  if (text === undefined) return availableParallelism();
  const threads = /^[ \t]*\+?\d+$/.test(text) ? Number(text) : 0;
  if (threads >= 1 && threads <= 1024) return threads;
  throw new UsageError(`Invalid threads count ${text}; expected 1 to 1024`);
}
