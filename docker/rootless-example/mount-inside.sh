#!/bin/sh
# Mounts an image inside a rootless container and runs a command there:
#   mount-inside.sh DIRECTORY IMAGE COMMAND...
# DIRECTORY has IMAGE and `objects`. The container has no capability and no way to get one; the mount is in a
# user namespace of its own, and ends with the command. CONTAINER_IMAGE is what docker/Containerfile made.
set -e
if [ $# -lt 3 ]; then
  echo "usage: $0 DIRECTORY IMAGE COMMAND..." >&2
  exit 1
fi
directory=$(cd "$1" && pwd)
image=$2
shift 2
# shellcheck disable=SC2016 # The inner shell's.
exec "${PODMAN:-podman}" run --rm --network=none \
  --cap-drop=all --security-opt=no-new-privileges --read-only \
  --device=/dev/fuse --volume="$directory:/data:ro" \
  --entrypoint='["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]' \
  "${CONTAINER_IMAGE:-localhost/composefs-fuse}" '
    set -e
    composefs-fuse --basedir /data/objects "/data/$0" /mnt
    trap "umount /mnt" EXIT
    "$@"' "$image" "$@"
