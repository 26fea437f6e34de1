"""The door to the models: every call of an agent's process is carried to its provider here, and written down (calls.py).

Whose failure a failed call is cannot be learnt from the process that made it. So that process sends its calls here, with the
address that was meant (redirect.py), and what the provider answers is seen by somebody who has no agent's code in him. Bodies
pass unchanged and are not kept.
"""

import asyncio
import time

import calls
import local_http
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
        # What an agent no longer waits for is not paid for.
        self.server = await local_http.listen(sock, self._client, handler_cancellation=True)

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

    async def _client(self, request):
        """Answers one request of an agent's process."""
        from aiohttp import web

        known = self.calls.get(request.headers.get(TOKEN_HEADER))
        try:
            url = self.url(request.headers.get(ADDRESS_HEADER, ""))
        except self.errors:
            known = None
        if known is None:
            return web.Response(status=400)
        if not calls.lets_through(self.hosts, url):
            return self._refuse(f"{url.host}:{calls.port_of(url)}")
        call = None
        try:
            body = await local_http.read_body(request)
            ours = self.model.asked(url, body)
            call = known.begin(time.monotonic(), ours and self.model.knows(url))
            carried = asyncio.ensure_future(self._carry(call, request, url, body, ours))
            try:
                return await asyncio.shield(carried)
            except asyncio.CancelledError:
                if call.heard > call.start:  # The agent leaves once it has the whole answer, perhaps before we see its end.
                    await asyncio.wait({carried}, timeout=END_S)
                call.abandoned = not carried.done()
                raise
            finally:
                carried.cancel()
                await asyncio.gather(carried, return_exceptions=True)
        except (local_http.Refused, ValueError, OSError):
            return local_http.broken_off(request)
        finally:
            if call is not None and call.end is None:
                call.end = time.monotonic()

    def _refuse(self, place):
        if place not in self.refused and len(self.refused) < MOST_REFUSED:
            self.refused.add(place)
            self.say(f"the fence let no agent through to {place[:100]}; if it needs that, name it in `model_hosts`")
        return failure(403, "the fence lets nothing through to this host")

    async def _carry(self, call, request, url, body, ours):
        sent = [(name, value) for name, value in request.headers.items() if name.lower() not in NOT_SENT]
        sent.append(("accept-encoding", "identity"))
        client = self.direct if url.host in LOCAL else self.client
        try:
            async with client.stream(request.method, url, headers=sent, content=body) as response:
                call.heard = time.monotonic()
                return await self._answer(call, request, response, url, ours)
        except self.errors as error:
            call.failure = f"its provider is out of reach or broke off ({type(error).__name__})"
            call.end = time.monotonic()
            if call.heard == call.start:
                return failure(502, "the model is out of reach")
            # The agent's client must not take what has begun for the whole.
            return local_http.broken_off(request)

    async def _answer(self, call, request, response, url, ours):
        """Passes an answer on, and writes down what it is. What the agent's process makes of it does not matter."""
        from aiohttp import web

        given = response.headers
        status = response.status_code
        call.failure, call.retry_after = calls.status_failure(status), calls.retry_after(given)
        if status in calls.REFUSING and ours and self.model.holds_key(url, request.headers):
            call.refused = f"its provider answered {status}"
        passed_on = web.StreamResponse(status=status)
        passed_on.headers.extend((name, value) for name, value in given.multi_items() if name.lower() not in HOP)
        passed_on.force_close()
        await passed_on.prepare(request)
        looked = bytearray()
        async for some in response.aiter_raw():
            call.heard = time.monotonic()
            if len(looked) <= LARGEST_LOOK:
                looked += some
            await passed_on.write(some)
        call.end = time.monotonic()
        if status == 200 and len(looked) <= LARGEST_LOOK:
            whole = calls.unpacked(bytes(looked), given.get("content-encoding"))
            if whole is not None:
                call.failure, call.tokens = calls.read_answer(whole, given.get("content-type", ""))
            # The first answer of a provider that we do not know by name shows where it lives.
            if call.tokens and any(call.tokens) and ours and url.host not in LOCAL:
                self.model.answering.add(url.host.lower())
        await passed_on.write_eof()
        return passed_on


def failure(status, message):
    """An answer as a provider would give it."""
    from aiohttp import web

    error = {"error": {"message": message, "type": "autoharness"}}
    response = web.json_response(error, status=status)
    response.force_close()
    return response
