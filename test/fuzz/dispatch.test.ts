// Hostile images through the request dispatcher: whatever one byte is changed to, and wherever the
// image ends, every request gets a well-formed answer, no handler throws, and the work is bounded.
//
// Replay: SEED=number npm run test:fuzz; the failure names the variant.

import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { builderZoo } from '../support/builder-zoo.ts';
import { buildImage } from '../support/image-builder.ts';
import type { Outcome } from './variants.ts';

const seed = Number(process.env['SEED'] ?? 20_261_122);
const goldens = fileURLToPath(new URL('../../../shared/golden/', import.meta.url));
const runner = fileURLToPath(new URL('./run-variants.mjs', import.meta.url));
const timeoutMs = 600_000;
/** Processes per image: as many as the smallest machine has cores. */
const PROCESSES = 2;

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'cfs-fuzz-'));
});
afterAll(() => rmSync(scratch, { recursive: true }));

async function walkVariants(image: string, count: number): Promise<Outcome> {
  const share = Math.ceil(count / PROCESSES);
  const starts = Array.from({ length: PROCESSES }, (_, i) => i * share);
  const outcomes = await Promise.all(
    starts.map(async (from) => {
      const args = [runner, image, seed, from, from + share].map(String);
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: timeoutMs });
      return JSON.parse(stdout) as Outcome;
    }),
  );
  return outcomes.reduce((sum, one) => ({
    opened: sum.opened + one.opened,
    refused: sum.refused + one.refused,
    entries: sum.entries + one.entries,
    requests: sum.requests + one.requests,
  }));
}

describe(`damaged images through the dispatcher (seed ${seed})`, () => {
  it.each([0, 1, 2])(
    'an image of every kind of file, format version %i',
    async (composefsVersion) => {
      const path = join(scratch, `zoo-${composefsVersion}`);
      writeFileSync(path, buildImage(builderZoo(), { composefsVersion }));
      const { opened, refused } = await walkVariants(path, 7000);
      expect(opened + refused).toBe(7000);
      expect(opened).toBeGreaterThan(5000);
      expect(refused).toBeGreaterThan(200);
    },
    timeoutMs,
  );

  for (const name of ['zoo.cfs', 'overlay-markers.cfs']) {
    const path = goldens + name;
    const isThere = existsSync(path);
    const reason = isThere ? '' : ' [skipped: needs ../shared/golden]';
    it.skipIf(!isThere)(
      `the golden image ${name}${reason}`,
      async () => {
        const { opened, refused } = await walkVariants(path, 10_000);
        expect(opened + refused).toBe(10_000);
        expect(opened).toBeGreaterThan(8000);
        expect(refused).toBeGreaterThan(200);
      },
      timeoutMs,
    );
  }
});
