"""Stand-in for httpx: just the client that the helper watches."""


class ConnectError(Exception):
    pass


class Limits:
    def __init__(self, **limits):
        self.limits = limits


class Response:
    def __init__(self, status_code, content=b"", headers=None):
        self.status_code, self.content, self.headers = status_code, content, headers or {}


class Client:
    def __init__(self, limits=None):
        self.limits = limits

    def send(self, request, *, stream=False):
        """`request` is the response to give, or "drop"."""
        if request == "drop":
            raise ConnectError("connection reset")
        return request
