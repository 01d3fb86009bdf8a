// The attacks of e2e/verification-attacks.test.ts where objects have the kernel's fs-verity, and those
// that exist only there; beside the kernel's own mount where there is one. Prints its tables.

import { writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { attackImage } from '../support/attack-image.ts';
import {
  cellsOf,
  columnsOf,
  columnsWithVerity,
  parseCells,
  showCells,
} from '../support/attack-table.ts';
import { bytesOf, modes } from '../support/attacks.mjs';
import type { AttackReport } from '../support/attacks.mjs';
import { buildImage } from '../support/image-builder.ts';
import { directory, external, toHex } from '../support/image-nodes.ts';
import { verityDigest } from '../support/object-folder.ts';
import type { Scope } from '../support/scope.ts';
import { describeInVm } from '../support/vm-cases.ts';
import type { GuestOptions } from '../support/vm-cases.ts';

/**
 * With fs-verity on all objects but those it says otherwise of. `flipped`, `truncated` and `longer` are
 * `right` where nobody could do that (EPERM), the copies are put in the place of the object. `damaged disk`
 * is a byte changed below the filesystem. `right` and `WRONG` are the bytes that were read. `logged`:
 * there is one line more about the file.
 */
const expected = `
| --verify-at open                         | off                   | if-present, auto      | if-present, kernel    | if-present, user      | require, auto         | require, kernel       | require, user         |
| ---------------------------------------- | --------------------- | --------------------- | --------------------- | --------------------- | --------------------- | --------------------- | --------------------- |
| good                                     | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| good, large                              | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| good, sha512                             | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| good, not enabled                        | right                 | right                 | open: EIO, logged     | right                 | right                 | open: EIO, logged     | right                 |
| no digest                                | right                 | right                 | right                 | right                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| other digest                             | right                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| other digest, large                      | right                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| malformed digest                         | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| wrong size                               | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| replaced                                 | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| flipped                                  | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| flipped, large                           | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| flipped, no digest                       | right                 | right                 | right                 | right                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| truncated                                | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| longer                                   | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| missing                                  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  |
| other algorithm                          | right                 | open: EIO, logged     | open: EIO, logged     | right                 | open: EIO, logged     | open: EIO, logged     | right                 |
| other algorithm in the image             | right                 | open: EIO, logged     | open: EIO, logged     | right                 | open: EIO, logged     | open: EIO, logged     | right                 |
| replaced, enabled                        | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| copied                                   | right                 | right                 | open: EIO, logged     | right                 | right                 | open: EIO, logged     | right                 |
| copied, enabled                          | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| flipped copy                             | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| flipped copy, enabled                    | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| truncated copy                           | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| truncated copy, enabled                  | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| longer copy, enabled                     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| damaged disk                             | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | open: EIO, logged     | read: EIO, logged     | read: EIO, logged     | open: EIO, logged     |
| damaged disk, large                      | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | open: EIO, logged     | read: EIO, logged     | read: EIO, logged     | open: EIO, logged     |
| damaged disk, no digest                  | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| late flip: first                         | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late flip, large: first                  | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late truncation: first                   | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late replacement: first                  | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late removal: first                      | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late replacement, enabled: first         | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late damage on disk: first               | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late damage on disk, large: first        | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late flip: still open                    | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late flip, large: still open             | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late truncation: still open              | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late replacement: still open             | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late removal: still open                 | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late replacement, enabled: still open    | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late damage on disk: still open          | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| late damage on disk, large: still open   | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| late flip: opened again                  | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late flip, large: opened again           | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late truncation: opened again            | right                 | right                 | right                 | right                 | right                 | right                 | right                 |
| late replacement: opened again           | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| late removal: opened again               | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  | open: ENOENT, logged  |
| late replacement, enabled: opened again  | WRONG                 | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     | open: EIO, logged     |
| late damage on disk: opened again        | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             |
| late damage on disk, large: opened again | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             | read: EIO             |

| --verify-at read                         | if-present, auto      | require, auto         | require, kernel       | require, user         |
| ---------------------------------------- | --------------------- | --------------------- | --------------------- | --------------------- |
| good                                     | right                 | right                 | right                 | right                 |
| good, large                              | right                 | right                 | right                 | right                 |
| good, sha512                             | right                 | right                 | right                 | right                 |
| good, not enabled                        | right                 | right                 | read: EIO, logged     | right                 |
| no digest                                | right                 | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| other digest                             | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| other digest, large                      | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| malformed digest                         | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| wrong size                               | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| replaced                                 | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| flipped                                  | right                 | right                 | right                 | right                 |
| flipped, large                           | right                 | right                 | right                 | right                 |
| flipped, no digest                       | right                 | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| truncated                                | right                 | right                 | right                 | right                 |
| longer                                   | right                 | right                 | right                 | right                 |
| missing                                  | read: ENOENT, logged  | read: ENOENT, logged  | read: ENOENT, logged  | read: ENOENT, logged  |
| other algorithm                          | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | right                 |
| other algorithm in the image             | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | right                 |
| replaced, enabled                        | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| copied                                   | right                 | right                 | read: EIO, logged     | right                 |
| copied, enabled                          | right                 | right                 | right                 | right                 |
| flipped copy                             | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| flipped copy, enabled                    | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| truncated copy                           | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| truncated copy, enabled                  | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| longer copy, enabled                     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| damaged disk                             | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| damaged disk, large                      | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| damaged disk, no digest                  | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| late flip: first                         | right                 | right                 | right                 | right                 |
| late flip, large: first                  | right                 | right                 | right                 | right                 |
| late truncation: first                   | right                 | right                 | right                 | right                 |
| late replacement: first                  | right                 | right                 | right                 | right                 |
| late removal: first                      | right                 | right                 | right                 | right                 |
| late replacement, enabled: first         | right                 | right                 | right                 | right                 |
| late damage on disk: first               | right                 | right                 | right                 | right                 |
| late damage on disk, large: first        | right                 | right                 | right                 | right                 |
| late flip: still open                    | right                 | right                 | right                 | right                 |
| late flip, large: still open             | right                 | right                 | right                 | right                 |
| late truncation: still open              | right                 | right                 | right                 | right                 |
| late replacement: still open             | right                 | right                 | right                 | right                 |
| late removal: still open                 | right                 | right                 | right                 | right                 |
| late replacement, enabled: still open    | right                 | right                 | right                 | right                 |
| late damage on disk: still open          | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| late damage on disk, large: still open   | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     | read: EIO, logged     |
| late flip: opened again                  | right                 | right                 | right                 | right                 |
| late flip, large: opened again           | right                 | right                 | right                 | right                 |
| late truncation: opened again            | right                 | right                 | right                 | right                 |
| late replacement: opened again           | right                 | right                 | right                 | right                 |
| late removal: opened again               | right                 | right                 | right                 | right                 |
| late replacement, enabled: opened again  | right                 | right                 | right                 | right                 |
| late damage on disk: opened again        | read: EIO             | read: EIO             | read: EIO             | read: EIO             |
| late damage on disk, large: opened again | read: EIO             | read: EIO             | read: EIO             | read: EIO             |
`;

/** What an attacker, who is root, cannot do to objects with fs-verity. */
const impossible = ['flipped', 'flipped, large', 'flipped, no digest', 'truncated', 'longer'];
const impossibleLate = ['late flip', 'late flip, large', 'late truncation'];

/** Where the kernel's own mount comes to something else than `--verity require --verify-engine kernel`. */
const differences = {
  // The kernel serves what the object has, though stat(2) says more.
  'wrong size': { kernel: 'right', ours: 'open: EIO' },
  // The kernel stays with the object that it found first, ours looks for it at each opening.
  'late replacement: opened again': { kernel: 'right', ours: 'open: EIO' },
  'late replacement, enabled: opened again': { kernel: 'right', ours: 'open: EIO' },
  'late removal: opened again': { kernel: 'right', ours: 'open: ENOENT' },
};

/**
 * Starting daemons takes the most time, so that the two kernels share the modes. At reading, `off` and
 * `if-present` with the engines `kernel` and `user` are left to the host's test.
 */
const modesFor = (hasOwnMount: boolean) =>
  modes.filter(({ policy, engine, at }) => {
    if (policy === 'off') return engine === 'auto' && hasOwnMount && at === 'open';
    if (hasOwnMount) return at === 'open' || (policy === 'if-present' && engine === 'auto');
    return policy === 'require' && (at === 'read' || engine === 'kernel');
  });

interface Report extends AttackReport {
  before: Record<string, string>;
}

interface DigestOutcome {
  right?: { code: number };
  wrong?: { code: number; stderr: string };
  passesUnhashed: boolean;
}

interface PassthroughOutcome {
  data: string;
  found: Record<string, unknown>;
  warnings: string[];
}

interface Cost {
  files: number;
  rounds: Record<string, Record<string, number[]>>;
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

const objects = [
  { name: 'enabled', size: 300_000, seed: 1, isEnabled: true },
  { name: 'plain', size: 300_000, seed: 2, isEnabled: false },
  ...Array.from({ length: 60 }, (_, i) => ({
    name: `${i}`,
    size: 10_000,
    seed: i + 3,
    isEnabled: true,
  })),
];

function prepare(scope: Scope, hasOwnMount: boolean): GuestOptions {
  const folder = scope.directory();
  const write = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  const image = attackImage();
  const nodes = objects.map(({ name, size, seed }) => {
    const digest = verityDigest(bytesOf(size, seed));
    return [name, external(size, { redirect: `/${name}`, digest })] as const;
  });
  const support = join(import.meta.dirname, '../support');
  return {
    module: 'attacks.mjs',
    memoryMb: 3072,
    timeoutMs: 280_000,
    files: {
      '/images/attacks.cfs': write('attacks.cfs', image),
      '/images/objects.cfs': write('objects.cfs', buildImage(directory(Object.fromEntries(nodes)))),
      '/project/test/support/attacks.mjs': join(support, 'attacks.mjs'),
      '/project/test/support/attack-reader.mjs': join(support, 'attack-reader.mjs'),
    },
    input: {
      image: '/images/attacks.cfs',
      digest: toHex(verityDigest(image)),
      objectsImage: '/images/objects.cfs',
      objects,
      hasOwnMount,
      modes: modesFor(hasOwnMount),
      rounds: hasOwnMount ? 7 : 0,
    },
  };
}

/** What the page cache of an object looks like when the kernel has read it while the daemon stood still. */
function readByTheKernel(name: string): unknown {
  const { size, seed } = objects.find((object) => object.name === name)!;
  const sha256 = createHash('sha256').update(bytesOf(size, seed)).digest('hex');
  const pages = Math.ceil(size / 4096);
  return { pages, before: 0, after: pages, sha256, mapped: sha256 };
}

for (const kernel of ['trixie', 'bookworm'] as const) {
  const hasOwnMount = kernel === 'trixie';
  describeInVm(
    kernel,
    'objects with fs-verity',
    (scope) => prepare(scope, hasOwnMount),
    (guest) => {
      test('attacked come out as the table says', () => {
        const cells = cellsOf(guest.result('attacks') as Report, columnsWithVerity);
        console.log(showCells(cells));
        expect(Object.keys(cells)).toHaveLength(2);
        expect(cells).toEqual(columnsOf(parseCells(expected), cells));
      });

      test('cannot be written to by root', () => {
        const { before, late } = guest.result('attacks') as Report;
        const failed = (outcomes: Record<string, string>) =>
          Object.entries(outcomes).filter(([, outcome]) => outcome !== 'done');
        expect(failed(before)).toEqual(impossible.map((name) => [name, 'EPERM']));
        expect(failed(late)).toEqual(impossibleLate.map((name) => [name, 'EPERM']));
        expect(guest.result('objects')).toBe('EPERM');
      });

      test('are readable beside attacked ones', () => {
        expect((guest.result('attacks') as Report).lost).toEqual([]);
      });

      if (hasOwnMount) {
        test('are refused and served where the kernel does it, with its errno', () => {
          const { oracle = {}, cells } = guest.result('attacks') as Report;
          const ours = cells.find(
            ({ mode: { policy, engine, at } }) =>
              policy === 'require' && engine === 'kernel' && at === 'open',
          )!.cells;
          const rows = [...new Set([...Object.keys(oracle), ...Object.keys(ours)])].map((row) => ({
            row,
            kernel: oracle[row] ?? '-',
            ours: ours[row]?.replace(/, logged.*/, '') ?? '-',
          }));
          console.log(
            rows
              .map(({ row, kernel, ours }) => `${row}: kernel ${kernel}, ours ${ours}`)
              .join('\n'),
          );
          expect(rows.length).toBeGreaterThan(50);
          expect(
            Object.fromEntries(
              rows
                .filter(({ kernel, ours }) => kernel !== ours)
                .map(({ row, ...both }) => [row, both]),
            ),
          ).toEqual(differences);
        });

        test('are read by the kernel itself, through their own page cache', () => {
          expect(guest.result('--data auto')).toEqual({
            data: 'auto',
            found: { enabled: readByTheKernel('enabled'), plain: 'read by the daemon' },
            warnings: [],
          });
          expect(guest.result('--data passthrough')).toEqual({
            data: 'passthrough',
            found: { enabled: readByTheKernel('enabled'), plain: readByTheKernel('plain') },
            warnings: [],
          });
        });

        test('cost (printed)', () => {
          const { files, rounds } = guest.result('cost') as Cost;
          for (const [state, ways] of Object.entries(rounds)) {
            const off = median(ways['off']!);
            const words = Object.entries(ways).map(([way, times]) => {
              const ms = median(times);
              return `${way} ${ms.toFixed(0)} ms (${(ms / off).toFixed(2)})`;
            });
            console.log(`open+read+close of ${files} objects, ${state}: ${words.join(', ')}`);
          }
        });
        return;
      }

      test('are read by the daemon, which says so where passthrough was asked for', () => {
        const found = { enabled: 'read by the daemon', plain: 'read by the daemon' };
        expect(guest.result('--data auto')).toEqual({ data: 'daemon', found, warnings: [] });
        const { warnings, ...rest } = guest.result('--data passthrough') as PassthroughOutcome;
        expect(rest).toEqual({ data: 'daemon', found });
        expect(warnings).toEqual([
          'passthrough needs Linux 6.9 or later; the daemon reads the objects',
        ]);
      });

      test("may hold an image, whose digest is then the kernel's word", () => {
        const found = guest.result('image digest') as Record<string, DigestOutcome>;
        expect(found['plain']).toEqual({ passesUnhashed: false });
        expect(found['enabled']).toMatchObject({
          right: { code: 0, stderr: '' },
          wrong: { code: 5 },
          passesUnhashed: true,
        });
        expect(found['enabled']!.wrong!.stderr).toMatch(
          / has the fs-verity digest sha256:.* asked for/,
        );
      });
    },
  );
}
