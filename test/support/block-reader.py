#!/usr/bin/env python3
"""Reads every block of files and compares it with what it should be.

usage: block-reader.py FOLDER GOOD NAME...

FOLDER holds the files to be read, GOOD a right copy of each. For each line of standard input, which
says how ("direct", or "buffered" from an emptied page cache), every file is read block by block. The
answer is one line of JSON: {"refused": {NAME: [BLOCK, ...]}, "wrong": ..., "blocks": COUNT}, refused
being those with EIO. The files stay open from the beginning.
"""

import errno
import json
import mmap
import os
import sys

BLOCK = 4096


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("1")


def main():
    folder, good, *names = sys.argv[1:]
    files = []
    for name in names:
        path = os.path.join(folder, name)
        with open(os.path.join(good, name), "rb") as file:
            content = file.read()
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        files.append((name, content, {"direct": direct, "buffered": os.open(path, os.O_RDONLY)}))
    room = mmap.mmap(-1, BLOCK)
    print(json.dumps("open"), flush=True)
    for line in sys.stdin:
        how = line.strip()
        if how == "buffered":
            drop_caches()
        answer = {"refused": {}, "wrong": {}, "blocks": 0}
        for name, content, descriptors in files:
            for at in range(0, len(content), BLOCK):
                answer["blocks"] += 1
                expected = content[at : at + BLOCK]
                try:
                    count = os.preadv(descriptors[how], [room], at)
                    if room[:count] == expected:
                        continue
                    result = "wrong"
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    result = "refused"
                answer[result].setdefault(name, []).append(at // BLOCK)
        print(json.dumps(answer), flush=True)


main()
