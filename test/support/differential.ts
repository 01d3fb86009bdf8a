// The differential tests' way of asking: the same image mounted by the kernel and by us, with and without
// an overlayfs of ours, walked by several kinds of users, and no difference allowed but those a table
// explains.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { compareTrees, showDifferences } from './compare-trees.ts';
import type { Difference, WalkOptions } from './compare-trees.ts';
import { mountKernel, mountOurs } from './mounts.ts';
import type { OurMountOptions } from './mounts.ts';
import { fuseNativeArgs, fuseNativeExceptions, overlayArgs } from './fuse-native.ts';
import {
  describeWith,
  needsFuseNative,
  needsKernelComposefs,
  needsOurMount,
  needsSetpriv,
  type Requirement,
} from './requirements.ts';
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
  /** By the daemon alone: for trees whose size takes long to walk and shows no more in other ways. */
  deviceOnly?: boolean;
}

/** Permissions and attributes are the kernel's and the core's business: every way has them alike. */
const seenInEveryWay = ['root', 'an unknown user'];

/** How we mount. */
interface Way {
  title: string;
  /** The one that everybody looks at. */
  isMain: boolean;
  requirements: readonly Requirement[];
  /** Both mounts hide ACLs. */
  noAcl: boolean;
  args: readonly string[];
  expected: readonly Expected[];
}

function waysOf(differential: DifferentialCase): Way[] {
  const { expected = [], expectedOfOverlay = [], deviceOnly = false } = differential;
  const byTheDaemon = {
    title: 'by the daemon',
    isMain: true,
    requirements: [],
    noAcl: false,
    args: [],
    expected,
  };
  if (deviceOnly) return [byTheDaemon];
  return [
    byTheDaemon,
    {
      ...byTheDaemon,
      title: 'with an overlayfs',
      isMain: false,
      args: overlayArgs,
      expected: expectedOfOverlay,
    },
    {
      title: 'through fuse-native',
      isMain: false,
      requirements: [needsFuseNative],
      noAcl: true,
      args: fuseNativeArgs,
      expected: [...expected, ...fuseNativeExceptions],
    },
  ];
}

/**
 * Declares describe blocks, one for each way to mount, that compare our mount with the kernel's once for
 * every identity. Each has a kernel mount of its own: what overlayfs shows of an external file depends on
 * whether the file has been opened (st_blocks).
 */
export function compareWithKernel(title: string, differential: DifferentialCase): void {
  for (const way of waysOf(differential)) compare(`${title}, ${way.title}`, differential, way);
}

function compare(title: string, differential: DifferentialCase, way: Way): void {
  const { walk = {}, minimumEntries } = differential;
  const requirements = [...needsOurMount, needsKernelComposefs, needsSetpriv, ...way.requirements];
  describeWith(requirements, title, () => {
    const scope = new Scope();
    let kernel: string;
    let ours: string;
    beforeAll(async () => {
      const made = differential.image(scope);
      const { image, basedirs } =
        typeof made === 'string' ? { image: made, basedirs: differential.basedirs ?? [] } : made;
      kernel = await mountKernel(scope, image, basedirs, { noAcl: way.noAcl });
      const options = {
        ...differential,
        image,
        // overlayfs wants a second layer, also for an image without external files.
        basedirs: basedirs.length > 0 || way.args !== overlayArgs ? basedirs : [scope.directory()],
        args: [...(differential.args ?? []), ...way.args],
      };
      ours = (await mountOurs(scope, options)).mountpoint;
    });
    afterAll(() => scope.close());

    for (const [name, identity] of Object.entries(identities)) {
      if (differential.seenBy?.includes(name) === false) continue;
      if (!way.isMain && !seenInEveryWay.includes(name)) continue;
      test(`looks the same to ${name}`, async () => {
        const comparison = await compareTrees(kernel, ours, { ...identity, ...walk });
        const unexpected = comparison.differences.filter(
          (difference) => !way.expected.some((entry) => entry.matches(difference)),
        );
        expect(showDifferences(unexpected)).toBe('');
        expect(comparison.entries).toBeGreaterThanOrEqual(minimumEntries);
      });
    }
  });
}
