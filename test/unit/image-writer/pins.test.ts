// The images of small texts, byte for byte those of the reference implementation.

import { describe, expect, it } from 'vitest';
import { readDump } from '../../../src/dump/index.ts';
import { planImage } from '../../../src/image-writer/index.ts';
import { pinnedDumps, sha256 } from '../../support/writer-pins.ts';

describe('the image of a dump equals the reference with', () => {
  it.each(pinnedDumps)('$title', ({ text, versions, sizeBytes, sha256: expected }) => {
    const plan = planImage(readDump(text), versions);
    expect(plan.sizeBytes).toBe(sizeBytes);
    expect(sha256(plan.bytes())).toBe(expected);
  });
});
