// Damages images in thousands of ways and walks what is left.
//
// Invariants: Image.open() throws nothing but ImageError and UnsupportedFeatureError; afterwards the
// reader throws nothing and answers with the errors that reader-walk.ts allows; it reads nothing
// outside the image; its work is linear in the size of the image.
//
// Replay a failure with SEED=n, which every run prints. FUZZ_SCALE multiplies the number of variants.

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageError, UnsupportedFeatureError } from '../../src/errors.ts';
import { hasAcl, Image, openImage } from '../../src/image-reader/index.ts';
import { builderZoo } from '../support/builder-zoo.ts';
import { buildImage } from '../support/image-builder.ts';
import { walkImage } from './reader-walk.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000_000);
const scale = Number(process.env['FUZZ_SCALE'] ?? 1);
console.log(`reader fuzz: SEED=${seed}`);

/** Damage that once broke the reader, by name of the source. None so far. */
const regressions: readonly { source: string; offset: number; bytes: number[] }[] = [];

interface Source {
  name: string;
  flips: number;
  truncations: number;
  read(): Uint8Array;
  isMissing: boolean;
}

function golden(name: string): Source {
  const path = resolve(import.meta.dirname, '../../../shared/golden', name);
  return {
    name,
    flips: 500,
    truncations: 300,
    read: () => readFileSync(path),
    isMissing: !existsSync(path),
  };
}

function built(name: string, options: Parameters<typeof buildImage>[1]): Source {
  return {
    name,
    flips: 6500,
    truncations: 400,
    read: () => buildImage(builderZoo({ manyEntries: 150 }), options),
    isMissing: false,
  };
}

const sources: Source[] = [
  golden('zoo.cfs'),
  golden('overlay-markers.cfs'),
  built('built like mkcomposefs', {}),
  built('built like composefs-rs', {
    composefsVersion: 2,
    form: 'extended',
    xattrBlockZero: true,
  }),
  built('built with metadata after the data', { metaBlock: 60 }),
];

const CANARY = 1 << 17;

/** The image in the middle of foreign bytes. */
class Arena {
  readonly memory: Uint8Array;
  readonly size: number;
  readonly view: DataView;

  constructor(image: Uint8Array) {
    this.size = image.length;
    this.memory = new Uint8Array(CANARY + image.length + CANARY);
    this.memory.set(image, CANARY);
    this.view = new DataView(this.memory.buffer, CANARY, image.length);
  }

  bytes(length = this.size): Uint8Array {
    return this.memory.subarray(CANARY, CANARY + length);
  }

  fillOutside(length: number, value: number): void {
    this.memory.fill(value, 0, CANARY);
    this.memory.fill(value, CANARY + length);
  }
}

function random(state: number): (below: number) => number {
  let a = state >>> 0;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Every byte that a walk looks at, and the headers. */
function metadataOffsets(image: Image): number[] {
  const seen = new Uint8Array(image.sizeBytes);
  seen.fill(1, 0, 32).fill(1, 1024, 1024 + 128);
  walkImage(image, {
    onRange: (start, length) => {
      // Of names, values and directory data; of long contents only the beginning.
      seen.fill(1, start, start + Math.min(length, 4096));
    },
  });
  return Array.from(seen.keys()).filter((offset) => seen[offset] === 1);
}

function openDamaged(bytes: Uint8Array): Image | undefined {
  try {
    return Image.open(bytes);
  } catch (error) {
    if (error instanceof ImageError || error instanceof UnsupportedFeatureError) {
      expect(error.message).not.toContain('\n');
      return undefined;
    }
    throw error;
  }
}

/** Checks one variant; true if it could be opened. */
function check(arena: Arena, length: number, isThorough: boolean): boolean {
  const bytes = arena.bytes(length);
  const image = openDamaged(bytes);
  if (image === undefined) return false;
  // Entries of 13 bytes, attributes of 4 bytes, and what one damaged count can add to them.
  const limit = image.sizeBytes;
  const first = walkImage(image, { findEvery: isThorough ? 1 : 11 });
  expect(first.steps).toBeLessThanOrEqual(limit);
  hasAcl(image);
  if (!isThorough) return true;

  // A typed array answers `undefined` behind its end. So show the reader an image with foreign bytes
  // behind it: what it delivers may not depend on them.
  const open = image as { -readonly [Key in keyof Image]: Image[Key] };
  open.bytes = new Uint8Array(arena.memory.buffer, CANARY, length + CANARY);
  open.view = new DataView(arena.memory.buffer, CANARY, length + CANARY);
  for (const value of [0, 0xff]) {
    const behind = arena.memory.slice(CANARY + length);
    arena.fillOutside(length, value);
    const again = walkImage(image);
    arena.memory.set(behind, CANARY + length);
    expect(again.transcript, 'depends on bytes behind the image').toBe(first.transcript);
  }

  try {
    for (const entry of openImage(bytes).walk()) {
      try {
        entry.xattrs();
        entry.object();
        entry.content();
        entry.targetBytes();
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
      }
    }
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
  }
  return true;
}

const INTERESTING = [0, 1, 2, 4, 12, 13, 0x7f, 0x80, 0xff, 0xfff, 0x1000, 0x7fff, 0x8000, 0xffff];

describe.each(sources)('$name', (source) => {
  const reason = source.isMissing ? ' [skipped: needs ../shared/golden]' : '';

  it.skipIf(source.isMissing)(`survives damaged bytes${reason}`, { timeout: 600_000 }, () => {
    const arena = new Arena(source.read());
    const sound = Image.open(arena.bytes());
    const soundWalk = walkImage(sound);
    const offsets = metadataOffsets(sound);
    for (const { offset, bytes } of regressions.filter((one) => one.source === source.name)) {
      const before = arena.bytes().slice(offset, offset + bytes.length);
      arena.memory.set(bytes, CANARY + offset);
      check(arena, arena.size, true);
      arena.memory.set(before, CANARY + offset);
    }
    const next = random(seed);
    const variants = source.flips * scale;
    let opened = 0;
    let harmful = 0;
    let slowestMs = 0;
    const header = offsets.filter((offset) => offset < 1152).length;
    for (let i = 0; i < variants; i++) {
      // Each header byte in turn at first, then evenly over everything.
      const offset =
        i < header
          ? offsets[i]!
          : offsets[Math.floor(((i - header + next(1000) / 1000) / variants) * offsets.length)]!;
      const style = next(8);
      const from = style === 7 ? offset & ~1 : offset;
      const before = arena.bytes().slice(from, from + 2);
      if (style < 4) arena.memory[CANARY + offset]! ^= 1 << next(8);
      else if (style < 6) arena.memory[CANARY + offset] = next(256);
      else if (style === 6) arena.memory[CANARY + offset] = INTERESTING[next(9)]!;
      else arena.view.setUint16(from, INTERESTING[next(INTERESTING.length)]!, true);
      const after = arena.bytes().slice(from, from + 2);
      const begin = performance.now();
      try {
        if (check(arena, arena.size, i % 50 === 0)) opened++;
        else harmful++;
      } catch (error) {
        throw new Error(
          `SEED=${seed} ${source.name} variant ${i}: bytes ${[...after].join()} at ${from}`,
          { cause: error },
        );
      }
      slowestMs = Math.max(slowestMs, performance.now() - begin);
      arena.memory.set(before, CANARY + from);
    }
    expect(walkImage(Image.open(arena.bytes())).transcript).toBe(soundWalk.transcript);
    console.log(
      `${source.name}: ${variants} variants, ${harmful} refused at open, ` +
        `slowest ${slowestMs.toFixed(1)} ms, ${offsets.length} bytes of metadata`,
    );
    expect(opened).toBeGreaterThan(variants / 2);
    expect(slowestMs).toBeLessThan(5000);
  });

  it.skipIf(source.isMissing)(`survives truncation${reason}`, { timeout: 600_000 }, () => {
    const original = source.read();
    const arena = new Arena(original);
    const variants = source.truncations * scale;
    const next = random(seed + 1);
    let opened = 0;
    for (let i = 0; i < variants; i++) {
      const length = Math.floor(((i + next(1000) / 1000) / variants) * original.length);
      expect(openDamaged(arena.bytes(length)), `length ${length}`).toBeUndefined();
      // With the promise of the superblock broken too, the rest must be found out piece by piece.
      arena.view.setUint32(1024 + 36, 0, true);
      try {
        if (check(arena, length, i % 8 === 0)) opened++;
      } catch (error) {
        throw new Error(`SEED=${seed} ${source.name} truncated to ${length}`, { cause: error });
      }
      arena.memory.set(original.subarray(1024, 1152), CANARY + 1024);
    }
    expect(opened).toBeGreaterThan(0);
  });
});
