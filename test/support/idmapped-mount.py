"""Makes an idmapped copy of a mount, as mount(8) does with X-mount.idmap from util-linux 2.39 on.

Arguments: SOURCE TARGET FILESYSTEM-ID MOUNT-ID COUNT. Ids from FILESYSTEM-ID on are shown below TARGET as
those from MOUNT-ID on. Needs root and Linux 5.12, and a filesystem that permits it.
"""

import ctypes
import os
import sys

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
MOUNT_ATTR_IDMAP = 0x100000
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def call(name, number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def user_namespace(mapping):
    """A descriptor of a new one, which needs no process in it once it is open."""
    ready, write_ready = os.pipe()
    wait, write_wait = os.pipe()
    child = os.fork()
    if child == 0:
        if libc.unshare(CLONE_NEWUSER) != 0:
            os._exit(1)
        os.write(write_ready, b".")
        os.read(wait, 1)
        os._exit(0)
    os.read(ready, 1)
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{kind}", "w", encoding="ascii") as file:
            file.write(mapping)
    namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.write(write_wait, b".")
    os.waitpid(child, 0)
    return namespace


class MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


source, target, filesystem_id, mount_id, count = sys.argv[1:]
attributes = MountAttr(
    MOUNT_ATTR_IDMAP, 0, 0, user_namespace(f"{filesystem_id} {mount_id} {count}\n")
)
tree = call("open_tree", SYS_OPEN_TREE, AT_FDCWD, source.encode(), OPEN_TREE_CLONE)
call(
    "mount_setattr",
    SYS_MOUNT_SETATTR,
    tree,
    b"",
    AT_EMPTY_PATH,
    ctypes.byref(attributes),
    ctypes.c_size_t(ctypes.sizeof(attributes)),
)
call("move_mount", SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
