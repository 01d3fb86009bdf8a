#!/usr/bin/env python3
"""Opens and reads files of a mount, and says what system calls say.

usage: waiter.py open PATH      prints "begin", opens PATH, prints the errno name or "ok"
       waiter.py read PATH      prints "begin", opens PATH and reads a byte of it, prints the same
       waiter.py touch PATH     maps PATH, prints "mapped", and for every line of standard input, an
                                offset, prints the byte there
       waiter.py others FOLDER LARGE
                                opens LARGE in another process; meanwhile looks at everything in FOLDER
                                that begins with s; prints JSON: how much that is, the longest time in
                                milliseconds, and whether LARGE was still being waited for in the end

SIGINT does not end it but interrupts system calls.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)


def call(function, *args):
    """Not os.open and os.read, which go on after EINTR."""
    result = function(*args)
    return -ctypes.get_errno() if result < 0 else result


def name(result):
    return errno.errorcode.get(-result, str(result)) if result < 0 else "ok"


def wait(path, reads):
    print("begin", flush=True)
    fd = call(libc.open, os.fsencode(path), os.O_RDONLY)
    if fd < 0 or not reads:
        print(name(fd), flush=True)
        return
    print(name(call(libc.read, fd, ctypes.create_string_buffer(1), 1)), flush=True)


def touch(path):
    fd = os.open(path, os.O_RDONLY)
    memory = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    print("mapped", flush=True)
    for line in sys.stdin:
        print(memory[int(line)], flush=True)


def look_at(path):
    os.stat(path)
    if os.path.isdir(path):
        os.listdir(path)
        return
    with open(path, "rb") as file:
        file.read()


def others(folder, large):
    child = os.fork()
    if child == 0:
        os.open(os.path.join(folder, large), os.O_RDONLY)
        os._exit(0)
    time.sleep(0.3)
    times = []
    for entry in sorted(os.listdir(folder)):
        if not entry.startswith("s"):
            continue
        before = time.monotonic()
        look_at(os.path.join(folder, entry))
        times.append((time.monotonic() - before) * 1000)
    waits = os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGKILL)
    if waits:
        os.waitpid(child, 0)
    print(json.dumps({"count": len(times), "longestMs": max(times), "waits": waits}), flush=True)


def main():
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.siginterrupt(signal.SIGINT, True)
    what, path, *more = sys.argv[1:]
    if what == "touch":
        touch(path)
    elif what == "others":
        others(path, *more)
    else:
        wait(path, what == "read")


main()
