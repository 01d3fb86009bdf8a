// What a service manager is told by sd_notify(3), heard by a real socket; and that nobody but the daemon
// can speak for the service.

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeEach, expect, test } from 'vitest';
import { exitOf, launcherPath, mustRun, python, waitUntil, within } from '../support/command.ts';
import { guardsOf } from '../support/guard.ts';
import { detach, isRunning, mountAt } from '../support/mounts.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { sampleImage, type SampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const listenerScript = join(import.meta.dirname, '../support/notify-socket.py');
const ENOENT = 2;
const LIMIT_MS = 15_000;

/** A datagram, who sent it, and the size of the mount's `hello` when it came (negative: errno). */
interface Heard {
  pid: number;
  lines: string[];
  size: number;
}

describeWith(needsOurMount, 'a service manager', () => {
  const scope = scopeOfEachTest();
  let sample: SampleImage;
  let folder: string;
  let mountpoint: string;
  let heard: Heard[];

  beforeEach(() => {
    sample = sampleImage(scope);
    folder = scope.directory();
    mountpoint = join(folder, 'mnt');
    mkdirSync(mountpoint);
    heard = [];
  });

  async function listen(address: string): Promise<void> {
    const listener = spawn(python, ['-I', listenerScript, address, mountpoint], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = exitOf(listener);
    scope.defer(async () => {
      // With the mount gone: it may be looking at it.
      await detach(mountpoint);
      listener.stdin.end();
      await within('the end of the listener', LIMIT_MS, ended);
    });
    let isBound = false;
    createInterface(listener.stdout).on('line', (line) => {
      const said = JSON.parse(line) as 'bound' | Heard;
      if (said === 'bound') isBound = true;
      else heard.push(said);
    });
    await waitUntil('the socket is bound', () => isBound, LIMIT_MS);
  }

  function start(address: string, args: readonly string[] = []) {
    const daemon = spawn(
      launcherPath,
      ['--foreground', '--basedir', sample.objects.path, ...args, sample.image, mountpoint],
      { env: { ...process.env, NOTIFY_SOCKET: address }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let log = '';
    daemon.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
    const ended = exitOf(daemon);
    scope.defer(() => void daemon.kill('SIGKILL'));
    scope.defer(() => detach(mountpoint));
    return { pid: daemon.pid!, kill: () => daemon.kill('SIGTERM'), ended, log: () => log };
  }

  const count = (number: number): Promise<void> =>
    waitUntil(`message ${number} has come`, () => heard.length >= number, LIMIT_MS);

  test.each([
    ['with a path', () => join(folder, 'notify')],
    ['with an abstract name', () => `@composefs-test/${process.pid}/${mountpoint}`],
  ])('%s hears that the mount is usable, and that it ends', async (_what, addressOf) => {
    const address = addressOf();
    await listen(address);
    const daemon = start(address);
    await count(1);
    expect(heard[0]).toEqual({
      pid: daemon.pid,
      lines: ['READY=1', `STATUS=serving ${sample.image} on ${mountpoint}`],
      size: 'hello\n'.length,
    });
    daemon.kill();
    expect(await within('the end', LIMIT_MS, daemon.ended)).toBe(0);
    await count(2);
    expect(heard[1]?.lines[0]).toBe('STOPPING=1');
    expect(heard[1]?.lines[1]).toMatch(/^STATUS=unmounting /);
    expect(heard[1]?.pid).toBe(daemon.pid);
    expect(heard).toHaveLength(2);
  });

  test('hears of an end by umount', async () => {
    const address = join(folder, 'notify');
    await listen(address);
    const daemon = start(address);
    await count(1);
    await mustRun('umount', [mountpoint]);
    expect(await within('the end', LIMIT_MS, daemon.ended)).toBe(0);
    await count(2);
    expect(heard[1]).toEqual({
      pid: daemon.pid,
      lines: ['STOPPING=1', `STATUS=${mountpoint} is unmounted`],
      size: -ENOENT,
    });
  });

  test('hears nothing of a mount that fails', async () => {
    const address = join(folder, 'notify');
    await listen(address);
    const daemon = start(address, ['--verity', 'require', '--digest', '0'.repeat(64)]);
    expect(await within('the end', LIMIT_MS, daemon.ended)).toBe(5);
    expect(heard).toEqual([]);
  });

  test('hears nothing of a daemon in the background: its starter says when it is ready', async () => {
    const address = join(folder, 'notify');
    const pidFile = join(folder, 'pid');
    await listen(address);
    const args = ['--basedir', sample.objects.path, '--pid-file', pidFile, sample.image];
    await mustRun(launcherPath, [...args, mountpoint], {
      env: { ...process.env, NOTIFY_SOCKET: address },
    });
    const pid = Number(readFileSync(pidFile, 'utf8'));
    await mustRun('umount', [mountpoint]);
    await waitUntil('the daemon has ended', () => !isRunning(pid));
    expect(heard).toEqual([]);
  });

  test('cannot be spoken to by what the daemon starts', async () => {
    const address = join(folder, 'notify');
    await listen(address);
    const daemon = start(address, ['-o', 'auto_unmount']);
    await count(1);
    const guards = guardsOf(daemon.pid);
    expect(guards).toHaveLength(1);
    const environment = readFileSync(`/proc/${guards[0]}/environ`, 'latin1');
    expect(environment).toContain('PATH=');
    expect(environment).not.toContain('NOTIFY_SOCKET');
  });

  test('that is not there is a warning: the mount is served', async () => {
    const daemon = start(join(folder, 'nobody'));
    await waitUntil('the warning', () => daemon.log().includes('NOTIFY_SOCKET'), LIMIT_MS);
    expect(daemon.log()).toContain('the service manager cannot be told anything: ENOENT');
    expect(mountAt(mountpoint)?.type).toBe('fuse.composefs');
    daemon.kill();
    expect(await within('the end', LIMIT_MS, daemon.ended)).toBe(0);
  });

  test('is told of a name with line breaks on one line', async () => {
    const address = join(folder, 'notify');
    mountpoint = join(folder, 'a\nREADY=0');
    mkdirSync(mountpoint);
    const image = join(folder, 'b\nMAINPID=1');
    writeFileSync(image, readFileSync(sample.image));
    sample = { ...sample, image };
    await listen(address);
    start(address);
    await count(1);
    expect(heard[0]?.lines).toHaveLength(2);
    expect(heard[0]?.lines[1]).toContain(String.raw`b\x0aMAINPID=1 on `);
  });
});
