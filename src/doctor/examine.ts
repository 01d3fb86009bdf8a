// Makes all checks, in their order, and puts what they found together.

import { release } from 'node:os';
import { loadNative, type NativeAddon } from '../native.ts';
import { judgeBasedir, noBasedir } from './basedirs.ts';
import { type Caller, lookAtCaller } from './caller.ts';
import { CHECKS, type CheckId, fail, type Finding, skip, type Verdict } from './finding.ts';
import { checkDevice, checkHelper, checkRing, checkSettings } from './fuse-access.ts';
import { checkAddon, checkKernel, checkMountHelper, checkOpenFiles } from './machine.ts';
import { checkMounts, MOUNT_CHECKS, whyNothingTried } from './mounts.ts';
import { checkApparmor, checkSubids, checkUserNamespaces, tryUserNamespace } from './namespaces.ts';
import { bestRungs, type Rungs } from './rung.ts';
import { isInside, makeSample, removeSample, type Sample } from './sample.ts';
import { tryBasedirAt } from './trials.ts';

/** All that was found. */
export interface Examination {
  kernel: string;
  caller: Caller;
  findings: Finding[];
  rungs: Rungs;
}

/** `basedirs` are absolute paths; `onCheck` is told what is looked at. Nothing is changed by it. */
export async function examine(
  basedirs: readonly string[],
  onCheck: (what: string) => void,
): Promise<Examination> {
  const caller = lookAtCaller();
  const native = loadOrError();
  const findings: Finding[] = [];
  const add = async (id: CheckId, check: () => Verdict | Promise<Verdict>): Promise<void> => {
    findings.push({ id, ...(await attempt(check)) });
  };

  await add('kernel', checkKernel);
  await add('addon', () => checkAddon(native));
  await add('open-files', checkOpenFiles);
  await add('mount-helper', checkMountHelper);
  await add('dev-fuse', checkDevice);
  await add('fusermount3', () => checkHelper(caller));
  await add('fuse-conf', () => checkSettings(caller));
  onCheck('user namespaces');
  const tried = await tryUserNamespace();
  const hasNamespaces = tried?.code === 0;
  await add('user-namespaces', () => checkUserNamespaces(tried));
  await add('subids', () => checkSubids(caller, hasNamespaces));
  await add('apparmor-userns', () => checkApparmor(hasNamespaces));
  await add('io-uring', () => (native instanceof Error ? WITHOUT_ADDON : checkRing(native)));
  findings.push(...(await examineBasedirs(native, basedirs, onCheck)));
  const usable = basedirs.filter((path) =>
    findings.some(
      ({ id, subject, state }) => id === 'basedir' && subject === path && state !== 'fail',
    ),
  );
  const obstacle =
    native instanceof Error
      ? WITHOUT_ADDON.found
      : whyNothingTried(caller, tried !== undefined, hasNamespaces);
  findings.push(...(await examineMounts(caller, usable, hasNamespaces, obstacle, onCheck)));

  findings.sort((a, b) => CHECKS.indexOf(a.id) - CHECKS.indexOf(b.id));
  return { kernel: release(), caller, findings, rungs: bestRungs(findings, caller) };
}

/** What a check cannot cope with (no /proc, say) is a finding too. */
async function attempt(check: () => Verdict | Promise<Verdict>): Promise<Verdict> {
  try {
    return await check();
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const WITHOUT_ADDON = skip('the addon is not there');

function loadOrError(): NativeAddon | Error {
  try {
    return loadNative();
  } catch (error) {
    return error as Error;
  }
}

async function examineBasedirs(
  native: NativeAddon | Error,
  basedirs: readonly string[],
  onCheck: (what: string) => void,
): Promise<Finding[]> {
  if (basedirs.length === 0) return noBasedir();
  const findings: Finding[] = [];
  for (const path of basedirs) {
    onCheck(path);
    if (native instanceof Error) {
      const ids = ['basedir', 'basedir-verity', 'basedir-reflink'] as const;
      findings.push(...ids.map((id) => ({ id, subject: path, ...WITHOUT_ADDON })));
    } else {
      findings.push(...judgeBasedir(path, await tryBasedirAt(path)));
    }
  }
  return findings;
}

async function examineMounts(
  caller: Caller,
  basedirs: readonly string[],
  hasNamespaces: boolean,
  obstacle: string | undefined,
  onCheck: (what: string) => void,
): Promise<Finding[]> {
  const allSkipped = (why: string): Finding[] => MOUNT_CHECKS.map((id) => ({ id, ...skip(why) }));
  if (obstacle !== undefined) return allSkipped(obstacle);
  onCheck('mounts');
  let sample: Sample | undefined;
  const remove = (): void => {
    if (sample !== undefined) removeSample(sample.folder);
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    remove();
    process.kill(process.pid, signal);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, onSignal);
  try {
    sample = makeSample();
    if (sample === undefined) {
      return allSkipped('no temporary directory can be written to; set TMPDIR');
    }
    const made = sample;
    const layers = basedirs.filter((path) => !isInside(made, path));
    return await checkMounts({ caller, sample, basedirs: layers, hasNamespaces });
  } finally {
    for (const signal of signals) process.removeListener(signal, onSignal);
    remove();
  }
}
