"""Forking, and making sure that nothing forked outlives this program."""

import ctypes
import os
import resource
import signal
import sys
import time

# How long children may be looked for that a dying one leaves to us.
STRAYS_S = 5.0
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


class Become(BaseException):
    """Raised in a forked child: unwinds the parent's stack, then `work(*arguments)` is all the child does."""

    def __init__(self, work, arguments):
        super().__init__()
        self.work = work
        self.arguments = arguments


# Process groups to take along when this program is told to end.
alive = set()


def _prctl(option, value):
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def adopt_orphans():
    """Lets us end the processes that an agent leaves behind, and lets nobody read our memory."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_DUMPABLE, 0)


def fork():
    """Forks a child that leads its own process group and dies with this program. Returns 0 in the child."""
    parent = os.getpid()
    child = os.fork()
    if child:
        alive.add(child)
        return child
    alive.clear()
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # The parent died before the line above could notice.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return 0


def keep_only(descriptors):
    """Closes every other descriptor above stderr: the child's siblings have their pipes among them."""
    low = 3
    for descriptor in sorted(descriptors):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 20 else 1 << 20)


def silence():
    """Sends stdout and stderr nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def go_first():
    """Makes this process and its children the ones that end when memory runs out, and not those that judge them."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
    except OSError:
        pass  # Not Linux.


def kill(child):
    """Ends a child's whole group. Safe to call from a signal handler, and twice."""
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass  # Nothing is left of it, or it has not come as far as leading a group.
    try:
        os.kill(child, signal.SIGKILL)
    except OSError:
        pass


def reap(child):
    """Collects a child that was killed; returns its wait status, or None."""
    alive.discard(child)  # First: afterwards the number may belong to somebody else.
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return None


def end_strays():
    """Ends what agents left behind: children of ours that we did not fork, and theirs, which become ours as those end."""
    until = time.monotonic() + STRAYS_S
    while strays := [child for child in _children() if child not in alive]:
        for child in strays:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except OSError:
                pass
        if time.monotonic() > until:
            return  # They come faster than they go.


def _children():
    """This process's children. Read without any ceremony: it looks at every process there is, after each trial."""
    me, found = b"%d" % os.getpid(), []
    try:
        entries = os.listdir("/proc")
    except OSError:
        return found
    for entry in entries:
        if entry.isdigit():
            try:
                descriptor = os.open(f"/proc/{entry}/stat", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # It ended meanwhile.
            try:
                # The name, in brackets, may hold anything; state and parent follow its last bracket.
                if os.read(descriptor, 4096).rpartition(b")")[2].split(None, 2)[1] == me:
                    found.append(int(entry))
            except (OSError, IndexError):
                pass
            finally:
                os.close(descriptor)
    return found


def end_all():
    """Ends every child and what is left of agents."""
    for child in list(alive):
        kill(child)
    for child in list(alive):
        reap(child)
    end_strays()


def stop_on_signals():
    """A signal ends this program at once, children first."""

    def stop(number, _frame):
        end_all()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
