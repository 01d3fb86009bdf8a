// Who can mount, and how, on a kernel of the VM tier: the tests of test/vm/guest/mounters.mjs. What every kernel
// gives is in docs/kernels.md, whose table these tests print and compare.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findKernel } from '../../scripts/lib/kernels.mjs';
import { directory, external, file, symlink } from '../support/image-nodes.ts';
import { recordedRequests } from '../support/init-requests.ts';
import type { LadderRow, Wish } from '../support/ladder.mjs';
import { patternBytes, verityDigest } from '../support/object-folder.ts';
import { makeImage, type SampleImage } from '../support/sample-image.ts';
import type { Scope } from '../support/scope.ts';
import type { Guest } from '../support/vm-cases.ts';
import type { KernelName } from '../support/vm-requirements.ts';

const document = join(import.meta.dirname, '../../docs/kernels.md');

/** `hello`, `link`, `big` with an attribute, `sub/inner`, and `bad`, whose object is another one. */
export function mountersSample(scope: Scope): SampleImage {
  return makeImage(scope, (objects) => {
    const digest = verityDigest(patternBytes(5000, 1));
    objects.write('wrong', patternBytes(5000, 2));
    return directory({
      hello: file('hello\n'),
      link: symlink('hello'),
      big: objects.add(patternBytes(200_000), { xattrs: [['user.color', 'blue']] }),
      bad: external(5000, { digest, redirect: '/wrong' }),
      sub: directory({ inner: file('inner\n') }),
    });
  });
}

/**
 * What is asked of mount.composefs. Where FUSE is all that can be had, one wish will do: every mount costs the
 * emulated machine two or three starts of Node.js.
 */
export const wishesOn = (kernel: KernelName): readonly Wish[] =>
  kernels[kernel].hasLayers ? ['nothing', 'verity'] : ['verity'];

const SHA256 = {
  hello: '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03',
  big: 'f5bec424aa3e2d80eb6ebe282242ba8972149ffe104406f476636cdc98a279e9',
};

/** Part of what tree-walk.py says of every path, whoever mounts. */
const tree = {
  '': { mode: '0o40755', nlink: 3, uid: 0 },
  hello: { mode: '0o100644', uid: 0, size: 6, read: `6:${SHA256.hello}`, xattrs: {} },
  link: { mode: '0o120777', target: '=hello' },
  big: { size: 200_000, read: `200000:${SHA256.big}`, xattrs: { 'user.color': '=blue' } },
  bad: { size: 5000, open: 'EIO' },
  sub: { mode: '0o40755', nlink: 2 },
  'sub/inner': { size: 6 },
};

interface Tried {
  mount: {
    /** What the daemon logged. */
    mounted: Record<string, unknown>;
    messages: string[];
    tree: Record<string, unknown>;
    killed: { read: string; unmounted: string; withAutoUnmount: string };
  };
  ladder: LadderRow[];
}

interface Kernel {
  linux: string;
  protocol: string;
  hasPassthrough: boolean;
  /** overlayfs's data-only layers. */
  hasLayers: boolean;
}

const kernels: Readonly<Record<KernelName, Kernel>> = {
  bullseye: { linux: '5.10', protocol: '7.32', hasPassthrough: false, hasLayers: false },
  bookworm: { linux: '6.1', protocol: '7.38', hasPassthrough: false, hasLayers: false },
  trixie: { linux: '6.12', protocol: '7.41', hasPassthrough: true, hasLayers: true },
};

interface Identity {
  who: string;
  how: string;
  allowOther: boolean;
  /** Why mount.composefs does not mount in a better way, where it does not. */
  obstacles: Readonly<Record<'kernel' | 'overlay' | 'passthrough', RegExp>>;
}

const identities: readonly Identity[] = [
  {
    who: 'root',
    how: 'mount(2)',
    allowOther: true,
    obstacles: { kernel: /Linux 6\.5 /, overlay: /Linux 6\.5\b/, passthrough: /Linux 6\.9$/ },
  },
  {
    who: 'root of a user namespace',
    how: 'mount(2)',
    allowOther: true,
    obstacles: {
      kernel: /^erofs cannot be mounted in a user namespace$/,
      overlay: /Linux 6\.16 \(in a user namespace\)|^verity: in a user namespace/,
      passthrough: /^it takes root \(/,
    },
  },
  {
    who: 'an ordinary user',
    how: 'fusermount3',
    allowOther: false,
    obstacles: {
      kernel: /^it takes root \(/,
      overlay: /^it takes root or a user namespace \(/,
      passthrough: /^it takes root \(/,
    },
  },
];

/** The rows of docs/kernels.md: the ladder's with the kernel in front. */
const rowsOf = (linux: string, rows: readonly LadderRow[]): string[] =>
  rows.map(
    ({ who, asked, rung, verifies }) => `| ${[linux, who, asked, rung, verifies].join(' | ')} |`,
  );

/** The tests of one guest. */
export function describeMounters(guest: Guest): void {
  const { linux, protocol, hasPassthrough, hasLayers } = kernels[guest.kernel];

  for (const { who, how, allowOther, obstacles } of identities) {
    describe(`by ${who}`, () => {
      const tried = (): Tried => guest.result(who) as Tried;

      test('falls back to what the kernel has', () => {
        expect(tried().mount.mounted).toMatchObject({
          how,
          allowOther,
          protocol,
          transport: 'device',
          data: hasPassthrough ? 'auto' : 'daemon',
        });
      });

      test('shows everything, and refuses the wrong object', () => {
        expect(Object.keys(tried().mount.tree).sort()).toEqual(Object.keys(tree).sort());
        expect(tried().mount.tree).toMatchObject(tree);
        const { messages } = tried().mount;
        expect(messages[0]).toBe('mounted');
        expect(messages).toContain('object refused: it has another fs-verity digest');
      });

      test(`${hasPassthrough && who === 'root' ? 'lets' : 'does not let'} the kernel read objects`, () => {
        const { messages } = tried().mount;
        // Those who may not are told once, and there is nothing to tell where there is no passthrough.
        expect(messages.filter((text) => text.includes('EPERM'))).toHaveLength(
          hasPassthrough && who !== 'root' ? 1 : 0,
        );
      });

      test('is dead when its daemon is killed, and gone with auto_unmount', () => {
        expect(tried().mount.killed).toEqual({
          read: 'Transport endpoint is not connected',
          unmounted: 'is removed',
          withAutoUnmount: 'is gone',
        });
      });

      test('takes by mount.composefs the way that docs/kernels.md says', () => {
        const { ladder } = tried();
        expect(ladder.map(({ asked }) => asked)).toEqual(wishesOn(guest.kernel));
        const rows = rowsOf(linux, ladder);
        console.log(rows.join('\n'));
        const documented = readFileSync(document, 'utf8').replaceAll(/ +/g, ' ');
        for (const row of rows) expect(documented).toContain(row);
        for (const { rung, refused } of ladder) {
          if (rung === 'kernel') continue;
          expect(refused).toEqual({
            kernel: expect.stringMatching(obstacles.kernel),
            overlay: expect.stringMatching(obstacles.overlay),
            passthrough: expect.stringMatching(obstacles.passthrough),
          });
        }
      });
    });
  }

  test('begins with the request that is recorded of this kernel', () => {
    const { release, hex } = guest.result('the first request') as (typeof recordedRequests)[number];
    expect(release).toBe((findKernel(guest.kernel) as { release: string }).release);
    const recorded = recordedRequests.find((each) => each.release.startsWith(`${linux}.`));
    expect(hex).toBe(recorded?.hex);
  });

  test('has a writable layer by mount.composefs', () => {
    const { stderr, upper } = guest.result('a writable layer') as {
      stderr: string;
      upper?: string;
    };
    const rung = hasLayers ? /kernel \(overlayfs over erofs from the image file; / : /fuse \(/;
    expect(stderr).toMatch(new RegExp(` by ${rung.source}`));
    expect(upper).toBe('changed\n');
  });
}
