// How paths go to the addon in batches, and how its answers become results and errors.

import { Errno, errnoName, FileChangedError, InputError } from '../errors.ts';
import { MEASURED, VERITY_STATUS } from '../native.ts';
import { toHex } from './parameters.ts';
import type { DigestAlgorithm, VerityParameters } from './parameters.ts';

/** A path, as bytes where it is not valid UTF-8. */
export type FilePath = string | Uint8Array;

export interface Measurement {
  algorithm: DigestAlgorithm;
  digest: Uint8Array;
  /** `digest` in lower-case hex. */
  hex: string;
  sizeBytes: number;
}

/**
 * Larger files are measured alone, in ranges: a piece of work of 64 files must not hold up the
 * others for more than 64 times this, 25 ms.
 */
export const BATCH_FILE_BYTES: number = 1 << 20;

const encoder = new TextEncoder();

/** The name of a file in messages. */
export function describeFile(source: FilePath | number): string {
  if (typeof source === 'number') return `descriptor ${source}`;
  return typeof source === 'string' ? source : new TextDecoder().decode(source);
}

/** Throws TypeError for what is no path. */
export function encodePath(path: FilePath): Uint8Array {
  const bytes = typeof path === 'string' ? encoder.encode(path) : path;
  if (!(bytes instanceof Uint8Array)) throw new TypeError('a path must be a string or Uint8Array');
  if (bytes.includes(0)) throw new TypeError('a path must not contain a NUL');
  return bytes;
}

/** The paths one after the other, a NUL after each. */
export function packPaths(paths: readonly Uint8Array[]): Uint8Array {
  const packed = new Uint8Array(paths.reduce((sum, path) => sum + path.length + 1, 0));
  let at = 0;
  for (const path of paths) {
    packed.set(path, at);
    at += path.length + 1;
  }
  return packed;
}

export function toMeasurement(
  parameters: VerityParameters,
  digest: Uint8Array,
  sizeBytes: number,
): Measurement {
  return { algorithm: parameters.algorithm, digest, hex: toHex(digest), sizeBytes };
}

/** The error for a status of the addon below zero. */
export function toFileError(name: string, status: number): Error {
  if (status === VERITY_STATUS.CHANGED) return new FileChangedError(name);
  return new InputError(`${name}: cannot be read (${errnoName(status)})`, name);
}

/**
 * The measurement in record `index`. undefined for a file that must be measured alone: one over the
 * limit, or one that is not regular, for which that gives the better message. Throws the error of
 * any other.
 */
export function readRecord(
  parameters: VerityParameters,
  records: Uint8Array,
  index: number,
  path: FilePath,
): Measurement | undefined {
  const at = index * MEASURED.SIZE;
  const view = new DataView(records.buffer, records.byteOffset);
  const status = Number(view.getBigInt64(at + MEASURED.STATUS, true));
  if (status >= 0) {
    const start = at + MEASURED.DIGEST;
    return toMeasurement(parameters, records.slice(start, start + parameters.digestSize), status);
  }
  if (status === VERITY_STATUS.TOO_LARGE) return undefined;
  if (status === -Errno.EINVAL || status === -Errno.EISDIR) return undefined;
  throw toFileError(describeFile(path), status);
}
