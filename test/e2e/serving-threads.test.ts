// How the threads of a mount share its requests: one listens, and others join it when it is held up.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { mustRun, runCommand } from '../support/command.ts';
import { directory, file } from '../support/image-nodes.ts';
import { mountOurs, type OurMount } from '../support/mounts.ts';
import { patternBytes } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage } from '../support/sample-image.ts';
import { type Scope, scopeOfEachTest } from '../support/scope.ts';

const FILES = 200;
const content = patternBytes(100_000, 3);

interface Stuck {
  outer: OurMount;
  /** Stops the process that serves the objects, so that whoever opens one waits. */
  stop(): void;
  go(): void;
}

/** A mount whose objects lie on a mount of another process. */
async function mountOnAnother(scope: Scope, args: readonly string[]): Promise<Stuck> {
  const names: string[] = [];
  const outerImage = makeImage(scope, (objects) => {
    const big = objects.add(content);
    names.push(String(big.redirect));
    const small = Array.from({ length: FILES }, (_, i) => [`f${i}`, file(`${i}`)] as const);
    return directory({ big, ...Object.fromEntries(small) });
  });
  const [folder = '', name = ''] = names[0]!.replace(/^\//, '').split('/');
  const innerImage = makeImage(scope, (objects) =>
    directory({ [folder]: directory({ [name]: objects.add(content) }) }),
  );
  const inner = await mountOurs(scope, innerImage);
  const outer = await mountOurs(scope, {
    image: outerImage.image,
    basedirs: [inner.mountpoint],
    args: ['--transport', 'device', ...args],
  });
  scope.defer(() => void process.kill(inner.pid, 'SIGCONT'));
  return {
    outer,
    stop: () => process.kill(inner.pid, 'SIGSTOP'),
    go: () => process.kill(inner.pid, 'SIGCONT'),
  };
}

const contentOf = (i: number): Uint8Array => patternBytes(5_000 + 977 * i, i);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Milliseconds of processor time, of a process and all its threads. */
function processorTime(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

describeWith([...needsOurMount], 'the threads of a mount', () => {
  const scope = scopeOfEachTest();
  const statAll = (mount: OurMount, timeoutMs: number) =>
    runCommand('stat', ['-c', '%s', ...paths(mount)], { timeoutMs });
  const paths = (mount: OurMount): string[] =>
    Array.from({ length: FILES }, (_, i) => join(mount.mountpoint, `f${i}`));

  test.each([2, 5])('go on while one waits for an object: %i threads', async (threads) => {
    const { outer, stop, go } = await mountOnAnother(scope, ['--threads', String(threads)]);
    stop();
    const readers = Array.from({ length: threads - 1 }, () =>
      runCommand('cat', [join(outer.mountpoint, 'big')], { timeoutMs: 60_000 }),
    );
    // Until they wait there.
    await delay(300);
    expect(await statAll(outer, 10_000)).toMatchObject({ code: 0 });
    go();
    for (const reader of readers) expect((await reader).stdout.length).toBeGreaterThan(0);
    expect(await outer.unmount()).toBe(0);
  });

  test('wait with the only one there is', async () => {
    const { outer, stop, go } = await mountOnAnother(scope, ['--threads', '1']);
    stop();
    const reader = runCommand('cat', [join(outer.mountpoint, 'big')], { timeoutMs: 60_000 });
    await delay(300);
    await expect(statAll(outer, 1_000)).rejects.toThrow('not done after 1000 ms');
    go();
    expect(await reader).toMatchObject({ code: 0 });
    expect(await statAll(outer, 10_000)).toMatchObject({ code: 0 });
    expect(await outer.unmount()).toBe(0);
  });

  test.each(['', '--poll 1000', '--poll 0', '--threads 8'])(
    'take no processor time when nobody asks: %j',
    async (options) => {
      const sample = makeImage(scope, () => directory({ one: file('1'), two: file('2') }));
      const args = ['--transport', 'device', ...options.split(' ').filter(Boolean)];
      const mount = await mountOurs(scope, { image: sample.image, args });
      await mustRun('ls', ['-l', mount.mountpoint]);
      // V8 compiles and collects for a while.
      await delay(1_000);
      const before = processorTime(mount.pid);
      await delay(2_000);
      expect(processorTime(mount.pid) - before).toBeLessThanOrEqual(20);
      expect(await mount.unmount()).toBe(0);
    },
  );

  test('take turns under load, and every answer is right', async () => {
    const sample = makeImage(scope, (objects) => {
      const files = Array.from(
        { length: FILES },
        (_, i) => [`f${i}`, objects.add(contentOf(i))] as const,
      );
      return directory({ ...Object.fromEntries(files) });
    });
    const args = ['--transport', 'device', '--threads', '4', '--data', 'daemon'];
    const mount = await mountOurs(scope, { ...sample, args });
    const names = Array.from({ length: FILES }, (_, i) => `f${i}`);
    const expected = names.map((name, i) => `${sha256(contentOf(i))}  ${name}\n`).join('');
    const sums = Array.from({ length: 6 }, () =>
      runCommand('sha256sum', names, { cwd: mount.mountpoint }),
    );
    for (const result of await Promise.all(sums)) expect(result.stdout).toBe(expected);
    expect(await mount.unmount()).toBe(0);
  });
});
