#!/usr/bin/env python3
"""The two sides of a race for objects.

usage: race.py write SECONDS SEED (flip|replace):OBJECT...
       race.py read SECONDS FOLDER GOOD NAME...

The writer changes a byte of an object and puts it back, or puts another file of the same size in an
object's place and the right one again, as often as it can. The reader reads the files of FOLDER from
an empty page cache and compares them with those in GOOD; it prints one line of JSON: how often each
was right, refused (EIO) and wrong.
"""

import errno
import json
import mmap
import os
import random
import sys
import time

CHUNK = 1 << 17


class Flip:
    """One byte, in place."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR)

    def spoil(self):
        self.at = random.randrange(os.fstat(self.fd).st_size)
        (self.byte,) = os.pread(self.fd, 1, self.at)
        os.pwrite(self.fd, bytes([self.byte ^ 1]), self.at)

    def restore(self):
        os.pwrite(self.fd, bytes([self.byte]), self.at)


class Replace:
    """Another file under the name."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.right = file.read()
        self.other = bytes(reversed(self.right))

    def put(self, content):
        with open(self.path + ".new", "wb") as file:
            file.write(content)
        os.rename(self.path + ".new", self.path)

    def spoil(self):
        self.put(self.other)

    def restore(self):
        self.put(self.right)


def write(end, seed, *targets):
    random.seed(seed)
    attacks = []
    for target in targets:
        how, path = target.split(":", 1)
        attacks.append({"flip": Flip, "replace": Replace}[how](path))
    rounds = 0
    while time.monotonic() < end:
        for attack in attacks:
            attack.spoil()
            time.sleep(random.random() / 1000)
        random.shuffle(attacks)
        for attack in attacks:
            attack.restore()
            time.sleep(random.random() / 1000)
        rounds += 1
    print(rounds)


def read_file(path, direct):
    """The content, or None for EIO."""
    try:
        fd = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))
        try:
            if direct:
                room = mmap.mmap(-1, CHUNK)
                content = b""
                while True:
                    count = os.preadv(fd, [room], len(content))
                    if count == 0:
                        return content
                    content += room[:count]
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            content = b""
            while part := os.read(fd, CHUNK):
                content += part
            return content
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


def read(end, folder, good, *names):
    expected = {}
    for name in names:
        with open(os.path.join(good, name), "rb") as file:
            expected[name] = file.read()
    results = {"right": 0, "refused": 0, "wrong": 0}
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        for name in names:
            content = read_file(os.path.join(folder, name), rounds % 2 == 0)
            result = "refused" if content is None else "wrong"
            if content == expected[name]:
                result = "right"
            results[result] += 1
    print(json.dumps(results))


def main():
    what, seconds, *rest = sys.argv[1:]
    {"write": write, "read": read}[what](time.monotonic() + float(seconds), *rest)


main()
