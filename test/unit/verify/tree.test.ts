// Checking single blocks against a tree that is kept in memory.

import { describe, expect, it } from 'vitest';
import { createNativeEngine } from '../../../src/verify/engine-native.ts';
import { nodeEngine } from '../../../src/verify/engine-node.ts';
import { measureBytes, measureFile } from '../../../src/verify/measure.ts';
import { MerkleBuilder, MerkleTree } from '../../../src/verify/merkle.ts';
import { resolveParameters } from '../../../src/verify/parameters.ts';
import { patterned, temporaryFolder, writeTo } from './content.ts';

const folder = temporaryFolder();

describe.each([nodeEngine, createNativeEngine()])('a tree by $name', (engine) => {
  const size = 300 * 4096 + 100;
  const bytes = patterned(size);
  const path = writeTo(folder, 'content', bytes);
  const treeOf = async (): Promise<MerkleTree> =>
    (await measureFile(path, { engine, tree: true })).tree;

  it('has the digest of the file and 32 bytes for each block', async () => {
    const tree = await treeOf();
    expect(tree.digest).toEqual(measureBytes(bytes, { engine }).digest);
    expect(tree.blockCount).toBe(301);
    expect(tree.leaves.length).toBe(301 * 32);
  });

  it('accepts every block and nothing else', async () => {
    const tree = await treeOf();
    for (let i = 0; i < 301; i++) {
      const block = bytes.slice(i * 4096, (i + 1) * 4096);
      expect(tree.verifyBlock(i, block)).toBe(true);
      expect(tree.verifyBlock((i + 1) % 301, block)).toBe(false);
      block[(i * 131) % block.length]! ^= 1;
      expect(tree.verifyBlock(i, block)).toBe(false);
    }
  });

  it('refuses blocks of a wrong length, also padded with zeros, and indexes beyond the end', async () => {
    const tree = await treeOf();
    const last = bytes.subarray(300 * 4096);
    expect(tree.verifyBlock(300, last)).toBe(true);
    const padded = new Uint8Array(4096);
    padded.set(last);
    expect(tree.verifyBlock(300, padded)).toBe(false);
    expect(tree.verifyBlock(300, last.subarray(1))).toBe(false);
    expect(tree.verifyBlock(0, bytes.subarray(0, 4095))).toBe(false);
    expect(tree.verifyBlock(0, bytes.subarray(0, 8192))).toBe(false);
    for (const index of [-1, 301, 0.5, Number.NaN, 2 ** 40]) {
      expect(tree.verifyBlock(index, bytes.subarray(0, 4096))).toBe(false);
    }
  });

  it('finds the first bad block of several', async () => {
    const tree = await treeOf();
    const copy = bytes.slice();
    expect(tree.findBadBlock(0, copy, 0, size)).toBe(-1);
    expect(tree.findBadBlock(250, copy, 250 * 4096, size - 250 * 4096)).toBe(-1);
    copy[277 * 4096]! ^= 0x80;
    copy[200 * 4096 + 9]! ^= 0x80;
    expect(tree.findBadBlock(0, copy, 0, size)).toBe(200);
    expect(tree.findBadBlock(201, copy, 201 * 4096, 99 * 4096)).toBe(277);
    expect(tree.findBadBlock(278, copy, 278 * 4096, 4096)).toBe(-1);
    expect(tree.findBadBlock(0, copy, 0, 4097)).toBe(1);
  });

  it('of an empty file has no blocks', async () => {
    const empty = writeTo(folder, 'empty', new Uint8Array(0));
    const { tree } = await measureFile(empty, { engine, tree: true });
    expect(tree.blockCount).toBe(0);
    expect(tree.verifyBlock(0, new Uint8Array(0))).toBe(false);
    expect(tree.verifyBlock(0, new Uint8Array(4096))).toBe(false);
    expect(tree.toBytes().length).toBe(0);
  });
});

describe('leaves that do not fit', () => {
  const parameters = resolveParameters();

  it('are refused by a tree', () => {
    expect(() => new MerkleTree(parameters, nodeEngine, 4097, new Uint8Array(32))).toThrow(
      RangeError,
    );
  });

  it('are refused by a builder, also after a part of a block', () => {
    const builder = new MerkleBuilder(parameters, nodeEngine.createHasher(parameters));
    expect(() => builder.appendLeaves(new Uint8Array(31), 4096)).toThrow(RangeError);
    builder.update(new Uint8Array(1));
    expect(() => builder.appendLeaves(new Uint8Array(32), 4096)).toThrow(RangeError);
  });
});
