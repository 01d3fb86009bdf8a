// All engines against each other and against Debian's fsverity, around every boundary of the tree,
// with every block size and with salts.

import { spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nobleEngine } from '../../../src/verify/engine-noble.ts';
import { encodeDescriptor } from '../../../src/verify/descriptor.ts';
import { measureBytes, measureFile } from '../../../src/verify/measure.ts';
import { measureFiles } from '../../../src/verify/measure-files.ts';
import { resolveParameters, toHex } from '../../../src/verify/parameters.ts';
import type { DigestAlgorithm } from '../../../src/verify/parameters.ts';
import { describeWith } from '../../support/requirements.ts';
import type { Requirement } from '../../support/requirements.ts';
import { algorithms, enginesOf, patterned, seeded, temporaryFolder, writeTo } from './content.ts';

const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const random = seeded(seed);
const blockSizes = [1024, 2048, 4096, 8192, 16384, 32768, 65536];
const folder = temporaryFolder();

const needsFsverity: Requirement = {
  what: 'fsverity (Debian package fsverity)',
  isMet: () => spawnSync('fsverity', ['--version']).status === 0,
};

function randomBytes(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = random() * 256;
  return bytes;
}

/** Around the ends of blocks, of groups that are hashed side by side, and of levels. */
function boundarySizes(algorithm: DigestAlgorithm, blockSize: number): number[] {
  const arity = blockSize / (algorithm === 'sha256' ? 32 : 64);
  const blocks = [1, 2, 3, 4, 5, 7, 8, 9, arity, arity + 1, 2 * arity];
  return blocks
    .flatMap((count) => [count * blockSize - 1, count * blockSize, count * blockSize + 1])
    .filter((size) => size <= 1_200_000);
}

describe.each(algorithms)(`%s (SEED=${seed})`, (algorithm) => {
  it('gives the same digest by every engine around every boundary', () => {
    for (const blockSize of [1024, 4096]) {
      for (const size of boundarySizes(algorithm, blockSize)) {
        const bytes = patterned(size);
        const digests = enginesOf(algorithm).map(
          (engine) => measureBytes(bytes, { algorithm, blockSize, engine }).hex,
        );
        expect(new Set(digests).size, `${size} bytes, blocks of ${blockSize}`).toBe(1);
      }
    }
  });

  it('gives the same digest by every engine for random sizes, block sizes and salts', async () => {
    for (let i = 0; i < 20; i++) {
      const bytes = randomBytes(Math.floor(random() ** 3 * 300_000));
      const blockSize = blockSizes[Math.floor(random() * blockSizes.length)]!;
      const salt = randomBytes(Math.floor(random() * 33));
      const path = writeTo(folder, 'random', bytes);
      const digests = new Set<string>();
      for (const engine of enginesOf(algorithm)) {
        const options = { algorithm, blockSize, salt, engine };
        digests.add(measureBytes(bytes, options).hex);
        digests.add((await measureFile(path, options)).hex);
        for await (const { hex } of measureFiles([path], options)) digests.add(hex);
      }
      expect(digests.size, `round ${i}: ${bytes.length} bytes, blocks of ${blockSize}`).toBe(1);
    }
  });

  it('tells zeros at the end from the padding', () => {
    const sizes = [1, 2, 4095, 4096, 4097, 8191, 8192, 128 * 4096, 129 * 4096];
    for (const engine of enginesOf(algorithm)) {
      const digests = sizes.map((size) => {
        const bytes = new Uint8Array(size);
        bytes[0] = 1;
        return measureBytes(bytes, { algorithm, engine }).hex;
      });
      expect(new Set(digests).size).toBe(sizes.length);
    }
  });

  it('takes an unaligned part of a larger array', () => {
    const bytes = patterned(70_001);
    for (const engine of enginesOf(algorithm)) {
      const whole = measureBytes(bytes.slice(13, 60_000), { algorithm, engine });
      expect(measureBytes(bytes.subarray(13, 60_000), { algorithm, engine })).toEqual(whole);
    }
  });

  it('gives the same digest for a file of several ranges, also a sparse one', async () => {
    const path = writeTo(folder, 'large', patterned(1 << 20));
    truncateSync(path, (1 << 20) * 13 + 5);
    const bytes = readFileSync(path);
    const digests = new Set<string>();
    for (const engine of enginesOf(algorithm)) {
      if (engine !== nobleEngine) digests.add(measureBytes(bytes, { algorithm, engine }).hex);
      if (engine.files === undefined) continue;
      for (const concurrency of [1, 4]) {
        digests.add((await measureFile(path, { algorithm, engine, concurrency })).hex);
      }
    }
    expect(digests.size).toBe(1);
  });
});

describeWith([needsFsverity], 'fsverity of Debian', () => {
  const digestOf = (path: string, algorithm: DigestAlgorithm, ...options: string[]): string => {
    const result = spawnSync('fsverity', [
      'digest',
      '--compact',
      `--hash-alg=${algorithm}`,
      ...options,
      path,
    ]);
    expect(String(result.stderr)).toBe('');
    return String(result.stdout).trim();
  };

  it.each(algorithms)(
    'gives the same digests with %s, every block size and salt',
    async (algorithm) => {
      const engines = enginesOf(algorithm);
      for (const blockSize of blockSizes) {
        for (const size of [
          0,
          1,
          blockSize,
          blockSize + 1,
          3 * blockSize - 1,
          40 * blockSize + 77,
        ]) {
          const path = writeTo(folder, 'content', randomBytes(size));
          const salt = randomBytes([0, 1, 31, 32][Math.floor(random() * 4)]!);
          const options = [`--block-size=${blockSize}`];
          if (salt.length > 0) options.push(`--salt=${toHex(salt)}`);
          const expected = digestOf(path, algorithm, ...options);
          // One engine for each case: they are compared among themselves above.
          const engine = engines[Math.floor(random() * engines.length)]!;
          const { hex } = await measureFile(path, { algorithm, blockSize, salt, engine });
          expect(hex, `${engine.name}, ${size} bytes, ${options.join(' ')}`).toBe(expected);
        }
      }
    },
  );

  it.each([
    ['sha256', 0],
    ['sha256', 4096],
    ['sha256', 4097],
    ['sha256', 129 * 4096],
    ['sha512', 65 * 4096 + 1],
  ] as const)('writes the same %s tree and descriptor of %i bytes', async (algorithm, size) => {
    const path = writeTo(folder, 'treed', randomBytes(size));
    const files = { tree: join(folder, 'tree'), descriptor: join(folder, 'descriptor') };
    writeFileSync(files.tree, '');
    const options = [`--out-merkle-tree=${files.tree}`, `--out-descriptor=${files.descriptor}`];
    const hex = digestOf(path, algorithm, ...options);
    const { tree, hex: ours } = await measureFile(path, { algorithm, tree: true });
    expect(ours).toBe(hex);
    expect(toHex(tree.digest)).toBe(hex);
    const descriptor = encodeDescriptor(resolveParameters({ algorithm }), size, tree.rootHash);
    expect(Buffer.compare(descriptor, readFileSync(files.descriptor))).toBe(0);
    expect(Buffer.compare(tree.toBytes(), readFileSync(files.tree))).toBe(0);
  });
});
