// What becomes of every attack in every mode of verification, on several filesystems below the
// objects. The table is the specification: fixed and reviewed row by row, not computed.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { attackImage } from '../support/attack-image.ts';
import { cellsOf, columnsOf, parseCells, showCells } from '../support/attack-table.ts';
import { attackBefore, modes, runAttacks, writeObjects } from '../support/attacks.mjs';
import type { AttackReport } from '../support/attacks.mjs';
import { mountOurs } from '../support/mounts.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { scopeOfAllTests } from '../support/scope.ts';
import { storeKinds } from '../support/stores.ts';

/**
 * Where the kernel has no fs-verity for the objects, which is why the columns with the engine `kernel`
 * refuse everything that has a digest; the others hold for `auto` and `user`. `right` and `WRONG` are
 * the bytes that were read. `counted`: a counter of refusals has grown. `logged`: there is one line
 * more about the file. A `late` attack meets a file that is open and was read.
 */
const expected = `
| --verify-at open               | off                   | if-present                 | if-present, kernel         | require                    | require, kernel            |
| ------------------------------ | --------------------- | -------------------------- | -------------------------- | -------------------------- | -------------------------- |
| good                           | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| good, large                    | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| good, sha512                   | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| good, not enabled              | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| no digest                      | right                 | right                      | right                      | open: EIO, counted, logged | open: EIO, counted, logged |
| other digest                   | right                 | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged |
| other digest, large            | right                 | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged |
| malformed digest               | open: EIO, logged     | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          |
| wrong size                     | open: EIO, logged     | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          |
| replaced                       | WRONG                 | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged |
| flipped                        | WRONG                 | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged |
| flipped, large                 | WRONG                 | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged | open: EIO, counted, logged |
| flipped, no digest             | WRONG                 | WRONG                      | WRONG                      | open: EIO, counted, logged | open: EIO, counted, logged |
| truncated                      | open: EIO, logged     | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          |
| longer                         | open: EIO, logged     | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          |
| missing                        | open: ENOENT, logged  | open: ENOENT, logged       | open: ENOENT, logged       | open: ENOENT, logged       | open: ENOENT, logged       |
| late flip: first               | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| late flip, large: first        | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| late truncation: first         | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| late replacement: first        | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| late removal: first            | right                 | right                      | open: EIO, counted, logged | right                      | open: EIO, counted, logged |
| late flip: still open          | WRONG                 | read: EIO, counted, logged | -                          | read: EIO, counted, logged | -                          |
| late flip, large: still open   | WRONG                 | read: EIO, counted, logged | -                          | read: EIO, counted, logged | -                          |
| late truncation: still open    | read: EIO, logged     | read: EIO, counted, logged | -                          | read: EIO, counted, logged | -                          |
| late replacement: still open   | right                 | right                      | -                          | right                      | -                          |
| late removal: still open       | right                 | right                      | -                          | right                      | -                          |
| late flip: opened again        | WRONG                 | open: EIO, counted         | open: EIO, counted         | open: EIO, counted         | open: EIO, counted         |
| late flip, large: opened again | WRONG                 | open: EIO, counted         | open: EIO, counted         | open: EIO, counted         | open: EIO, counted         |
| late truncation: opened again  | open: EIO             | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          | open: EIO, logged          |
| late replacement: opened again | WRONG                 | open: EIO, counted, logged | open: EIO, counted         | open: EIO, counted, logged | open: EIO, counted         |
| late removal: opened again     | open: ENOENT, logged  | open: ENOENT, logged       | open: ENOENT, logged       | open: ENOENT, logged       | open: ENOENT, logged       |

| --verify-at read               | off                   | if-present                         | if-present, kernel         | require                            | require, kernel            |
| ------------------------------ | --------------------- | ---------------------------------- | -------------------------- | ---------------------------------- | -------------------------- |
| good                           | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| good, large                    | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| good, sha512                   | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| good, not enabled              | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| no digest                      | right                 | right                              | right                      | read: EIO, counted, logged         | read: EIO, counted, logged |
| other digest                   | right                 | read: EIO, counted, logged         | read: EIO, counted, logged | read: EIO, counted, logged         | read: EIO, counted, logged |
| other digest, large            | right                 | read: EIO, counted, logged         | read: EIO, counted, logged | read: EIO, counted, logged         | read: EIO, counted, logged |
| malformed digest               | read: EIO, logged     | read: EIO, logged                  | read: EIO, logged          | read: EIO, logged                  | read: EIO, logged          |
| wrong size                     | read: EIO, logged     | read: EIO, logged                  | read: EIO, logged          | read: EIO, logged                  | read: EIO, logged          |
| replaced                       | WRONG                 | read: EIO, counted, logged         | read: EIO, counted, logged | read: EIO, counted, logged         | read: EIO, counted, logged |
| flipped                        | WRONG                 | read: EIO, counted, logged         | read: EIO, counted, logged | read: EIO, counted, logged         | read: EIO, counted, logged |
| flipped, large                 | WRONG                 | read: EIO, counted, logged         | read: EIO, counted, logged | read: EIO, counted, logged         | read: EIO, counted, logged |
| flipped, no digest             | WRONG                 | WRONG                              | WRONG                      | read: EIO, counted, logged         | read: EIO, counted, logged |
| truncated                      | read: EIO, logged     | read: EIO, logged                  | read: EIO, logged          | read: EIO, logged                  | read: EIO, logged          |
| longer                         | read: EIO, logged     | read: EIO, logged                  | read: EIO, logged          | read: EIO, logged                  | read: EIO, logged          |
| missing                        | read: ENOENT, logged  | read: ENOENT, logged               | read: ENOENT, logged       | read: ENOENT, logged               | read: ENOENT, logged       |
| late flip: first               | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| late flip, large: first        | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| late truncation: first         | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| late replacement: first        | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| late removal: first            | right                 | right                              | read: EIO, counted, logged | right                              | read: EIO, counted, logged |
| late flip: still open          | WRONG                 | read: EIO, counted, logged         | read: EIO, counted         | read: EIO, counted, logged         | read: EIO, counted         |
| late flip, large: still open   | WRONG                 | read: EIO, counted, logged         | read: EIO, counted         | read: EIO, counted, logged         | read: EIO, counted         |
| late truncation: still open    | read: EIO, logged     | read: EIO, counted, logged 2 times | read: EIO, logged          | read: EIO, counted, logged 2 times | read: EIO, logged          |
| late replacement: still open   | right                 | right                              | read: EIO, counted         | right                              | read: EIO, counted         |
| late removal: still open       | right                 | right                              | read: ENOENT, logged       | right                              | read: ENOENT, logged       |
| late flip: opened again        | WRONG                 | read: EIO, counted                 | read: EIO, counted         | read: EIO, counted                 | read: EIO, counted         |
| late flip, large: opened again | WRONG                 | read: EIO, counted                 | read: EIO, counted         | read: EIO, counted                 | read: EIO, counted         |
| late truncation: opened again  | read: EIO             | read: EIO, counted                 | read: EIO                  | read: EIO, counted                 | read: EIO                  |
| late replacement: opened again | right                 | right                              | read: EIO, counted         | right                              | read: EIO, counted         |
| late removal: opened again     | right                 | right                              | read: ENOENT               | right                              | read: ENOENT               |
`;

/** All of them once; elsewhere those in which the filesystem below makes a difference. */
const modesOn = (store: string) =>
  store === 'tmpfs'
    ? modes
    : modes.filter(({ policy, engine }) => policy === 'if-present' && engine !== 'kernel');

for (const { name, make, requirements } of storeKinds)
  describeWith([...needsOurMount, ...requirements], `attacks on objects on ${name}`, () => {
    const scope = scopeOfAllTests();
    let before: Record<string, string>;
    let report: AttackReport;

    beforeAll(async () => {
      const store = await make(scope);
      const image = join(scope.directory(), 'image.cfs');
      writeFileSync(image, attackImage());
      writeObjects(store);
      before = attackBefore(store);
      const mount = async (args: readonly string[]) => {
        const ours = await mountOurs(scope, { image, basedirs: [store], args });
        const lines = () => ours.log().split('\n').slice(0, -1);
        const events = () => lines().map((line) => JSON.parse(line) as Record<string, unknown>);
        return { ...ours, events };
      };
      report = await runAttacks({ store, mount, modes: modesOn(name) });
    });

    test('come out as the table says', () => {
      const cells = cellsOf(report);
      if (name === 'tmpfs') console.log(showCells(cells));
      expect(Object.keys(cells)).toHaveLength(2);
      expect(cells).toEqual(columnsOf(parseCells(expected), cells));
    });

    test('were all possible', () => {
      const outcomes = { ...before, ...report.late };
      expect(Object.entries(outcomes).filter(([, outcome]) => outcome !== 'done')).toEqual([]);
      expect(Object.keys(outcomes)).toHaveLength(15);
    });

    test('leave good files of the same mount readable', () => {
      expect(report.lost).toEqual([]);
    });
  });
