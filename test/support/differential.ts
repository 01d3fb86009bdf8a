// The differential tests' way of asking: the same image mounted by the kernel and by us, with and without
// an overlayfs of ours, walked by several kinds of users, and no difference allowed but those a table
// explains.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { compareTrees, showDifferences } from './compare-trees.ts';
import type { Difference, WalkOptions } from './compare-trees.ts';
import { mountKernel, mountOurs } from './mounts.ts';
import type { OurMountOptions } from './mounts.ts';
import { describeWith, needsKernelComposefs, needsOurMount, needsSetpriv } from './requirements.ts';
import { Scope } from './scope.ts';

/** A difference to the kernel's mount that is meant, with the reason for it. */
export interface Expected {
  reason: string;
  matches: (difference: Difference) => boolean;
}

interface Identity {
  /** A command in front of the walk that changes who walks. */
  as: readonly string[];
  parts: readonly string[];
}

const metadata = ['stat', 'dirent', 'xattr', 'link', 'access'];
const everything = [...metadata, 'read', 'seek', 'mmap', 'direct', 'write'];
const user = (id: number, groups: string): string[] => [
  'setpriv',
  `--reuid=${id}`,
  `--regid=${id}`,
  groups,
];

/** Who looks. What does not depend on it (most of the content) is left to root. */
const identities: Readonly<Record<string, Identity>> = {
  root: { as: [], parts: everything },
  'root without CAP_SYS_ADMIN': {
    as: ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin'],
    parts: metadata,
  },
  'root without capabilities': {
    as: ['setpriv', '--bounding-set=-all', '--inh-caps=-all'],
    parts: [...metadata, 'read'],
  },
  'an unknown user': {
    as: user(65534, '--clear-groups'),
    parts: [...metadata, 'read', 'write'],
  },
  'a user named in ACLs': { as: user(1000, '--clear-groups'), parts: [...metadata, 'read'] },
  'a member of a group named in ACLs': {
    as: user(65534, '--groups=2000'),
    parts: [...metadata, 'read'],
  },
};

export interface DifferentialCase extends Omit<OurMountOptions, 'image' | 'as'> {
  /** The image's path, and whatever else its mounting needs; asked for before the first test. */
  image: (scope: Scope) => string | { image: string; basedirs: readonly string[] };
  /** Fewer entries than this mean that the test did not look at what it should. */
  minimumEntries: number;
  /** Keys of `identities`; all when absent. */
  seenBy?: readonly string[];
  walk?: WalkOptions;
  expected?: readonly Expected[];
  /** What differs with `--data overlay`; nothing when absent. */
  expectedOfOverlay?: readonly Expected[];
}

/** How we mount. */
const modes = ['by the daemon', 'with an overlayfs'] as const;

/** Declares a describe block that compares our mounts with the kernel's once for every identity. */
export function compareWithKernel(title: string, differential: DifferentialCase): void {
  const { walk = {}, minimumEntries } = differential;
  const requirements = [...needsOurMount, needsKernelComposefs, needsSetpriv];
  describeWith(requirements, title, () => {
    const scope = new Scope();
    // Each of ours has one of its own: what overlayfs shows of an external file depends on whether the
    // file has been opened (st_blocks).
    const kernel = new Map<(typeof modes)[number], string>();
    const ours = new Map<(typeof modes)[number], string>();
    beforeAll(async () => {
      const made = differential.image(scope);
      const { image, basedirs } =
        typeof made === 'string' ? { image: made, basedirs: differential.basedirs ?? [] } : made;
      for (const mode of modes) kernel.set(mode, await mountKernel(scope, image, basedirs));
      const options = { ...differential, image, basedirs };
      ours.set('by the daemon', (await mountOurs(scope, options)).mountpoint);
      const overlay = {
        ...options,
        // overlayfs wants a second layer, also for an image without external files.
        basedirs: basedirs.length > 0 ? basedirs : [scope.directory()],
        args: [...(options.args ?? []), '--data', 'overlay', '--verity', 'off'],
      };
      ours.set('with an overlayfs', (await mountOurs(scope, overlay)).mountpoint);
    });
    afterAll(() => scope.close());

    for (const [name, identity] of Object.entries(identities)) {
      if (differential.seenBy?.includes(name) === false) continue;
      for (const mode of modes)
        test(`looks the same to ${name}, ${mode}`, async () => {
          const expected =
            differential[mode === 'by the daemon' ? 'expected' : 'expectedOfOverlay'];
          const comparison = await compareTrees(kernel.get(mode)!, ours.get(mode)!, {
            ...identity,
            ...walk,
          });
          const unexpected = comparison.differences.filter(
            (difference) => expected?.some((entry) => entry.matches(difference)) !== true,
          );
          expect(showDifferences(unexpected)).toBe('');
          expect(comparison.entries).toBeGreaterThanOrEqual(minimumEntries);
        });
    }
  });
}
