// releaseProgramPages lets go of memory that the files have too, and of nothing else: in a child, since
// a program without its own code does not live to report it.

import { describe, expect, it } from 'vitest';
import { runInChild } from '../support/native-child.ts';

interface Memory {
  before: number;
  after: number;
  kept: boolean;
  digest: string;
}

function release(nodeArgs: string[]): Memory {
  return runInChild<Memory>(
    (native, { require }) => {
      const { readFileSync } = require('node:fs') as typeof import('node:fs');
      const { createHash } = require('node:crypto') as typeof import('node:crypto');
      const resident = (name: string): number => {
        const text = readFileSync('/proc/self/smaps_rollup', 'latin1');
        return Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text)![1]);
      };
      const data = new Uint8Array(1 << 22).fill(7);
      const before = resident('Rss');
      const status = native.releaseProgramPages();
      const after = resident('Rss');
      if (status !== 0) throw new Error(`status ${status}`);
      return {
        before,
        after,
        kept: data.every((byte) => byte === 7),
        digest: createHash('sha256').update('abc').digest('hex'),
      };
    },
    { nodeArgs },
  );
}

describe('releaseProgramPages', () => {
  it.each([[[]], [['--use-largepages=silent']]])(
    'makes the process smaller, which goes on (node %j)',
    (nodeArgs) => {
      const { before, after, kept, digest } = release(nodeArgs);
      expect(before - after).toBeGreaterThan(8 * 1024);
      expect(kept).toBe(true);
      expect(digest).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    },
  );
});
