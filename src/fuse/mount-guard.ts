// A small process that outlives the daemon: when the daemon is killed and cannot unmount any more, it
// takes the dead mount away. It notices by the end of its standard input, which nobody else has open.

import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { MountError } from '../errors.ts';
import { escapeOctal, type MountTableEntry, readMountTable } from './mount-table.ts';

const SHELL = '/bin/sh';

/**
 * Reads lines, the last of which counts: `watch ID DEVICE`, a mount by its numbers in the mount table;
 * `expect PLACE SOURCE SOURCE IDS`, what is about to be mounted besides it, told by what was there
 * before; `nothing`. Numbers of mounts are given to others, so a mount must still have its device. One
 * that is covered by another is left alone: only what is on top can be unmounted by path. Words are
 * escaped as in the mount table.
 */
const SCRIPT = `
trap '' HUP INT QUIT TERM PIPE TSTP
set -f
id= device= place=
while read -r kind one two three four; do
  case $kind in
    watch) id=$one device=$two place= ;;
    expect) place=$one source=$two other_source=$three before=$four ;;
    nothing) id= place= ;;
  esac
done
table=/proc/self/mountinfo

decode() {
  decoded=$(printf '%b.' "$(printf '%s' "$1" | sed 's/\\\\/\\\\0/g')")
  decoded=\${decoded%.}
}
detach() {
  decode "$1"
  umount -l -- "$decoded" || fusermount3 -u -z -- "$decoded"
}
remove_watched() {
  escaped=
  while read -r mount _ found _ path _; do
    if [ "$mount $found" = "$id $device" ]; then escaped=$path; fi
  done < $table
  [ -n "$escaped" ] || return
  while read -r _ parent _ _ path _; do
    if [ "$parent $path" = "$id $escaped" ]; then return; fi
  done < $table
  detach "$escaped"
}
# What is on top of the place, if it is new and ours.
remove_expected() {
  parents=' ' top=
  while read -r _ parent _ _ path _; do
    if [ "$path" = "$place" ]; then parents="$parents$parent "; fi
  done < $table
  while read -r mount _ _ _ path _ rest; do
    [ "$path" = "$place" ] || continue
    case $parents in *" $mount "*) ;; *) top=$mount about=\${rest#*- } ;; esac
  done < $table
  [ -n "$top" ] || return
  case ,$before, in *",$top,"*) return 1 ;; esac
  set -- $about
  case $1 in fuse.composefs | overlay) ;; *) return 1 ;; esac
  decode "$2"; found=$decoded
  decode "$source"
  if [ "$found" != "$decoded" ]; then
    decode "$other_source"
    [ "$found" = "$decoded" ] || return
  fi
  decode "$place"
  if [ "$late" ] && stat -f -- "$decoded"; then return; fi
  detach "$place"
}

[ -z "$id" ] || remove_watched
[ -n "$place" ] || exit 0
# A FUSE mount and an overlayfs.
late=
remove_expected && remove_expected
# fusermount3 may have been at work still; but by then another daemon, too, that lives.
sleep 1
late=yes
remove_expected
`;

/** What is going to be mounted. */
export interface ExpectedMounts {
  /** The mountpoint, resolved. */
  place: string;
  /** What the mount table will show as their sources. */
  sources: readonly [string, string];
}

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
          'or do without -o auto_unmount, --data overlay and --upperdir',
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

  /**
   * To be called before mounting: if this process dies before the next `watch`, what has come upon the
   * place since now is removed too, if it is of our type and source.
   */
  expect({ place, sources }: ExpectedMounts): void {
    const before = readMountTable().filter(({ mountpoint }) => mountpoint === place);
    const words = [place, ...sources].map(escapeOctal);
    this.#lifeline.write(`expect ${words.join(' ')} ${before.map(({ id }) => id).join(',')}\n`);
  }

  /** From now on this mount, and no other, is removed if this process dies. */
  watch(entry: Pick<MountTableEntry, 'id' | 'device'>): void {
    this.#lifeline.write(`watch ${entry.id} ${entry.device}\n`);
  }

  /** There is nothing to remove any more. */
  end(): void {
    this.#isEnded = true;
    this.#lifeline.end('nothing\n');
  }
}
