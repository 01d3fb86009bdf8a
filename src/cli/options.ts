// The command line of composefs-fuse: what can be asked for, as one typed value.

import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../errors.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from '../log-levels.ts';
import {
  VERIFY_ENGINES,
  VERIFY_TIMES,
  type VerifyAt,
  type VerifyEngine,
  VERITY_POLICIES,
  type VerityPolicy,
} from '../objects/verification.ts';
import {
  emptyMountOptions,
  type MountOptions,
  oneOf,
  parseDigest,
  parseMountOptions,
  parseNumber,
  parseThreads,
  splitBasedirs,
} from './mount-options.ts';
import { DATA_MODES, type DataMode } from '../fuse/data-mode.ts';
import type { OwnershipWishes } from '../fuse/ownership-rules.ts';
import { type TransportName, TRANSPORTS } from '../fuse/transport-names.ts';
import { type OwnershipOptions, ownershipWishes } from './ownership-options.ts';
import { firstSentence } from './parse-error.ts';

/** Everything the command line says. Paths are absolute. */
export interface CommandOptions {
  image: string;
  mountpoint: string;
  basedirs: string[];
  /** `digest` is the image's, in lower-case hex. */
  verification: {
    digest: string | undefined;
    policy: VerityPolicy;
    engine: VerifyEngine;
    at: VerifyAt;
  };
  data: DataMode;
  ownership: OwnershipWishes;
  /** The layer that takes what is written; undefined: the mount is read-only. */
  writable: { upperdir: string; workdir: string } | undefined;
  mount: MountOptions;
  transport: TransportName;
  /** Undefined unless asked for. */
  threads: number | undefined;
  pollingMicroseconds: number | undefined;
  foreground: boolean;
  /** mount(8)'s -f: check everything, mount nothing. */
  fake: boolean;
  logLevel: LogLevel;
  logFormat: LogFormat;
  logFile: string | undefined;
  pidFile: string | undefined;
}

export type Command =
  { kind: 'help' } | { kind: 'version' } | { kind: 'mount'; options: CommandOptions };

/**
 * Reads the arguments behind the program name. `program` is the name it was called by: as
 * mount.SOMETHING, mount(8)'s meaning of -f applies. Throws UsageError.
 */
export function parseCommandLine(args: readonly string[], program: string): Command {
  const parsed = parse(args);
  const { values, positionals } = parsed;
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };

  const mount = emptyMountOptions();
  for (const list of values.options ?? []) parseMountOptions(list, mount);
  for (const value of values.basedir ?? []) mount.basedirs.push(...splitBasedirs(value));

  const verification = verificationOf(values, mount);
  const data =
    values.data === undefined ? (mount.data ?? 'auto') : oneOf('--data', values.data, DATA_MODES);
  const writable = writableOf(values.upperdir ?? mount.upperdir, values.workdir ?? mount.workdir);
  refuseContradictions(data, verification, mount);
  if (writable !== undefined && mount.allowOther === 'no') {
    throw new UsageError('--upperdir contradicts noallow_other: overlayfs lets every user in');
  }
  if (mount.nfsExport && (writable !== undefined || data === 'overlay')) {
    const other = writable === undefined ? '--data overlay' : '--upperdir';
    throw new UsageError(`${other} contradicts nfs_export: the overlayfs has no file handles`);
  }
  const transport = transportOf(values.transport, mount, data, writable !== undefined);
  const { image, mountpoint } = positionalPaths(positionals, mount.source);
  const isMountHelper = basename(program).startsWith('mount.');
  const debug = values.debug === true || mount.debug;
  return {
    kind: 'mount',
    options: {
      image: resolve(image),
      mountpoint: resolve(mountpoint),
      basedirs: mount.basedirs.map((path) => resolve(path)),
      verification,
      data,
      ownership: ownershipWishes(ownershipOf(values, mount)),
      writable,
      mount,
      transport,
      threads: threadsOf(values.threads, values.single === true, mount.threads),
      pollingMicroseconds:
        values.poll === undefined ? undefined : parseNumber('--poll', values.poll, 0, 1000),
      foreground: debug || (values.foreground === true && !isMountHelper),
      fake: values.foreground === true && isMountHelper,
      logLevel: oneOf('--log-level', values['log-level'] ?? (debug ? 'debug' : 'info'), LOG_LEVELS),
      logFormat: oneOf('--log-format', values['log-format'] ?? 'auto', LOG_FORMATS),
      logFile: absolute('--log-file', values['log-file']),
      pidFile: absolute('--pid-file', values['pid-file']),
    },
  };
}

/** Where the kernel reads objects by itself, nothing here can check what it reads. */
function refuseContradictions(
  data: DataMode,
  { engine, at }: CommandOptions['verification'],
  mount: MountOptions,
): void {
  if ((data === 'passthrough' || data === 'overlay') && at === 'read') {
    throw new UsageError(`--data ${data} demands --verify-at open: the kernel reads by itself`);
  }
  if (data !== 'overlay') return;
  if (mount.basedirs.length === 0) {
    throw new UsageError('--data overlay needs --basedir: an overlayfs has at least two layers');
  }
  if (engine === 'user') {
    throw new UsageError(
      '--data overlay contradicts --verify-engine user: the kernel opens objects',
    );
  }
  if (mount.allowOther === 'no') {
    throw new UsageError('--data overlay contradicts noallow_other: overlayfs lets every user in');
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      strict: true,
      options: {
        basedir: { type: 'string', multiple: true },
        data: { type: 'string' },
        transport: { type: 'string' },
        'uid-map': { type: 'string', multiple: true },
        'gid-map': { type: 'string', multiple: true },
        squash: { type: 'string' },
        upperdir: { type: 'string' },
        workdir: { type: 'string' },
        verity: { type: 'string' },
        'verify-engine': { type: 'string' },
        'verify-at': { type: 'string' },
        digest: { type: 'string' },
        options: { type: 'string', short: 'o', multiple: true },
        foreground: { type: 'boolean', short: 'f' },
        threads: { type: 'string' },
        poll: { type: 'string' },
        single: { type: 'boolean', short: 's' },
        'log-level': { type: 'string' },
        'log-format': { type: 'string' },
        'log-file': { type: 'string' },
        'pid-file': { type: 'string' },
        debug: { type: 'boolean', short: 'd' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
        'no-mtab': { type: 'boolean', short: 'n' },
        verbose: { type: 'boolean', short: 'v' },
        types: { type: 'string', short: 't' },
      },
    });
  } catch (error) {
    throw new UsageError(`${firstSentence(error)}; see composefs-fuse --help`);
  }
}

function positionalPaths(
  positionals: readonly string[],
  source: string | undefined,
): { image: string; mountpoint: string } {
  const [first, second, third] = positionals;
  if (positionals.includes('')) throw new UsageError('IMAGE or MOUNTPOINT is empty');
  if (third !== undefined) {
    throw new UsageError(
      `superfluous argument ${JSON.stringify(third)}; expected IMAGE MOUNTPOINT`,
    );
  }
  if (first === undefined) throw new UsageError('IMAGE and MOUNTPOINT are missing');
  if (second === undefined) {
    if (source !== undefined) return { image: source, mountpoint: first };
    throw new UsageError('MOUNTPOINT is missing; expected IMAGE MOUNTPOINT, or -o source=IMAGE');
  }
  if (source !== undefined && resolve(source) !== resolve(first)) {
    throw new UsageError(`two images are given: ${first} and -o source=${source}`);
  }
  return { image: first, mountpoint: second };
}

function threadsOf(
  option: string | undefined,
  single: boolean,
  fromMount?: number,
): number | undefined {
  if (option !== undefined) return parseThreads('--threads', option);
  return single ? 1 : fromMount;
}

function transportOf(
  option: string | undefined,
  mount: MountOptions,
  data: DataMode,
  isWritable: boolean,
): TransportName {
  const transport =
    option === undefined ? (mount.transport ?? 'auto') : oneOf('--transport', option, TRANSPORTS);
  if (transport !== 'fuse-native') return transport;
  if (data === 'passthrough' || data === 'overlay') {
    throw new UsageError(`--data ${data} is not possible over --transport fuse-native`);
  }
  if (isWritable) {
    throw new UsageError('--upperdir is not possible over --transport fuse-native');
  }
  if (mount.autoUnmount) {
    throw new UsageError('-o auto_unmount is not possible over --transport fuse-native');
  }
  if (mount.nfsExport) {
    throw new UsageError('-o nfs_export is not possible over --transport fuse-native');
  }
  return transport;
}

/** Maps add up; of --squash the one of the command line wins. */
function ownershipOf(
  values: { 'uid-map'?: string[]; 'gid-map'?: string[]; squash?: string },
  { ownership }: MountOptions,
): OwnershipOptions {
  const given = (name: string) => (value: string) => ({ name, value });
  return {
    ...ownership,
    uidMaps: [...ownership.uidMaps, ...(values['uid-map'] ?? []).map(given('--uid-map'))],
    gidMaps: [...ownership.gidMaps, ...(values['gid-map'] ?? []).map(given('--gid-map'))],
    squash:
      values.squash === undefined ? ownership.squash : { name: '--squash', value: values.squash },
  };
}

/** Absolute paths. */
function writableOf(
  upperdir: string | undefined,
  workdir: string | undefined,
): CommandOptions['writable'] {
  if (upperdir === '' || workdir === '') {
    throw new UsageError(`--${upperdir === '' ? 'upperdir' : 'workdir'} needs a directory`);
  }
  if (upperdir !== undefined && workdir !== undefined) {
    return { upperdir: resolve(upperdir), workdir: resolve(workdir) };
  }
  if (upperdir === undefined && workdir === undefined) return undefined;
  const [given, missing] =
    upperdir === undefined ? ['workdir', 'upperdir'] : ['upperdir', 'workdir'];
  throw new UsageError(`--${given} needs --${missing}: a writable layer takes both`);
}

/** The options of the command line win over those behind -o. */
function verificationOf(
  values: { [name: string]: unknown },
  mount: MountOptions,
): CommandOptions['verification'] {
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const [verity, engine, at, hex] = ['verity', 'verify-engine', 'verify-at', 'digest'].map(text);
  const chosen = verity === undefined ? mount.verity : oneOf('--verity', verity, VERITY_POLICIES);
  const digest = hex === undefined ? mount.digest : parseDigest('--digest', hex);
  if (digest !== undefined && chosen !== undefined && chosen !== 'require') {
    throw new UsageError(`--digest demands --verity require, but ${chosen} is given`);
  }
  return {
    digest,
    policy: chosen ?? (digest === undefined ? 'if-present' : 'require'),
    engine:
      engine === undefined
        ? (mount.verifyEngine ?? 'auto')
        : oneOf('--verify-engine', engine, VERIFY_ENGINES),
    at: at === undefined ? (mount.verifyAt ?? 'open') : oneOf('--verify-at', at, VERIFY_TIMES),
  };
}

function absolute(name: string, path: string | undefined): string | undefined {
  if (path === '') throw new UsageError(`${name} needs a file name`);
  return path === undefined ? undefined : resolve(path);
}
