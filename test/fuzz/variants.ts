// Walks damaged variants of an image through the dispatcher; run in a process of its own by
// run-variants.mjs, compiled, because vitest's module wrapping makes the hot loops ten times slower.

import { ImageError, UnsupportedFeatureError } from '../../src/errors.ts';
import type { NativeAddon } from '../../src/native.ts';
import { FuzzClient } from '../support/fuzz-client.ts';
import { describeMutation, mutate, mutationOf } from '../support/mutations.ts';

export interface Outcome {
  opened: number;
  refused: number;
  entries: number;
  requests: number;
}

/**
 * Walks the variants with numbers from `from` to `to` of the image. Throws naming the first one that
 * breaks a promise.
 */
export function walkVariants(
  native: NativeAddon,
  image: Uint8Array,
  seed: number,
  from: number,
  to: number,
): Outcome {
  const client = new FuzzClient(native);
  const outcome = { opened: 0, refused: 0, entries: 0, requests: 0 };
  for (let index = from; index < to; index++) {
    const mutation = mutationOf(seed, index, image.length);
    const { mutated, undo } = mutate(image, mutation);
    try {
      const { entries, requests } = client.walk(mutated);
      outcome.entries += entries;
      outcome.requests += requests;
      outcome.opened++;
    } catch (error) {
      if (!(error instanceof ImageError || error instanceof UnsupportedFeatureError)) {
        const where = `seed ${seed}, variant ${index} (${describeMutation(mutation)})`;
        throw new Error(`${where}: ${error instanceof Error ? error.stack : String(error)}`);
      }
      outcome.refused++;
    } finally {
      undo();
    }
  }
  return outcome;
}
