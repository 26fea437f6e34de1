"""The agent as Harbor sees it: `terminal_bench.fenced_agent:FencedAgent`, which has a process behind the fence do what Harbor
asks, and does for it what an agent may do with a sandbox, and nothing else. None of the agent's code runs here.

The job is the file that AUTOHARNESS_AGENT_JOB names:
{"agent": "agent.agent:HarnessAgent", "agent_file": path, "staging": directory, "scratch": directory, "fence": words of a fence,
 "required": bool, "env": names of variables, "save_trace": bool, "in_steps": bool}
"""

import asyncio
import atexit
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from harbor.agents.base import BaseAgent
from harbor.agents.capabilities import AgentCapabilities
from harbor.agents.installed import base as harbor_errors
from harbor.models.agent.context import AgentContext

from terminal_bench import frames

with open(os.environ["AUTOHARNESS_AGENT_JOB"], encoding="utf-8") as _file:
    JOB = json.load(_file)

# The agent's last word after it was cut off, and how long its import may take.
LAST_WORD_SEC, LOADING_SEC = 10.0, 300.0
MAX_ASKED, MAX_KEPT, MAX_FILES = 64, 256, 1000
MAX_LOGGED, MAX_WRITTEN = 4 << 20, 4 << 30
# What an exception of the agent's may not be called here: Harbor, or who reads its results, would take it for another's.
NOT_ITS_OWN = {"CancelledError", "KeyboardInterrupt", "SystemExit", "GeneratorExit"}


class Nursery:
    """The process that forks agents, and this end of its socket."""

    def __init__(self):
        self.requests, theirs = socket.socketpair()
        here = os.path.dirname(os.path.abspath(__file__))
        environment = {name: os.environ[name] for name in JOB["env"] if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-s", os.path.join(here, "nursery.py"), json.dumps(JOB)],
            stdin=theirs, stdout=subprocess.DEVNULL, env=environment,
        )
        theirs.close()
        atexit.register(self.end)

    def child(self):
        """A new process for an agent: the connection to it, and the descriptor that it lives by."""
        here, there = socket.socketpair()
        kept, lifeline = os.pipe()
        try:
            socket.send_fds(self.requests, [b"."], [there.fileno(), kept])
        except OSError as error:
            raise RuntimeError(f"the process that starts agents is gone: {error}") from None
        finally:
            there.close()
            os.close(kept)
        return here, lifeline

    def end(self):
        self.requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()


NURSERY = Nursery()


def described():
    """What the agent's class says of itself, asked of a process that ends then."""
    connection, lifeline = NURSERY.child()
    connection.settimeout(LOADING_SEC)
    try:
        while True:
            head, _ = frames.ask(connection, {"call": "describe"})
            if "failed" in head:
                raise ImportError(f"the agent cannot be imported: {told(head['failed'])}")
            if "done" in head:
                return head["done"]
    except frames.Broken as error:
        raise ImportError(f"the agent ended the process that imported it, or took too long ({error})") from None
    finally:
        connection.close()
        os.close(lifeline)


def told(failure):
    """An exception of the agent's process in a line."""
    return f"{word(failure.get('kind'))}: {str(failure.get('message'))[:2000]}"


def word(name):
    """A name that can be the name of a class."""
    name = re.sub(r"\W", "_", str(name))[:80]
    return name if name.isidentifier() else "AgentError"


DESCRIPTION = described()


class FencedAgent(BaseAgent):
    """One trial's agent."""

    capabilities = AgentCapabilities.model_validate(DESCRIPTION["capabilities"])

    def __init__(self, logs_dir, *args, **kwargs):
        super().__init__(logs_dir, *args, **kwargs)
        self._made_with = {
            "model_name": self.model_name,
            "mcp_servers": [server.model_dump(mode="json") for server in self.mcp_servers],
            "skills_dir": self.skills_dir,
            "extra_env": dict(kwargs.get("extra_env") or {}),
        }
        self._connection = self._lifeline = self._line = None
        self._raised, self._logged, self._written = {}, 0, {}

    @staticmethod
    def name():
        return str(DESCRIPTION["name"])[:100]

    def version(self):
        return None

    async def setup(self, environment):
        await self._call("setup", environment)

    async def run(self, instruction, environment, context):
        await self._work("run", instruction, environment, context)

    async def resume(self, instruction, environment, context):
        await self._work("resume", instruction, environment, context)

    def populate_context_post_run(self, context):
        if not DESCRIPTION["reads_logs"] or self._connection is None:
            return
        question = {"call": "populate_context_post_run", "context": context.model_dump(mode="json"), **self._about()}
        self._connection.settimeout(LAST_WORD_SEC)
        try:
            head, data = frames.ask(self._connection, question, packed_logs(self.logs_dir))
            while "done" not in head and "failed" not in head:
                self._take(head, data, context)
                head, data = frames.receive(self._connection)
        except (frames.Broken, ValueError) as error:
            self.logger.warning("the agent did not read its logs: %s", error)
        finally:
            self._end()

    async def _work(self, method, instruction, environment, context):
        question = {"instruction": instruction, "context": context.model_dump(mode="json")}
        try:
            await self._call(method, environment, context, question)
        finally:
            # Its last words may be wanted once more; between the steps of a task it keeps what it knows.
            if not JOB["in_steps"] and not DESCRIPTION["reads_logs"]:
                self._end()

    def _about(self):
        return {"made_with": self._made_with, "session_id": self.session_id}

    async def _call(self, method, environment, context=None, question=()):
        """Has the agent's process do something, and does what it asks for meanwhile."""
        if self._line is None:
            self._connection, self._lifeline = NURSERY.child()
            self._line = frames.Line(self._connection)
        else:
            self._connection.setblocking(False)
        question = {"call": method, "sandbox": shown(environment), **self._about(), **dict(question)}
        listening = asyncio.create_task(self._listen(question, environment, context))
        try:
            await asyncio.shield(listening)
        except asyncio.CancelledError:
            # What it says now is its trace and what it has used.
            with contextlib.suppress(Exception):
                await self._line.send({"cancel": True})
                await asyncio.wait({listening}, timeout=LAST_WORD_SEC)
            raise
        finally:
            if not listening.done():
                listening.cancel()
                self._end()
            elif not listening.cancelled():
                listening.exception()

    async def _listen(self, question, environment, context):
        asked = set()
        try:
            await self._line.send(question)
            while True:
                head, data = await self._line.receive()
                if "done" in head:
                    return
                if "failed" in head:
                    raise self._failure(head["failed"])
                if "ask" not in head:
                    self._take(head, data, context)
                elif len(asked) < MAX_ASKED:
                    task = asyncio.create_task(self._answer(head, data, environment))
                    asked.add(task)
                    task.add_done_callback(asked.discard)
                else:
                    raise frames.Broken(f"more than {MAX_ASKED} questions at a time")
        except frames.Broken as error:
            self._end()
            raise RuntimeError(f"the agent's process ended before its time ({error})") from None
        finally:
            for task in asked:
                task.cancel()

    def _failure(self, failure):
        """The agent's exception as one of this process."""
        original = self._raised.get(failure.get("number"))
        if original is not None:
            return original
        kind, message = word(failure.get("kind")), str(failure.get("message"))
        if kind in NOT_ITS_OWN:
            kind, message = "AgentError", told(failure)
        error = None
        theirs = getattr(harbor_errors, kind, None)
        if failure.get("module") == harbor_errors.__name__ and isinstance(theirs, type) and issubclass(theirs, Exception):
            with contextlib.suppress(TypeError):
                error = theirs(message)
        error = error or type(kind, (Exception,), {})(message)
        # Where in the agent it was. No frame of it may pass for one of a sandbox's.
        error.add_note(re.sub(r"(, in )exec$", r"\1agent_exec", str(failure.get("trace")), flags=re.MULTILINE))
        return error

    def _take(self, head, data, context):
        """Takes in what the agent noted, wrote or logged."""
        if "context" in head and context is not None and head["context"] is not None:
            with contextlib.suppress(Exception):
                noted = AgentContext.model_validate(head["context"])
                for name in type(noted).model_fields:
                    setattr(context, name, getattr(noted, name))
        elif "file" in head and JOB["save_trace"]:
            self._keep(str(head["file"]), data)
        elif "log" in head and JOB["save_trace"] and self._logged < MAX_LOGGED:
            text = str(head["log"])
            self._logged += len(text)
            level = head.get("level")
            self.logger.log(level if level in (10, 20, 30, 40, 50) else 20, "%s", text)

    def _keep(self, name, data):
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or parts[0] == "/" or len(self._written) >= MAX_FILES and name not in self._written:
            return
        self._written[name] = self._written.get(name, 0) + len(data)
        if sum(self._written.values()) <= MAX_WRITTEN:
            with contextlib.suppress(OSError):
                write_beneath(self.logs_dir, parts, data)

    async def _answer(self, head, data, environment):
        try:
            done, data = await carry_out(head, data, environment)
            answer = {"answer": head["ask"], "done": done}
        except Exception as error:
            number = len(self._raised)
            if number < MAX_KEPT:
                self._raised[number] = error
            failure = {"kind": type(error).__name__, "message": str(error)[:20_000], "number": number}
            answer, data = {"answer": head["ask"], "failed": failure}, b""
        with contextlib.suppress(frames.Broken):
            await self._line.send(answer, data)

    def _end(self):
        """Ends the agent's process."""
        if self._connection is not None:
            self._connection.close()
            os.close(self._lifeline)
            self._connection = self._lifeline = self._line = None

    def __del__(self):
        with contextlib.suppress(Exception):
            self._end()


async def carry_out(head, data, environment):
    """Does one of the things that an agent may do with its sandbox."""
    what = head.get("do")
    if what == "exec":
        result = await environment.exec(
            command=text(head["command"]), cwd=text(head.get("cwd"), True), env=variables(head.get("env")),
            timeout_sec=seconds(head.get("timeout_sec")), user=user(head.get("user")),
        )
        return {"return_code": result.return_code, "stdout": result.stdout, "stderr": result.stderr}, b""
    with tempfile.TemporaryDirectory(dir=JOB["scratch"]) as directory:
        here = Path(directory, "here")
        if what == "upload_file":
            here.write_bytes(data)
            await environment.upload_file(here, text(head["target"]))
            return None, b""
        if what == "upload_dir":
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                archive.extractall(here, filter="data")
            await environment.upload_dir(here, text(head["target"]))
            return None, b""
        if what == "download_file":
            await environment.download_file(text(head["source"]), here)
            return None, regular(here)
        if what == "download_dir":
            here.mkdir()
            await environment.download_dir(text(head["source"]), here)
            return None, packed(here)
    raise ValueError(f"an agent behind the fence cannot ask for {str(what)[:80]!r}")


def text(value, optional=False):
    if isinstance(value, str) or optional and value is None:
        return value
    raise TypeError(f"text was expected, not {type(value).__name__}")


def variables(value):
    if value is None or isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    raise TypeError("variables are names and texts")


def seconds(value):
    if value is None or isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise TypeError("a time limit is a number")


def user(value):
    if value is None or isinstance(value, (str, int)) and not isinstance(value, bool):
        return value
    raise TypeError("a user is a name or a number")


def regular(path):
    """The bytes of a file; of a link, whose text the sandbox chose, none."""
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError("the sandbox gave no regular file")
    return path.read_bytes()


def packed(directory):
    """A directory as an archive: links as links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(directory, arcname=".")
    return stream.getvalue()


def packed_logs(directory):
    """What the sandbox left among the agent's logs, as far as it can be handed over."""
    try:
        return packed(directory)
    except OSError:
        return b""


def shown(environment):
    """What an agent gets to know of its sandbox beside what it can do with it."""
    config = getattr(environment, "task_env_config", None)
    capabilities = getattr(environment, "capabilities", None)
    return {
        "session_id": getattr(environment, "session_id", None),
        "environment_name": getattr(environment, "environment_name", None),
        "default_user": getattr(environment, "default_user", None),
        "capabilities": capabilities.model_dump(mode="json") if hasattr(capabilities, "model_dump") else None,
        "task_env_config": without_secrets(config.model_dump(mode="json")) if hasattr(config, "model_dump") else None,
    }


def without_secrets(config):
    """The task's settings without its variables: they may come from the human's."""
    return {**config, "env": {}} if "env" in config else config


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
