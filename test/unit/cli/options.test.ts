// What the command line and mount options say about verification, about who reads the objects and about
// the end of the mount: every form, what wins, and what contradicts itself.

import { describe, expect, it } from 'vitest';
import { type CommandOptions, parseCommandLine } from '../../../src/cli/options.ts';
import { UsageError } from '../../../src/errors.ts';

const sha256 = '0123456789abcdef'.repeat(4);
const sha512 = sha256.repeat(2);

function options(...args: string[]): CommandOptions {
  const command = parseCommandLine([...args, '/image', '/mountpoint'], 'composefs-fuse');
  if (command.kind !== 'mount') throw new Error(command.kind);
  return command.options;
}

const verification = (...args: string[]): CommandOptions['verification'] =>
  options(...args).verification;

function refusal(...args: string[]): string {
  try {
    verification(...args);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('it is accepted');
}

describe('by default', () => {
  it('objects with a digest are verified when they are opened, by whoever can', () => {
    expect(verification()).toEqual({
      digest: undefined,
      policy: 'if-present',
      engine: 'auto',
      at: 'open',
    });
  });
});

describe('the policy', () => {
  it.each([
    [['--verity', 'off'], 'off'],
    [['--verity', 'if-present'], 'if-present'],
    [['--verity', 'require'], 'require'],
    [['--verity=off'], 'off'],
    [['-o', 'verity'], 'require'],
    [['-o', 'verity=off'], 'off'],
    [['-o', 'verity=if-present'], 'if-present'],
    [['-o', 'verity=require'], 'require'],
    [['-o', 'tryverity'], 'if-present'],
    [['-o', 'noverity'], 'off'],
    [['-o', 'verity_check=0'], 'off'],
    [['-o', 'verity_check=1'], 'if-present'],
    [['-o', 'verity_check=2'], 'require'],
    [['-o', 'verity,ro,noverity'], 'off'],
    [['-o', 'noverity', '-o', 'tryverity'], 'if-present'],
    [['-o', 'noverity', '--verity', 'require'], 'require'],
    [['--verity', 'off', '-o', 'verity'], 'off'],
  ])('%j is %s', (args, policy) => {
    expect(verification(...args)).toEqual({ ...verification(), policy });
  });

  it.each([
    [['--verity', 'on'], '--verity is "on"; expected off, if-present, require'],
    [['--verity', 'OFF'], '--verity is "OFF"; expected off, if-present, require'],
    [['--verity', ''], '--verity is ""; expected off, if-present, require'],
    [['-o', 'verity=1'], 'mount option verity is "1"; expected off, if-present, require'],
    [['-o', 'verity='], 'mount option verity is ""; expected off, if-present, require'],
    [['-o', 'tryverity=1'], 'mount option tryverity takes no value'],
    [['-o', 'noverity=off'], 'mount option noverity takes no value'],
    [['-o', 'verity_check=3'], 'mount option verity_check is "3"; expected 0 to 2'],
    [['-o', 'verity_check=-1'], 'mount option verity_check is "-1"; expected 0 to 2'],
    [['-o', 'verity_check=1.0'], 'mount option verity_check is "1.0"; expected 0 to 2'],
    [['-o', 'verity_check'], 'mount option verity_check is ""; expected 0 to 2'],
  ])('%j is refused', (args, message) => {
    expect(refusal(...args)).toBe(message);
  });
});

describe('the engine and the time', () => {
  it.each([
    [['--verify-engine', 'auto'], { engine: 'auto' }],
    [['--verify-engine', 'kernel'], { engine: 'kernel' }],
    [['--verify-engine=user'], { engine: 'user' }],
    [['-o', 'verify_engine=user'], { engine: 'user' }],
    [['-o', 'verify_engine=kernel', '--verify-engine', 'auto'], { engine: 'auto' }],
    [['--verify-at', 'open'], { at: 'open' }],
    [['--verify-at', 'read'], { at: 'read' }],
    [['-o', 'verify_at=read'], { at: 'read' }],
    [['-o', 'verify_at=read', '--verify-at', 'open'], { at: 'open' }],
    [['-o', 'verify_at=read,verify_engine=kernel'], { at: 'read', engine: 'kernel' }],
    [['--verify-at', 'read', '--verity', 'off'], { at: 'read', policy: 'off' }],
  ])('%j is %j', (args, expected) => {
    expect(verification(...args)).toEqual({ ...verification(), ...expected });
  });

  it.each([
    [['--verify-engine', 'both'], '--verify-engine is "both"; expected auto, kernel, user'],
    [['-o', 'verify_engine=x'], 'mount option verify_engine is "x"; expected auto, kernel, user'],
    [['-o', 'verify_engine'], 'mount option verify_engine needs a value: verify_engine=…'],
    [['--verify-at', 'mount'], '--verify-at is "mount"; expected open, read'],
    [['-o', 'verify_at=never'], 'mount option verify_at is "never"; expected open, read'],
    [['-o', 'verify_at='], 'mount option verify_at needs a value: verify_at=…'],
  ])('%j is refused', (args, message) => {
    expect(refusal(...args)).toBe(message);
  });

  it.each([
    ['verify-engine', 'unknown mount option "verify-engine"'],
    ['verify-at=read', 'unknown mount option "verify-at"'],
    ['verity-check=1', 'unknown mount option "verity-check"'],
  ])('-o %s, which is spelt otherwise, is refused', (option, message) => {
    expect(refusal('-o', option)).toContain(message);
  });
});

describe('the digest of the image', () => {
  it.each([
    [['--digest', sha256], sha256],
    [['--digest', sha512], sha512],
    [[`--digest=${sha256}`], sha256],
    [['--digest', sha256.toUpperCase()], sha256],
    [['--digest', sha512.replace('abc', 'aBc')], sha512],
    [['-o', `digest=${sha256}`], sha256],
    [['--digest', `sha256:${sha256}`], sha256],
    [['-o', `digest=sha512:${sha512}`], sha512],
    [['-o', `digest=${sha512.toUpperCase()},ro`], sha512],
    [['-o', `digest=${sha512}`, '--digest', sha256], sha256],
    [['-o', `digest=${sha512},digest=${sha256}`], sha256],
    [['--digest', sha256, '--verity', 'require'], sha256],
    [['--digest', sha256, '-o', 'verity'], sha256],
    [['-o', `digest=${sha256},verity_check=2`], sha256],
    // The policy that counts is the one of the command line.
    [['-o', `noverity,digest=${sha256}`, '--verity', 'require'], sha256],
  ])('%j demands that all objects are verified', (args, digest) => {
    expect(verification(...args)).toEqual({ ...verification(), digest, policy: 'require' });
  });

  it.each([
    ['off', ['--digest', sha256, '--verity', 'off']],
    ['if-present', ['--digest', sha256, '--verity', 'if-present']],
    ['off', ['--digest', sha256, '-o', 'noverity']],
    ['if-present', ['--digest', sha256, '-o', 'tryverity']],
    ['off', ['--digest', sha256, '-o', 'verity_check=0']],
    ['off', ['-o', `digest=${sha256},verity=off`]],
    ['if-present', ['-o', `digest=${sha256}`, '--verity', 'if-present']],
    ['off', ['-o', `digest=${sha256},verity`, '--verity', 'off']],
  ])('contradicts the policy %s: %j', (policy, args) => {
    expect(refusal(...args)).toBe(`--digest demands --verity require, but ${policy} is given`);
  });

  it.each([
    '',
    'a',
    sha256.slice(1),
    `${sha256}0`,
    sha512.slice(2),
    `${sha512}00`,
    `${sha256}${sha256.slice(0, 32)}`,
    sha256.replace('0', 'g'),
    sha256.replace('0', ' '),
    `sha512:${sha256}`,
    `0x${sha256.slice(2)}`,
    ` ${sha256}`,
    `${sha256}\n`,
    sha256.replace('a', 'а'),
  ])('%j is none', (text) => {
    const expected = 'expected 64 hex digits (SHA-256) or 128 (SHA-512)';
    expect(refusal('--digest', text)).toBe(`--digest is ${JSON.stringify(text)}; ${expected}`);
    if (text === '') {
      expect(refusal('-o', 'digest=')).toBe('mount option digest needs a value: digest=…');
    } else {
      const message = `mount option digest is ${JSON.stringify(text)}; ${expected}`;
      expect(refusal('-o', `digest=${text}`)).toBe(message);
    }
  });

  it('needs a value', () => {
    expect(refusal('-o', 'digest')).toBe('mount option digest needs a value: digest=…');
    expect(() => parseCommandLine(['--digest'], 'composefs-fuse')).toThrow(UsageError);
  });
});

describe('the transport', () => {
  it.each([
    [[], 'auto'],
    [['--transport', 'auto'], 'auto'],
    [['--transport=device', '--data', 'passthrough'], 'device'],
    [['--transport', 'io_uring'], 'io_uring'],
    [['--transport', 'fuse-native'], 'fuse-native'],
    [['-o', 'ro,transport=fuse-native'], 'fuse-native'],
    [['-o', 'transport=fuse-native', '--transport', 'device'], 'device'],
  ])('%j: %s', (args, transport) => {
    expect(options(...args).transport).toBe(transport);
  });

  it.each([
    [['--transport', 'pigeon'], '--transport is "pigeon"; expected auto, device'],
    [['-o', 'transport=libfuse'], 'mount option transport is "libfuse"; expected auto, device'],
    [['-o', 'transport'], 'mount option transport needs a value: transport=…'],
    [
      ['--transport', 'fuse-native', '-o', 'data=passthrough'],
      '--data passthrough is not possible over --transport fuse-native',
    ],
    [
      ['--transport', 'fuse-native', '--data', 'overlay', '--basedir', '/o'],
      '--data overlay is not possible over --transport fuse-native',
    ],
    [
      ['--transport', 'fuse-native', '-o', 'auto_unmount'],
      '-o auto_unmount is not possible over --transport fuse-native',
    ],
  ])('%j is refused', (args, message) => {
    expect(refusal(...args)).toContain(message);
  });
});

describe('who reads the objects', () => {
  it.each([
    [[], 'auto'],
    [['--data', 'auto'], 'auto'],
    [['--data', 'passthrough'], 'passthrough'],
    [['--data=daemon'], 'daemon'],
    [['-o', 'data=daemon'], 'daemon'],
    [['-o', 'data=passthrough,ro'], 'passthrough'],
    [['-o', 'data=passthrough', '-o', 'data=auto'], 'auto'],
    [['-o', 'data=passthrough', '--data', 'daemon'], 'daemon'],
    [['--data', 'auto', '-o', 'data=daemon'], 'auto'],
    [['--data', 'passthrough', '--data', 'daemon'], 'daemon'],
    [['--data', 'passthrough', '--verify-at', 'open'], 'passthrough'],
    [['--data', 'passthrough', '--verity', 'require'], 'passthrough'],
    [['--data', 'auto', '--verify-at', 'read'], 'auto'],
    [['--data', 'daemon', '--verify-at', 'read'], 'daemon'],
    [['--verify-at', 'read'], 'auto'],
    // What counts is what is left of both.
    [['-o', 'data=passthrough', '--data', 'auto', '--verify-at', 'read'], 'auto'],
    [['-o', 'verify_at=read', '--data', 'passthrough', '--verify-at', 'open'], 'passthrough'],
  ])('%j: %s', (args, data) => {
    expect(options(...args).data).toBe(data);
  });

  it.each([
    [['--data', 'kernel'], '--data is "kernel"; expected auto, passthrough, daemon, overlay'],
    [['--data', 'Auto'], '--data is "Auto"; expected auto, passthrough, daemon, overlay'],
    [['--data', ''], '--data is ""; expected auto, passthrough, daemon, overlay'],
    [['-o', 'data=on'], 'mount option data is "on"; expected auto, passthrough, daemon, overlay'],
    [['-o', 'data'], 'mount option data needs a value: data=…'],
    [['-o', 'data='], 'mount option data needs a value: data=…'],
    [['-o', 'nodata'], 'unknown mount option "nodata"'],
  ])('%j is refused', (args, message) => {
    expect(refusal(...args)).toContain(message);
  });

  it.each([
    [['--data', 'passthrough', '--verify-at', 'read']],
    [['-o', 'data=passthrough', '--verify-at', 'read']],
    [['--data', 'passthrough', '-o', 'verify_at=read']],
    [['-o', 'verify_at=read,data=passthrough']],
    [['--data', 'passthrough', '--verify-at', 'read', '--verity', 'off']],
  ])('%j contradicts itself', (args) => {
    expect(refusal(...args)).toBe(
      '--data passthrough demands --verify-at open: the kernel reads by itself',
    );
  });

  it.each([
    [['--data', 'overlay'], 'if-present'],
    [['-o', 'data=overlay,verity=off,allow_other'], 'off'],
    [['--data=overlay', '--verity', 'require', '--verify-engine', 'kernel'], 'require'],
    [['--data', 'overlay', '--digest', sha256, '-o', 'auto_unmount'], 'require'],
  ])('%j is for an overlayfs', (args, policy) => {
    const { data, verification } = options('--basedir', '/objects', ...args);
    expect([data, verification.policy]).toEqual(['overlay', policy]);
  });

  it.each([
    [['--data', 'overlay', '--verify-at', 'read'], '--data overlay demands --verify-at open'],
    [['-o', 'data=overlay,verify_at=read'], '--data overlay demands --verify-at open'],
    [['-o', 'data=overlay,verify_engine=user'], 'contradicts --verify-engine user'],
    [['--data', 'overlay', '--verify-engine', 'user'], 'contradicts --verify-engine user'],
    [['--data', 'overlay', '-o', 'noallow_other'], 'contradicts noallow_other'],
  ])('%j is refused', (args, message) => {
    expect(refusal('--basedir', '/objects', ...args)).toContain(message);
  });

  it('an overlayfs demands a base directory', () => {
    expect(refusal('--data', 'overlay', '--verity', 'off')).toContain('needs --basedir');
  });

  it('needs a value', () => {
    expect(() => parseCommandLine(['--data'], 'composefs-fuse')).toThrow(UsageError);
  });
});

describe('nfs_export', () => {
  it('is off unless it is given, and refused where overlayfs is on top', () => {
    expect(options().mount.nfsExport).toBe(false);
    expect(options('-o', 'ro,nfs_export').mount.nfsExport).toBe(true);
    expect(refusal('-o', 'nfs_export=on')).toBe('mount option nfs_export takes no value');
    const overlay = ['--data', 'overlay', '--basedir', '/objects', '-o', 'nfs_export'];
    expect(refusal(...overlay)).toMatch(/^--data overlay contradicts nfs_export: /);
    const writable = ['-o', 'upperdir=/u,workdir=/w,nfs_export'];
    expect(refusal(...writable)).toMatch(/^--upperdir contradicts nfs_export: /);
    const libfuse = ['--transport', 'fuse-native', '-o', 'nfs_export'];
    expect(refusal(...libfuse)).toMatch(/nfs_export is not possible over --transport fuse-native/);
  });
});

describe('auto_unmount', () => {
  it('is off unless it is given', () => {
    expect(options().mount.autoUnmount).toBe(false);
    expect(options('-o', 'ro,auto_unmount').mount.autoUnmount).toBe(true);
    expect(refusal('-o', 'auto_unmount=1')).toBe('mount option auto_unmount takes no value');
  });
});
