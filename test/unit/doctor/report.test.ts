// What doctor says of what it found, and its command line.

import { describe, expect, it } from 'vitest';
import { parseDoctorCommand } from '../../../src/cli/doctor.ts';
import { judgeBasedir, noBasedir } from '../../../src/doctor/basedirs.ts';
import type { Examination } from '../../../src/doctor/examine.ts';
import { rangeOf } from '../../../src/doctor/namespaces.ts';
import { toJson, toText } from '../../../src/doctor/report.ts';
import { UsageError } from '../../../src/errors.ts';

const examination: Examination = {
  kernel: '6.18.0',
  caller: { uid: 0, scope: 'initial', hasNoNewPrivileges: false, mayGainAdmin: true },
  findings: [
    { id: 'kernel', state: 'ok', found: 'Linux 6.18.0' },
    { id: 'basedir', subject: '/objects', state: 'warn', found: 'overlayfs', remedy: 'a volume' },
  ],
  rungs: { plain: 'kernel', verified: 'fuse', inNamespace: undefined },
};

describe('the text', () => {
  it('has a line for each finding, one for what to do, and the best rung', () => {
    expect(toText(examination, false).split('\n')).toEqual([
      'ok    kernel           Linux 6.18.0',
      'warn  basedir          /objects: overlayfs',
      '                       -> a volume',
      '',
      'best rung: kernel; with verity: fuse',
    ]);
  });

  it('has colours for states and the last line only', () => {
    const text = toText(examination, true);
    expect(text).toContain('\u001b[32mok  \u001b[0m  kernel');
    expect(text).toContain('\u001b[33mwarn\u001b[0m  basedir');
    // oxlint-disable-next-line no-control-regex -- colours are what is taken away
    expect(text.replaceAll(/\u001b\[\d+m/g, '')).toBe(toText(examination, false));
  });

  it('says what a user namespace gives', () => {
    const rungs = { plain: 'none', verified: undefined, inNamespace: 'overlay' } as const;
    const text = toText({ ...examination, rungs }, false);
    expect(text.split('\n').at(-1)).toBe(
      'best rung: none; in a user namespace (unshare -Urm --map-auto): overlay',
    );
  });
});

describe('the JSON', () => {
  it('has every field, null where there is nothing', () => {
    expect(toJson(examination, '1.2.3')).toEqual({
      format: 1,
      version: '1.2.3',
      kernel: '6.18.0',
      uid: 0,
      admin: 'initial',
      rung: 'kernel',
      verifiedRung: 'fuse',
      namespaceRung: null,
      checks: [
        { id: 'kernel', subject: null, state: 'ok', found: 'Linux 6.18.0', remedy: null },
        {
          id: 'basedir',
          subject: '/objects',
          state: 'warn',
          found: 'overlayfs',
          remedy: 'a volume',
        },
      ],
    });
  });
});

describe('a base directory', () => {
  const ext4 = { filesystem: 0xef53, isWritable: true, isStacked: false };
  const states = (...args: Parameters<typeof judgeBasedir>): string[] =>
    judgeBasedir(...args).map(({ state, found }) => `${state} ${found}`);

  it('is all right on ext4 with fs-verity', () => {
    expect(states('/o', { ...ext4, enableVerity: 0, reflink: 0 })).toEqual([
      'ok ext4, writable',
      'ok files can have fs-verity',
      'ok files can share their blocks',
    ]);
  });

  it('without fs-verity and reflinks says what helps', () => {
    const [, verity, reflink] = judgeBasedir('/o', { ...ext4, enableVerity: -95, reflink: -95 });
    expect(verity).toMatchObject({
      state: 'warn',
      found: 'no fs-verity here (EOPNOTSUPP): objects are verified by hashing',
      remedy: expect.stringContaining('tune2fs -O verity'),
    });
    expect(reflink).toMatchObject({ state: 'warn', found: expect.stringContaining('EOPNOTSUPP') });
  });

  it('is judged by its objects', () => {
    const verity = (measured: number, enableVerity?: number): string => {
      const facts = { ...ext4, object: { path: '5d/9c', verity: measured } };
      const result = enableVerity === undefined ? facts : { ...facts, enableVerity };
      return states('/o', result)[1]!;
    };
    expect(verity(0x1_0020)).toBe('ok object 5d/9c has fs-verity');
    // ENODATA: the filesystem has fs-verity, the file has none.
    expect(verity(-61)).toBe('warn files can have fs-verity, but object 5d/9c has none');
    expect(verity(-61, 0)).toBe('warn files can have fs-verity, but object 5d/9c has none');
    expect(verity(-25)).toMatch(/^warn no fs-verity here \(ENOTTY\)/);
  });

  it('on an overlayfs means no passthrough', () => {
    const result = { filesystem: 0x794c7630, isWritable: false, isStacked: true };
    const findings = judgeBasedir('/o', result);
    expect(findings.map(({ state }) => state)).toEqual(['warn', 'skip', 'skip']);
    expect(findings[0]!.found).toContain('no passthrough');
  });

  it('that cannot be used fails, and none at all is skipped', () => {
    const result = { reason: 'base directory /o does not exist' };
    expect(states('/o', result)).toEqual([
      'fail does not exist',
      'skip the base directory cannot be used',
      'skip the base directory cannot be used',
    ]);
    expect(noBasedir().map(({ state }) => state)).toEqual(['skip', 'skip', 'skip']);
  });
});

describe('a range of subordinate ids', () => {
  const text = '# comment\nroot:1:0\ntester:100000:65536\n1002:300000:10\n';
  it.each([
    ['tester', 1001, '100000+65536'],
    ['other', 1002, '300000+10'],
    ['root', 0, undefined],
    ['nobody', 65534, undefined],
  ])('of %s (%i) is %s', (name, uid, range) => {
    expect(rangeOf(text, name, uid)).toBe(range);
  });
});

describe('the command line', () => {
  it('collects base directories, absolute and once each', () => {
    const args = ['--basedir', '/a:/b', '--basedir=/a', '--basedir', String.raw`/c\:d`, '--json'];
    expect(parseDoctorCommand(args)).toEqual({
      kind: 'run',
      basedirs: ['/a', '/b', '/c:d'],
      json: true,
    });
  });

  it.each([['image'], ['--jsn'], ['--basedir'], ['--basedir='], ['--json=x']])(
    'refuses %j',
    (arg) => {
      expect(() => parseDoctorCommand([arg])).toThrow(UsageError);
    },
  );

  it('knows help and version', () => {
    expect(parseDoctorCommand(['-h'])).toEqual({ kind: 'help' });
    expect(parseDoctorCommand(['--json', '-V'])).toEqual({ kind: 'version' });
  });
});
