"""What Harbor's side and the agent's process say to each other: a head of JSON, and bytes that need none. Both sides check what
they hear: the other one may be the agent."""

import asyncio
import json
import struct

HEADER = struct.Struct(">II")
MAX_HEAD, MAX_BYTES = 64 << 20, 256 << 20


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


class Line:
    """The connection as a coroutine uses it. One reads; any number may send, a frame at a time."""

    def __init__(self, connection):
        connection.setblocking(False)
        self.connection, self._sending = connection, asyncio.Lock()

    async def send(self, head, data=b""):
        """Sends a frame, and all of it, whoever is told to stop meanwhile."""
        await asyncio.shield(asyncio.ensure_future(self._send(packed(head, data))))

    async def _send(self, frame):
        async with self._sending:
            try:
                await asyncio.get_running_loop().sock_sendall(self.connection, frame)
            except (OSError, ValueError) as error:
                raise Broken(str(error)) from None

    async def receive(self):
        head, data = sizes(await self._exactly(HEADER.size))
        text = await self._exactly(head)
        return read_head(text), await self._exactly(data)

    async def _exactly(self, length):
        loop, got = asyncio.get_running_loop(), bytearray()
        while len(got) < length:
            try:
                chunk = await loop.sock_recv(self.connection, min(length - len(got), 1 << 20))
            except (OSError, ValueError) as error:
                raise Broken(str(error)) from None
            if not chunk:
                raise Broken("closed")
            got += chunk
        return bytes(got)


def ask(connection, head, data=b""):
    """Sends a frame and waits for one, without a loop."""
    frame = packed(head, data)
    try:
        connection.sendall(frame)
    except OSError as error:
        raise Broken(str(error)) from None
    return receive(connection)


def receive(connection):
    """Waits for a frame, without a loop."""
    try:
        length, rest = sizes(_exactly(connection, HEADER.size))
        return read_head(_exactly(connection, length)), _exactly(connection, rest)
    except OSError as error:
        raise Broken(str(error)) from None


def _exactly(connection, length):
    got = bytearray()
    while len(got) < length:
        chunk = connection.recv(min(length - len(got), 1 << 20))
        if not chunk:
            raise Broken("closed")
        got += chunk
    return bytes(got)
