// Objects that change behind a mount, without any help of the kernel: wrong bytes never reach a
// reader, whenever the change comes, and right ones do.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { flip } from '../support/attacks.mjs';
import { python } from '../support/command.ts';
import { finalCountsOf, refusalsOf } from '../support/daemon-log.ts';
import { talkTo } from '../support/dialogue.ts';
import { directory } from '../support/image-nodes.ts';
import { mountOurs } from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { Random } from '../support/writer-generator.ts';

const BLOCK = 4096;
const ROUNDS = 10;
const FLIPS_PER_ROUND = 100;
const SEED = Number(process.env['SEED'] ?? 1);

const sizes: Readonly<Record<string, number>> = {
  two: 5000,
  eight: 30_000,
  ten: 40_000,
  hundred: 400_000,
  'three groups': 1_500_000,
  'six groups and 14 blocks': 3_200_000,
  'one group and 3 blocks': 536_000,
};

type Blocks = Record<string, number[]>;

interface Answer {
  refused: Blocks;
  wrong: Blocks;
  blocks: number;
}

const blockCount = (size: number): number => Math.ceil(size / BLOCK);
const sorted = (blocks: Iterable<number>): number[] => [...blocks].sort((a, b) => a - b);

describeWith(needsOurMount, 'a change of objects behind a mount', () => {
  const scope = scopeOfEachTest();

  function makeObjects(): SampleImage & { paths: Record<string, string>; good: string } {
    const paths: Record<string, string> = {};
    const good = scope.directory();
    const sample = makeImage(scope, (objects) => {
      const entries = Object.entries(sizes).map(([name, size], number) => {
        const content = patternBytes(size, number);
        writeFileSync(join(good, name), content);
        const node = objects.add(content);
        paths[name] = objects.at(String(node.redirect));
        return [name, node] as const;
      });
      return directory(Object.fromEntries(entries));
    });
    return { ...sample, paths, good };
  }

  test.each(['open', 'read'])(
    'is seen in each of 1,000 blocks and in no other one, with --verify-at %s',
    async (at) => {
      const sample = makeObjects();
      const args = ['--verify-engine', 'user', '--verify-at', at];
      const mount = await mountOurs(scope, { ...sample, args });
      const reader = talkTo(scope, python, [
        '-I',
        join(import.meta.dirname, '../support/block-reader.py'),
        mount.mountpoint,
        sample.good,
        ...Object.keys(sizes),
      ]);
      await reader.hear();
      const read = async (how: string) => JSON.parse(await reader.ask(how)) as Answer;
      const blocks = Object.values(sizes).reduce((sum, size) => sum + blockCount(size), 0);
      const nothing = { refused: {}, wrong: {}, blocks };
      for (const how of ['direct', 'buffered', 'direct']) expect(await read(how)).toEqual(nothing);

      const random = new Random(SEED);
      const targets = Object.entries(sizes).flatMap(([name, size]) =>
        Array.from({ length: blockCount(size) }, (_, block) => ({ name, block })),
      );
      for (let round = 0; round < ROUNDS; round++) {
        const flips = new Set<(typeof targets)[number]>();
        while (flips.size < FLIPS_PER_ROUND) flips.add(random.pick(targets));
        const places = [...flips].map(({ name, block }) => {
          const length = Math.min(BLOCK, sizes[name]! - block * BLOCK);
          return { name, block, offset: block * BLOCK + random.below(length) };
        });
        const change = () =>
          places.forEach(({ name, offset }) => flip(sample.paths[name]!, offset));
        const refused: Blocks = {};
        for (const { name, block } of places) (refused[name] ??= []).push(block);
        for (const name of Object.keys(refused)) refused[name] = sorted(refused[name]!);
        change();
        for (const how of ['direct', 'buffered']) {
          const answer = await read(how);
          const when = `seed ${SEED}, round ${round}, ${how}`;
          expect(answer, when).toEqual({ refused, wrong: {}, blocks });
        }
        change();
      }
      expect(await read('direct')).toEqual(nothing);
      expect(await read('buffered')).toEqual(nothing);
      reader.kill();
      await reader.ended;
      expect(await mount.unmount()).toBe(0);
      expect(refusalsOf(mount)).toHaveLength(Object.keys(sizes).length);
      const { refusedReads, refusedObjects } = finalCountsOf(mount);
      expect(refusedReads + refusedObjects).toBeGreaterThan(2 * ROUNDS * FLIPS_PER_ROUND);
      if (at === 'open') expect(refusedObjects).toBe(0);
    },
  );

  test('is never read while somebody changes and replaces objects all the time', async () => {
    const seconds = 5;
    const sample = makeObjects();
    const script = join(import.meta.dirname, '../support/race.py');
    const flipped = ['two', 'ten', 'hundred', 'three groups'];
    const replaced = ['eight', 'one group and 3 blocks'];
    const targets = [
      ...flipped.map((name) => `flip:${sample.paths[name]}`),
      ...replaced.map((name) => `replace:${sample.paths[name]}`),
    ];
    // Without verification the readers do see wrong bytes, or the race would prove nothing.
    const ways = [
      ['--verify-at', 'open'],
      ['--verify-at', 'read'],
      ['--verity', 'off'],
    ];
    const mounts = await Promise.all(ways.map((args) => mountOurs(scope, { ...sample, args })));
    const race = (...args: string[]) =>
      talkTo(scope, python, ['-I', script, args[0]!, String(seconds), ...args.slice(1)]);
    const writer = race('write', String(SEED), ...targets);
    const names = [...flipped, ...replaced];
    const readers = mounts.map(({ mountpoint }) => race('read', mountpoint, sample.good, ...names));
    const sums: Record<'right' | 'refused' | 'wrong', number>[] = [];
    for (const [i, reader] of readers.entries()) {
      const counts = JSON.parse(await reader.hear((seconds + 20) * 1000)) as (typeof sums)[number];
      console.log(ways[i]!.join(' '), counts);
      sums.push(counts);
    }
    for (const { wrong, right, refused } of sums.slice(0, 2)) {
      expect(wrong).toBe(0);
      expect(right).toBeGreaterThan(10);
      expect(refused).toBeGreaterThan(10);
    }
    expect(sums[2]!.wrong).toBeGreaterThan(0);
    expect(Number(await writer.hear())).toBeGreaterThan(20);
  });
});
