"""What Harbor's side and the agent's process say to each other: a head of JSON, and bytes that need none. Both sides check what
they hear: the other one may be the agent."""

import asyncio
import json
import struct
import time

HEADER = struct.Struct(">II")
# Of a head; who hears an agent reads it in an event loop that others wait for.
MAX_HEAD, MAX_BYTES = 4 << 20, 128 << 20


# Seconds.
FOREVER = 1e6


class Broken(Exception):
    """The other side is gone, or speaks otherwise."""


def packed(head, data=b""):
    """One frame."""
    text = json.dumps(head).encode()
    if len(text) > MAX_HEAD or len(data) > MAX_BYTES:
        raise ValueError(f"too large to hand over: {max(len(text), len(data))} bytes")
    return HEADER.pack(len(text), len(data)) + text + data


def read_head(text):
    """The head as a dictionary."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise Broken("no JSON") from None
    if not isinstance(head, dict):
        raise Broken("no message")
    return head


def sizes(header):
    """How long head and bytes are."""
    head, data = HEADER.unpack(header)
    if head > MAX_HEAD or data > MAX_BYTES:
        raise Broken(f"a message of {max(head, data)} bytes")
    return head, data


def plain(text):
    """A text that can be written down: half of a surrogate pair cannot."""
    return str(text).encode("utf-8", "replace").decode()


class Line:
    """The connection as coroutines of one loop use it. One reads; any number may send, a frame at a time."""

    def __init__(self, connection):
        connection.setblocking(False)
        self.connection, self.loop = connection, asyncio.get_running_loop()
        self._lock, self._sending = asyncio.Lock(), set()

    async def send(self, head, data=b""):
        """Sends a whole frame, even if the caller is cancelled meanwhile."""
        task = asyncio.ensure_future(self._send(packed(head, data)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        await asyncio.shield(task)

    async def _send(self, frame):
        async with self._lock:
            try:
                await self.loop.sock_sendall(self.connection, frame)
            except (OSError, ValueError) as error:
                raise Broken(str(error)) from None

    async def receive(self):
        head, data = sizes(await self._exactly(HEADER.size))
        text = await self._exactly(head)
        return read_head(text), await self._exactly(data)

    async def _exactly(self, length):
        got = bytearray()
        while len(got) < length:
            try:
                chunk = await self.loop.sock_recv(self.connection, min(length - len(got), 1 << 20))
            except (OSError, ValueError) as error:
                raise Broken(str(error)) from None
            if not chunk:
                raise Broken("closed")
            got += chunk
        return bytes(got)

    def close(self):
        """Ends the connection at once. Its number is given back when the loop has let go of it: until then another trial's
        connection would be taken for it."""
        try:
            self.connection.shutdown(2)
        except OSError:
            pass  # It has ended by itself.
        if self.loop.is_closed():
            self.connection.close()
        else:
            self.loop.create_task(self._let_go())

    async def _let_go(self):
        for task in list(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
        self.connection.close()


def ask(connection, head, limit):
    """Sends a frame and waits for one, without a loop, for so many seconds in all."""
    until = time.monotonic() + limit
    try:
        connection.settimeout(limit)
        connection.sendall(packed(head))
        length, rest = sizes(_exactly(connection, HEADER.size, until))
        return read_head(_exactly(connection, length, until)), _exactly(connection, rest, until)
    except OSError as error:
        raise Broken(str(error)) from None


def _exactly(connection, length, until):
    got = bytearray()
    while len(got) < length:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        chunk = connection.recv(min(length - len(got), 1 << 20))
        if not chunk:
            raise Broken("closed")
        got += chunk
    return bytes(got)
