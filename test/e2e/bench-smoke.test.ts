// The mount benchmark itself, with little of everything: each mount and workload has a number or a
// reason, what it writes can be read, and nothing is left behind, also after a signal.

import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exitOf, runCommand, waitUntil, within } from '../support/command.ts';
import { mountTable } from '../support/mounts.ts';
import {
  describeWith,
  needsFuse,
  needsKernelComposefs,
  needsRoot,
} from '../support/requirements.ts';
import { scopeOfEachTest } from '../support/scope.ts';
import { readXml } from '../support/xml.ts';
import type { Result } from '../bench/result.d.mts';

const program = join(import.meta.dirname, '../bench/mount.mjs');

/** Mounts below the directory. */
const mountsIn = (folder: string): string[] =>
  mountTable()
    .map((entry) => entry.mountpoint)
    .filter((path) => path.startsWith(folder));

describeWith([needsRoot, needsFuse, needsKernelComposefs], 'the mount benchmark', () => {
  const scope = scopeOfEachTest();

  /** The environment in which its temporary directory is one of the test's own. */
  function ownTemporaryDirectory(): { folder: string; env: NodeJS.ProcessEnv } {
    const folder = scope.directory();
    scope.defer(async () => {
      for (const path of mountsIn(folder).reverse()) await runCommand('umount', ['-l', path]);
    });
    return { folder, env: { ...process.env, TMPDIR: folder } };
  }

  test('measures or names every mount and workload, and leaves nothing behind', async () => {
    const { folder, env } = ownTemporaryDirectory();
    const results = scope.directory();
    const [json, svg] = [join(results, 'result.json'), join(results, 'result.svg')];
    const args = [program, '--quick', '--json', json, '--svg', svg];
    const outcome = await runCommand(process.execPath, args, { env, timeoutMs: 240_000 });
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(mountsIn(folder)).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);

    const result = JSON.parse(readFileSync(json, 'utf8')) as Result;
    const mounts = result.mounts.filter(({ reason }) => reason === undefined);
    const names = mounts.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['kernel', 'off', 'open', 'read']));
    for (const { reason = 'measured' } of result.mounts) expect(reason).toMatch(/\w{3}/);
    expect(result.problems).toEqual([]);
    const sections = new Set(result.measurements.map(({ section }) => section));
    expect([...sections].sort()).toEqual(['idle', 'memory', 'scale', 'start', 'workloads']);
    for (const { name, unit, cells } of result.measurements) {
      const known = unit === 'entries/s' ? names.slice(0, 2) : names;
      expect(
        cells.map(({ mount }) => mount),
        name,
      ).toEqual(known);
      // Ours have everything that this machine can give; an idle daemon uses no time at all.
      for (const { mount, reason, samples = [], median = -1 } of cells)
        if (reason === undefined) {
          expect(samples.length, `${name}: ${mount}`).toBeGreaterThan(0);
          expect(median, `${name}: ${mount}`).toBeGreaterThan(unit === 'ms' ? -1 : 0);
        } else expect(reason).toMatch(/no process serves it|\/usr\/bin\/python3/);
    }
    expect(readXml(readFileSync(svg, 'utf8')).children.length).toBeGreaterThan(50);

    const report = await runCommand(process.execPath, [program, '--report', json]);
    expect(report).toMatchObject({ code: 0, stderr: '' });
    for (const { name } of result.measurements) expect(report.stdout).toContain(`| ${name}`);
  });

  test('unmounts and removes everything when it is stopped in the middle', async () => {
    const { folder, env } = ownTemporaryDirectory();
    const args = [program, '--quick', '--rounds', '999', '--only', 'walk'];
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    scope.defer(() => void child.kill('SIGKILL'));
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (complaints += text));
    const ended = exitOf(child);
    // The squashfs is the last thing that is made before the mounts are measured.
    const isMounted = (): boolean => mountsIn(folder).some((path) => path.includes('mount-read'));
    await waitUntil('one of the mounts is there', isMounted, 60_000);
    child.kill('SIGINT');
    expect(await within('the end of the benchmark', 60_000, ended)).toBe(130);
    expect(complaints).toBe('bench: stopped by SIGINT\n');
    expect(mountsIn(folder)).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each([
    [['--modes', 'nonsense'], /^bench: --modes: no mode nonsense; there are .*open.*\n$/],
    [['--rounds', '0'], /^bench: --rounds 0: expected a whole number from 1 to 9999\n$/],
    [['--peer', 'a=/b'], /^bench: --peer needs --image.*\n$/],
    [['--report', '/nowhere'], /^bench: --report \/nowhere: ENOENT.*\n$/],
  ])('says in one line what is wrong with %j', async (args, message) => {
    const outcome = await runCommand(process.execPath, [program, ...args]);
    expect(outcome).toMatchObject({ code: 2, stdout: '' });
    expect(outcome.stderr).toMatch(message);
  });
});
