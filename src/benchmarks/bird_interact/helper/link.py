"""A run's side of the host: whether its services are well, and agents' processes from its nursery."""

import asyncio
import contextlib
import hmac
import json

from seal import Seal
from services import tail
from sockets import StartError

LONGEST_LINE = 1 << 20
HANG_UP_S = 15.0
# The status of a process that said what makes no sense.
NONSENSE = 255
GONE = "the process that keeps the services is gone"


class AgentError(Exception):
    """The agent file cannot be loaded; the text says why."""


class Link:
    """The connection to a host, from `open` to `close`."""

    def __init__(self, described):
        self.port, self.view, self.services = described["port"], described["view"], described["services"]
        self.agents, self.role = described["agents"], described["role"]
        self.seal = Seal(described["key"])
        self.reason = None  # Why the host can no longer be used.
        self.writer = self.listening = None

    async def _connect(self, **asked):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LONGEST_LINE)
        try:
            seal, proof = self.seal.ask()
            writer.write(json.dumps({"seal": seal, **asked}).encode() + b"\n")
            said = json.loads(await reader.readline() or b"{}")
            if not hmac.compare_digest(str(said.get("proof")).encode(), proof.encode()):
                raise ConnectionError(f"what answers on port {self.port} is not the host of the services")
        except BaseException:
            writer.close()
            raise
        return reader, writer, said

    async def open(self):
        """Finds the host; raises StartError when it is not there."""
        try:
            reader, self.writer, said = await self._connect()
        except (OSError, ValueError) as error:
            raise StartError(f"{GONE}: {error}") from None
        self.healthy = asyncio.get_running_loop().create_future()
        self.listening = asyncio.ensure_future(self._listen(reader, said))

    async def _listen(self, reader, said):
        """Takes in what the host says of its services, until it or one of them ends."""
        with contextlib.suppress(OSError, ValueError):
            while said.get("state") != "ended":
                if said.get("state") == "healthy" and not self.healthy.done():
                    self.healthy.set_result(None)
                said = json.loads(await reader.readline() or b'{"state": "ended"}')
        self.reason = said.get("reason") or GONE
        if not self.healthy.done():
            self.healthy.set_result(None)

    async def up(self):
        """Waits until the services are up; raises StartError with the reason when they do not come up."""
        await self.healthy
        if self.reason:
            raise StartError(self.reason)

    async def ended(self):
        """Waits until the host can no longer be used; `reason` then says why."""
        await asyncio.shield(self.listening)

    async def agent(self, name, port, request, log):
        """A process for an agent. It has loaded nothing yet. `log`: the file for what it printed, once it has ended."""
        try:
            reader, writer, _ = await self._connect(want="agent", port=port)
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError) as error:
            raise StartError(self.reason or f"the agent service did not start: {error}") from None
        return AgentService(name, reader, writer, log)

    async def close(self):
        if self.listening is not None:
            self.listening.cancel()
            await asyncio.gather(self.listening, return_exceptions=True)
            self.writer.close()


async def next_line(reader):
    try:
        return await reader.readline()
    except ValueError:  # Longer than any that makes sense.
        return b"?\n"


def read_state(line):
    """A state of an agent's process. While its file is loaded the agent can say things here too; what makes no sense is
    its own doing, and as good as its end."""
    try:
        state = json.loads(line)
        if state["state"] == "exited":
            state["status"] = int(state["status"])
        return state
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"state": "exited", "status": NONSENSE}


class AgentService:
    """One process that runs agents, at the end of a connection to the nursery."""

    def __init__(self, name, reader, writer, log):
        self.name, self.writer, self.log, self.port = name, writer, log, None
        self.loaded = False
        self.code = None  # How it ended, once the nursery has told.
        self.states = asyncio.Queue()
        self.listening = asyncio.ensure_future(self._listen(reader))

    async def _listen(self, reader):
        with contextlib.suppress(OSError):
            while (line := await next_line(reader)).endswith(b"\n"):
                state = read_state(line)
                if state["state"] == "exited":
                    self._write_log(state.get("log"))
                    self.code = state["status"]
                    break
                self.states.put_nowait(state)
        self.states.put_nowait({"state": "ended"})

    def _write_log(self, said):
        with contextlib.suppress(OSError), open(self.log, "w", encoding="utf-8", errors="replace") as file:
            file.write(str(said or ""))

    @property
    def alive(self):
        return not self.listening.done()

    @property
    def lost(self):
        """Whether it is gone and nobody can say how: then it was not the agent's doing."""
        return not self.alive and self.code is None

    async def wait(self):
        await asyncio.shield(self.listening)

    def status(self):
        return f"signal {-self.code}" if self.code is not None and self.code < 0 else f"exit status {self.code}"

    async def end(self):
        """Has it killed, with whatever it started, and waits until it is gone."""
        with contextlib.suppress(OSError):
            if self.alive:
                self.writer.write_eof()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.wait(), HANG_UP_S)
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        self.writer.close()

    async def _state(self, limit):
        try:
            return await asyncio.wait_for(self.states.get(), limit)
        except asyncio.TimeoutError:
            return {"state": "silent"}

    async def prepared(self, limit):
        """Waits until it listens. Whatever fails here is not the agent's fault."""
        state = await self._state(limit)
        if state["state"] != "prepared":
            reason = state.get("error") or tail(self.log) or state["state"]
            raise StartError(f"the agent service did not start: {reason}", state.get("status", 1))
        self.port = state["port"]

    async def load(self, limit):
        """Lets it import the agent, and waits until it serves."""
        self.writer.write(b"\n")
        state = await self._state(limit)
        if state["state"] == "serving":
            self.loaded = True
            return
        if state["state"] == "silent":
            raise AgentError(f"the agent file was not loaded within {limit:.0f} s")
        if state["state"] == "ended" and self.lost:
            raise StartError("the agent service was lost while the agent file was loaded")
        if state["state"] == "ended":
            raise AgentError(f"the agent file ended the process while it was loaded ({self.status()})")
        raise AgentError(str(state.get("error") or "the agent file cannot be loaded")[:2000])
