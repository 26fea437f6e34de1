"""The nursery (nursery.py), seen from the process that keeps it."""

import asyncio
import contextlib
import json
import os
import socket

from services import HERE, Child
from sockets import PORT_BYTES, StartError

PROGRAM = os.path.join(HERE, "nursery.py")


class Nursery:
    """Hands connections on to the nursery, which forks an agent's process for each."""

    def __init__(self):
        self.child = self.control = None
        self.ready = asyncio.Event()

    async def start(self, python, cwd, environment, logs):
        """`environment` must hold no secret: it is every agent's."""
        self.control, theirs = socket.socketpair()
        self.control.setblocking(False)
        arguments = ["--file", PROGRAM, str(theirs.fileno())]
        log = os.path.join(logs, "nursery.log")
        try:
            self.child = await Child.start("nursery", python, arguments, cwd, environment, log, (theirs.fileno(),))
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
