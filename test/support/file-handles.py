#!/usr/bin/env python3
"""Opens files through file handles, as an NFS server does, after the kernel has forgotten them.

usage: file-handles.py ROOT PATH...; prints one JSON line for each path:
  {"path", "read": digest through the handle, "same": whether fstat agrees, "error": errno's name}
Needs root: open_by_handle_at(2) and dropping caches both do.
"""

import ctypes
import errno
import hashlib
import json
import os
import sys

AT_FDCWD = -100
MAX_HANDLE = 128


class FileHandle(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("data", ctypes.c_ubyte * MAX_HANDLE),
    ]


libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def handle_of(path):
    handle = FileHandle(bytes=MAX_HANDLE)
    mount_id = ctypes.c_int()
    arguments = (AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    check(libc.name_to_handle_at(*arguments))
    return handle


def facts(status):
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_nlink)


def main():
    root, paths = sys.argv[1], sys.argv[2:]
    known = {path: (handle_of(f"{root}/{path}"), os.lstat(f"{root}/{path}")) for path in paths}
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("2")
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for path, (handle, status) in known.items():
        line = {"path": path}
        try:
            fd = check(libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY))
            line["same"] = facts(os.fstat(fd)) == facts(status)
            if os.path.isdir(f"/proc/self/fd/{fd}"):
                # Known by its handle only, until the kernel asks where it belongs.
                line["read"] = sorted(os.listdir(fd))
                line["where"] = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), root)
            else:
                line["read"] = hashlib.sha256(os.read(fd, 1 << 24)).hexdigest()
            os.close(fd)
        except OSError as error:
            line["error"] = errno.errorcode[error.errno]
        print(json.dumps(line))


main()
