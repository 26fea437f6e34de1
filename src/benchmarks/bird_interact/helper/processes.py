"""What the kernel does for us about processes that outlive their parents (Linux; elsewhere nothing happens)."""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def _prctl(option, value):
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(parent, number=signal.SIGKILL):
    """Has this process signalled when its parent dies; ends it when that has happened already."""
    _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit(1)


def be_closed():
    """Lets only root read the memory and environment of this process: they hold gold SQL and passwords. The next `exec` undoes
    this, so every program calls it for itself."""
    _prctl(PR_SET_DUMPABLE, 0)


def become_subreaper():
    """Orphans among our descendants become our children."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def children():
    """Our children, by the numbers that we know them by: behind a fence `/proc` may show the machine's."""
    found = []
    with contextlib.suppress(OSError):
        own = os.readlink("/proc/self").encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, KeyError, ValueError), open(f"/proc/{name}/status", "rb") as file:
                fields = dict(line.split(b":", 1) for line in file if b":" in line)
                if fields[b"PPid"].strip() == own:
                    # The last one is the number in the innermost namespace.
                    found.append(int(fields.get(b"NSpid", name.encode()).split()[-1]))
    return found


def end_strays(known=()):
    """Ends processes that children of ours left to us; `known` are the children that are no strays."""
    for _ in range(20):
        strays = [child for child in children() if child not in known]
        if not strays:
            return
        for child in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
