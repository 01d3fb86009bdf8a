#!/bin/sh
# composefs-fuse: mounts a composefs image. A shell starts in a millisecond and Node.js in thirty or more,
# so an ordinary mount is started from here, and only the daemon is Node.js. Whatever is not ordinary,
# and every failure, is left to composefs-fuse.js.

# mount(8) and service managers may leave it empty.
if [ -z "${PATH-}" ]; then
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
fi

# Exit code 69 as in exit-code.ts.
unavailable() {
  echo "composefs-fuse: $1" >&2
  exit 69
}

self=$0
if [ -h "$self" ]; then
  for readlink in readlink /usr/bin/readlink /bin/readlink; do
    command -v "$readlink" >/dev/null && break
  done
  self=$("$readlink" -f -- "$0") || unavailable "readlink (of coreutils) is not on PATH ($PATH)"
fi
case $self in
  */*) here=${self%/*} ;;
  *) here=. ;;
esac
command -v node >/dev/null ||
  unavailable "node is not on PATH ($PATH); install Node.js 20 or newer, or add its directory to PATH"

# As isPlainMount of plain-mount.ts: surely a mount in the background, or wrong.
is_plain() {
  [ $# -gt 0 ] && [ -z "${COMPOSEFS_FUSE_READY_FD+set}" ] || return 1
  for arg; do
    case $arg in
      *debug*) return 1 ;;
      [!-]* | -[ot]* | -[nsv]) ;;
      --basedir | --data | --digest | --log-file | --log-format | --log-level | --options) ;;
      --gid-map | --pid-file | --squash | --threads | --uid-map | --upperdir) ;;
      --verify-at | --verify-engine | --verity | --workdir) ;;
      --basedir=* | --data=* | --digest=* | --log-file=* | --log-format=* | --log-level=*) ;;
      --options=* | --pid-file=* | --threads=* | --verify-at=* | --verify-engine=* | --verity=*) ;;
      --gid-map=* | --squash=* | --uid-map=* | --upperdir=* | --workdir=*) ;;
      *) return 1 ;;
    esac
  done
}

# Our caller's descriptors above 9, which a shell of POSIX cannot close: the daemon does. Not in a command
# substitution, whose pipe would be listed; this script's own one is not passed on.
list_inherited() {
  COMPOSEFS_FUSE_INHERITED=
  for fd in /proc/$$/fd/??*; do
    [ ! -h "$fd" ] || [ "$fd" -ef "$0" ] || COMPOSEFS_FUSE_INHERITED="$COMPOSEFS_FUSE_INHERITED ${fd##*/}"
  done
}

# The daemon says one line on descriptor 3 and closes it. It gets nothing else of ours, and no
# certificates: it speaks to nobody, and reading them costs 70 ms.
start() {
  unset NODE_EXTRA_CA_CERTS
  export COMPOSEFS_FUSE_INHERITED
  COMPOSEFS_FUSE_READY_FD=3 setsid -f node "$here/command.cjs" "$@" \
    3>&1 >/dev/null 2>&1 </dev/null 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

if is_plain "$@"; then
  list_inherited
  said=$(start "$@")
  [ "$said" = '{"ready":true}' ] && exit 0
  # Without a word (no setsid) the usual way finds out why.
  [ -n "$said" ] && export COMPOSEFS_FUSE_SAID="$said"
fi
COMPOSEFS_FUSE_CALLED=$0 exec node "$here/composefs-fuse.js" "$@"
