// The command line of mount.composefs: what mount(8) passes, the reference's options, and what
// contradicts itself.

import { describe, expect, it } from 'vitest';
import {
  type MountRequest,
  parseMountCommand,
  withoutNamespace,
} from '../../../src/cli/mount-composefs-options.ts';
import { UsageError } from '../../../src/errors.ts';

const digest = '0123456789abcdef'.repeat(4);

function request(...args: string[]): MountRequest {
  const command = parseMountCommand(args);
  if (command.kind !== 'mount') throw new Error(command.kind);
  return command.request;
}
const withOptions = (list: string): MountRequest => request('-o', list, '/image', '/dir');

function refusal(...args: string[]): string {
  try {
    request(...args);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error('it is accepted');
}

describe('the command line', () => {
  it('is what mount(8) passes, in its order', () => {
    const args = ['/image', '/dir', '-s', '-f', '-n', '-v', '-o', 'rw,basedir=/a:/b'];
    const parsed = request(...args, '-t', 'composefs.x', '-N', '/proc/1/fd/3');
    expect(parsed).toMatchObject({
      image: '/image',
      mountpoint: '/dir',
      basedirs: ['/a', '/b'],
      fake: true,
      verbose: true,
      namespace: '/proc/1/fd/3',
    });
    expect(request('-sfnv', '/image', '/dir')).toMatchObject({ fake: true, verbose: true });
  });

  it('loses -N for the process in that namespace, however it is written', () => {
    for (const form of [['-N', '/ns'], ['-N/ns'], ['-vN', '/ns'], ['--namespace=/ns']]) {
      const rest = withoutNamespace(['/image', '/dir', ...form, '-o', 'ro,basedir=/x']);
      expect(rest.join(' ')).not.toContain('/ns');
      expect(request(...rest)).toMatchObject({ basedirs: ['/x'], namespace: undefined });
    }
  });

  it('names what is missing or too much', () => {
    expect(refusal('/image')).toMatch(/IMAGE and DIR are expected/);
    expect(refusal('/image', '')).toMatch(/IMAGE and DIR are expected/);
    expect(refusal('/a', '/b', '/c')).toMatch(/superfluous argument "\/c"/);
    expect(refusal('-x', '/a', '/b')).toMatch(/-x.*mount\.composefs --help/);
  });
});

describe('options', () => {
  it('may be repeated, and quote commas and colons', () => {
    const parsed = request('-o', 'basedir=/a\\,b', '-o', String.raw`basedir=/c\\:d:/e`, '/i', '/d');
    expect(parsed.basedirs).toEqual(['/a,b', '/c:d', '/e']);
    expect(parsed.words).toEqual([String.raw`basedir=/a\,b`, String.raw`basedir=/c\\:d:/e`]);
  });

  it('forbid nothing that is not said, as mount(8)', () => {
    expect([...withOptions('rw').mount.flags]).toEqual([]);
    expect([...withOptions('nosuid,nodev,noexec,dev').mount.flags]).toEqual(['nosuid', 'noexec']);
  });

  it('know ro and rw, of which the last one counts', () => {
    expect(withOptions('ro').mount.flags.has('ro')).toBe(true);
    expect(withOptions('ro,rw').mount.flags.has('ro')).toBe(false);
    expect(withOptions('rw,ro').words).toEqual(['ro']);
  });

  it('have a digest imply verity', () => {
    expect(withOptions('').mount.verity).toBeUndefined();
    expect(withOptions('verity').mount.verity).toBe('require');
    expect(withOptions('tryverity').mount.verity).toBe('if-present');
    expect(withOptions('noverity').mount.verity).toBe('off');
    expect(withOptions(`tryverity,digest=${digest}`).mount.verity).toBe('require');
    expect(refusal('-o', `noverity,digest=${digest}`, '/i', '/d')).toMatch(/demands verity/);
    expect(refusal('-o', 'digest=12', '/i', '/d')).toMatch(/digest.*64 hex digits/);
  });

  it('take upperdir and workdir together', () => {
    expect(withOptions('upperdir=/u,workdir=/w').upper).toEqual(['/u', '/w']);
    expect(withOptions('').upper).toBeUndefined();
    for (const half of ['upperdir=/u', 'workdir=/w']) {
      expect(refusal('-o', half, '/i', '/d')).toMatch(/upperdir and workdir need each other/);
    }
  });

  it('choose the rungs', () => {
    expect(withOptions('').backends).toEqual(['kernel', 'overlay', 'passthrough', 'fuse']);
    expect(withOptions('backend=auto').backends).toHaveLength(4);
    expect(withOptions('backend=overlay').backends).toEqual(['overlay']);
    expect(withOptions('data=auto').backends).toEqual(['passthrough', 'fuse']);
    expect(withOptions('data=daemon').backends).toEqual(['fuse']);
    expect(refusal('-o', 'backend=nfs', '/i', '/d')).toMatch(/"nfs"; expected auto, kernel/);
    expect(refusal('-o', 'backend=kernel,data=daemon', '/i', '/d')).toMatch(/contradicts/);
  });

  it('that are unknown are refused by name, or ignored with -s', () => {
    expect(refusal('-o', 'ro,zzz=1', '/i', '/d')).toMatch(/"zzz"; see mount\.composefs --help/);
    expect(request('-s', '-o', 'ro,zzz=1', '/i', '/d').words).toEqual(['ro']);
    // A digest that cannot be read is no unknown option.
    expect(refusal('-s', '-o', 'digest=12', '/i', '/d')).toMatch(/64 hex digits/);
    expect(refusal('-o', 'source=/x', '/i', '/d')).toMatch(/given as an argument/);
    for (const name of ['backend', 'idmap', 'upperdir', 'workdir', 'basedir']) {
      expect(refusal('-o', `${name}=`, '/i', '/d')).toMatch(`${name} needs a value`);
    }
  });

  it('of the reference, fstab and systemd are all known', () => {
    const list = 'defaults,nofail,_netdev,x-systemd.automount,user,rw,noatime,context=a:b:c:d';
    expect(withOptions(`${list},max_threads=4,fsname=x,idmap=/proc/1/ns/user`)).toMatchObject({
      idmap: '/proc/1/ns/user',
    });
  });
});
