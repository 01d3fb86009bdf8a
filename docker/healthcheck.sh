#!/bin/sh
# Whether the mount on $1 (else $MOUNTPOINT, else /mnt) is there and answers. A line and exit code 1 if not.
# A dead daemon is an error at once, and one that hangs is given up after four seconds.
at=${1:-${MOUNTPOINT:-/mnt}}
# The uppermost one counts.
kind=$(awk -v at="$at" '$2 == at { kind = $3 } END { print kind }' /proc/self/mounts)
case $kind in
fuse.composefs | overlay) ;;
*)
  echo "$at: no composefs mount"
  exit 1
  ;;
esac
# The kernel keeps what it was told of files, but asks for this every time.
if ! timeout -s KILL 4 stat -f "$at" >/dev/null; then
  echo "$at: the mount does not answer"
  exit 1
fi
