#!/usr/bin/env python3
"""Prints one canonical JSON line for every entry below a directory, the directory itself included.

An oracle that shares no code with the project: it looks at a mounted tree through system calls
only, so that two mounts of one image can be compared line by line. Paths and names are printed as
ASCII with every other byte (and the backslash) as \\xNN, which is reversible. A call that fails is
part of the result: its errno's name stands where the value would.

Parts (--parts, comma separated; the default is the first line):
  stat dirent xattr link read seek access
  mmap    the content again through a mapping
  direct  the content again through O_DIRECT preads, whole blocks
  odd     the content again through O_DIRECT preads at odd offsets and lengths
  write   what opening for writing, creating, renaming, removing and changing attributes answer
st_dev is left out: it differs between any two mounts.
"""

import argparse
import ctypes
import errno
import hashlib
import json
import mmap
import os
import platform
import re
import stat
import struct
import sys

DEFAULT_PARTS = "stat,dirent,xattr,link,read,seek,access"
ALL_PARTS = set((DEFAULT_PARTS + ",mmap,direct,odd,write").split(","))
SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61, "riscv64": 61, "s390x": 220, "ppc64le": 202}
CHUNK = 1 << 20

libc = ctypes.CDLL(None, use_errno=True)
getdents64 = SYS_GETDENTS64[platform.machine()]


def escape(raw):
    """Bytes as ASCII text, reversibly."""
    return re.sub(rb"[^\x20-\x5b\x5d-\x7e]", lambda m: b"\\x%02x" % m[0][0], raw).decode("ascii")


def failure(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def attempt(call, *args):
    """The call's result, or the name of the errno it failed with."""
    try:
        return call(*args)
    except OSError as error:
        return failure(error)


def list_directory(path, buffer):
    """[(name, d_ino, d_type)] in the order of getdents64(2), with `.` and `..`."""
    entries = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            length = libc.syscall(getdents64, fd, buffer, len(buffer))
            if length < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            if length == 0:
                return entries
            raw = buffer.raw[:length]
            at = 0
            while at < length:
                ino, _, record, kind = struct.unpack_from("<QqHB", raw, at)
                name = raw[at + 19 : at + record]
                entries.append((name[: name.index(b"\0")], ino, kind))
                at += record
    finally:
        os.close(fd)


def describe_stat(s):
    return {
        "mode": oct(s.st_mode),
        "nlink": s.st_nlink,
        "uid": s.st_uid,
        "gid": s.st_gid,
        "rdev": s.st_rdev,
        "size": s.st_size,
        "blocks": s.st_blocks,
        "blksize": s.st_blksize,
        "mtime": s.st_mtime_ns,
        "atime": s.st_atime_ns,
        "ctime": s.st_ctime_ns,
        "ino": s.st_ino,
    }


def describe_xattrs(path):
    names = os.listxattr(path, follow_symlinks=False)
    result = {}
    for name in sorted(names):
        value = attempt(lambda n: os.getxattr(path, n, follow_symlinks=False), name)
        result[escape(os.fsencode(name))] = value if isinstance(value, str) else "=" + escape(value)
    if len(set(names)) != len(names):
        result["(duplicate names)"] = len(names)
    return result


def digest_by_read(fd, _size):
    digest = hashlib.sha256()
    os.lseek(fd, 0, os.SEEK_SET)
    total = 0
    while True:
        piece = os.read(fd, CHUNK)
        if not piece:
            return "%d:%s" % (total, digest.hexdigest())
        total += len(piece)
        digest.update(piece)


def digest_by_mmap(fd, size):
    digest = hashlib.sha256()
    if size > 0:
        with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ) as view:
            for at in range(0, size, CHUNK):
                digest.update(view[at : at + CHUNK])
    return "%d:%s" % (size, digest.hexdigest())


def digest_by_pread(path, step):
    """`step` bytes at a time through O_DIRECT. The memory is aligned, offsets are what step makes."""
    digest = hashlib.sha256()
    memory = mmap.mmap(-1, (step + 4095) // 4096 * 4096)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        at = 0
        while True:
            with memoryview(memory) as whole, whole[:step] as view:
                length = os.preadv(fd, [view], at)
                if length == 0:
                    return "%d:%s" % (at, digest.hexdigest())
                digest.update(view[:length])
            at += length
    finally:
        os.close(fd)
        memory.close()


def describe_holes(fd, size):
    """[[start, end], ...] of the data, or an errno's name. Ends with what lies beyond the end."""
    result = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        result.append([start, at])
    beyond = [attempt(os.lseek, fd, size, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE)]
    return result + [beyond]


def describe_content(path, size, parts):
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return {"open": failure(error)}
    result = {}
    try:
        if "read" in parts:
            result["read"] = attempt(digest_by_read, fd, size)
        if "seek" in parts:
            result["seek"] = attempt(describe_holes, fd, size)
        if "mmap" in parts:
            result["mmap"] = attempt(digest_by_mmap, fd, size)
        if "direct" in parts:
            result["direct"] = attempt(digest_by_pread, path, 64 * 1024)
        if "odd" in parts:
            result["odd"] = attempt(digest_by_pread, path, max(4097, size // 16 | 1))
    finally:
        os.close(fd)
    return result


def describe_access(path):
    """What access(2) grants, as `rwx`, or the errno of F_OK."""
    found = attempt(os.access, path, os.F_OK)
    letters = zip("rwx", (os.R_OK, os.W_OK, os.X_OK))
    granted = "".join(letter if os.access(path, mode) else "-" for letter, mode in letters)
    return granted if found else granted + "!"


def describe_writes(path, mode):
    answers = {
        "chmod": attempt(os.chmod, path, 0o600) if not stat.S_ISLNK(mode) else None,
        "chown": attempt(lambda: os.chown(path, 1, 1, follow_symlinks=False)),
        "utime": attempt(lambda: os.utime(path, (1, 1), follow_symlinks=False)),
        "setxattr": attempt(lambda: os.setxattr(path, b"user.w", b"v", follow_symlinks=False)),
        "link": attempt(lambda: os.link(path, path + b".new", follow_symlinks=False)),
        "rename": attempt(os.rename, path, path + b".new"),
    }
    if stat.S_ISDIR(mode):
        inside = path + b"/new"
        answers["create"] = attempt(os.open, inside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        answers["mkdir"] = attempt(os.mkdir, inside)
        answers["mknod"] = attempt(os.mknod, inside, stat.S_IFIFO | 0o600)
        answers["symlink"] = attempt(os.symlink, b"target", inside)
        answers["rmdir"] = attempt(os.rmdir, path)
    else:
        answers["unlink"] = attempt(os.unlink, path)
    if stat.S_ISREG(mode):
        answers["write"] = attempt(os.open, path, os.O_WRONLY)
        answers["truncate"] = attempt(os.truncate, path, 0)
    return answers


class Walk:
    def __init__(self, root, parts, dirent_buffer):
        self.root = root
        self.parts = parts
        self.buffer = ctypes.create_string_buffer(dirent_buffer)

    def describe(self, path, dirents):
        """The line's fields for one entry, and whether to go into it."""
        try:
            status = os.lstat(path)
        except OSError as error:
            return {"lstat": failure(error)}, False
        mode = status.st_mode
        result = {}
        if "stat" in self.parts:
            result.update(describe_stat(status))
        else:
            result["type"] = oct(stat.S_IFMT(mode))
        if "xattr" in self.parts:
            result["xattrs"] = attempt(describe_xattrs, path)
        if "link" in self.parts and stat.S_ISLNK(mode):
            target = attempt(os.readlink, path)
            result["target"] = target if isinstance(target, str) else "=" + escape(target)
        if stat.S_ISREG(mode) and self.parts & {"read", "seek", "mmap", "direct", "odd"}:
            result.update(describe_content(path, status.st_size, self.parts))
        if "access" in self.parts and not stat.S_ISLNK(mode):
            result["access"] = describe_access(path)
        if "write" in self.parts:
            result["write"] = describe_writes(path, mode)
        return result, stat.S_ISDIR(mode)

    def emit(self, relative, fields, dirent):
        if dirent is not None and "dirent" in self.parts:
            fields["d_ino"], fields["d_type"] = dirent
        fields["path"] = escape(relative)
        sys.stdout.write(json.dumps(fields, sort_keys=True, separators=(",", ":")) + "\n")

    def run(self):
        # A stack of its own: trees may be deeper than Python's, and paths than PATH_MAX is checked
        # by the kernel, whose answer is then the result.
        pending = [(b"", None)]
        while pending:
            relative, dirent = pending.pop()
            path = os.path.join(self.root, relative) if relative else self.root
            fields, is_directory = self.describe(path, dirent)
            if is_directory:
                listing = attempt(list_directory, path, self.buffer)
                if isinstance(listing, str):
                    fields["list"] = listing
                else:
                    dots = {n.decode(): (i, k) for n, i, k in listing if n in (b".", b"..")}
                    if relative == b"":
                        # Where `..` of a mount's root leads is the affair of what lies around it.
                        dots.pop("..", None)
                    if "dirent" in self.parts:
                        fields["dots"] = dots
                    names = sorted((e for e in listing if e[0] not in (b".", b"..")), reverse=True)
                    prefix = relative + b"/" if relative else b""
                    pending.extend((prefix + name, (ino, kind)) for name, ino, kind in names)
            self.emit(relative, fields, dirent)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", type=os.fsencode)
    parser.add_argument("--parts", default=DEFAULT_PARTS)
    parser.add_argument("--dirent-buffer", type=int, default=32768, metavar="BYTES")
    options = parser.parse_args()
    parts = set(options.parts.split(","))
    if not parts <= ALL_PARTS:
        parser.error("unknown parts: " + " ".join(sorted(parts - ALL_PARTS)))
    Walk(options.root, parts, options.dirent_buffer).run()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
