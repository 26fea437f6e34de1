#!/usr/bin/env python3
"""Checks how the processes of BIRD-Interact's helper know each other, and what the nursery's children are and are not given.

    VENV/bin/python tests/support/check_bird_host.py

Needs google-adk and its companions, but no PostgreSQL and no model. Exit status 0 when everything holds.
"""

import array
import asyncio
import fcntl
import json
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HELPER = os.path.join(ROOT, "agent", "helpers", "bird_interact")
sys.path[:0] = [HELPER, os.path.join(ROOT, "tests", "support", "bird")]

import guard  # noqa: E402
import local_http  # noqa: E402
import link  # noqa: E402
from bed import wait_for  # noqa: E402
from seal import HEADER, Seal  # noqa: E402
from services import Child  # noqa: E402
from sockets import PORT_BYTES, StartError, listen  # noqa: E402

LIMIT_S = 120


# ------------------------------------------------------------------------------------------------------------- seals


def check_seals():
    key = Seal.new_key()
    ours, theirs, other = Seal(key), Seal(key), Seal(Seal.new_key())
    seal, proof = ours.ask()
    assert theirs.counterpart(seal) == proof
    assert theirs.counterpart(seal) is None, "a seal was good twice"
    assert theirs.counterpart(other.ask()[0]) is None and theirs.counterpart(None) is None
    assert theirs.counterpart(seal.split(".")[0] + "x." + seal.split(".")[1]) is None


async def check_who_answers():
    """An answer without the counterpart is no answer, whatever it says."""
    sock, _ = listen()
    sealed = Seal(Seal.new_key())

    async def handler(*_):
        return 200, b'{"passed": true, "reward": 0.7}'

    server = await local_http.serve(sock, handler)
    port = sock.getsockname()[1]
    assert (await local_http.request(port, "POST", "/submit", {})).status == 200
    try:
        await local_http.request(port, "POST", "/submit", {}, seal=sealed)
        raise AssertionError("a stranger was believed")
    except ConnectionError as error:
        assert "not the service that was started there" in str(error)
    server.close()


# ------------------------------------------------------------------------------------------------------------- guard


async def ask(door, method, path, body=None, seal=None):
    """One request to a guard; the status, the headers and the body."""
    headers = [(HEADER.encode(), seal.encode())] if seal else []
    given, sent = [{"type": "http.request", "body": json.dumps(body).encode()}], []

    async def receive():
        return given.pop(0)

    async def send(message):
        sent.append(message)

    await door({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, json.loads(sent[1]["body"])


class Simulator:
    """An application whose model fails for one question, in a thread, while the others are under way."""

    def __init__(self):
        self.served, self.open, self.both = [], 0, asyncio.Event()

    async def __call__(self, scope, receive, send):
        body = json.loads((await receive())["body"])
        self.served.append(scope["path"])
        if scope["path"] == "/ask":
            self.open += 1
            if self.open == 2:
                self.both.set()
            await self.both.wait()
            if body["question"] == "bad":
                message = f"{guard.LLM_FAILED}no credit"
                await asyncio.to_thread(logging.getLogger("user_simulator.server").error, message)
        await guard.answer(send, 200, {"answer": "?"})


async def check_guard():
    key = Seal.new_key()
    failures, app = guard.Failures(), Simulator()
    logging.getLogger().addHandler(failures)
    door, seal = guard.Guard(app, Seal(key), "user", failures), Seal(key)
    for method, path in (("POST", "/ask"), ("POST", "/init_task"), ("GET", "/debug_state/ah1t1"), ("POST", "/ask/")):
        assert (await ask(door, method, path, {"task_id": "ah1t1"}))[0] == 403, path
    assert (await ask(door, "POST", "/ask", ["no", "object"], seal="a.b"))[0] == 403
    assert app.served == []
    assert (await ask(door, "GET", "/health", {}))[0] == 200
    about = [(await ask(door, "POST", guard.REFUSED_PATH, {"task_id": task}, seal.ask()[0]))[2] for task in ("ah1t1", "ah2t1")]
    assert about == [{"refused": ["/ask", "/init_task", "/debug_state/ah1t1", "/ask/"]}, {"refused": []}], about

    stamp, proof = seal.ask()
    good, bad = await asyncio.gather(
        ask(door, "POST", "/ask", {"question": "good"}, stamp), ask(door, "POST", "/ask", {"question": "bad"}, seal.ask()[0])
    )
    assert good[1][HEADER] == proof and guard.FAILED_HEADER not in good[1], good
    assert json.loads(bad[1][guard.FAILED_HEADER]) == "no credit", bad
    logging.getLogger().removeHandler(failures)


# ----------------------------------------------------------------------------------------------------------- nursery

AGENT = """
import os, subprocess, sys
HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "seen"), "w") as file:
    file.write(repr({"secret": os.environ.get("OPENAI_API_KEY"), "modules": sorted(sys.modules), "cwd": os.getcwd(),
                     "fds": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
                     "environ": sorted(os.environ)}))
stray = subprocess.Popen(["sleep", "1000"], start_new_session=True)
with open(os.path.join(HERE, "stray"), "w") as file:
    file.write(str(stray.pid))
%s
def build_agent(mode):
    return None
"""


class Nest:
    """A nursery and what a run does with it, without a host in between."""

    def __init__(self, directory, fork):
        self.directory, self.fork, self.count = directory, fork, 0

    async def __aenter__(self):
        self.control, theirs = socket.socketpair()
        script = os.path.join(self.directory, "start.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"import sys\nsys.path.insert(0, {HELPER!r})\nimport nursery\nnursery.FORK = {self.fork}\n")
            file.write("sys.exit(nursery.main())\n")
        log = os.path.join(self.directory, "nursery.log")
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONDONTWRITEBYTECODE": "1"}
        arguments = ["--file", script, str(theirs.fileno()), "null"]
        self.child = await Child.start("nursery", sys.executable, arguments, self.directory, environment, log, (theirs.fileno(),))
        theirs.close()
        self.control.setblocking(False)
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.control, 4096), LIMIT_S)
        assert json.loads(said) == {"state": "prepared"}, said
        return self

    async def __aexit__(self, *_):
        self.control.close()
        await asyncio.wait_for(self.child.process.wait(), LIMIT_S)
        await self.child.end()

    async def agent(self, body="", port=0, secret="key"):
        self.count += 1
        folder = os.path.join(self.directory, f"exp{self.count}", "agent")
        os.makedirs(folder)
        path = os.path.join(folder, "agent.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(AGENT % body)
        ours, theirs = socket.socketpair()
        socket.send_fds(self.control, [str(port).rjust(PORT_BYTES).encode()], [theirs.fileno()])
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        log = os.path.join(self.directory, f"agent{self.count}.log")
        environment = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": secret}
        request = {"cwd": folder, "environment": environment, "own": [], "mode": "a-interact", "agent_file": path}
        writer.write(json.dumps(request).encode() + b"\n")
        return link.AgentService(self.count, reader, writer, log), folder


def seen(folder, name="seen"):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return eval(file.read())


async def check_nursery(fork):
    with tempfile.TemporaryDirectory(prefix="check-nursery-") as directory:
        async with Nest(directory, fork) as nest:
            free, reserve = listen()
            port = free.getsockname()[1]
            for sock in filter(None, (free, reserve)):
                sock.close()
            first, folder = await nest.agent(port=port, secret="first")
            await first.prepared(LIMIT_S)
            assert first.port == port
            assert not os.path.exists(os.path.join(folder, "seen")), "the agent was loaded before it was asked for"
            started = time.monotonic()
            await first.load(LIMIT_S)
            loaded = time.monotonic() - started
            about = seen(folder)
            assert about["secret"] == "first" and about["cwd"] == folder, about
            assert "service" not in about["modules"] and "litellm" in about["modules"], "the helper's modules are visible"
            assert not fork or 0 < len(about["fds"]) <= 9, f"more was inherited than is needed: {about['fds']}"
            status, body, _ = await local_http.request(first.port, "GET", "/health")
            assert status == 200 and json.loads(body)["service"] == "autoharness_bird_agent"

            if not fork:  # Where each process imports everything anew, the rest would only take longer.
                await first.end()
                assert not first.alive and first.code == -9 and not first.lost
                return f"an agent was loaded in {loaded:.2f} s"

            # The port that is taken by one agent is no reason to refuse the next; a stranger's is.
            second, other = await nest.agent(port=port, secret="second")
            await second.prepared(LIMIT_S)
            assert second.port != first.port
            await second.load(LIMIT_S)
            assert seen(other)["secret"] == "second"
            taken, _ = listen()
            third, _ = await nest.agent(port=taken.getsockname()[1])
            try:
                await third.prepared(LIMIT_S)
                raise AssertionError("a stranger's port was taken")
            except StartError as error:
                assert "is in use" in str(error)
            await third.end()

            # Ends are told as they were, and nothing outlives an agent, wherever it hid.
            exits, _ = await nest.agent("os._exit(7)")
            await exits.prepared(LIMIT_S)
            try:
                await exits.load(LIMIT_S)
                raise AssertionError("an agent that had ended served")
            except link.AgentError as error:
                assert "exit status 7" in str(error), error
            stray = seen(folder, "stray")
            await first.end()
            assert not first.alive and first.code == -9 and not first.lost
            wait_for(lambda: not os.path.exists(f"/proc/{stray}"), "what it started is gone")
            assert second.alive and os.path.exists(f"/proc/{seen(other, 'stray')}"), "the neighbour was hit"

            # A nursery that dies takes its children with it, and no agent is blamed.
            hidden = seen(other, "stray")
            os.kill(nest.child.process.pid, 9)
            await asyncio.wait_for(second.wait(), LIMIT_S)
            assert second.lost, second.status()
            os.kill(hidden, 9)
            await second.end()
    return f"an agent was loaded in {loaded:.2f} s"


def stat(pid):
    """State and parent of a process; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return fields[0], int(fields[1])
    except OSError:
        return None


def children(parent):
    return {int(name) for name in os.listdir("/proc") if name.isdigit() and (stat(name) or "__")[1] == parent}


async def check_hang_up():
    """An agent's process dies and its caller hangs up, and the nursery hears of both in one go: the other agents live on."""
    with tempfile.TemporaryDirectory(prefix="check-nursery-") as directory:
        async with Nest(directory, True) as nest:
            nursery = nest.child.process.pid

            async def prepared():
                known = children(nursery)
                agent, _ = await nest.agent()
                await agent.prepared(LIMIT_S)
                (pid,) = children(nursery) - known
                return agent, pid

            first, dying = await prepared()
            slow, stopped = await prepared()
            # Whatever is said to a process that has stopped reading fills a pipe. Then the nursery waits, and hears nothing.
            os.kill(stopped, signal.SIGSTOP)
            with open(f"/proc/{stopped}/fd/0", "rb") as pipe:
                room = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
                slow.writer.write(b"x" * (2 * room))
                await slow.writer.drain()
                filled = array.array("i", [0])
                wait_for(lambda: not fcntl.ioctl(pipe, termios.FIONREAD, filled) and filled[0] == room, "the pipe is full")
                os.kill(dying, signal.SIGKILL)
                wait_for(lambda: stat(dying)[0] == "Z", "it is dead")
                first.writer.write_eof()
            os.kill(stopped, signal.SIGKILL)
            for agent in (first, slow):
                await asyncio.wait_for(agent.wait(), LIMIT_S)
                assert agent.code == -9, f"{agent.name}: {agent.status()}; {nest.child.tail()}"
            third, _ = await nest.agent()
            await third.prepared(LIMIT_S)


async def check_no_room():
    """A nursery that may open no more files refuses the next agent, and keeps those that it has."""
    with tempfile.TemporaryDirectory(prefix="check-nursery-") as directory:
        async with Nest(directory, True) as nest:
            nursery = nest.child.process.pid
            first, _ = await nest.agent()
            await first.prepared(LIMIT_S)
            before = resource.prlimit(nursery, resource.RLIMIT_NOFILE)
            highest = max(map(int, os.listdir(f"/proc/{nursery}/fd")))
            for room in (0, 1, 2, 3, 4):  # None for the connection itself; then for some of the pipes.
                resource.prlimit(nursery, resource.RLIMIT_NOFILE, (highest + 1 + room, before[1]))
                refused, _ = await nest.agent()
                try:
                    await refused.prepared(LIMIT_S)
                    raise AssertionError(f"an agent found room for {room} files")
                except StartError:
                    await refused.end()
            resource.prlimit(nursery, resource.RLIMIT_NOFILE, before)
            assert first.alive, nest.child.tail()
            second, _ = await nest.agent()
            await second.prepared(LIMIT_S)


def main():
    for name, check in (
        ("seals", check_seals),
        ("who answers", check_who_answers),
        ("guard", check_guard),
        *([("nursery", lambda: check_nursery(True)), ("hang up", check_hang_up), ("no room", check_no_room)] if sys.platform == "linux" else []),
        ("nursery without fork", lambda: check_nursery(False)),
    ):
        start = time.monotonic()
        done = check()
        said = asyncio.run(asyncio.wait_for(done, 4 * LIMIT_S)) if asyncio.iscoroutine(done) else None
        print(f"ok    {name} ({time.monotonic() - start:.0f} s){': ' + said if said else ''}", flush=True)


if __name__ == "__main__":
    main()
