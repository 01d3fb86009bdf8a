#!/bin/sh
# composefs-fuse: mounts a composefs image. A shell starts in a millisecond and Node.js in thirty or more,
# so an ordinary mount is started from here, and only the daemon is Node.js. Whatever is not ordinary,
# and every failure, is left to composefs-fuse.js.

self=$(readlink -f -- "$0") || exit 70
here=${self%/*}

# As isPlainMount of plain-mount.ts: surely a mount in the background, or wrong.
is_plain() {
  [ $# -gt 0 ] && [ "$1" != doctor ] && [ -z "${COMPOSEFS_FUSE_READY_FD+set}" ] || return 1
  for arg; do
    case $arg in
      *debug*) return 1 ;;
      [!-]* | -[ot]* | -[nsv]) ;;
      --basedir | --data | --digest | --log-file | --log-format | --log-level | --options) ;;
      --pid-file | --threads | --verify-at | --verify-engine | --verity) ;;
      --basedir=* | --data=* | --digest=* | --log-file=* | --log-format=* | --log-level=*) ;;
      --options=* | --pid-file=* | --threads=* | --verify-at=* | --verify-engine=* | --verity=*) ;;
      *) return 1 ;;
    esac
  done
}

# The daemon says one line on descriptor 3 and closes it. It gets nothing else of ours, and no
# certificates: it speaks to nobody, and reading them costs 70 ms.
start() {
  unset NODE_EXTRA_CA_CERTS
  COMPOSEFS_FUSE_READY_FD=3 setsid -f node "$here/command.cjs" "$@" \
    3>&1 >/dev/null 2>&1 </dev/null 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

if is_plain "$@"; then
  said=$(start "$@")
  [ "$said" = '{"ready":true}' ] && exit 0
  # Without a word (no setsid, no node) the usual way finds out why.
  [ -n "$said" ] && export COMPOSEFS_FUSE_SAID="$said"
fi
COMPOSEFS_FUSE_CALLED=$0 exec node "$here/composefs-fuse.js" "$@"
