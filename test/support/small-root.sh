#!/bin/sh
# Makes a small root filesystem of this machine's own programs: small-root.sh DIRECTORY [PROGRAM...].
# busybox with links for every day, and each PROGRAM with the libraries that it is linked to.
set -e
root=$1
shift
mkdir -p "$root"
cd "$root"
mkdir -p bin dev etc home mnt opt proc run sys tmp usr/bin usr/local/bin var
cp "$(command -v busybox)" bin/busybox
for name in awk cat chmod chown cmp cp cut echo env find false grep head id ln ls mkdir mktemp mount mountpoint mv readlink rm \
  setsid sh sleep stat tail test timeout touch true umount unshare wc; do
  ln -sf busybox "bin/$name"
done
ln -sf ../../bin/env usr/bin/env
printf '%s\n' 'root:x:0:0:root:/:/bin/sh' 'user:x:1000:1000:user:/:/bin/sh' >etc/passwd
printf '%s\n' 'root:x:0:' 'user:x:1000:' >etc/group
# podman makes them where they are missing, which it cannot on a read-only root.
ln -sf /proc/mounts etc/mtab
touch etc/hosts etc/hostname etc/resolv.conf run/.containerenv
for program in "$@"; do
  cp -L "$program" usr/local/bin/
  # Of a line such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` the path.
  for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p ".$(dirname "$library")"
    cp -L "$library" ".$library"
  done
done
