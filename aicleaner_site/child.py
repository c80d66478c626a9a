"""Starts a process that dies with its parent: `python child.py COMMAND ARGS...`.

Run as a plain file, so that it loads nothing else. A supervisor that is killed with -9 can't stop its children; the kernel does.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call above
            sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
