#!/usr/bin/env python3
"""Does many different things at once to a mount and compares every answer with the source tree.

usage: stress.py MOUNT SOURCE PROCESSES OPERATIONS SEED
SOURCE has the same files and folders as MOUNT. Process i keeps to CPU i modulo their number. Prints
one JSON line: operations done and the first faults; a fault is any answer that is not the expected one.
"""

import errno
import json
import mmap
import os
import random
import sys


def read_all(path):
    with open(path, "rb", buffering=0) as file:
        return file.read()


class Stress:
    def __init__(self, mount, source, seed):
        self.mount = mount
        self.source = source
        self.random = random.Random(seed)
        self.folders, self.files, self.contents = [], [], {}
        for folder, _, names in os.walk(source):
            relative = os.path.relpath(folder, source)
            self.folders.append(relative)
            self.files += [os.path.join(relative, name) for name in names]
        self.files.sort()
        self.operations = [
            self.stat,
            self.read,
            self.read_range,
            self.read_range,
            self.map,
            self.listing,
            self.missing,
            self.xattr,
            self.statfs,
        ]

    def content(self, name):
        if name not in self.contents:
            self.contents[name] = read_all(os.path.join(self.source, name))
        return self.contents[name]

    def file(self):
        name = self.random.choice(self.files)
        return os.path.join(self.mount, name), self.content(name)

    def stat(self):
        path, content = self.file()
        return os.stat(path).st_size == len(content)

    def read(self):
        path, content = self.file()
        return read_all(path) == content

    def read_range(self):
        path, content = self.file()
        fd = os.open(path, os.O_RDONLY)
        try:
            # So that the daemon is asked and not the page cache.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            at = self.random.randrange(len(content) + 1)
            length = self.random.choice([1, 4096, 70_000, 1 << 20])
            got = b""
            while len(got) < length:
                more = os.pread(fd, length - len(got), at + len(got))
                if not more:
                    break
                got += more
            return got == content[at : at + length]
        finally:
            os.close(fd)

    def map(self):
        path, content = self.file()
        if not content:
            return True
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            at = self.random.randrange(len(content))
            return memory[at : at + 5000] == content[at : at + 5000]

    def listing(self):
        name = self.random.choice(self.folders)
        expected = sorted(os.listdir(os.path.join(self.source, name)))
        return sorted(os.listdir(os.path.join(self.mount, name))) == expected

    def missing(self):
        name = f"missing {self.random.randrange(1 << 30)}"
        try:
            os.stat(os.path.join(self.mount, self.random.choice(self.folders), name))
            return False
        except OSError as error:
            return error.errno == errno.ENOENT

    def xattr(self):
        path, _ = self.file()
        try:
            os.getxattr(path, "user.none")
            return False
        except OSError as error:
            return error.errno == errno.ENODATA

    def statfs(self):
        return os.statvfs(self.mount).f_namemax == 255

    def run(self, count):
        faults = []
        for i in range(count):
            operation = self.random.choice(self.operations)
            try:
                if not operation():
                    faults.append(f"{i}: {operation.__name__}: another answer")
            except OSError as error:
                faults.append(f"{i}: {operation.__name__}: {error}")
        return {"operations": count, "faults": faults[:5]}


def main():
    mount, source, *numbers = sys.argv[1:]
    processes, count, seed = map(int, numbers)
    cpus = sorted(os.sched_getaffinity(0))
    pipes = []
    for i in range(processes):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.sched_setaffinity(0, {cpus[i % len(cpus)]})
            result = Stress(mount, source, seed + i).run(count)
            os.write(writer, json.dumps(result).encode())
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    results = [json.loads(read_all(f"/proc/self/fd/{reader}") or '{"faults": ["it died"]}') for reader in pipes]
    print(
        json.dumps(
            {
                "operations": sum(result.get("operations", 0) for result in results),
                "faults": [fault for result in results for fault in result["faults"]],
            }
        )
    )


main()
