// The ways to mount that mount.composefs knows, one after the other: the first that gives all that is
// asked for is taken. docs/mounting.md has the table of what each one guarantees.

import { fileURLToPath } from 'node:url';
import { ImageDigestError } from '../errors.ts';
import { adminScope } from '../fuse/caller.ts';
import { isStacked } from '../fuse/data-mode.ts';
import {
  type KernelMountPlan,
  mountByKernel,
  whyDistorted,
  whyNotByKernel,
  whyNotVerified,
} from '../kernel-mount/kernel-mount.ts';
import { isLinux } from '../kernel-mount/linux-version.ts';
import type { NativeAddon } from '../native.ts';
import type { VerityPolicy } from '../objects/verification.ts';
import { startDaemon } from './background.ts';
import { ExitCode } from './exit-code.ts';
import type { Backend, MountRequest } from './mount-composefs-options.ts';

/** composefs-fuse in one file, see scripts/bundle.mjs. */
const DAEMON = './command.cjs';

/** What mounting needs of the system, opened once for all rungs. */
export interface Sources {
  image: KernelMountPlan['image'];
  /** The image file, open for reading. */
  imageFd: number;
  basedirFds: readonly number[];
  idmapFd: number | undefined;
}

/** What became of one rung. */
export interface Attempt {
  backend: Backend;
  /** How, if it was taken; else why not. */
  text: string;
}

export interface Climb {
  /** Undefined if no rung could be taken. */
  taken: Attempt | undefined;
  refused: Attempt[];
}

type Rung = () => Promise<{ how: string } | { reason: string }>;

/** Tries one rung after the other. Throws ImageDigestError, since no rung mounts another image. */
export async function climb(
  native: NativeAddon,
  request: MountRequest,
  sources: Sources,
): Promise<Climb> {
  const refused: Attempt[] = [];
  for (const [backend, rung] of rungsOf(native, request, sources)) {
    const outcome = await rung();
    if ('how' in outcome) return { taken: { backend, text: outcome.how }, refused };
    refused.push({ backend, text: outcome.reason });
  }
  return { taken: undefined, refused };
}

function rungsOf(native: NativeAddon, request: MountRequest, sources: Sources): [Backend, Rung][] {
  const { backends, mount } = request;
  const kernel =
    (policy: VerityPolicy): Rung =>
    () =>
      byKernel(native, request, sources, policy);
  const rungs: Record<Backend, Rung> = {
    kernel: kernel(mount.verity ?? 'off'),
    overlay: async () => {
      const reason = whyNoOverlay(native, request, sources);
      return reason === undefined
        ? byDaemon(request, 'overlay', 'overlayfs over FUSE')
        : { reason };
    },
    passthrough: async () => {
      const reason = whyNoPassthrough(request);
      const data = mount.data === 'passthrough' ? 'passthrough' : 'auto';
      return reason === undefined
        ? byDaemon(request, data, 'FUSE, with passthrough where no check is lost')
        : { reason };
    },
    fuse: () => byDaemon(request, 'daemon', 'FUSE'),
  };
  const list = backends.map((backend): [Backend, Rung] => [backend, rungs[backend]]);
  // `tryverity` does not fail where nothing can be verified.
  if (mount.verity === 'if-present' && backends.includes('kernel')) {
    list.push(['kernel', kernel('off')]);
  }
  return list;
}

async function byKernel(
  native: NativeAddon,
  request: MountRequest,
  sources: Sources,
  policy: VerityPolicy,
): ReturnType<Rung> {
  const { mount } = request;
  const asked = whatNoOverlayDoes(request) ?? (isChosen(mount.transport) ? 'transport' : undefined);
  if (asked !== undefined) return { reason: `mount option ${asked} asks for FUSE` };
  const plan: KernelMountPlan = {
    ...sources,
    imagePath: request.image,
    mountpoint: request.mountpoint,
    source: mount.fsname ?? request.image,
    basedirs: request.basedirs,
    digest: mount.digest,
    policy,
    acl: mount.acl,
    flags: [...mount.flags],
    kernelOptions: mount.kernelOptions,
    upper: request.upper,
  };
  const obstacle = whyNotByKernel(native, plan);
  if (obstacle !== undefined) return { reason: obstacle };
  const outcome = await mountByKernel(native, plan);
  if ('reason' in outcome) return outcome;
  const source = outcome.from === 'file' ? 'the image file' : 'a loop device';
  return { how: `overlayfs over erofs from ${source}; ${VERIFIES[policy]}` };
}

/** What was asked for that an overlayfs, whatever it is over, does not do. */
function whatNoOverlayDoes({ mount }: MountRequest): string | undefined {
  if (mount.allowOther === 'no') return 'noallow_other';
  if (mount.nfsExport) return 'nfs_export';
  if (mount.verifyEngine === 'user') return 'verify_engine=user';
  if (mount.verifyAt === 'read') return 'verify_at=read';
  if (mount.transport === 'fuse-native') return 'transport=fuse-native';
  return undefined;
}

function isChosen(transport: MountRequest['mount']['transport']): boolean {
  return transport !== undefined && transport !== 'auto';
}

function whyNoOverlay(
  native: NativeAddon,
  request: MountRequest,
  { image, basedirFds }: Sources,
): string | undefined {
  const asked = whatNoOverlayDoes(request);
  if (asked !== undefined) return `mount option ${asked} asks for FUSE without overlayfs`;
  const scope = adminScope(process.pid);
  if (scope === 'none') return 'it takes root or a user namespace (unshare -Urm --map-auto)';
  const distorted = whyDistorted(image);
  if (distorted !== undefined) return distorted;
  if (policyOf(request, 'overlay') === 'off') return undefined;
  if (scope === 'namespace') return 'verity: in a user namespace overlayfs checks nothing';
  return whyNotVerified(native, image, basedirFds);
}

function whyNoPassthrough({ mount, basedirs }: MountRequest): string | undefined {
  if (adminScope(process.pid) !== 'initial') {
    return 'it takes root (CAP_SYS_ADMIN in the initial user namespace)';
  }
  if (!isLinux(6, 9)) return 'it needs Linux 6.9';
  if (mount.verifyAt === 'read') return 'verify_at=read: the kernel would read unchecked';
  if (mount.transport === 'fuse-native') return 'transport=fuse-native has none';
  if (basedirs.some(isStacked) && mount.data !== 'passthrough') {
    return 'a base directory is on an overlayfs; data=passthrough does it all the same';
  }
  return undefined;
}

/** Starts composefs-fuse in the background. Throws ImageDigestError. */
async function byDaemon(
  request: MountRequest,
  data: 'overlay' | 'auto' | 'passthrough' | 'daemon',
  name: string,
): ReturnType<Rung> {
  if (request.idmap !== undefined) return { reason: 'idmap: only the kernel maps owners' };
  const policy = policyOf(request, data);
  const options = [
    // Flags of mount(8) that are not given are not meant, and mounts are stacked.
    'suid,dev,nonempty',
    ...request.words,
    ...(request.upper === undefined ? [] : upperWords(request.upper)),
  ].join(',');
  const args = ['--data', data, '--verity', policy, '-o', options];
  const script = fileURLToPath(new URL(DAEMON, import.meta.url));
  const readiness = await startDaemon(script, [...args, '--', request.image, request.mountpoint]);
  if (readiness.ready) return { how: `${name}; ${VERIFIES[policy]}` };
  if (readiness.exitCode === ExitCode.DIGEST) {
    const { path = '', expected = '', actual = '' } = readiness;
    throw new ImageDigestError(path, expected, actual);
  }
  return { reason: readiness.message };
}

const VERIFIES: Record<VerityPolicy, string> = {
  off: 'nothing is verified',
  'if-present': 'objects with a digest are verified',
  require: 'objects are verified',
};

/** Where nothing is said, the rungs on which we read verify all the same: it takes nothing away. */
function policyOf({ mount }: MountRequest, data: string): VerityPolicy {
  return mount.verity ?? (data === 'overlay' ? 'off' : 'if-present');
}

function upperWords([upperdir, workdir]: readonly [string, string]): string[] {
  const escape = (path: string): string => path.replaceAll(/[\\,]/g, String.raw`\$&`);
  return [`upperdir=${escape(upperdir)}`, `workdir=${escape(workdir)}`];
}
