"""The nursery (nursery.py), seen from the process that keeps it.

The nursery stands behind autoharness's fence, where there is one: no process, file or memory of anybody's but what is named
here is in sight of it or of the agents' processes that it forks.
"""

import asyncio
import contextlib
import json
import os
import socket

import fence
from services import HERE, Child
from sockets import PORT_BYTES, StartError

PROGRAM = os.path.join(HERE, "nursery.py")
ASK_S = 60.0
# What an agent's process reads of Python, found out by the Python that it will run with.
PLACES = """import json, sys
sys.path[0] = sys.argv[1]
import fence
del sys.path[0]
print(json.dumps(fence.readable()))"""
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Processes and threads of all agents together; the fence's own number is for one agent.
MOST_PROCESSES = 16_384


async def python_places(python):
    """The directories of an interpreter and its packages."""
    arguments = ["-s", "-B", "-c", PLACES, HERE]
    process = await asyncio.create_subprocess_exec(
        python, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), ASK_S)
        return json.loads(said)
    except (asyncio.TimeoutError, ValueError):
        raise StartError(f"{python} does not say where its packages are") from None
    finally:
        if process.returncode is None:
            process.kill()


class Nursery:
    """Hands connections on to the nursery, which forks an agent's process for each."""

    def __init__(self):
        self.child = self.control = None
        self.ready = asyncio.Event()

    async def start(self, python, environment, scratch, logs, behind, view):
        """`environment` must hold no secret: it is every agent's. `behind`: the words that start a program behind the fence
        (`words`), whether it has processes of its own there (`alone`), what holds the copies of agents (`staging`), and whether
        all that they reach is `ports` of this machine; nothing where there is to be no fence. `view`: what holds what else agents' processes may read."""
        self.control, theirs = socket.socketpair()
        self.control.setblocking(False)
        log, alone, plan = os.path.join(logs, "nursery.log"), bool(behind and behind["alone"]), None
        if behind:
            private = os.path.join(scratch, "private")
            os.mkdir(private, 0o700)
            certificates = [os.path.abspath(environment[name]) for name in CERTIFICATES if environment.get(name)]
            places = [*await python_places(python), *filter(os.path.exists, certificates)]
            plan = {"places": places, "filter": [] if alone else behind["words"], "ports": behind["ports"], "private": private}
        arguments = [python, "-s", "-B", PROGRAM, "0", json.dumps(plan)]
        if alone:
            options = ["--network", *(["--tcp"] if behind["ports"] else []), "--proc", "--processes", str(MOST_PROCESSES), "--write", private]
            # What it shows of the system is its own business, and less.
            for place in (*(place for place in places if place not in fence.SYSTEM), HERE, view, behind["staging"]):
                options += ["--read", place]
            for name in environment:
                options += ["--env", name] if name not in ("HOME", "TMPDIR") else []
            arguments = [*behind["words"], *options, "--", *arguments]
        try:
            # Not in a directory of the benchmark: the fence keeps the name of where it starts.
            self.child = await Child.start(
                "nursery", python, ["--program", *arguments], "/", environment, log, stdin=theirs.fileno()
            )
        finally:
            theirs.close()

    async def up(self, limit):
        """Waits until it has imported what agents need. Whatever fails here is no agent's fault."""
        said = b""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            said = await asyncio.wait_for(self._says(), limit)
        state = json.loads(said) if said.endswith(b"\n") else {}
        if state.get("state") != "prepared":
            reason = state.get("error") or self.child.tail() or "it gave no sign"
            raise StartError(f"the agent service did not start: {reason}")
        self.ready.set()

    async def _says(self):
        said = b""
        while not said.endswith(b"\n"):
            some = await asyncio.get_running_loop().sock_recv(self.control, 4096)
            if not some:
                break
            said += some
        return said

    def hand_on(self, port, descriptor):
        """Gives it a caller's connection, and the port the agent's process is to listen on; 0 for any."""
        socket.send_fds(self.control, [str(port).rjust(PORT_BYTES).encode()], [descriptor])

    def hang_up(self):
        if self.control is not None:
            self.control.close()
