#!/bin/sh
# Makes what docker/Containerfile is built from: make-context.sh DIRECTORY. Needs the checkout with its node
# modules, npm and a C++ compiler; the machine that builds the image then needs neither, and no network.
set -e
if [ $# -ne 1 ] || [ -e "$1" ]; then
  echo "usage: $0 DIRECTORY, which must not exist yet" >&2
  exit 1
fi
checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
context=$(cd "$1" && pwd)
# From the package, so that the image holds what a release does, with the prebuilt addon.
(cd "$checkout" && npm pack --silent --pack-destination "$context" >/dev/null)
tar -C "$context" -xzf "$context"/composefs-fuse-*.tgz
ln -s "$checkout/node_modules" "$context/package/node_modules"
node "$context/package/scripts/install.mjs" --destdir "$context/system" --helper-dir /usr/sbin >/dev/null
rm -r "$context/package" "$context"/composefs-fuse-*.tgz
cp "$checkout/docker/Containerfile" "$checkout/docker/healthcheck.sh" "$context"
chmod 755 "$context/healthcheck.sh"
