// Has things tried in processes of their own, in namespaces of their own where they mount, with a time limit.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DataMode } from '../fuse/data-mode.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import type { Caller } from './caller.ts';
import { IN_USER_NAMESPACE, UNSHARE } from './namespaces.ts';
import type { Sample } from './sample.ts';
import { lastWords, run } from './system.ts';

/** Much longer than any of it takes. */
const MOUNT_LIMIT_MS = 20_000;
const BASEDIR_LIMIT_MS = 10_000;

/** A mount of the sample by composefs-fuse, whose file is read then. */
export interface DaemonOrder {
  trial: 'daemon';
  sample: Sample;
  /** Searched behind the sample's. */
  basedirs: readonly string[];
  data: DataMode;
}

/** The same by the kernel. */
export interface KernelOrder {
  trial: 'kernel';
  sample: Sample;
  basedirs: readonly string[];
  /** KERNEL_WAYS of src/native.ts. */
  ways: number;
  policy: VerityPolicy;
}

/** What the filesystem of a base directory can do. */
export interface BasedirOrder {
  trial: 'basedir';
  path: string;
  /** A directory in it that is made, and removed. */
  scratch: string;
}

export type TrialOrder = DaemonOrder | KernelOrder | BasedirOrder;

/** How a mount went: what was seen, or why there was none. */
export type MountResult = { found: string } | { reason: string };

/** What was seen of a base directory. Numbers are 0 or more for success, or -errno. */
export interface BasedirFacts {
  /** statfs(2)'s f_type. */
  filesystem: number;
  isWritable: boolean;
  isStacked: boolean;
  /** Of enabling fs-verity for a new file, and of making a reflink; absent where none can be made. */
  enableVerity?: number;
  reflink?: number;
  /** The first object that was found, and whether fs-verity guards it. */
  object?: { path: string; verity: number };
}

export type BasedirResult = BasedirFacts | { reason: string };

/** Where a mount is tried: with the caller's own rights, or as root of a new user namespace. */
export type Place = 'here' | 'user namespace';

/** The rights with which this caller can mount anything without changing what others see. */
export function placeOf(caller: Caller): Place {
  return caller.scope === 'none' ? 'user namespace' : 'here';
}

export async function tryMount(
  order: DaemonOrder | KernelOrder,
  place: Place,
): Promise<MountResult> {
  const namespaces = place === 'here' ? ['--mount', '--propagation', 'private'] : IN_USER_NAMESPACE;
  return (await tryIn([UNSHARE, ...namespaces], order, MOUNT_LIMIT_MS)) as MountResult;
}

export async function tryBasedirAt(path: string): Promise<BasedirResult> {
  const scratch = join(path, `.composefs-doctor-${randomBytes(6).toString('hex')}`);
  const order: BasedirOrder = { trial: 'basedir', path, scratch };
  const result = (await tryIn([], order, BASEDIR_LIMIT_MS)) as BasedirResult;
  // A trial that was ended has not removed it. Never from this process: the filesystem may hang.
  if ('reason' in result) await run('rm', ['-rf', '--', scratch]);
  return result;
}

/** What the trial said; or a reason why it said nothing. */
async function tryIn(
  wrapper: readonly string[],
  order: TrialOrder,
  limitMs: number,
): Promise<unknown> {
  const script = fileURLToPath(new URL('trial.js', import.meta.url));
  const [program, ...args] = [...wrapper, process.execPath, script, JSON.stringify(order)];
  const ending = await run(program, args, limitMs);
  try {
    return JSON.parse(ending.stdout);
  } catch {
    return { reason: lastWords(ending, program) };
  }
}
