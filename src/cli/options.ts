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
import { type TransportName, TRANSPORTS } from '../fuse/transport-names.ts';
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

export const HELP: string = `Usage: composefs-fuse [options] IMAGE MOUNTPOINT
       composefs-fuse -o source=IMAGE,basedir=DIR[,…] MOUNTPOINT
       composefs-fuse doctor [--basedir DIR]… [--json]

Mounts a composefs image through FUSE. Returns when the mount is ready and serves in the background.
doctor says what works on this machine, and what to do about the rest (composefs-fuse doctor --help).

  --basedir DIR[:DIR…]  directory of objects; several are searched in order (repeatable)
  --verity POLICY       which objects are verified: off, if-present (those whose digest the image
                        gives, the default), require (all; one without a digest cannot be opened)
  --verify-engine NAME  auto (the kernel's fs-verity, else hashing here; the default), kernel, user
  --verify-at WHEN      open (a bad object cannot be opened, the default) or read (a bad block cannot
                        be read, and opening costs no request)
  --digest HEX          mount only if the image has this fs-verity digest (64 hex digits of SHA-256 or 128
                        of SHA-512, also with sha256: or sha512: before them); makes --verity require
  --data MODE           who reads objects: auto (the kernel by itself where that takes no check away, the
                        default), passthrough (the kernel, also objects that are hashed only when they
                        are opened), daemon, overlay (the kernel, through an overlayfs over this
                        mount; needs root or a user namespace, and --verity off or objects with
                        fs-verity)
  -o OPTION[,OPTION…]   mount options, see below
  --poll MICROSECONDS   how long a thread looks for the next request before it sleeps: 0 (never) to 1000;
                        by default it does so while it pays
  -f, --foreground      stay in the foreground and log to standard error
  --transport NAME      how requests come: auto (the default: io_uring if it can be had, else device),
                        device (/dev/fuse), io_uring (Linux 6.14, where the administrator has switched
                        it on), fuse-native (the npm package of that name, over libfuse 2)
  --threads N           serving threads, 1 to 64 (default 2; with io_uring one per CPU, 8 at most);
                        -s means 1
  --log-level LEVEL     ${LOG_LEVELS.join(', ')} (default info)
  --log-format FORMAT   ${LOG_FORMATS.join(', ')} (default auto: text on a terminal, else JSON)
  --log-file FILE       append the log to FILE (in the background the default is syslog)
  --pid-file FILE       write the daemon's process id to FILE while it serves
  -d, --debug           foreground, with --log-level debug
  -h, --help            show this text
  -V, --version         show the version
  -n, -v, -t TYPE       accepted for mount(8)

Mount options:
  basedir=DIR[:DIR…]    as --basedir
  verity, tryverity, noverity, verity=POLICY, verity_check=0|1|2,
  verify_engine=NAME, verify_at=WHEN, digest=HEX, data=MODE, transport=NAME
                        as the options above
  source=IMAGE          the image, when only MOUNTPOINT is given
  allow_other           let other users in: the default for root and inside a user namespace;
                        an ordinary user needs user_allow_other in /etc/fuse.conf
  noallow_other         let only the mounting user in
  noacl                 hide POSIX ACLs and do not enforce them
  suid, dev, noexec     as in mount(8); nosuid and nodev are the default
  fsname=NAME           first column of the mount table (default: IMAGE)
  max_read=BYTES        largest read request
  context=LABEL, …      SELinux contexts, as in mount(8)
  auto_unmount          unmount also when the daemon is killed (always so with --data overlay)
  nonempty              mount even over another FUSE mount

Exit codes: 0 mounted, and cleanly unmounted with -f; 1 usage; 2 image not usable;
3 base directory, mountpoint, log or pid file not usable; 4 mounting failed; 5 the image does not have
the digest asked for; 70 internal error.
`;

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
  refuseContradictions(data, verification, mount);
  const transport = transportOf(values.transport, mount, data);
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
): TransportName {
  const transport =
    option === undefined ? (mount.transport ?? 'auto') : oneOf('--transport', option, TRANSPORTS);
  if (transport !== 'fuse-native') return transport;
  if (data === 'passthrough' || data === 'overlay') {
    throw new UsageError(`--data ${data} is not possible over --transport fuse-native`);
  }
  if (mount.autoUnmount) {
    throw new UsageError('-o auto_unmount is not possible over --transport fuse-native');
  }
  return transport;
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
