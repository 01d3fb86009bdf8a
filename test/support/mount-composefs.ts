// mount.composefs for tests: the built command, and something to mount. See ladder.mjs for its table.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Outcome, runCommand } from './command.ts';
import { detach } from './mounts.ts';
import { patternBytes, verityDigest } from './object-folder.ts';
import { directory, file, toHex } from './image-nodes.ts';
import { makeImage, type SampleImage } from './sample-image.ts';
import type { Scope } from './scope.ts';

/** The built command: a file that mount(8) can start. */
export const mountComposefs: string = join(
  import.meta.dirname,
  '../../dist/cli/mount-composefs.cjs',
);

/** Runs it to its end. `as` is a command in front of it. */
export function runHelper(
  args: readonly string[],
  as: readonly string[] = [],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Outcome> {
  const [command = '', ...rest] = [...as, mountComposefs, ...args];
  return runCommand(command, rest, { env });
}

/** A directory to mount on, which is freed when the scope ends. */
export function mountpointIn(scope: Scope): string {
  const mountpoint = join(scope.directory(), 'mnt');
  mkdirSync(mountpoint);
  scope.defer(() => detach(mountpoint));
  return mountpoint;
}

/** `hello`, and `big`, an object whose digest the image gives and that has no fs-verity. */
export function verifiableImage(scope: Scope): SampleImage & { object: string } {
  const big = patternBytes(3_000_000);
  const sample = makeImage(scope, (objects) =>
    directory({ hello: file('hello\n'), big: objects.add(big) }),
  );
  const hex = toHex(verityDigest(big));
  return { ...sample, object: sample.objects.at(`${hex.slice(0, 2)}/${hex.slice(2)}`) };
}

/** Mount options for an image and its objects. */
export function optionsFor(sample: SampleImage, ...more: string[]): string[] {
  return ['-o', [`basedir=${sample.objects.path}`, ...more].join(',')];
}
