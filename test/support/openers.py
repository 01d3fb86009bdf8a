#!/usr/bin/env python3
"""Opens a file in many processes at once and counts what they are told.

usage: openers.py COUNT CPU PATH; all keep to that CPU. Prints "begin" once all have started; a line
"kill" on standard input kills those that still wait. In the end one JSON line: how many were told
what, by errno's name, "ok", or "killed".
"""

import collections
import errno
import json
import os
import signal
import sys
import threading


def main():
    count, cpu = map(int, sys.argv[1:3])
    path = sys.argv[3]
    os.sched_setaffinity(0, {cpu})
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            try:
                os.open(path, os.O_RDONLY)
                os._exit(0)
            except OSError as error:
                os._exit(error.errno)
        children.append(child)
    print("begin", flush=True)

    def obey():
        if sys.stdin.readline() == "kill\n":
            for child in children:
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    threading.Thread(target=obey, daemon=True).start()
    told = collections.Counter()
    for child in children:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            told["killed"] += 1
        else:
            code = os.WEXITSTATUS(status)
            told[errno.errorcode.get(code, "ok")] += 1
    print(json.dumps(told), flush=True)
    os._exit(0)


main()
