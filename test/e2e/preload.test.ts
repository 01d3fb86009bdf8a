// The content of a small file goes to the kernel with its opening: reading it costs no request.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mustRun, python, runCommand, waitUntil } from '../support/command.ts';
import { eventsOf, refusalsOf } from '../support/daemon-log.ts';
import { directory, toHex } from '../support/image-nodes.ts';
import { mountOurs, type OurMount } from '../support/mounts.ts';
import { patternBytes, verityDigest } from '../support/object-folder.ts';
import { describeWith, needsOurMount } from '../support/requirements.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import { type Scope, scopeOfEachTest } from '../support/scope.ts';
import { mountOverRing, needsUring } from '../support/uring.ts';

const SMALL_MAX = 64 * 1024;
const small = patternBytes(20_000, 1);
const largest = patternBytes(SMALL_MAX, 2);
const larger = patternBytes(SMALL_MAX + 1, 3);

function sizes(scope: Scope): SampleImage {
  return makeImage(scope, (objects) =>
    directory({
      small: objects.add(small),
      same: objects.add(small),
      largest: objects.add(largest),
      larger: objects.add(larger),
      empty: objects.add(new Uint8Array(0)),
    }),
  );
}

/** How often the daemon was asked for each operation since the last call. */
function requestCounter(mount: OurMount): (operation: string) => Promise<number> {
  let seen = 0;
  const all = (): string[] =>
    eventsOf(mount)
      .map(({ msg }) => /^#\d+ (\w+) /.exec(String(msg))?.[1])
      .filter((name) => name !== undefined);
  return async (operation) => {
    // Lines come in the order of the requests, and a file that was closed is released last.
    await waitUntil('RELEASE is logged', () => all().slice(seen).includes('RELEASE'));
    const names = all().slice(seen);
    seen += names.length;
    return names.filter((name) => name === operation).length;
  };
}

async function read(mount: OurMount, name: string): Promise<string> {
  const { stdout } = await mustRun('sha256sum', [join(mount.mountpoint, name)]);
  return stdout.split(' ')[0]!;
}

const sha256 = async (content: Uint8Array, scope: Scope): Promise<string> => {
  const path = join(scope.directory(), 'content');
  writeFileSync(path, content);
  return (await mustRun('sha256sum', [path])).stdout.split(' ')[0]!;
};

const forgetNames = (): void => writeFileSync('/proc/sys/vm/drop_caches', '2');

describeWith(needsOurMount, 'a small file', () => {
  const scope = scopeOfEachTest();
  // One thread, for the order of its lines.
  const args = ['--transport', 'device', '--threads', '1', '--log-level', 'trace'];

  test.for([
    ['small', small, 0],
    ['largest', largest, 0],
    ['larger', larger, 1],
    ['empty', new Uint8Array(0), 0],
  ] as const)('of the name %s is read with few requests', async ([name, content, reads]) => {
    const mount = await mountOurs(scope, { ...sizes(scope), args });
    const count = requestCounter(mount);
    const expected = await sha256(content, scope);
    expect(await read(mount, name)).toBe(expected);
    const asked = await count('READ');
    if (reads === 0) expect(asked).toBe(0);
    else expect(asked).toBeGreaterThanOrEqual(reads);
    // Cached: nothing is sent again.
    expect(await read(mount, name)).toBe(expected);
    expect(await count('READ')).toBe(0);
  });

  test('is given again after the kernel forgot it', async () => {
    const mount = await mountOurs(scope, { ...sizes(scope), args });
    const count = requestCounter(mount);
    const expected = await sha256(small, scope);
    for (let i = 0; i < 3; i++) {
      expect(await read(mount, 'small')).toBe(expected);
      expect(await count('READ')).toBe(0);
      const before = eventsOf(mount).length;
      forgetNames();
      const isForgotten = (): boolean =>
        eventsOf(mount)
          .slice(before)
          .some(({ msg }) => /FORGET/.test(String(msg)));
      await waitUntil('FORGET is logged', isForgotten);
    }
  });

  test('that nobody may read by --verify-at read is asked for block by block', async () => {
    const more = [...args, '--verify-at', 'read'];
    const mount = await mountOurs(scope, { ...sizes(scope), args: more });
    expect(await read(mount, 'small')).toBe(await sha256(small, scope));
    const isRead = (): boolean =>
      eventsOf(mount).some(({ msg }) => /^#\d+ READ /.test(String(msg)));
    await waitUntil('READ is logged', isRead);
  });

  test('whose object was changed in place is not given', async () => {
    const sample = sizes(scope);
    const mount = await mountOurs(scope, { ...sample, args });
    const hex = toHex(verityDigest(small));
    const path = sample.objects.at(`${hex.slice(0, 2)}/${hex.slice(2)}`);
    const changed = Uint8Array.from(small);
    changed[5000]! ^= 1;
    writeFileSync(path, changed);
    const { code } = await runCommand('cat', [join(mount.mountpoint, 'small')]);
    expect(code).not.toBe(0);
    await waitUntil('it is logged', () => refusalsOf(mount).length === 1);
    rmSync(path);
    writeFileSync(path, small);
    expect(await read(mount, 'same')).toBe(await sha256(small, scope));
  });
});

// Many processes open and read the same few files while the kernel is made to forget them: a page that
// one asks for while it is being given to another must not stop the daemon.
const READERS = `
import hashlib, os, sys, time
mountpoint, expected, until = sys.argv[1], sys.argv[2].split(','), time.monotonic() + 4
children = []
for child in range(8):
    pid = os.fork()
    if pid == 0:
        done = 0
        while time.monotonic() < until:
            for i, digest in enumerate(expected):
                with open(mountpoint + '/f%d' % i, 'rb', buffering=0) as file:
                    parts = []
                    while part := file.read(8192):
                        parts.append(part)
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if hashlib.sha256(b''.join(parts)).hexdigest() != digest: os._exit(1)
                done += 1
        os._exit(0 if done > 100 else 2)
    children.append(pid)
while time.monotonic() < until:
    with open('/proc/sys/vm/drop_caches', 'w') as caches: caches.write('3')
    time.sleep(0.02)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
`;

/** Reads five files with several processes for four seconds. Rejects if one gets wrong bytes, or none. */
async function readAndForget(
  scope: Scope,
  mountIn: typeof mountOurs,
  args: readonly string[],
): Promise<void> {
  const contents = Array.from({ length: 5 }, (_, i) => patternBytes(9_000 + 11_000 * i, i));
  const sample = makeImage(scope, (objects) =>
    directory(
      Object.fromEntries(contents.map((content, i) => [`f${i}`, objects.add(content)] as const)),
    ),
  );
  const mount = await mountIn(scope, { ...sample, args });
  const digests = await Promise.all(contents.map((content) => sha256(content, scope)));
  const words = ['-c', READERS, mount.mountpoint, digests.join(',')];
  await mustRun(python, words, { timeoutMs: 40_000 });
  expect(refusalsOf(mount)).toEqual([]);
  expect(await mount.unmount()).toBe(0);
}

describeWith(needsOurMount, 'small files, read and forgotten by many at once,', () => {
  const scope = scopeOfEachTest();

  test.for([1, 2])('are served by --threads %i', { timeout: 60_000 }, (threads) =>
    readAndForget(scope, mountOurs, ['--transport', 'device', '--threads', `${threads}`]),
  );
});

describeWith([...needsOurMount, needsUring], 'the same over io_uring', () => {
  const scope = scopeOfEachTest();

  test.for([1, 2])('is served by --threads %i', { timeout: 60_000 }, (threads) =>
    readAndForget(scope, mountOverRing, ['--threads', `${threads}`]),
  );
});
