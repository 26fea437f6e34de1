"""The agent as Harbor sees it: `terminal_bench.fenced_agent:FencedAgent`, which has a process behind the fence do what Harbor
asks, and does for it what an agent may do with a sandbox, and nothing else. None of the agent's code runs here.

The job is the file that AUTOHARNESS_AGENT_JOB names:
{"agent": "agent.agent:HarnessAgent", "agent_file": path, "staging": directory, "scratch": directory, "fence": words of a fence,
 "required": bool, "env": names of variables, "save_trace": bool, "in_steps": bool}
"""

import asyncio
import atexit
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from harbor.agents.base import BaseAgent
from harbor.agents.capabilities import AgentCapabilities
from harbor.agents.installed import base as harbor_errors
from harbor.models.agent.context import AgentContext

from terminal_bench import asked_for, frames, trees

with open(os.environ["AUTOHARNESS_AGENT_JOB"], encoding="utf-8") as _file:
    JOB = json.load(_file)

# The agent's last word after it was cut off, and how long its import may take.
LAST_WORD_SEC, LOADING_SEC = 10.0, 300.0
MAX_ASKED, MAX_KEPT, MAX_FILES = 64, 256, 1000
MAX_LOGGED, MAX_WRITTEN, MAX_NOTED, MAX_SAID = 4 << 20, 512 << 20, 1 << 20, 40_000
# What counts nothing and still costs something: a line of a log.
LINE_COST = 100
# What an exception of the agent's may not be called here: Harbor, or who reads its results, would take it for another's.
NOT_ITS_OWN = {"CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"}


class Nursery:
    """The process that forks agents, and this end of its socket."""

    def __init__(self):
        self.requests = self.process = None
        self.start()
        atexit.register(self.end)

    def start(self):
        self.requests, theirs = socket.socketpair()
        here = os.path.dirname(os.path.abspath(__file__))
        environment = {name: os.environ[name] for name in JOB["env"] if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-s", os.path.join(here, "nursery.py"), json.dumps(JOB)],
            stdin=theirs, stdout=subprocess.DEVNULL, env=environment,
        )
        theirs.close()

    def child(self):
        """A new process for an agent: the connection to it, and the descriptor that it lives by."""
        if self.process.poll() is not None:
            self.requests.close()
            self.start()
        here, there = socket.socketpair()
        kept, lifeline = os.pipe()
        try:
            socket.send_fds(self.requests, [b"."], [there.fileno(), kept])
        except OSError as error:
            here.close()
            os.close(lifeline)
            raise RuntimeError(f"the process that starts agents is gone: {error}") from None
        finally:
            there.close()
            os.close(kept)
        return here, lifeline

    def end(self):
        self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self.process.wait()


NURSERY = Nursery()


def described():
    """What the agent's class says of itself, asked of a process that ends then."""
    connection, lifeline = NURSERY.child()
    try:
        head, _ = frames.ask(connection, {"call": "describe"}, LOADING_SEC)
        if "failed" in head:
            raise ImportError(f"the agent cannot be imported: {told(head['failed'])}")
        # Harbor prints it, and joins it with other names by underscores.
        name = re.sub(r"[^A-Za-z0-9.]+", "-", str(head["done"]["name"]))[:100].strip("-") or "agent"
        return {"name": name, "capabilities": AgentCapabilities.model_validate(head["done"]["capabilities"])}
    except (frames.Broken, KeyError, TypeError, ValueError) as error:
        if NURSERY.process.poll() is not None:
            raise RuntimeError(f"the process that starts agents ended with status {NURSERY.process.returncode}") from None
        raise ImportError(f"the agent ended the process that imported it, or took too long ({error})") from None
    finally:
        connection.close()
        os.close(lifeline)


def told(failure):
    """An exception of the agent's process in a line."""
    failure = failure if isinstance(failure, dict) else {}
    return f"{word(failure.get('kind'))}: {defused(failure.get('message'))[:2000]}"


def word(name):
    """A name that can be the name of a class."""
    name = re.sub(r"\W", "_", str(name))[:80]
    return name if name.isidentifier() else "AgentError"


def defused(text):
    """What the agent says of a failure. No line of it may pass for a frame of a sandbox's, which would make the failure another's."""
    return re.sub(r"\bexec(?=\W*$)", "agent_exec", frames.plain(text)[:MAX_SAID], flags=re.MULTILINE)


DESCRIPTION = described()


class FencedAgent(BaseAgent):
    """One trial's agent."""

    capabilities = DESCRIPTION["capabilities"]

    def __init__(self, logs_dir, *args, **kwargs):
        super().__init__(logs_dir, *args, **kwargs)
        self._made_with = {
            "model_name": self.model_name,
            "mcp_servers": [server.model_dump(mode="json") for server in self.mcp_servers],
            "skills_dir": self.skills_dir,
            "extra_env": dict(kwargs.get("extra_env") or {}),
        }
        self._lifeline = self._line = None
        self._raised, self._logged, self._written = {}, 0, {}

    @staticmethod
    def name():
        return DESCRIPTION["name"]

    def version(self):
        return None

    async def setup(self, environment):
        try:
            await self._call("setup", environment)
        except BaseException:
            self._end()  # Nobody will ask anything of it.
            raise

    async def run(self, instruction, environment, context):
        await self._work("run", instruction, environment, context)

    async def resume(self, instruction, environment, context):
        await self._work("resume", instruction, environment, context)

    async def _work(self, method, instruction, environment, context):
        question = {"instruction": instruction, "context": context.model_dump(mode="json")}
        try:
            await self._call(method, environment, context, question)
        finally:
            # Between the steps of a task it keeps what it knows.
            if not JOB["in_steps"]:
                self._end()

    async def _call(self, method, environment, context=None, question=()):
        """Has the agent's process do something, and does what it asks for meanwhile."""
        if self._line is None:
            connection, self._lifeline = NURSERY.child()
            self._line = frames.Line(connection)
        about = {"made_with": self._made_with, "session_id": self.session_id, "context_id": self.context_id and str(self.context_id)}
        question = {"call": method, "sandbox": asked_for.shown(environment), **about, **dict(question)}
        listening = asyncio.create_task(self._listen(question, environment, context))
        try:
            await asyncio.shield(listening)
        except asyncio.CancelledError:
            # What it says now is its trace and what it has used.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._line.send({"cancel": True}), LAST_WORD_SEC)
                await asyncio.wait({listening}, timeout=LAST_WORD_SEC)
            raise
        finally:
            if not listening.done():
                listening.cancel()
                self._end()
            elif not listening.cancelled():
                listening.exception()

    async def _listen(self, question, environment, context):
        asked = {}
        try:
            await self._line.send(question)
            while True:
                head, data = await self._line.receive()
                # Other trials get their turn, no matter how fast this one sends.
                await asyncio.sleep(0)
                if "done" in head:
                    return
                if "failed" in head:
                    raise self._failure(head["failed"])
                if "drop" in head:
                    if isinstance(head["drop"], int) and head["drop"] in asked:
                        asked[head["drop"]].cancel()
                elif "ask" not in head:
                    await self._take(head, data, context)
                elif not isinstance(head["ask"], int) or len(asked) >= MAX_ASKED or head["ask"] in asked:
                    raise frames.Broken("it asks for more than can be done at a time")
                elif data:
                    await self._answer(head, data, environment)  # One at a time: they may be large.
                else:
                    number = head["ask"]
                    asked[number] = asyncio.create_task(self._answer(head, data, environment))
                    asked[number].add_done_callback(lambda _, number=number: asked.pop(number, None))
        except frames.Broken as error:
            self._end()
            raise RuntimeError(f"the agent's process ended before its time ({error})") from None
        finally:
            for task in list(asked.values()):
                task.cancel()

    def _failure(self, failure):
        """The agent's exception as one of this process."""
        failure = failure if isinstance(failure, dict) else {}
        number = failure.get("number")
        original = self._raised.get(number) if isinstance(number, int) else None
        if original is not None:
            return original
        kind, message = word(failure.get("kind")), defused(failure.get("message"))
        if kind in NOT_ITS_OWN:
            kind, message = "AgentError", told(failure)
        error = None
        theirs = getattr(harbor_errors, kind, None)
        if failure.get("module") == harbor_errors.__name__ and isinstance(theirs, type) and issubclass(theirs, Exception):
            with contextlib.suppress(TypeError):
                error = theirs(message)
        error = error or type(kind, (Exception,), {})(message)
        # Where in the agent it was.
        error.add_note(defused(failure.get("trace")))
        return error

    async def _take(self, head, data, context):
        """Takes in what the agent noted, wrote or logged."""
        if "context" in head and context is not None and head["context"] is not None:
            with contextlib.suppress(Exception):
                note(head["context"], context)
        elif "file" in head and JOB["save_trace"]:
            await asyncio.to_thread(self._keep, head["file"], data)
        elif "log" in head and JOB["save_trace"] and self._logged < MAX_LOGGED:
            text = frames.plain(head["log"])
            self._logged += len(text) + LINE_COST
            level = head.get("level")
            self.logger.log(level if isinstance(level, int) and level in (10, 20, 30, 40, 50) else 20, "%s", text)

    def _keep(self, name, data):
        """Keeps a file of the agent's logs: the first thousand, and all that lie at the top, where Harbor and we look for traces."""
        with contextlib.suppress(OSError, ValueError):
            parts = trees.inside("", name).parts
            known = name in self._written or len(parts) == 1 and len(self._written) < 2 * MAX_FILES
            if known or len(self._written) < MAX_FILES:
                self._written[name] = len(data)
                if sum(self._written.values()) <= MAX_WRITTEN:
                    write_beneath(self.logs_dir, parts, data)

    async def _answer(self, head, data, environment):
        try:
            done, data = await asked_for.carry_out(head, data, environment, JOB["scratch"])
            answer = {"answer": head["ask"], "done": done}
        except Exception as error:
            number = len(self._raised)
            if number < MAX_KEPT:
                self._raised[number] = error
            answer, data = {"answer": head["ask"], "failed": said(error, number)}, b""
        with contextlib.suppress(frames.Broken, AttributeError):
            try:
                await self._line.send(answer, data)
            except ValueError as error:
                await self._line.send({"answer": head["ask"], "failed": said(error, None)})

    def _end(self):
        """Ends the agent's process."""
        if self._line is not None:
            self._line.close()
            os.close(self._lifeline)
            self._line = self._lifeline = None

    def __del__(self):
        with contextlib.suppress(Exception):
            self._end()


def said(error, number):
    """An exception of this process as the agent's is told of it."""
    return {"kind": type(error).__name__, "message": frames.plain(error)[:20_000], "number": number}


def note(told, context):
    """Takes over what the agent used and noted: what cannot be written down as Harbor does it, or counted, not at all."""
    noted = AgentContext.model_validate(told)
    for name in type(noted).model_fields:
        value = getattr(noted, name)
        if isinstance(value, (int, float)) and not 0 <= value < 1 << 63:
            continue
        with contextlib.suppress(Exception):
            if len(noted.model_dump_json(include={name}, indent=4).encode()) <= MAX_NOTED:
                setattr(context, name, value)


def write_beneath(directory, parts, data):
    """Writes a file below a directory in which a sandbox may have made links."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=held)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held)
            os.close(held)
            held = inner
        unfinished = f".{parts[-1][:200]}.unfinished"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=held)
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=held)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
        os.replace(unfinished, parts[-1], src_dir_fd=held, dst_dir_fd=held)
    finally:
        os.close(held)
