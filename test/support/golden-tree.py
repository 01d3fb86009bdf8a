#!/usr/bin/env python3
"""Makes the directory that zoo.cfs of ../shared/golden was made of, with system calls only.

usage: golden-tree.py DIRECTORY [--markers] [--more]

  --markers  what overlay-markers.cfs has beyond it: a whiteout and an opaque directory
  --more     kinds that neither image has: sparse and large files, the longest symlink, times and
             names at their limits, attributes of overlayfs in every namespace

DIRECTORY must exist and be empty, on a filesystem with attributes of every namespace (ext4, xfs,
btrfs; tmpfs of Linux 6.6). Needs root: devices, owners, trusted.* and security.* attributes.
"""

import argparse
import os
import stat
import struct

MTIME = 1_700_000_000 * 10**9
LABEL = b"system_u:object_r:usr_t:s0\0"
# A capability set of version 2 with CAP_NET_ADMIN (bit 12 lies in the second byte) permitted.
CAPABILITY = struct.pack("<5I", 0x02000001, 0x400, 0, 0, 0)

ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32
ACL_UNDEFINED_ID = 0xFFFFFFFF


def pattern(length):
    return bytes((i * 7 + 3) % 251 for i in range(length))


def acl(*entries):
    """The bytes of system.posix_acl_*: (tag, permissions) or (tag, permissions, id) in order."""
    packed = b"".join(
        struct.pack("<HHI", entry[0], entry[1], *(entry[2:] or (ACL_UNDEFINED_ID,)))
        for entry in entries
    )
    return struct.pack("<I", 2) + packed


class Tree:
    """Directories get their times at the end, since every entry that is made changes them."""

    def __init__(self, root):
        self.root = os.fsencode(root)
        self.times = {}
        self.settle(b"", 0o755, MTIME)

    def at(self, path):
        return os.path.join(self.root, os.fsencode(path)) if path else self.root

    def settle(self, path, mode, mtime, owner=0, xattrs=None):
        """In this order: chown takes setuid and capabilities away, an ACL changes the mode."""
        real = self.at(path)
        os.chown(real, owner, owner, follow_symlinks=False)
        if mode is not None:
            os.chmod(real, mode)
        for name, value in (xattrs or {}).items():
            os.setxattr(real, name, value, follow_symlinks=False)
        self.times[path] = mtime
        os.utime(real, ns=(mtime, mtime), follow_symlinks=False)

    def directory(self, path, mode=0o755, mtime=MTIME, xattrs=None):
        os.mkdir(self.at(path))
        self.settle(path, mode, mtime, xattrs=xattrs)

    def file(self, path, content=b"", mode=0o644, mtime=MTIME, owner=0, xattrs=None):
        with open(self.at(path), "xb") as out:
            out.write(content)
        self.settle(path, mode, mtime, owner, xattrs)

    def sparse(self, path, size, *pieces):
        """A file with holes around (offset, content)."""
        with open(self.at(path), "xb") as out:
            os.truncate(out.fileno(), size)
            for offset, content in pieces:
                os.pwrite(out.fileno(), content, offset)
        self.settle(path, 0o644, MTIME)

    def symlink(self, path, target, xattrs=None):
        os.symlink(os.fsencode(target), self.at(path))
        self.settle(path, None, MTIME, xattrs=xattrs)

    def node(self, path, mode, device=0):
        os.mknod(self.at(path), mode, device)
        self.settle(path, stat.S_IMODE(mode), MTIME)

    def link(self, path, target):
        os.link(self.at(target), self.at(path))

    def finish(self):
        for path, mtime in self.times.items():
            real = self.at(path)
            if stat.S_ISDIR(os.lstat(real).st_mode):
                os.utime(real, ns=(mtime, mtime))


def add_contents(tree):
    tree.directory("sizes")
    for size in (0, 1, 63, 64, 65, 4095, 4096, 4097, 8192, 65536, 131073, 1048583):
        tree.file(f"sizes/{size}", pattern(size))


def add_names(tree):
    tree.directory("names")
    names = [b"\x01ctl", b"#", b"-", b"..hidden", b".dot", b"a b", b"back\\slash", b"dup", b"dup2"]
    names += [b"equals=x", b"new\nline", b"tab\t", b"x" * 255, b"\xe2\x98\x83snowman"]
    for name in [*names, b"\xff\xfe-nonutf8"]:
        tree.file(b"names/" + name, b"name:" + name)


def add_directories(tree):
    tree.directory("emptydir")
    tree.directory("manydirs")
    for i in range(300):
        tree.directory(f"manydirs/{i:03}")
    tree.directory("bigdir")
    for i in range(3000):
        content = b"small %d" % i if i % 3 == 0 else b""
        tree.file(f"bigdir/entry-{i:05}-{'z' * (i % 40)}", content)
    path = "deep"
    tree.directory(path)
    for i in range(60):
        path += f"/d{i}"
        tree.directory(path)
    tree.file(f"{path}/leaf", b"leaf")


def add_links(tree):
    tree.directory("links")
    tree.file("links/target", pattern(5000))
    for i in range(5):
        tree.link(f"links/hard{i}", "links/target")
    tree.symlink("links/sym", "target")
    tree.symlink("links/dangling", "/abs/none")
    tree.symlink("links/loop1", "loop2")
    tree.symlink("links/loop2", "loop1")
    tree.symlink("links/nonutf8", b"\xff\xfe")
    tree.symlink("links/long", "y" * 4000)


def add_special_files(tree):
    tree.directory("special")
    tree.node("special/blk", stat.S_IFBLK | 0o640, os.makedev(259, 70_000))
    tree.node("special/chr", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    tree.node("special/fifo", stat.S_IFIFO | 0o644)
    tree.node("special/sock", stat.S_IFSOCK | 0o755)


def add_attributes(tree, times_mtime):
    tree.directory("modes")
    sizes = {0: 100, 0o400: 106, 0o644: 120, 0o755: 143, 0o1777: 123, 0o2755: 117, 0o4755: 141}
    for mode, size in {**sizes, 0o7777: 145}.items():
        tree.file(f"modes/{mode:04o}", pattern(size), mode=mode)
    tree.directory("modes/dir0700", 0o700)
    tree.file("modes/dir0700/secret", pattern(90))
    tree.directory("modes/dir1777", 0o1777)
    tree.directory("owners")
    for owner in (0, 1, 1000, 65534, 65535, 65536, 100000, 1 << 31, (1 << 32) - 2):
        tree.file(f"owners/{owner}", pattern(70), owner=owner)
    tree.directory("times", mtime=times_mtime)
    for seconds in (-1, 0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, 10**10):
        tree.file(f"times/{seconds}", pattern(80), mtime=seconds * 10**9 + 123456789)


def add_xattrs(tree):
    tree.directory("xattrs")
    for i in range(40):
        shared = {"security.selinux": LABEL, "user.shared": b"the same value everywhere"}
        tree.file(f"xattrs/f{i}", pattern(66 + i), xattrs={f"user.own{i}": bytes([i]) * i, **shared})
    tree.file("xattrs/capability", pattern(3000), xattrs={"security.capability": CAPABILITY})
    tree.file("xattrs/empty", pattern(70), xattrs={"user.empty": b""})
    tree.file("xattrs/inline", pattern(10), xattrs={"user.x": b"\0\1\xff"})
    many = {f"user.k{i:02}": b"v%d" % i for i in range(30)}
    tree.file("xattrs/many", pattern(4000), xattrs=many)
    tree.symlink("xattrs/sym", "f1", xattrs={"security.selinux": b"link_t\0"})
    hostile = {"trusted.overlay.redirect": b"/evil", "user.overlay.opaque": b"y"}
    tree.file("xattrs/trusted", pattern(70), xattrs={"trusted.foo": b"bar", **hostile})


def add_acls(tree):
    tree.directory("acl")
    of_file = acl(
        (ACL_USER_OBJ, 6),
        (ACL_USER, 4, 1000),
        (ACL_GROUP_OBJ, 4),
        (ACL_GROUP, 6, 2000),
        (ACL_MASK, 6),
        (ACL_OTHER, 4),
    )
    tree.file("acl/file", pattern(200), xattrs={"system.posix_acl_access": of_file})

    def of_directory(mask, user):
        return acl(
            (ACL_USER_OBJ, 7),
            (ACL_USER, user, 1000),
            (ACL_GROUP_OBJ, 5),
            (ACL_MASK, mask),
            (ACL_OTHER, 5),
        )

    both = {
        "system.posix_acl_access": of_directory(7, 7),
        "system.posix_acl_default": of_directory(5, 5),
    }
    tree.directory("acl/dir", xattrs=both)


def add_markers(tree):
    tree.directory("opaque", xattrs={"trusted.overlay.opaque": b"y"})
    tree.file("opaque/f", pattern(100))
    tree.node("special/whiteout", stat.S_IFCHR, 0)


def add_more(tree):
    tree.directory("more")
    tree.sparse("more/sparse", 5_000_001, (0, b"begin"), (2_000_000, pattern(9000)))
    tree.sparse("more/hole", 1 << 20)
    tree.file("more/large", pattern(251 * 4096) * 20)
    tree.symlink("more/longest", b"/" + b"\xc3\xa9" * 2047)
    tree.file("more/oldest", b"1901", mtime=-(1 << 31) * 10**9)
    tree.file("more/just-before", pattern(70), mtime=-1)
    tree.file("more/" + "\u00e9" * 127, b"")
    tree.file(b"more/\\x41 is no escape", b"\\x41\n")
    tree.directory(b"more/... ", 0o3771)
    names = ("opaque", "whiteout", "metacopy", "origin", "overlay.redirect")
    both = [(space, name) for space in ("trusted", "user") for name in names]
    xattrs = {f"{space}.overlay.{name}": b"y" for space, name in both}
    tree.directory("more/overlay", xattrs=xattrs)
    tree.file("more/overlay/file", pattern(70), xattrs=xattrs)
    tree.file("more/overlay/inline", b"inline", xattrs={**xattrs, "user." + "n" * 250: b"v" * 1000})
    # The only name of its inode that is an empty file: the others above are external.
    tree.file("more/empty")
    tree.link("more/empty-too", "more/empty")
    tree.link("more/fifo-too", "special/fifo")
    tree.link("more/sym-too", "links/sym")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=os.fsencode)
    parser.add_argument("--markers", action="store_true")
    parser.add_argument("--more", action="store_true")
    options = parser.parse_args()
    os.umask(0)
    tree = Tree(options.directory)
    add_contents(tree)
    add_names(tree)
    add_directories(tree)
    add_links(tree)
    add_special_files(tree)
    # Whoever made the reference images did not set this one: it is the time of their making.
    add_attributes(tree, 1795350613605293495 if options.markers else 1795350613356046200)
    add_xattrs(tree)
    add_acls(tree)
    if options.markers:
        add_markers(tree)
    if options.more:
        add_more(tree)
    tree.finish()


main()
