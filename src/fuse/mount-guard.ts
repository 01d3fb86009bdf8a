// A small process that outlives the daemon: when the daemon is killed and cannot unmount any more, it
// takes the dead mount away. It notices by the end of its standard input, which nobody else has open.

import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { MountError } from '../errors.ts';
import type { MountTableEntry } from './mount-table.ts';

const SHELL = '/bin/sh';

/**
 * Reads lines `ID DEVICE` of the mount table, the last of which counts; an empty one means that there
 * is nothing to do. Numbers of mounts are given to others, so that mount must still have its device. A
 * mount that is covered by another one is left alone: only what is on top can be unmounted by path.
 */
const SCRIPT = `
trap '' HUP INT QUIT TERM PIPE TSTP
id= device=
while read -r new_id new_device; do id=$new_id device=$new_device; done
[ -n "$id" ] || exit 0
escaped=
while read -r mount _ found _ path _; do
  if [ "$mount $found" = "$id $device" ]; then escaped=$path; fi
done < /proc/self/mountinfo
[ -n "$escaped" ] || exit 0
while read -r _ parent _ _ path _; do
  if [ "$parent $path" = "$id $escaped" ]; then exit 0; fi
done < /proc/self/mountinfo
path=$(printf '%b.' "$(printf '%s' "$escaped" | sed 's/\\\\/\\\\0/g')")
path=\${path%.}
umount -l -- "$path" || fusermount3 -u -z -- "$path"
`;

export class MountGuard {
  readonly #child: ChildProcess;
  readonly #lifeline: Socket;
  #isEnded = false;

  /** `onLost` is called when the guard is gone too early. Throws MountError where there is no shell. */
  constructor(mountpoint: string, onLost: () => void) {
    const child = spawn(SHELL, ['-c', SCRIPT, 'composefs-fuse-guard'], {
      stdio: ['pipe', 'ignore', 'ignore'],
      // A session of its own: what ends the daemon's must not end it. And it keeps no directory busy.
      detached: true,
      cwd: '/',
    });
    child.on('error', () => {});
    if (child.pid === undefined) {
      throw new MountError(
        `${SHELL} cannot be started to watch over the mount; install it, ` +
          'or do without -o auto_unmount and --data overlay',
        { path: mountpoint },
      );
    }
    child.on('exit', () => {
      if (!this.#isEnded) onLost();
    });
    child.unref();
    this.#child = child;
    this.#lifeline = child.stdin as Socket;
    this.#lifeline.on('error', () => {});
    this.#lifeline.unref();
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** From now on this mount, and no other, is removed if this process dies. */
  watch(entry: Pick<MountTableEntry, 'id' | 'device'>): void {
    this.#lifeline.write(`${entry.id} ${entry.device}\n`);
  }

  /** There is nothing to remove any more. */
  end(): void {
    this.#isEnded = true;
    this.#lifeline.end('\n');
  }
}
