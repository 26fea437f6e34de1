"""HTTP between programs on this machine: bodies of a bounded length, one request a connection. aiohttp speaks it."""

import asyncio
import collections
import hmac
import json
import logging

from seal import HEADER

LARGEST_HEAD = 64 * 1024
LARGEST_BODY = 64 << 20
# Of what an agent's process answers; honest answers are below 1 MB.
LARGEST_ANSWER = 8 << 20

# Malformed requests from strangers belong in no log.
QUIET = logging.getLogger("autoharness.local_http")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

Answer = collections.namedtuple("Answer", "status body headers")


class Refused(Exception):
    """The request is answered with this status and text."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status, self.detail = status, detail


async def read_body(message, largest=LARGEST_BODY):
    """The body of a request or of an answer, as it was sent."""
    body = bytearray()
    async for some in message.content.iter_any():
        body += some
        if len(body) > largest:
            raise Refused(413, "the body is too long")
    return bytes(body)


async def request(port, method, path, payload=None, limit=None, seal=None):
    """Sends one request to a local service; returns its answer. Raises OSError, also on a broken answer.

    With a `seal`, an answer that lacks its counterpart is as good as none.
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    return await exchange(port, method, path, body, limit, seal)


async def exchange(port, method, path, body, limit=None, seal=None, largest=LARGEST_BODY):
    """As `request`, with the body as it is."""
    # Not at the top: doctor.py says what is missing where packages are.
    import aiohttp
    import yarl

    given, proof = seal.ask() if seal else (None, None)
    headers = {"Content-Type": "application/json", **({HEADER: given} if seal else {})}
    url = yarl.URL(f"http://127.0.0.1:{port}{path}", encoded=True)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=limit), auto_decompress=False,
        max_line_size=LARGEST_HEAD, max_field_size=LARGEST_HEAD,
    )
    try:
        async with session, session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            if seal and not hmac.compare_digest(answer.headers.get(HEADER, "").encode(), proof.encode()):
                raise ConnectionError(f"what answers on port {port} is not the service that was started there")
            return Answer(answer.status, await read_body(answer, largest), answer.headers)
    except asyncio.TimeoutError:
        raise ConnectionError(f"no answer to {path} within {limit} s") from None
    except (aiohttp.ClientError, Refused, ValueError) as error:
        raise ConnectionError(f"broken answer to {path}: {error}") from None


async def serve(sock, handler):
    """Serves `handler(method, path, body) -> (status, body bytes)` on a listening socket; returns the server.

    The handler is told nothing of a client that went away: what was asked of a database happens all the same, so the
    answer must be recorded all the same.
    """
    from aiohttp import web

    async def answer(request):
        try:
            status, body = await handler(request.method, request.rel_url.raw_path, await read_body(request))
        except Refused as refusal:
            status, body = refusal.status, json.dumps({"detail": refusal.detail}).encode()
        except (ValueError, ConnectionError):
            return broken_off(request)
        response = web.Response(status=status, body=body, content_type="application/json")
        response.force_close()
        return response

    return await listen(sock, answer)


def broken_off(request):
    """No answer: what was asked could not be understood, or what began cannot be ended. Returns what aiohttp wants to have."""
    from aiohttp import web

    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=400)


async def listen(sock, answer, **options):
    """Has aiohttp serve `answer(request) -> response` on a socket; returns the server."""
    from aiohttp import web

    server = web.Server(
        answer, access_log=None, logger=QUIET, auto_decompress=False, max_line_size=LARGEST_HEAD, max_field_size=LARGEST_HEAD, **options
    )
    return await asyncio.get_running_loop().create_server(server, sock=sock)
