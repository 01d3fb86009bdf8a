// Contents and engines that the tests of src/verify share.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { createNativeEngine, nativeVariants } from '../../../src/verify/engine-native.ts';
import { nobleEngine } from '../../../src/verify/engine-noble.ts';
import { nodeEngine } from '../../../src/verify/engine-node.ts';
import type { DigestEngine } from '../../../src/verify/engine.ts';
import type { DigestAlgorithm } from '../../../src/verify/parameters.ts';

export const algorithms: DigestAlgorithm[] = ['sha256', 'sha512'];

/** Every engine, and every implementation in the addon that this processor can run. */
export function enginesOf(algorithm: DigestAlgorithm): DigestEngine[] {
  return [nobleEngine, nodeEngine, ...nativeVariants(algorithm).map(createNativeEngine)];
}

/** Byte i is (i * 7 + 3) mod 251, as in the specification's vectors. */
export function patterned(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = (i * 7 + 3) % 251;
  return bytes;
}

/** A folder that goes away after the file's tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'composefs-verify-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function writeTo(folder: string, name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Numbers in [0, 1) that a seed determines (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), 1 | state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
}
