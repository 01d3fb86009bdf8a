// mount.composefs for tests: the built command, and the table of what it does for whom.

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

/** Who mounts. */
export interface Identity {
  title: string;
  /** A command in front of the shell that mounts: setpriv, unshare. */
  as: readonly string[];
}

/** One row of the ladder: who, what was asked for, and what came of it. */
export interface LadderRow {
  who: string;
  asked: string;
  /** The rung that was taken, or the exit code. */
  rung: string;
  /** What it verifies, in its own words. */
  verifies: string;
  /** Why not by the rungs above. */
  refused: Record<string, string>;
}

/**
 * Mounts as each identity with each wish, reads a file, unmounts, and tells what was taken. In a VM it runs
 * in the guest, whose kernel decides. `mountpoint` must be the identity's to mount on.
 */
export async function tryLadder(
  sample: { image: string; basedir: string; mountpoint: string; digest: string },
  identities: readonly Identity[],
): Promise<LadderRow[]> {
  const wishes = ['', 'tryverity', 'verity', `digest=${sample.digest}`];
  const rows: LadderRow[] = [];
  // A user namespace ends with its shell, so everything is done in one.
  const script = `
    "$1" -v -o "$2" "$3" "$4" || exit
    cat "$4/hello" >/dev/null || exit 99
    umount "$4" 2>/dev/null || fusermount3 -u "$4" || exit 98`;
  for (const { title, as } of identities) {
    for (const wish of wishes) {
      const options = [`basedir=${sample.basedir}`, wish].filter((word) => word !== '').join(',');
      const command = [...as, 'sh', '-c', script, 'sh', mountComposefs, options];
      const args = [...command.slice(1), sample.image, sample.mountpoint];
      const { code, stderr } = await runCommand(command[0]!, args);
      const taken = / is mounted on \S+ by (\w+) \((.*); (.*)\)$/m.exec(stderr);
      const refused = stderr.matchAll(/^mount\.composefs: not by (\w+): (.*)$/gm);
      rows.push({
        who: title,
        asked: wish === '' ? 'nothing' : wish.replace(/=.*/, '='),
        rung: code === 0 && taken !== null ? taken[1]! : `exit code ${code}`,
        verifies: taken?.[3] ?? stderr.trim(),
        refused: Object.fromEntries([...refused].map(([, rung, reason]) => [rung, reason])),
      });
    }
  }
  return rows;
}

/** The rows as docs/mounting.md has them. */
export function ladderTable(rows: readonly LadderRow[]): string {
  const cells = rows.map(({ who, asked, rung, verifies }) => [who, asked, rung, verifies]);
  const lines = [['who mounts', 'asked for', 'taken', 'what is verified'], ...cells];
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}
