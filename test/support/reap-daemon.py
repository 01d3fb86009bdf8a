#!/usr/bin/env python3
"""Runs a command that leaves a daemon behind and reports how both end.

usage: reap-daemon.py COMMAND [ARGUMENT...]; reports go to descriptor 3, one line each:
  started CODE    the command itself has ended
  ended PID CODE  an orphan of it has ended (128 plus the signal when one killed it)
"""

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def exit_code(status):
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reports = os.fdopen(3, "w", buffering=1)
    os.set_inheritable(3, False)
    command = subprocess.Popen(sys.argv[1:], close_fds=True)
    # Whoever reads the command's output is to see its end when the daemon has let go of it.
    devnull = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(devnull, fd)
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return
        if pid == command.pid:
            print("started", exit_code(status), file=reports)
        else:
            print("ended", pid, exit_code(status), file=reports)


main()
