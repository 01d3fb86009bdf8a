// The fs-verity SHA-256 digest of a file: the kernel's where it has one, else computed.

import { realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AddonError, Errno, InputError } from '../errors.ts';
import { loadNative, type NativeAddon, OBJECT_FACTS } from '../native.ts';
import { describeErrno } from '../objects/system-errors.ts';
import { DigestAlgorithm } from '../image-reader/index.ts';
import { measureFile, toHex } from '../verify/index.ts';
import { cannotOpen } from './load-image.ts';

export interface FileDigest {
  readonly hex: string;
  readonly sizeBytes: number;
  /** The kernel keeps the digest, and the file cannot change. */
  readonly isKernels: boolean;
}

/** Throws InputError, worded as the reference's messages. */
export async function digestOfFile(path: string): Promise<FileDigest> {
  let sizeBytes: number;
  let isFile: boolean;
  let target: string;
  try {
    target = realpathSync(path);
    const facts = statSync(target);
    sizeBytes = facts.size;
    isFile = facts.isFile();
  } catch (cause) {
    throw cannotOpen(path, cause);
  }
  if (!isFile) throw cannotMeasure(path, describeErrno(Errno.ENODATA));
  const hex = kernelDigest(target);
  if (hex !== undefined) return { hex, sizeBytes, isKernels: true };
  try {
    const measured = await measureFile(target);
    return { hex: measured.hex, sizeBytes: measured.sizeBytes, isKernels: false };
  } catch (error) {
    const code = /\((E[A-Z0-9]+)\)$/.exec((error as Error).message)?.[1];
    if (code === undefined) throw error;
    const errno = Errno[code as keyof typeof Errno] as number | undefined;
    const cause = errno === undefined ? error : Object.assign(new Error(code), { errno: -errno });
    throw cannotOpen(path, cause);
  }
}

/** `target` has no symlink. undefined where the kernel has no SHA-256 digest, or without the addon. */
function kernelDigest(target: string): string | undefined {
  const native = tryNative();
  if (native === undefined) return undefined;
  const basedir = native.openBasedir(dirname(target));
  if (basedir < 0) return undefined;
  const name = new TextEncoder().encode(basename(target));
  const fd = native.openObject(basedir, name, name.length, new BigInt64Array(OBJECT_FACTS.WORDS));
  native.closeDescriptor(basedir);
  if (fd < 0) return undefined;
  const digest = new Uint8Array(64);
  const result = native.measureVerity(fd, digest);
  native.closeDescriptor(fd);
  if (result < 0 || result >>> 16 !== DigestAlgorithm.SHA256) return undefined;
  return toHex(digest.subarray(0, result & 0xffff));
}

function tryNative(): NativeAddon | undefined {
  try {
    return loadNative();
  } catch (error) {
    if (error instanceof AddonError) return undefined;
    throw error;
  }
}

function cannotMeasure(path: string, reason: string): InputError {
  return new InputError(`failed to measure '${path}': ${reason}`, path);
}
