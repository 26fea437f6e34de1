"""The door to the models: every call of an agent's process is carried to its provider here, and written down (calls.py).

Whose failure a failed call is cannot be learnt from the process that made it. So that process sends its calls here, with the
address that was meant (redirect.py), and what the provider answers is seen by somebody who has no agent's code in him. Bodies
pass unchanged and are not kept.
"""

import asyncio
import contextlib
import time

import calls
import http1
from redirect import ADDRESS_HEADER, TOKEN_HEADER

CONNECT_S = 30.0
END_S = 1.0
# Larger answers pass, but are not looked into.
LARGEST_LOOK = 32 << 20
# What belongs to one connection and not to the message, and what is said anew.
HOP = {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
NOT_SENT = HOP | {"host", "content-length", "accept-encoding", ADDRESS_HEADER, TOKEN_HEADER}
LOCAL = {"localhost", "127.0.0.1", "::1"}
# Hosts that are told of.
MOST_REFUSED = 8


class Door:
    """Carries calls. Every agent's process has a token of its own, which says whose call it is."""

    def __init__(self, model, hosts, say):
        """`hosts`: what it leads to, None for everywhere. `say` is told of each host that it did not let an agent through to."""
        self.model, self.calls, self.hosts, self.say, self.refused = model, {}, hosts, say, set()
        self.client = self.server = None

    async def open(self, sock):
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        self.errors = (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol)
        self.url = httpx.URL
        # As litellm would: the machine's proxies and certificates count, but not on the way to the machine itself.
        self.client = httpx.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False, trust_env=True)
        self.direct = httpx.AsyncClient(timeout=timeout, limits=limits, follow_redirects=False, trust_env=False)
        self.server = await asyncio.start_server(self._client, sock=sock, limit=http1.LARGEST_HEAD)

    async def close(self):
        if self.server is not None:
            self.server.close()
            await self.client.aclose()
            await self.direct.aclose()

    def admit(self, token):
        """Takes calls with this token from now on; returns where they are written down."""
        self.calls[token] = calls.Calls()
        return self.calls[token]

    def dismiss(self, token):
        self.calls.pop(token, None)

    async def _client(self, reader, writer):
        call = None
        try:
            first, headers, body = await http1.read_message(reader)
            known = self.calls.get(headers.get(TOKEN_HEADER))
            if known is None:
                return
            method = first.split(" ", 1)[0]
            try:
                url = self.url(headers.get(ADDRESS_HEADER, ""))
            except self.errors:
                return
            if not calls.lets_through(self.hosts, url):
                await self._refuse(writer, f"{url.host}:{calls.port_of(url)}")
                return
            ours = self.model.asked(url, body)
            call = known.begin(time.monotonic(), ours and self.model.knows(url))
            carried = asyncio.ensure_future(self._carry(call, method, url, headers, body, ours, writer))
            # Nothing more is said on this connection, so whatever comes is its end.
            left = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({carried, left}, return_when=asyncio.FIRST_COMPLETED)
                if call.heard > call.start:  # Whoever has the whole answer leaves, perhaps before we see its end.
                    await asyncio.wait({carried}, timeout=END_S)
                call.abandoned = not carried.done()
            finally:
                for task in (carried, left):
                    task.cancel()
                await asyncio.gather(carried, left, return_exceptions=True)
        except (http1.Refused, ValueError, IndexError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            if call is not None and call.end is None:
                call.end = time.monotonic()
            writer.close()

    async def _refuse(self, writer, place):
        if place not in self.refused and len(self.refused) < MOST_REFUSED:
            self.refused.add(place)
            self.say(f"the fence let no agent through to {place[:100]}; if it needs that, name it in `model_hosts`")
        await _say(writer, 403, [("content-type", "application/json")])
        writer.write(b'{"error": {"message": "the fence lets nothing through to this host", "type": "autoharness"}}')
        await writer.drain()

    async def _carry(self, call, method, url, headers, body, ours, writer):
        sent = [(name, value) for name, value in headers.items() if name not in NOT_SENT]
        sent.append(("accept-encoding", "identity"))
        client = self.direct if url.host in LOCAL else self.client
        try:
            async with client.stream(method, url, headers=sent, content=body) as response:
                call.heard = time.monotonic()
                await self._answer(call, response, url, headers, ours, writer)
        except self.errors as error:
            call.failure = f"its provider is out of reach or broke off ({type(error).__name__})"
            call.end = time.monotonic()
            if call.heard == call.start:
                with contextlib.suppress(OSError):
                    await _say(writer, 502, [("content-type", "application/json")])
                    writer.write(b'{"error": {"message": "the model is out of reach", "type": "autoharness"}}')
                    await writer.drain()

    async def _answer(self, call, response, url, headers, ours, writer):
        """Passes an answer on, and writes down what it is. What the agent's process makes of it does not matter."""
        given = response.headers
        status = response.status_code
        call.failure, call.retry_after = calls.status_failure(status), calls.retry_after(given)
        if status in calls.REFUSING and ours and self.model.holds_key(url, headers):
            call.refused = f"its provider answered {status}"
        await _say(writer, status, [(name, value) for name, value in given.multi_items() if name.lower() not in HOP])
        looked = bytearray()
        async for some in response.aiter_raw():
            call.heard = time.monotonic()
            if len(looked) <= LARGEST_LOOK:
                looked += some
            writer.write(some)
            await writer.drain()
        call.end = time.monotonic()
        if status == 200 and len(looked) <= LARGEST_LOOK:
            whole = calls.unpacked(bytes(looked), given.get("content-encoding"))
            if whole is not None:
                call.failure, call.tokens = calls.read_answer(whole, given.get("content-type", ""))
            # The first answer of a provider that we do not know by name shows where it lives.
            if call.tokens and any(call.tokens) and ours and url.host not in LOCAL:
                self.model.answering.add(url.host.lower())


async def _say(writer, status, headers):
    head = f"HTTP/1.1 {status} {http1.REASONS.get(status, 'Status')}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers) + "Connection: close\r\n\r\n"
    writer.write(head.encode("latin-1", "replace"))
    await writer.drain()
