// What composefs-fuse --help prints.

import { LOG_FORMATS, LOG_LEVELS } from '../log-levels.ts';

export const HELP: string = `Usage: composefs-fuse [options] IMAGE MOUNTPOINT
       composefs-fuse -o source=IMAGE,basedir=DIR[,…] MOUNTPOINT
       composefs-fuse doctor [--basedir DIR]…

Mounts a composefs image through FUSE. Returns when the mount is ready and serves in the background.
doctor says what works on this machine, and what to do about the rest (composefs-fuse doctor --help).

  --basedir DIR[:DIR…]  directory of objects; several are searched in order (repeatable)
  --verity POLICY       which objects are verified: off, if-present (those whose digest the image
                        gives, the default), require (all; one without a digest cannot be opened)
  --verify-engine NAME  auto (the kernel's fs-verity, else hashing here; the default), kernel, user
  --verify-at WHEN      open (a bad object cannot be opened, the default) or read (a bad block cannot
                        be read, and opening costs no request)
  --digest HEX          mount only if the image has this fs-verity digest (64 hex digits of SHA-256 or 128
                        of SHA-512, also with sha256: or sha512: before them); makes --verity require
  --data MODE           who reads objects: auto (the kernel by itself where that takes no check away, the
                        default), passthrough (the kernel, also objects that are hashed only when they
                        are opened), daemon, overlay (the kernel, through an overlayfs over this
                        mount; needs root or a user namespace, and --verity off or objects with
                        fs-verity)
  --uid-map IMAGE:HOST:COUNT
                        COUNT user ids of the image from IMAGE on are shown as those from HOST on
                        (repeatable); ids in no range are shown as the kernel's overflow id (65534)
  --gid-map IMAGE:HOST:COUNT
                        the same for group ids
  --squash UID:GID      show everything as owned by UID and GID
  --upperdir DIR --workdir DIR
                        make the mount writable: an overlayfs over it keeps what is written in upperdir;
                        both directories on one filesystem, workdir is overlayfs's own; needs root or
                        a user namespace
  -o OPTION[,OPTION…]   mount options, see below
  --poll MICROSECONDS   how long a thread looks for the next request before it sleeps: 0 (never) to 1000;
                        by default it does so while it pays
  -f, --foreground      stay in the foreground and log to standard error
  --transport NAME      how requests come: auto (the default: io_uring if it can be had, else device),
                        device (/dev/fuse), io_uring (Linux 6.14, where the administrator has switched
                        it on), fuse-native (the npm package of that name, over libfuse 2)
  --threads N           serving threads, 1 to 64 (default 2; with io_uring one per CPU, 8 at most);
                        -s means 1
  --log-level LEVEL     ${LOG_LEVELS.join(', ')} (default info)
  --log-format FORMAT   ${LOG_FORMATS.join(', ')} (default auto: text on a terminal, else JSON)
  --log-file FILE       append the log to FILE (in the background the default is syslog)
  --pid-file FILE       write the daemon's process id to FILE while it serves
  -d, --debug           foreground, with --log-level debug
  -h, --help            show this text
  -V, --version         show the version
  -n, -v, -t TYPE       accepted for mount(8)

Mount options:
  basedir=DIR[:DIR…]    as --basedir
  verity, tryverity, noverity, verity=POLICY, verity_check=0|1|2,
  verify_engine=NAME, verify_at=WHEN, digest=HEX, data=MODE, transport=NAME
                        as the options above
  uid_map=IMAGE:HOST:COUNT, gid_map=IMAGE:HOST:COUNT, squash=UID:GID, upperdir=DIR, workdir=DIR
                        as the options above (also fuse-overlayfs's uidmapping, gidmapping,
                        squash_to_uid, squash_to_gid); ro makes a mount with upperdir read-only
  source=IMAGE          the image, when only MOUNTPOINT is given
  allow_other           let other users in: the default for root and inside a user namespace;
                        an ordinary user needs user_allow_other in /etc/fuse.conf
  noallow_other         let only the mounting user in
  noacl                 hide POSIX ACLs and do not enforce them
  suid, dev, noexec     as in mount(8); nosuid and nodev are the default
  fsname=NAME           first column of the mount table (default: IMAGE)
  max_read=BYTES        largest read request
  context=LABEL, …      SELinux contexts, as in mount(8)
  auto_unmount          unmount also when the daemon is killed (always so with --data overlay and
                        --upperdir)
  nfs_export            have file handles, for an NFS server; not with a writable overlayfs above
  nonempty              mount even over another FUSE mount or overlayfs of ours (not for ordinary users)

Exit codes: 0 mounted, and cleanly unmounted with -f; 1 usage; 2 image not usable; 3 base directory,
upperdir, workdir, mountpoint, log or pid file not usable; 4 mounting failed; 5 the image does not have
the digest asked for; 69 Node.js or the native addon is missing; 70 internal error.
`;
