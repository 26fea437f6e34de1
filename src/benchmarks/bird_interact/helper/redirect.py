"""Sends what the agent's process asks of models to the door (door.py), with the address that was meant in a header.

Runs in the agent's process, before its code is loaded. It is no fence: an agent may go round it. Failures
of calls that it does not see count as the agent's own, so an agent gains nothing by that.
"""

ADDRESS_HEADER = "x-autoharness-address"
TOKEN_HEADER = "x-autoharness-token"
LOCAL = {"localhost", "127.0.0.1", "::1", "[::1]"}


def install(port, token, own_ports):
    """From now on requests go through `port`, but for those to `own_ports` of this machine (the doors of the services)."""
    import httpx

    own_ports = {int(own) for own in own_ports if own}
    door = f"http://127.0.0.1:{port}/"

    def own(host, number):
        return host in LOCAL and number in own_ports

    def redirected(handle):
        def turned(request):
            url = request.url
            if own(url.host, url.port) or TOKEN_HEADER in request.headers:
                return None
            request.headers[ADDRESS_HEADER] = str(url)
            request.headers[TOKEN_HEADER] = token
            request.url = httpx.URL(door)
            return url

        def back(request, url):
            if url is not None:
                request.url = url
                for name in (ADDRESS_HEADER, TOKEN_HEADER):
                    del request.headers[name]

        if handle.__name__ == "handle_request":

            def sync(transport, request):
                url = turned(request)
                try:
                    return handle(transport, request)
                finally:
                    back(request, url)

            return sync

        async def asynchronous(transport, request):
            url = turned(request)
            try:
                return await handle(transport, request)
            finally:
                back(request, url)

        return asynchronous

    httpx.HTTPTransport.handle_request = redirected(httpx.HTTPTransport.handle_request)
    httpx.AsyncHTTPTransport.handle_async_request = redirected(httpx.AsyncHTTPTransport.handle_async_request)
    _install_aiohttp(door, token, own)


def _install_aiohttp(door, token, own):
    """Google's own client uses aiohttp."""
    try:
        import aiohttp
        import yarl
    except ImportError:
        return
    ask = aiohttp.ClientSession._request

    async def turned(session, method, where, **more):
        url = yarl.URL(where) if isinstance(where, str) else where
        if not own(url.host, url.port):
            headers = dict(more.get("headers") or {})
            headers.update({ADDRESS_HEADER: str(url), TOKEN_HEADER: token})
            more = {**more, "headers": headers}
            for name in ("proxy", "proxy_auth", "ssl"):
                more.pop(name, None)
            where = door
        return await ask(session, method, where, **more)

    aiohttp.ClientSession._request = turned
