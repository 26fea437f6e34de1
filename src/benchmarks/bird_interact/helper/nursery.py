"""The nursery: a process that has imported everything an agent's process needs, and forks one for everybody who asks.

    nursery.py CONTROL PLAN

The imports take seconds and are paid for once a command; a forked process is ready at once. This process has no secret, no
task and no agent's code, so nothing passes from one agent's process to the next. CONTROL is an inherited socket: the first
line out says how the imports went, and every message in is a port (digits, `PORT_BYTES` long; 0 for any) with a connection.

PLAN is JSON: what keeps the forked processes apart (fence.py), `null` for nothing: `places` that all may read, the words of
the `filter`, whether all keep to `ports`, and where `private` directories lie. The caller puts up any fence around all of them.

On the connection the caller says in one line what the process is for (`cwd`, `environment`, `own` directories to be read, `ports`
of this machine that are all it may reach, or `null`, `mode`, `agent_file`, `door`). The process answers with its states, waits for a line before it loads the agent, and is killed when the
caller hangs up. When it has ended, for whatever reason, the nursery says with which status and what it last printed, and hangs
up. A connection that ends without that was the nursery's end, not the agent's doing.

Where forking a process with loaded libraries is not safe (macOS), a new interpreter takes the place of the fork.
"""

import contextlib
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback

import fence
import service
from processes import become_subreaper, die_with_parent, end_strays
from sockets import PORT_BYTES, StartError, listen

# Where this file lies, as it was called and as Python finds its neighbours when it runs as a script: without links.
HERE = {os.path.dirname(find(__file__)) for find in (os.path.abspath, os.path.realpath)}
LARGEST_REQUEST = 4 << 20
FIRST_CALL_S = 30
# What is kept of the words that an agent's process prints: the last ones.
LONGEST_LOG = 16_384
FORK = sys.platform == "linux"


def first_call_modules():
    """What the first call of a model imports late, found out in a process of its own so that nothing else is left of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            import first_call

            signal.alarm(FIRST_CALL_S)
            before = set(sys.modules)
            first_call.main()
            late = [name for name in sys.modules if name not in before]
            with os.fdopen(writing, "w") as stream:
                stream.write("\n".join(late))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        names = stream.read().split("\n")
    os.waitpid(child, 0)
    return [name for name in names if name]


class Nursling:
    """A process for one caller, seen from the nursery."""

    def __init__(self, pid, connection, states, go, printed, port):
        self.pid, self.connection, self.states, self.go, self.port = pid, connection, states, go, port
        self.printed, self.log = printed, b""
        self.status = None

    def listen(self):
        """Takes what it has printed; whether there may be more."""
        some = os.read(self.printed, 1 << 16)
        self.log = (self.log + some)[-LONGEST_LOG:]
        return bool(some)

    def kill(self):
        if self.status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            # It may not have become the leader of its group yet.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)


def private_directory(plan, pid):
    """The directory of the process with this number alone; it goes with it."""
    return os.path.join(plan["private"], str(pid))


def fence_in(plan, filters, own, ports):
    """Keeps this process to Python, its `own` directories, a private one that it may change, and these ports where there are any."""
    private = private_directory(plan, os.getpid())
    shutil.rmtree(private, ignore_errors=True)
    os.mkdir(private, 0o700)
    os.environ.update(HOME=private, TMPDIR=private)
    tempfile.tempdir = None
    fence.put_up([*plan["places"], *own], network=True if ports is None else ports, programs=filters, private=private)


def become_agent_process(connection, states, go, printed, port, plan, filters):
    """What a forked process does with its life; returns its exit status."""
    request = json.loads(connection.makefile("rb").readline(LARGEST_REQUEST) or b"null")
    if request is None:
        return 1
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    for number, source in ((0, go), (1, printed), (2, printed)):
        os.dup2(source, number)
    try:
        sock, guard = listen(port)
    except StartError as error:
        os.write(states, json.dumps({"state": "failed", "error": str(error), "status": error.status}).encode() + b"\n")
        return 1
    os.environ["SYSTEM_AGENT_PORT"] = str(sock.getsockname()[1])
    # Other callers' connections and the way to the host are none of the agent's business.
    keep = sorted({0, 1, 2, states, sock.fileno(), guard.fileno() if guard else 0})
    for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")]):
        os.closerange(low + 1, high)
    connection.detach()
    for name, module in list(sys.modules.items()):
        if name != "__main__" and os.path.dirname(getattr(module, "__file__", None) or "") in HERE:
            del sys.modules[name]  # The agent may have modules of these names.
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # Or all agents would draw the same numbers.
    if plan is not None:
        fence_in(plan, filters, request["own"], request["ports"])
    return service.serve(sock, states, request["mode"], request["agent_file"], request.get("door"))


def forked(nursery, *more):
    """The whole life of a forked process."""
    status = 1
    try:
        os.setsid()
        die_with_parent(nursery)
        become_subreaper()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        status = become_agent_process(*more)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


class Nursery:
    """The loop that serves callers."""

    def __init__(self, control, plan):
        self.control, self.plan, self.nurslings = control, plan, {}
        self.filters = fence.filters(plan["filter"], network=True, tcp=plan["ports"]) if plan else []
        self.selector = selectors.DefaultSelector()

    def run(self):
        """Until the host hangs up."""
        waking, wake = socket.socketpair()
        for sock in (waking, wake):
            sock.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector.register(self.control, selectors.EVENT_READ, self.admit)
        self.selector.register(waking, selectors.EVENT_READ, lambda: self.reap(waking))
        self.open = True
        while self.open:
            for key, _ in self.selector.select():
                key.data()
        for nursling in self.nurslings.values():
            nursling.kill()

    def admit(self):
        message, connections, _, _ = socket.recv_fds(self.control, PORT_BYTES, 1)
        if not message:
            self.open = False
            return
        if not connections:
            return  # The kernel had no room for it, and has hung up on the caller.
        connection = socket.socket(fileno=connections[0])
        connection.setblocking(True)
        port = int(message)
        # Two runs at a time cannot both have the port that the configuration names; nor need they.
        if any(nursling.port == port for nursling in self.nurslings.values()):
            port = 0
        pipes = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            pipes += os.pipe()
            states, states_writing, go_reading, go, printed, printing = pipes
            if FORK:
                nursery = os.getpid()
                pid = os.fork()
                if pid == 0:
                    forked(nursery, connection, states_writing, go_reading, printing, port, self.plan, self.filters)
            else:
                pid = self.spawn(connection, states_writing, go_reading, printing, port)
        except OSError as error:
            # This machine has no process or descriptor left. The other agents live on.
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps({"state": "failed", "error": f"no process for it: {error}"}).encode() + b"\n")
            for descriptor in pipes:
                os.close(descriptor)
            connection.close()
            return
        for descriptor in (states_writing, go_reading, printing):
            os.close(descriptor)
        nursling = self.nurslings[pid] = Nursling(pid, connection, states, go, printed, port)
        self.selector.register(states, selectors.EVENT_READ, lambda: self.told(nursling))
        self.selector.register(printed, selectors.EVENT_READ, lambda: self.printed(nursling))

    def printed(self, nursling):
        if nursling.status is None and not nursling.listen():
            self.selector.unregister(nursling.printed)

    def spawn(self, connection, states, go, printing, port):
        keep = (connection.fileno(), states, go, printing)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        arguments = [sys.executable, "-s", "-B", __file__, "--spawned", *map(str, keep), str(port), json.dumps(self.plan)]
        try:
            return os.posix_spawn(sys.executable, arguments, os.environ)
        finally:
            for descriptor in keep:
                os.set_inheritable(descriptor, False)

    def told(self, nursling):
        """A state of the process, for its caller. After the first one the caller is listened to: until then its words are
        read by the process itself."""
        if nursling.status is not None:
            return  # Buried by an earlier event of this round.
        said = os.read(nursling.states, 4096)
        if not said:
            self.selector.unregister(nursling.states)
            self.listen_to_caller(nursling)
            return
        with contextlib.suppress(OSError):
            nursling.connection.sendall(said)
        self.listen_to_caller(nursling)

    def listen_to_caller(self, nursling):
        if nursling.status is None and nursling.connection not in self.selector.get_map():
            self.selector.register(nursling.connection, selectors.EVENT_READ, lambda: self.heard(nursling))

    def heard(self, nursling):
        if nursling.status is not None:
            return
        try:
            said = nursling.connection.recv(4096)
        except OSError:
            said = b""
        if not said:
            self.selector.unregister(nursling.connection)
            nursling.kill()
            return
        with contextlib.suppress(OSError):
            os.write(nursling.go, said)

    def reap(self, waking):
        with contextlib.suppress(BlockingIOError):
            while waking.recv(4096):
                pass
        for pid, nursling in list(self.nurslings.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                nursling.status = os.waitstatus_to_exitcode(status)
                del self.nurslings[pid]
                self.bury(nursling)

    def bury(self, nursling):
        """Nothing of an agent may outlive it: neither its group nor what left the group, which is ours by now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(nursling.pid, signal.SIGKILL)
        end_strays(self.nurslings)
        said = b""
        if nursling.states in self.selector.get_map():
            self.selector.unregister(nursling.states)
            os.set_blocking(nursling.states, False)
            with contextlib.suppress(BlockingIOError):
                said = os.read(nursling.states, 1 << 16)
        if nursling.printed in self.selector.get_map():
            self.selector.unregister(nursling.printed)
            os.set_blocking(nursling.printed, False)
            with contextlib.suppress(BlockingIOError):
                while nursling.listen():
                    pass
        if self.plan is not None:
            shutil.rmtree(private_directory(self.plan, nursling.pid), ignore_errors=True)
        end = {"state": "exited", "status": nursling.status, "log": nursling.log.decode("utf-8", "replace")}
        with contextlib.suppress(OSError):
            nursling.connection.sendall(said + json.dumps(end).encode() + b"\n")
        if nursling.connection in self.selector.get_map():
            self.selector.unregister(nursling.connection)
        nursling.connection.close()
        for descriptor in (nursling.states, nursling.go, nursling.printed):
            os.close(descriptor)


def main():
    if sys.argv[1] == "--spawned":
        connection, states, go, printing, port = (int(argument) for argument in sys.argv[2:7])
        os.setsid()
        service.imports()
        plan, connection = json.loads(sys.argv[7]), socket.socket(fileno=connection)
        return become_agent_process(connection, states, go, printing, port, plan, [])
    control, plan = socket.socket(fileno=os.dup(int(sys.argv[1]))), json.loads(sys.argv[2])
    os.dup2(os.open(os.devnull, os.O_RDWR), int(sys.argv[1]))
    become_subreaper()
    try:
        service.imports()
    except Exception as error:
        control.sendall(json.dumps({"state": "failed", "error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return 1
    control.sendall(b'{"state": "prepared"}\n')
    # Callers wait a little longer now, and their agents' first calls do not. Nothing depends on it.
    for name in first_call_modules() if FORK else ():
        with contextlib.suppress(Exception):
            __import__(name)
    gc.freeze()  # What is there by now is shared with the forked; looking it through would make copies of it.
    Nursery(control, plan).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
