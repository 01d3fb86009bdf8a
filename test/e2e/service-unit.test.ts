// systemd/composefs-fuse@.service, as far as that can be told without a running systemd: its commands are
// run with its restrictions as systemd would run them.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  exitOf,
  launcherPath,
  mustRun,
  runCommand,
  waitUntil,
  within,
} from '../support/command.ts';
import { detach, mountAt } from '../support/mounts.ts';
import {
  asNobody,
  describeWith,
  needsOurMount,
  needsSetpriv,
  type Requirement,
} from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const path = join(import.meta.dirname, '../../systemd/composefs-fuse@.service');
const unit = readFileSync(path, 'utf8');
const LIMIT_MS = 15_000;

/** The value of a line of the unit that is there once. */
function valueOf(name: string): string {
  const found = [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map((match) => match[1]!);
  expect(found).toHaveLength(1);
  return found[0]!;
}

/** A command line of the unit as words: quotes, `$$`, `$NAME` (several words), `${NAME}` and `%f`. */
function wordsOf(line: string, environment: Record<string, string>, mountpoint: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].flatMap(([, quoted, plain]) => {
    const word = quoted ?? plain!;
    const list = /^\$(\w+)$/.exec(word)?.[1];
    if (list !== undefined) return (environment[list] ?? '').split(' ').filter(Boolean);
    const filled = word.replace(/\$\{(\w+)\}/g, (_, name: string) => environment[name] ?? '');
    return [filled.replaceAll('$$', '$').replaceAll('%f', mountpoint)];
  });
}

describe('the service unit', () => {
  test('gives the service no mount namespace, in which nobody else would see the mount', () => {
    const settings = unit.split('\n').filter((line) => /^[A-Z]/.test(line));
    expect(settings.length).toBeGreaterThan(10);
    const forbidden =
      /^(?:Private|Protect|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|ExecPaths|NoExecPaths|Root|Dynamic|Bind|Temporary|Mount|ProcSubset|NetworkNamespacePath|MemoryDenyWriteExecute|(?:Runtime|State|Cache|Logs|Configuration)Directory)/;
    expect(settings.filter((line) => forbidden.test(line))).toEqual([]);
  });
});

/** It loads units and runs nothing; as nobody it could not change anything either. */
const needsAnalyze: Requirement = {
  what: 'systemd-analyze',
  isMet: () => spawnSync('systemd-analyze', ['--version']).status === 0,
};

describeWith([needsSetpriv, needsAnalyze], 'systemd-analyze verify', () => {
  const scope = scopeOfEachTest();
  const verify = (text: string) => {
    const file = join(scope.directory(), 'composefs-fuse@.service');
    writeFileSync(file, text.replace('/usr/local/bin/composefs-fuse', '/bin/true'));
    const [command = '', ...args] = asNobody;
    const rest = ['systemd-analyze', 'verify', '--man=no', file];
    return runCommand(command, [...args, ...rest]);
  };

  test('finds nothing to say about the unit', async () => {
    const quiet = { code: 0, stdout: '', stderr: '' };
    expect(await verify(unit)).toMatchObject(quiet);
    const misspelt = await verify(unit.replace('KillMode=', 'KilMode='));
    expect(misspelt.stderr).toContain("'KilMode'");
  });
});

describeWith([...needsOurMount, needsSetpriv], 'the service unit', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let mountpoint: string;
  let environment: Record<string, string>;

  beforeEach(() => {
    sample = sampleImage(scope);
    const folder = scope.directory();
    const image = join(folder, 'an image');
    copyFileSync(sample.image, image);
    mountpoint = join(folder, 'mnt with a blank');
    mkdirSync(mountpoint);
    scope.defer(() => detach(mountpoint));
    environment = { IMAGE: image, BASEDIR: sample.objects.path };
  });

  async function start(): Promise<ChildProcess> {
    const [command = '', ...args] = wordsOf(valueOf('ExecStart'), environment, mountpoint);
    expect(command).toBe('/usr/local/bin/composefs-fuse');
    const bounds = valueOf('CapabilityBoundingSet').replace(/\s*CAP_/g, ',+');
    expect(valueOf('NoNewPrivileges')).toBe('yes');
    const limits = ['--no-new-privs', `--bounding-set=-all${bounds.toLowerCase()}`];
    const daemon = spawn('setpriv', [...limits, launcherPath, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    scope.defer(() => void daemon.kill('SIGKILL'));
    let log = '';
    daemon.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
    await waitUntil(
      'the mount is announced',
      () => log.includes('composefs-fuse: mounted ('),
      LIMIT_MS,
    );
    return daemon;
  }

  const runStopPost = () => {
    const [command = '', ...args] = wordsOf(valueOf('ExecStopPost'), environment, mountpoint);
    return runCommand(command, args);
  };

  test('mounts with its restrictions, reloads and ends', async () => {
    environment['OPTIONS'] = '--threads 1 --log-level info';
    const daemon = await start();
    const read = await mustRun('cat', [join(mountpoint, 'hello')]);
    expect(read.stdout).toBe('hello\n');
    const status = readFileSync(`/proc/${daemon.pid}/status`, 'latin1');
    expect(status).toMatch(/^CapBnd:\t0000000000200004$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    const reload = wordsOf(valueOf('ExecReload'), { MAINPID: String(daemon.pid) }, mountpoint);
    await mustRun(reload[0]!, reload.slice(1));
    await mustRun('cat', [join(mountpoint, 'big')]);
    daemon.kill('SIGTERM');
    expect(await within('the end', LIMIT_MS, exitOf(daemon))).toBe(0);
    expect(await runStopPost()).toMatchObject({ stdout: '', stderr: '' });
  });

  test('removes the mount of a killed daemon, and no other', async () => {
    const daemon = await start();
    expect(await runStopPost()).toMatchObject({ stdout: '', stderr: '' });
    expect(mountAt(mountpoint)?.type).toBe('fuse.composefs');
    daemon.kill('SIGKILL');
    await within('the end', LIMIT_MS, exitOf(daemon));
    await mustRun('mount', ['-t', 'tmpfs', 'other', join(dirname(mountpoint))]);
    scope.defer(() => detach(dirname(mountpoint)));
    mkdirSync(mountpoint);
    await runStopPost();
    expect(mountAt(dirname(mountpoint))?.type).toBe('tmpfs');
    await mustRun('umount', [dirname(mountpoint)]);
    expect(mountAt(mountpoint)?.type).toBe('fuse.composefs');
    expect(await runStopPost()).toMatchObject({ stdout: '', stderr: '' });
    expect(mountAt(mountpoint)).toBeUndefined();
  });
});
