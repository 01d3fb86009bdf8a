// The tree of the reference images, made again by golden-tree.py, and images of it made by the built
// mkcomposefs.

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { python } from './command.ts';
import type { Requirement } from './requirements.ts';
import type { Scope } from './scope.ts';

const treeScript = join(import.meta.dirname, 'golden-tree.py');
const mkcomposefs = join(import.meta.dirname, '../../dist/cli/mkcomposefs.js');
const TIMEOUT_MS = 60_000;

/**
 * The three trees: what zoo.cfs was made of, what overlay-markers.cfs was made of, and the latter
 * with kinds of files that no reference image has.
 */
const treeOptions = {
  zoo: [],
  markers: ['--markers'],
  more: ['--markers', '--more'],
};

export type GoldenTree = 'zoo' | 'markers' | 'more';

function mustRunSync(command: string, args: readonly string[]): string {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: TIMEOUT_MS });
  if (done.status === 0) return done.stdout;
  throw new Error(`${command} ${args.join(' ')}: ${done.error?.message ?? done.stderr}`);
}

/** Makes a tree in a directory of the scope, and returns it. */
export function makeGoldenTree(scope: Scope, tree: GoldenTree): string {
  const source = join(scope.directory(), 'source');
  mkdirSync(source);
  mustRunSync(python, ['-I', treeScript, ...treeOptions[tree], source]);
  return source;
}

export interface MadeImage {
  image: string;
  objects: string;
  /** What mkcomposefs printed. */
  printed: string;
}

/** Makes an image and its objects with the built command. */
export function makeImageOf(
  scope: Scope,
  source: string,
  options: readonly string[] = [],
): MadeImage {
  const folder = scope.directory();
  const [image, objects] = [join(folder, 'image.cfs'), join(folder, 'objects')];
  const args = [mkcomposefs, '--digest-store', objects, ...options, source, image];
  return { image, objects, printed: mustRunSync(process.execPath, args) };
}

/** What the script's system calls need of the filesystem that tests work on. */
export const needsEveryXattr: Requirement = {
  what: 'trusted.*, security.* and ACL attributes in the temporary directory',
  isMet: () => {
    const script =
      'import os, tempfile\n' +
      'with tempfile.NamedTemporaryFile() as f:\n' +
      '  for name in ("user.x", "trusted.x", "security.x"): os.setxattr(f.name, name, b"v")\n' +
      '  acl = bytes.fromhex("02000000" "01000600ffffffff" "04000400ffffffff" "20000400ffffffff")\n' +
      '  os.setxattr(f.name, "system.posix_acl_access", acl)\n' +
      '  os.utime(f.name, ns=(10**19, 10**19))\n' +
      '  assert os.stat(f.name).st_mtime_ns == 10**19\n';
    return spawnSync(python, ['-I', '-c', script], { timeout: TIMEOUT_MS }).status === 0;
  },
};
