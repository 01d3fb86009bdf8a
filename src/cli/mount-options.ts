// The words that may stand behind -o: ours, those of mount(8) and those that users of libfuse
// programs pass. Every word is known or refused by name.

import { UsageError } from '../errors.ts';
import { DATA_MODES, type DataMode } from '../fuse/data-mode.ts';
import { MountFlag, type MountFlagName } from '../fuse/mounting.ts';
import { type TransportName, TRANSPORTS } from '../fuse/transport-names.ts';
import {
  VERIFY_ENGINES,
  VERIFY_TIMES,
  type VerifyAt,
  type VerifyEngine,
  VERITY_POLICIES,
  type VerityPolicy,
} from '../objects/verification.ts';
import {
  applyOwnershipOption,
  emptyOwnershipOptions,
  isOwnershipOption,
  type OwnershipOptions,
} from './ownership-options.ts';

/** What a list of mount options says. Absent means: not mentioned. */
export interface MountOptions {
  source?: string;
  basedirs: string[];
  flags: Set<MountFlagName>;
  allowOther: 'yes' | 'no' | 'where-permitted';
  acl: boolean;
  ownership: OwnershipOptions;
  /** Directories of the writable layer. */
  upperdir?: string;
  workdir?: string;
  verity?: VerityPolicy;
  verifyEngine?: VerifyEngine;
  verifyAt?: VerifyAt;
  digest?: string;
  data?: DataMode;
  transport?: TransportName;
  fsname?: string;
  maxRead?: number;
  threads?: number;
  allowStacking: boolean;
  /** Unmount also when the daemon is killed. */
  autoUnmount: boolean;
  /** File handles, for an NFS server. */
  nfsExport: boolean;
  debug: boolean;
  kernelOptions: string[];
}

export function emptyMountOptions(): MountOptions {
  return {
    basedirs: [],
    // As for every FUSE mount; -o suid and -o dev take them away where the mounter may.
    flags: new Set(['nosuid', 'nodev']),
    allowOther: 'where-permitted',
    acl: true,
    ownership: emptyOwnershipOptions(),
    allowStacking: false,
    autoUnmount: false,
    nfsExport: false,
    debug: false,
    kernelOptions: [],
  };
}

/** A word that is none of those known here. */
export class UnknownOptionError extends UsageError {
  readonly option: string;
  constructor(option: string, program = 'composefs-fuse') {
    super(`unknown mount option ${JSON.stringify(option)}; see ${program} --help`);
    this.option = option;
  }
}

/** Words that take a mount flag away again. */
const FLAG_REMOVERS: Readonly<Record<string, MountFlagName>> = {
  suid: 'nosuid',
  dev: 'nodev',
  exec: 'noexec',
  atime: 'noatime',
  diratime: 'nodiratime',
  async: 'sync',
  norelatime: 'relatime',
  nostrictatime: 'strictatime',
  symfollow: 'nosymfollow',
};

/**
 * Words without effect here, each for a reason: `rw` because mount(8) passes it by default and the
 * tree stays read-only; caching and permission words because that is always so; words that mount(8)
 * and systemd keep for themselves.
 */
const ACCEPTED_WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  'rw',
  'default_permissions',
  'kernel_cache',
  'auto_cache',
  'async_read',
  'noforget',
  'clone_fd',
  'entry_timeout',
  'attr_timeout',
  'negative_timeout',
  'ac_attr_timeout',
  'max_idle_threads',
  'max_background',
  'congestion_threshold',
  'max_readahead',
  'subtype',
  'defaults',
  'auto',
  'noauto',
  'user',
  'nouser',
  'users',
  'owner',
  'group',
  'nofail',
  '_netdev',
  'comment',
  'uhelper',
  'helper',
  'loud',
  'silent',
  'lazytime',
  'nolazytime',
  'iversion',
  'noiversion',
  'nomand',
  'big_writes',
  'intr',
  'nointr',
]);

/** SELinux labels; the kernel interprets them. */
const KERNEL_OPTIONS: ReadonlySet<string> = new Set([
  'context',
  'fscontext',
  'defcontext',
  'rootcontext',
]);

/** Reads one -o list into `into`. Throws UsageError naming the word that is not understood. */
export function parseMountOptions(list: string, into: MountOptions): void {
  for (const option of splitEscaped(list, ',')) {
    if (option === '') continue;
    const equals = option.indexOf('=');
    const name = equals < 0 ? option : option.slice(0, equals);
    const value = equals < 0 ? undefined : option.slice(equals + 1);
    applyOption(name, value === undefined ? undefined : unescape(value), into);
  }
}

function applyOption(name: string, value: string | undefined, into: MountOptions): void {
  const remover = Object.hasOwn(FLAG_REMOVERS, name) ? FLAG_REMOVERS[name] : undefined;
  if (remover !== undefined) {
    refuseValue(name, value);
    into.flags.delete(remover);
  } else if (Object.hasOwn(MountFlag, name)) {
    refuseValue(name, value);
    into.flags.add(name as MountFlagName);
  } else if (KERNEL_OPTIONS.has(name)) {
    into.kernelOptions.push(`${name}=${requireValue(name, value)}`);
  } else if (isOwnershipOption(name)) {
    applyOwnershipOption(name, requireValue(name, value), into.ownership);
  } else if (!applyOwnOption(name, value, into) && !isIgnored(name)) {
    throw new UnknownOptionError(name);
  }
}

/** False if `name` is none of this program's words. */
function applyOwnOption(name: string, value: string | undefined, into: MountOptions): boolean {
  switch (name) {
    case 'source':
      into.source = requireValue(name, value);
      return true;
    case 'basedir':
      into.basedirs.push(...splitBasedirs(requireValue(name, value)));
      return true;
    case 'remount':
      throw new UsageError('a mount is remounted with `mount -i -o remount,… MOUNTPOINT`');
    case 'allow_other':
      refuseValue(name, value);
      into.allowOther = 'yes';
      return true;
    case 'noallow_other':
      refuseValue(name, value);
      into.allowOther = 'no';
      return true;
    case 'acl':
    case 'noacl':
      refuseValue(name, value);
      into.acl = name === 'acl';
      return true;
    case 'upperdir':
    case 'workdir':
      into[name] = requireValue(name, value);
      return true;
    case 'verity':
      into.verity =
        value === undefined ? 'require' : oneOf('mount option verity', value, VERITY_POLICIES);
      return true;
    case 'tryverity':
    case 'noverity':
      refuseValue(name, value);
      into.verity = name === 'noverity' ? 'off' : 'if-present';
      return true;
    case 'verity_check':
      into.verity = VERITY_POLICIES[parseNumber('mount option verity_check', value ?? '', 0, 2)]!;
      return true;
    case 'verify_engine':
      into.verifyEngine = oneOf(`mount option ${name}`, requireValue(name, value), VERIFY_ENGINES);
      return true;
    case 'verify_at':
      into.verifyAt = oneOf(`mount option ${name}`, requireValue(name, value), VERIFY_TIMES);
      return true;
    case 'data':
      into.data = oneOf(`mount option ${name}`, requireValue(name, value), DATA_MODES);
      return true;
    case 'transport':
      into.transport = oneOf(`mount option ${name}`, requireValue(name, value), TRANSPORTS);
      return true;
    case 'digest':
      into.digest = parseDigest('mount option digest', requireValue(name, value));
      return true;
    case 'fsname':
      into.fsname = requireValue(name, value);
      return true;
    case 'max_read':
      into.maxRead = parseNumber('mount option max_read', requireValue(name, value), 4096, 1 << 30);
      return true;
    case 'max_threads':
      into.threads = parseThreads('mount option max_threads', requireValue(name, value));
      return true;
    case 'nonempty':
      refuseValue(name, value);
      into.allowStacking = true;
      return true;
    case 'auto_unmount':
      refuseValue(name, value);
      into.autoUnmount = true;
      return true;
    case 'nfs_export':
      refuseValue(name, value);
      into.nfsExport = true;
      return true;
    case 'debug':
      into.debug = true;
      return true;
    default:
      return false;
  }
}

function isIgnored(name: string): boolean {
  return ACCEPTED_WITHOUT_EFFECT.has(name) || /^x-/i.test(name);
}

export function requireValue(name: string, value: string | undefined): string {
  if (value === undefined || value === '') {
    throw new UsageError(`mount option ${name} needs a value: ${name}=…`);
  }
  return value;
}

function refuseValue(name: string, value: string | undefined): void {
  if (value !== undefined) throw new UsageError(`mount option ${name} takes no value`);
}

/** `a:b:c` to three directories. A backslash quotes a colon; empty parts are an error. */
export function splitBasedirs(value: string): string[] {
  return splitEscaped(value, ':').map((part) => {
    if (part === '') {
      throw new UsageError(
        `basedir ${JSON.stringify(value)} has an empty part; expected DIR[:DIR…]`,
      );
    }
    return unescape(part);
  });
}

export function parseThreads(name: string, text: string): number {
  return parseNumber(name, text, 1, 64);
}

/** A whole number in a range. Throws UsageError naming both. */
export function parseNumber(name: string, text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) {
    throw new UsageError(`${name} is ${JSON.stringify(text)}; expected ${least} to ${most}`);
  }
  return value;
}

/** An fs-verity digest of SHA-256 or SHA-512, in lower case. Throws UsageError. */
export function parseDigest(name: string, text: string): string {
  // As composefs-fuse prints them, but never the digest of one algorithm under the name of another.
  const match =
    /^(?:sha256:([0-9a-f]{64})|sha512:([0-9a-f]{128})|([0-9a-f]{64}|[0-9a-f]{128}))$/i.exec(text);
  const hex = match?.[1] ?? match?.[2] ?? match?.[3];
  if (hex !== undefined) return hex.toLowerCase();
  throw new UsageError(
    `${name} is ${JSON.stringify(text)}; expected 64 hex digits (SHA-256) or 128 (SHA-512)`,
  );
}

/** One of some words. Throws UsageError naming them. */
export function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found !== undefined) return found;
  throw new UsageError(`${name} is ${JSON.stringify(value)}; expected ${allowed.join(', ')}`);
}

/** Splits at `separator` except where a backslash stands before it; keeps the backslashes. */
export function splitEscaped(text: string, separator: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (character === '\\' && i + 1 < text.length) {
      part += character + text[++i]!;
    } else if (character === separator) {
      parts.push(part);
      part = '';
    } else {
      part += character;
    }
  }
  parts.push(part);
  return parts;
}

/** Takes the backslashes away that quote something. */
export function unescape(text: string): string {
  return text.replace(/\\(.)/gs, '$1');
}
