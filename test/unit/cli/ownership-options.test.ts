// What the command line says about owners and about the writable layer.

import { describe, expect, it } from 'vitest';
import { type CommandOptions, parseCommandLine } from '../../../src/cli/options.ts';
import { UsageError } from '../../../src/errors.ts';

function options(...args: string[]): CommandOptions {
  const command = parseCommandLine([...args, '/image', '/mountpoint'], 'composefs-fuse');
  if (command.kind !== 'mount') throw new Error(command.kind);
  return command.options;
}

function refusal(...args: string[]): string {
  try {
    options(...args);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('it is accepted');
}

const none = { ranges: [], squash: undefined };
const range = (image: number, host: number, count: number) => ({ image, host, count });

describe('owners', () => {
  it('are those of the image unless something else is said', () => {
    expect(options().ownership).toEqual({ uids: none, gids: none });
  });

  it.each([
    [['--uid-map', '0:100000:65536'], [range(0, 100_000, 65_536)]],
    [
      ['--uid-map=0:1:1', '--uid-map=5:7:2'],
      [range(0, 1, 1), range(5, 7, 2)],
    ],
    [
      ['-o', 'uid_map=0:1:1', '--uid-map=5:7:2'],
      [range(0, 1, 1), range(5, 7, 2)],
    ],
    [
      ['-o', 'uid_map=0:1:1,uid_map=5:7:2'],
      [range(0, 1, 1), range(5, 7, 2)],
    ],
    [
      ['-o', 'uidmapping=0:1:1:5:7:2'],
      [range(0, 1, 1), range(5, 7, 2)],
    ],
    [['--uid-map', '4294967294:4294967293:1'], [range(4_294_967_294, 4_294_967_293, 1)]],
    [['--uid-map', '0:0:4294967295'], [range(0, 0, 4_294_967_295)]],
  ])('%j is a map of users', (args, ranges) => {
    expect(options(...args).ownership).toEqual({ uids: { ranges, squash: undefined }, gids: none });
  });

  it.each([[['--gid-map', '0:1:2']], [['-o', 'gid_map=0:1:2']], [['-o', 'gidmapping=0:1:2']]])(
    '%j is a map of groups',
    (args) => {
      const gids = { ranges: [range(0, 1, 2)], squash: undefined };
      expect(options(...args).ownership).toEqual({ uids: none, gids });
    },
  );

  it.each([
    [['--squash', '5:6'], 5, 6],
    [['-o', 'squash=5:6'], 5, 6],
    [['-o', 'squash=5:6', '--squash', '0:1'], 0, 1],
    [['-o', 'squash_to_uid=5,squash_to_gid=6'], 5, 6],
    [['-o', 'squash_to_uid=5'], 5, undefined],
  ])('%j gives everything to %j and %j', (args, uid, gid) => {
    expect(options(...args).ownership).toEqual({
      uids: { ...none, squash: uid },
      gids: { ...none, squash: gid },
    });
  });

  it.each([
    [['--uid-map', '0:1'], '--uid-map is "0:1"; expected IMAGE:HOST:COUNT'],
    [['--uid-map', ''], '--uid-map is ""; expected IMAGE:HOST:COUNT'],
    [['--gid-map', 'a:1:1'], '--gid-map is "a:1:1"; expected numbers from 0 to 4294967294'],
    [['--gid-map', '0:-1:1'], '--gid-map is "0:-1:1"; expected numbers from 0 to 4294967294'],
    [['--uid-map', '0x1:1:1'], '--uid-map is "0x1:1:1"; expected numbers from 0 to 4294967294'],
    [['--uid-map', '0:1:0'], '--uid-map is "0:1:0"; COUNT is at least 1'],
    [
      ['--uid-map', '4294967295:0:1'],
      '--uid-map is "4294967295:0:1"; expected numbers from 0 to 4294967294',
    ],
    [
      ['--uid-map', '0:4294967294:2'],
      '--uid-map is "0:4294967294:2"; the last id there is is 4294967294',
    ],
    [
      ['--uid-map', '0:0:10', '--uid-map', '9:100:1'],
      '--uid-map 9:100:1 overlaps 0:0:10; each id may be in one',
    ],
    [
      ['-o', 'uid_map=0:0:10', '--uid-map', '10:9:1'],
      '--uid-map 10:9:1 overlaps 0:0:10; each id may be in one',
    ],
    [['--squash', '5'], '--squash is "5"; expected UID:GID'],
    [
      ['--squash', '5:4294967295'],
      '--squash is "5:4294967295"; expected numbers from 0 to 4294967294',
    ],
    [['-o', 'squash_to_gid=x'], 'mount option squash_to_gid is "x"; expected numbers'],
    [['-o', 'uid_map='], 'mount option uid_map needs a value: uid_map=…'],
    [['-o', 'squash'], 'mount option squash needs a value: squash=…'],
    [['--squash', '0:0', '--uid-map', '0:0:1'], '--squash contradicts --uid-map'],
    [['--squash', '0:0', '-o', 'gid_map=0:0:1'], '--squash contradicts mount option gid_map'],
    [
      ['-o', 'squash_to_uid=0', '--uid-map', '0:0:1'],
      'mount option squash_to_uid contradicts --uid-map',
    ],
  ])('%j is refused in one line', (args, says) => {
    expect(refusal(...args)).toContain(says);
    expect(refusal(...args)).not.toContain('\n');
  });

  it('of users may be mapped where groups are squashed', () => {
    const { ownership } = options('-o', 'squash_to_gid=6', '--uid-map', '0:1:1');
    expect(ownership.uids.ranges).toHaveLength(1);
    expect(ownership.gids.squash).toBe(6);
  });
});

describe('a writable layer', () => {
  const both = { upperdir: '/u', workdir: '/w' };

  it.each([
    [['--upperdir', '/u', '--workdir', '/w']],
    [['-o', 'upperdir=/u,workdir=/w']],
    [['-o', 'upperdir=/x,workdir=/w', '--upperdir=/u']],
  ])('is %j', (args) => {
    expect(options(...args).writable).toEqual(both);
    expect(options().writable).toBeUndefined();
  });

  it.each([
    [['--upperdir', '/u'], '--upperdir needs --workdir: a writable layer takes both'],
    [['-o', 'workdir=/w'], '--workdir needs --upperdir: a writable layer takes both'],
    [['--upperdir=', '--workdir=/w'], '--upperdir needs a directory'],
    [['-o', 'upperdir=,workdir=/w'], 'mount option upperdir needs a value'],
    [
      ['-o', 'upperdir=/u,workdir=/w,noallow_other'],
      '--upperdir contradicts noallow_other: overlayfs lets every user in',
    ],
    [
      ['-o', 'upperdir=/u,workdir=/w,transport=fuse-native'],
      '--upperdir is not possible over --transport fuse-native',
    ],
  ])('%j is refused', (args, says) => {
    expect(refusal(...args)).toContain(says);
  });
});
