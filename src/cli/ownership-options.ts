// What the command line says about owners: --uid-map, --gid-map, --squash and their words behind -o.

import { UsageError } from '../errors.ts';
import { type IdRange, NO_ID } from '../filesystem/ownership.ts';
import type { IdWish, OwnershipWishes } from '../fuse/ownership-rules.ts';

/** An option as it was given: its name for messages, and its value. */
export interface GivenOption {
  name: string;
  value: string;
}

/** Everything that was given, in order. */
export interface OwnershipOptions {
  uidMaps: GivenOption[];
  gidMaps: GivenOption[];
  /** `UID:GID`. */
  squash: GivenOption | undefined;
  /** fuse-overlayfs has a word for each. */
  squashUid: GivenOption | undefined;
  squashGid: GivenOption | undefined;
}

export function emptyOwnershipOptions(): OwnershipOptions {
  return {
    uidMaps: [],
    gidMaps: [],
    squash: undefined,
    squashUid: undefined,
    squashGid: undefined,
  };
}

/** The words behind -o, those of fuse-overlayfs among them. */
const WORDS = [
  'uid_map',
  'uidmapping',
  'gid_map',
  'gidmapping',
  'squash',
  'squash_to_uid',
  'squash_to_gid',
] as const;
type Word = (typeof WORDS)[number];

export function isOwnershipOption(name: string): name is Word {
  return (WORDS as readonly string[]).includes(name);
}

/** Takes one of the words behind -o. */
export function applyOwnershipOption(name: Word, value: string, into: OwnershipOptions): void {
  const given = { name: `mount option ${name}`, value };
  switch (name) {
    case 'uid_map':
    case 'uidmapping':
      into.uidMaps.push(given);
      return;
    case 'gid_map':
    case 'gidmapping':
      into.gidMaps.push(given);
      return;
    case 'squash':
      into.squash = given;
      return;
    case 'squash_to_uid':
      into.squashUid = given;
      return;
    case 'squash_to_gid':
      into.squashGid = given;
  }
}

/** What is wished. Throws UsageError for what is malformed or contradicts itself. */
export function ownershipWishes(options: OwnershipOptions): OwnershipWishes {
  const { squash } = options;
  const both = squash === undefined ? undefined : parseSquash(squash);
  return {
    uids: wishOf(options.uidMaps, squash, both?.[0], options.squashUid),
    gids: wishOf(options.gidMaps, squash, both?.[1], options.squashGid),
  };
}

function wishOf(
  maps: readonly GivenOption[],
  both: GivenOption | undefined,
  id: number | undefined,
  own: GivenOption | undefined,
): IdWish {
  const squash = both ?? own;
  const [map] = maps;
  if (map !== undefined && squash !== undefined) {
    throw new UsageError(
      `${squash.name} contradicts ${map.name}: either all files belong to one id, or a map says to which`,
    );
  }
  const squashed = id ?? (own === undefined ? undefined : parseId(own.name, own.value, own.value));
  return { ranges: parseMaps(maps), squash: squashed };
}

function parseMaps(maps: readonly GivenOption[]): IdRange[] {
  const ranges: (IdRange & { text: string })[] = [];
  for (const { name, value } of maps) {
    for (const range of parseRanges(name, value)) {
      for (const other of ranges) {
        if (overlap(range, other, 'image') || overlap(range, other, 'host')) {
          throw new UsageError(
            `${name} ${range.text} overlaps ${other.text}; each id may be in one`,
          );
        }
      }
      ranges.push(range);
    }
  }
  return ranges.map(({ image, host, count }) => ({ image, host, count }));
}

/** `IMAGE:HOST:COUNT`, and more of them behind further colons, as fuse-overlayfs takes them. */
function parseRanges(name: string, text: string): (IdRange & { text: string })[] {
  const parts = text.split(':');
  if (parts.length % 3 !== 0) {
    throw new UsageError(`${name} is ${JSON.stringify(text)}; expected IMAGE:HOST:COUNT`);
  }
  const ranges: (IdRange & { text: string })[] = [];
  for (let i = 0; i < parts.length; i += 3) {
    const three = parts.slice(i, i + 3);
    const [image = 0, host = 0, count = 0] = three.map((part, which) =>
      parseId(name, text, part, which === 2 ? NO_ID : NO_ID - 1),
    );
    if (count === 0) {
      throw new UsageError(`${name} is ${JSON.stringify(text)}; COUNT is at least 1`);
    }
    if (Math.max(image, host) + count > NO_ID) {
      throw new UsageError(
        `${name} is ${JSON.stringify(text)}; the last id there is is ${NO_ID - 1}`,
      );
    }
    ranges.push({ image, host, count, text: three.join(':') });
  }
  return ranges;
}

function parseSquash({ name, value }: GivenOption): [uid: number, gid: number] {
  const parts = value.split(':');
  if (parts.length !== 2) {
    throw new UsageError(`${name} is ${JSON.stringify(value)}; expected UID:GID`);
  }
  const [uid = 0, gid = 0] = parts.map((part) => parseId(name, value, part));
  return [uid, gid];
}

function parseId(name: string, text: string, part: string, most = NO_ID - 1): number {
  const id = /^\d{1,10}$/.test(part) ? Number(part) : Infinity;
  if (id > most) {
    throw new UsageError(`${name} is ${JSON.stringify(text)}; expected numbers from 0 to ${most}`);
  }
  return id;
}

function overlap(one: IdRange, other: IdRange, side: 'image' | 'host'): boolean {
  return one[side] < other[side] + other.count && other[side] < one[side] + one.count;
}
