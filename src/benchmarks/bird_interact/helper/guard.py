"""One of the benchmark's own two services, with a guard at its door.

    launch.py PARENT [--warm MODULE] --file guard.py SOCKET KIND MODULE

SOCKET is an inherited file descriptor, KIND is "db" or "user", MODULE holds the application (`app`); the key of the seals
is the line on stdin. The application is the benchmark's own, unchanged. The guard answers what carries no seal with a
refusal and remembers which task it named: an agent's process that has found the port can load no task of its own making,
end none, ask for nothing unpaid, and read no state of another. It also tells which question a failed call of a model belongs to.
"""

import asyncio
import contextvars
import importlib
import json
import logging
import os
import socket
import sys

from seal import HEADER, Seal

# What is answered without a seal: the user simulator fetches schemas from the database service by itself.
OPEN = {"db": {("GET", "/health"), ("POST", "/schema")}, "user": {("GET", "/health")}}
REFUSED_PATH = "/autoharness/refused"
FAILED_HEADER = "x-autoharness-failed"
LLM_FAILED = "LLM call failed: "
LARGEST_REFUSED_BODY = 1 << 20
LONGEST_REASON = 300
MOST_REFUSALS = 10_000

QUESTION = contextvars.ContextVar("question", default=None)


class Failures(logging.Handler):
    """Writes down which question a failed call of a model belongs to; the simulator itself only shrugs."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.open = []

    def emit(self, record):
        message = record.getMessage()
        if LLM_FAILED not in message:
            return
        reason = message.split(LLM_FAILED, 1)[1][:LONGEST_REASON]
        question = QUESTION.get()
        # Where the thread of the call does not know its question, it may be any that is open.
        for one in [question] if question is not None else list(self.open):
            one.append(reason)


class Guard:
    """The application behind the door (ASGI)."""

    def __init__(self, app, seal, kind, failures):
        self.app, self.seal, self.kind, self.failures = app, seal, kind, failures
        self.refused = {}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"]
        given = dict(scope["headers"]).get(HEADER.encode(), b"").decode("latin-1")
        proof = self.seal.counterpart(given) if given else None
        if proof is None:
            if (method, path) in OPEN[self.kind]:
                return await self.app(scope, receive, send)
            return await self._refuse(path, receive, send)
        question = []

        async def sealed(message):
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (HEADER.encode(), proof.encode())]
                if question:
                    headers.append((FAILED_HEADER.encode(), json.dumps(question[-1]).encode()))
                message = {**message, "headers": headers}
            await send(message)

        if path == REFUSED_PATH:
            task = json.loads(await body_of(receive)).get("task_id")
            return await answer(sealed, 200, {"refused": self.refused.pop(task, [])})
        QUESTION.set(question)
        self.failures.open.append(question)
        try:
            await self.app(scope, receive, sealed)
        finally:
            # By identity: lists that say the same are equal.
            self.failures.open[:] = [one for one in self.failures.open if one is not question]

    async def _refuse(self, path, receive, send):
        try:
            task = json.loads(await body_of(receive, LARGEST_REFUSED_BODY)).get("task_id")
        except (ValueError, AttributeError, OSError):
            task = None
        if isinstance(task, str) and len(self.refused) < MOST_REFUSALS:
            paths = self.refused.setdefault(task, [])
            if len(paths) < 10:
                paths.append(path)
        await answer(send, 403, {"detail": "this service is not for you"})


async def body_of(receive, largest=None):
    """The whole body of a request; raises OSError when it breaks off or is too large."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the request broke off")
        body += message.get("body", b"")
        if largest is not None and len(body) > largest:
            raise OSError("the body is too large")
        if not message.get("more_body"):
            return body


async def answer(send, status, value):
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main():
    sock, kind, module = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3]
    seal = Seal(sys.stdin.readline().strip())
    sys.stdin.close()
    sys.path[0] = os.getcwd()
    import uvicorn

    app = importlib.import_module(module).app
    failures = Failures()
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    root.addHandler(failures)
    config = uvicorn.Config(Guard(app, seal, kind, failures), log_level="info", use_colors=False, interface="asgi3")
    asyncio.run(uvicorn.Server(config).serve(sockets=[sock]))


if __name__ == "__main__":
    main()
