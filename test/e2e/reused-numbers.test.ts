// The kernel gives the numbers of a mount (mount id, device) to the next one as soon as it is gone. A daemon
// that hears late of its mount's end must not take another's for its own.

import { expect, test } from 'vitest';
import { mustRun, python, within } from '../support/command.ts';
import { findMount } from '../../src/fuse/mount-table.ts';
import { mountOurs } from '../support/mounts.ts';
import { describeWith, needsFuseNative, needsOurMount } from '../support/requirements.ts';
import { sampleImage } from '../support/sample-image.ts';
import { scopeOfEachTest } from '../support/scope.ts';

const umount = `import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(os.strerror(ctypes.get_errno()) if libc.umount2(os.fsencode(sys.argv[1]), 0) != 0 else 0)`;

describeWith(
  [...needsOurMount],
  'a daemon that is asked to end after its mount was unmounted',
  () => {
    const scope = scopeOfEachTest();

    test.each([
      ['SIGTERM', 'device'],
      ['SIGINT', 'device'],
      ...(needsFuseNative.isMet() ? ([['SIGTERM', 'fuse-native']] as const) : []),
    ] as const)('leaves the next mount alone: %s over %s', async (signal, transport) => {
      const sample = sampleImage(scope);
      const first = await mountOurs(scope, { ...sample, args: ['--transport', transport] });
      const { id, device } = findMount(first.mountpoint)!;
      process.kill(first.pid, 'SIGSTOP');
      // umount(8) looks at the mountpoint first, where nobody answers.
      await mustRun(python, ['-I', '-c', umount, first.mountpoint]);
      // Other programs may take the numbers first: some of these have them, at the latest.
      const others = [];
      for (let i = 0; i < 3; i++) others.push(await mountOurs(scope, sample));
      const entries = others.map((mount) => findMount(mount.mountpoint)!);
      process.kill(first.pid, signal);
      process.kill(first.pid, 'SIGCONT');
      expect(await within('its end', 10_000, first.ended)).toBe(0);
      for (const mount of others) {
        await mustRun('ls', [mount.mountpoint]);
        expect(await mount.unmount()).toBe(0);
      }
      const reused = entries.some((entry) => entry.id === id && entry.device === device);
      if (!reused) console.log('the numbers were not given again: nothing is proven this time');
    });
  },
);
