"""The little of HTTP/1.1 that local services need: JSON bodies of known length, one request a connection."""

import asyncio
import collections
import hmac
import json

from seal import HEADER

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 64 << 20
# Of what an agent's process answers; honest answers are below 1 MB.
LARGEST_ANSWER = 8 << 20
REASONS = {
    200: "OK",
    400: "Bad Request",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    413: "Content Too Large",
    502: "Bad Gateway",
}


Answer = collections.namedtuple("Answer", "status body headers")


class Refused(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status, self.detail = status, detail


def _headers(head):
    lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return lines[0], fields


async def read_message(reader):
    """The first line, the header fields (names in lower case) and the body of a request."""
    return await _read(reader, to_the_end=False)


async def _read(reader, to_the_end, largest=LARGEST_BODY):
    """The first line, the header fields and the body of a message."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refused(413, "the header is too long") from None
    first, fields = _headers(head)
    if "content-length" in fields:
        length = int(fields["content-length"]) if fields["content-length"].isdigit() else -1
        if not 0 <= length <= largest:
            raise Refused(413, "the body is too long")
        return first, fields, await reader.readexactly(length)
    if "transfer-encoding" in fields:
        raise Refused(411, "only bodies of known length are taken")
    return first, fields, await reader.read(largest) if to_the_end else b""


async def request(port, method, path, payload=None, limit=None, seal=None):
    """Sends one request to a local service; returns its answer. Raises OSError, also on a broken answer.

    With a `seal`, an answer that lacks its counterpart is as good as none.
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    return await exchange(port, method, path, body, limit, seal)


async def exchange(port, method, path, body, limit=None, seal=None, largest=LARGEST_BODY):
    """As `request`, with the body as it is."""
    given, proof = seal.ask() if seal else (None, None)
    stamp = f"{HEADER}: {given}\r\n" if seal else ""

    async def talk():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LARGEST_HEAD)
        try:
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n{stamp}Connection: close\r\n\r\n"
            )
            writer.write(head.encode("latin-1") + body)
            await writer.drain()
            first, fields, answer = await _read(reader, to_the_end=True, largest=largest)
            if seal and not hmac.compare_digest(fields.get(HEADER, "").encode(), proof.encode()):
                raise ConnectionError(f"what answers on port {port} is not the service that was started there")
            return Answer(int(first.split()[1]), answer, fields)
        except (asyncio.IncompleteReadError, Refused, IndexError, ValueError) as error:
            raise ConnectionError(f"broken answer to {path}: {error}") from None
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(talk(), limit)
    except asyncio.TimeoutError:
        raise ConnectionError(f"no answer to {path} within {limit} s") from None


async def serve(sock, handler):
    """Serves `handler(method, path, body) -> (status, body bytes)` on a listening socket; returns the server.

    The handler is told nothing of a client that went away: what was asked of a database happens all the same, so the
    answer must be recorded all the same.
    """

    async def client(reader, writer):
        try:
            try:
                first, _, body = await _read(reader, to_the_end=False)
                method, path, _ = first.split(" ", 2)
                status, answer = await handler(method, path.split("?", 1)[0], body)
            except Refused as refusal:
                status, answer = refusal.status, json.dumps({"detail": refusal.detail}).encode()
            except (ValueError, asyncio.IncompleteReadError, ConnectionError):
                return
            head = (
                f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + answer)
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(client, sock=sock, limit=LARGEST_HEAD)
