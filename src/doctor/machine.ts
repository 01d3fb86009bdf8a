// The checks of what mounts stand on: kernel, addon, limit of open files, the helper of mount(8).

import { realpathSync } from 'node:fs';
import { endianness, release } from 'node:os';
import { isLinux } from '../kernel-mount/linux-version.ts';
import { addonPath, type NativeAddon } from '../native.ts';
import { DESCRIPTORS_NEEDED, softDescriptorLimit } from '../objects/descriptor-limit.ts';
import { ok, type Verdict, fail, warn } from './finding.ts';
import { isExecutable, lastWords, run } from './system.ts';

/** Where mount(8) looks for helpers. */
const HELPER = '/sbin/mount.composefs';

export function checkKernel(): Verdict {
  const found = `Linux ${release()} on ${process.arch}`;
  if (endianness() !== 'LE')
    return fail(`${found}, which is big-endian`, 'use a 64-bit little-endian machine');
  return isLinux(5, 4) ? ok(found) : fail(found, 'use Linux 5.4 or later');
}

/** `native` is the addon, or the error of loading it. */
export function checkAddon(native: NativeAddon | Error): Verdict {
  if (native instanceof Error) {
    const { cause } = native;
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : native.message;
    return fail(
      `it cannot be loaded: ${reason}`,
      'run `npm run build:native` in the package directory',
    );
  }
  const variant = native.verityVariants(1)[0] ?? 'none';
  return ok(`${addonPath()} (Node ${process.version}, SHA-256 by ${variant})`);
}

export function checkOpenFiles(): Verdict {
  const limit = softDescriptorLimit();
  const found = `${limit} (${DESCRIPTORS_NEEDED} are needed)`;
  if (limit >= DESCRIPTORS_NEEDED) return ok(found);
  // Whether it is too few to mount at all is seen by mounting.
  return warn(found, '`ulimit -n 1024`, or LimitNOFILE= of the service');
}

export async function checkMountHelper(): Promise<Verdict> {
  if (!isExecutable(HELPER)) {
    return warn(
      `${HELPER} is missing: mount -t composefs and /etc/fstab do not work`,
      'as root, ln -s "$(command -v mount.composefs)" /sbin/',
    );
  }
  const target = realpathSync(HELPER);
  const found = target === HELPER ? HELPER : `${HELPER} is ${target}`;
  const said = await run(HELPER, ['--version']);
  const version = /^mount\.composefs \(composefs-fuse\) \S+/.exec(said.stdout)?.[0];
  if (version !== undefined) return ok(`${found}, ${version}`);
  const reason =
    said.code === 0 ? said.stdout.trim().split('\n')[0] : lastWords(said, 'mount.composefs');
  return warn(
    `${found}, which is not that of composefs-fuse (${reason})`,
    `as root, ln -sf "$(command -v mount.composefs)" /sbin/`,
  );
}
