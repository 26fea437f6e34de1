"""The agent's process: behind the fence it imports the agent file, and does for Harbor's side what that asks of the agent.
Nothing here is trusted by anybody.

Its sandbox, its logger and its context are stand-ins: commands and files go over the connection, and so does what the agent noted.
"""

import asyncio
import builtins
import contextlib
import contextvars
import importlib
import io
import logging
import os
import resource
import sys
import tarfile
import traceback
from pathlib import Path, PurePosixPath

from terminal_bench import fence, frames, processes

MEMORY, LARGEST_FILE = 16 << 30, 1 << 30
# Between two looks at what the agent noted and wrote.
NOTES_SEC = 1.0
MAX_FILES, MAX_FILE = 1000, 64 << 20
MAX_TEXT = 20_000
# Among the agent's logs, what it printed.
PRINTED = "agent-output.txt"


def main(connection, job, fenced):
    """Runs in a freshly forked process until the connection is closed."""
    places, network, filters, private = fenced
    logs = Path(private, "logs")
    logs.mkdir()
    printed = os.open(logs / PRINTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(printed, descriptor)
    os.close(printed)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="replace")
    os.chdir(private)
    os.environ.update(HOME=private, TMPDIR=private)
    processes.go_first()
    for kind, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_FSIZE, LARGEST_FILE)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    done = fence.put_up(places, network, filters, private)
    if job["required"] and not done:
        frames.ask(connection, {"failed": plain_error(RuntimeError("the fence around the agent cannot be built"))})
        os._exit(1)
    sys.path.insert(0, job["staging"])
    sys.argv = [job["agent_file"]]
    asyncio.run(Side(frames.Line(connection), job, logs).serve())
    os._exit(0)  # Not through what the agent may have registered for the end.


class Side:
    """One agent, and whoever asks something of it."""

    def __init__(self, line, job, logs):
        self.line, self.job, self.logs = line, job, logs
        self.agent = self.loading = self.context = self.task = None
        self.waiting, self.number = {}, 0
        self.sent_context, self.sent_files = None, {}

    async def serve(self):
        """Hears questions and answers until nobody asks."""
        try:
            while True:
                head, data = await self.line.receive()
                if "answer" in head:
                    waiting = self.waiting.pop(head["answer"], None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result((head, data))
                elif "cancel" in head:
                    if self.task is not None:
                        self.task.cancel()
                else:
                    self.task = asyncio.create_task(self.carry_out(head, data))
        except frames.Broken:
            os._exit(0)

    async def carry_out(self, head, data):
        """Answers one question."""
        try:
            said = {"done": await getattr(self, "do_" + head["call"])(head, data)}
        except BaseException as error:
            said = {"failed": plain_error(error)}
        await self.tell_news()
        await self.line.send(said)

    async def do_describe(self, _head, _data):
        """What Harbor asks an agent's class before it makes one."""
        return description(self.load())

    async def do_setup(self, head, data):
        await self.with_agent(head, data, lambda sandbox: self.agent.setup(sandbox))

    async def do_run(self, head, data):
        await self.work(head, data, "run")

    async def do_resume(self, head, data):
        await self.work(head, data, "resume")

    async def do_populate_context_post_run(self, head, data):
        unpack(data, self.logs)
        self.made(head)
        self.context = read_context(head)
        self.agent.populate_context_post_run(self.context)

    async def work(self, head, data, method):
        self.context, self.sent_context = read_context(head), None
        notes = asyncio.create_task(self.keep_telling())
        try:
            await self.with_agent(
                head, data, lambda sandbox: getattr(self.agent, method)(head["instruction"], sandbox, self.context)
            )
        finally:
            notes.cancel()

    async def with_agent(self, head, _data, method):
        self.made(head)
        await method(sandbox_class()(self, head["sandbox"], self.logger))

    def load(self):
        """The agent's class."""
        if self.loading is None:
            module, name = self.job["agent"].split(":")
            self.loading = getattr(importlib.import_module(module), name)
        return self.loading

    def made(self, head):
        """Makes the agent, the first time."""
        if self.agent is not None:
            return
        self.logger = logging.getLogger("agent")
        self.logger.propagate = False
        self.logger.setLevel(logging.DEBUG)
        self.logger.addHandler(Forwarder(self, asyncio.get_running_loop()))
        given = dict(head["made_with"])
        if given.get("mcp_servers"):
            from harbor.models.task.config import MCPServerConfig

            given["mcp_servers"] = [MCPServerConfig.model_validate(server) for server in given["mcp_servers"]]
        if given.get("environment_logs_dir"):
            given["environment_logs_dir"] = PurePosixPath(given["environment_logs_dir"])
        self.agent = self.load()(logs_dir=self.logs, logger=self.logger, **given)
        self.agent.session_id = head.get("session_id")

    # What the agent wants of Harbor's side.

    async def ask(self, what, data=b""):
        """Has Harbor's side do something; returns what came of it, or raises what was raised there."""
        await self.tell_news(files=False)
        self.number += 1
        waiting = self.waiting[self.number] = asyncio.get_running_loop().create_future()
        await self.line.send({"ask": self.number, **what}, data)
        head, data = await waiting
        if "failed" in head:
            raise sandbox_error(head["failed"])
        return head.get("done"), data

    async def keep_telling(self):
        while True:
            await asyncio.sleep(NOTES_SEC)
            await self.tell_news()

    async def tell_news(self, files=True):
        """Sends the context and the files of the agent's logs, where they changed."""
        with contextlib.suppress(Exception):
            noted = self.context.model_dump(mode="json") if self.context is not None else None
            if noted != self.sent_context:
                await self.line.send({"context": noted})
                self.sent_context = noted
        if files and self.job["save_trace"]:
            for path in sorted(self.logs.rglob("*"))[:MAX_FILES]:
                with contextlib.suppress(OSError, ValueError):
                    await self.tell_file(path)

    async def tell_file(self, path):
        if path.is_symlink() or not path.is_file():
            return
        state = path.stat()
        version = state.st_size, state.st_mtime_ns, state.st_ino
        if self.sent_files.get(path) == version or state.st_size > MAX_FILE or state.st_size == 0:
            return
        await self.line.send({"file": str(path.relative_to(self.logs))}, path.read_bytes())
        self.sent_files[path] = version


class Forwarder(logging.Handler):
    """Hands the agent's log over."""

    def __init__(self, side, loop):
        super().__init__()
        self.side, self.loop = side, loop

    def emit(self, record):
        with contextlib.suppress(Exception):
            text = self.format(record)[:MAX_TEXT]
            send = self.side.line.send({"log": text, "level": record.levelno})
            self.loop.call_soon_threadsafe(self.loop.create_task, send)


def read_context(head):
    from harbor.models.agent.context import AgentContext

    return AgentContext.model_validate(head["context"])


def description(agent):
    """What Harbor asks an agent's class before it makes one: its name, and what it says it can do."""
    from harbor.agents.base import BaseAgent

    if not (isinstance(agent, type) and issubclass(agent, BaseAgent)):
        raise TypeError(f"{agent!r} is no class derived from harbor.agents.base:BaseAgent")
    return {
        "name": str(agent.name()),
        "capabilities": agent.capabilities.model_dump(mode="json"),
        "reads_logs": agent.populate_context_post_run is not BaseAgent.populate_context_post_run,
    }


def plain_error(error):
    """An exception as it can be handed over. Of the sandbox's own, only its number: Harbor's side has it."""
    kind = type(error)
    try:
        message = str(error)
    except BaseException:
        message = "(its message cannot be shown)"
    try:
        trace = "".join(traceback.format_exception(error))
    except BaseException:
        trace = ""
    number = getattr(error, "number", None) if isinstance(error, SandboxError) else None
    return {
        "kind": kind.__name__, "module": kind.__module__, "message": message[:MAX_TEXT], "trace": trace[-MAX_TEXT:],
        "number": number,
    }


class SandboxError(Exception):
    """Something that was raised in Harbor's process while it did what the agent asked for."""


def sandbox_error(told):
    """An exception like the one there: of its name, and caught by what catches Python's own of that name."""
    own = getattr(builtins, told["kind"], None)
    bases = [SandboxError]
    if isinstance(own, type) and issubclass(own, Exception) and own is not Exception:
        bases.append(own)
    try:
        error = type(told["kind"], tuple(bases), {})(told["message"])
    except TypeError:
        error = type(told["kind"], (SandboxError,), {})(told["message"])
    error.number = told["number"]
    return error


def sandbox_class():
    """The stand-in for Harbor's environment: a class of Harbor's, so that an agent can do with it what it does with others."""
    from harbor.environments.base import BaseEnvironment, ExecResult

    class Sandbox(BaseEnvironment):
        """Commands and files of the sandbox, by way of Harbor's process."""

        def __init__(self, side, told, logger):
            self._side, self.logger = side, logger
            self.session_id, self.environment_name = told["session_id"], told["environment_name"]
            self.default_user = told["default_user"]
            # What Harbor's classes merge into a command's variables; the sandbox's own it adds itself.
            self._persistent_env = {}
            self._exec_env_overlays = contextvars.ContextVar("exec_env_overlays", default=())
            self._capabilities = told["capabilities"]
            self.task_env_config = task_config(told["task_env_config"])

        def __getattr__(self, name):
            raise AttributeError(
                f"the sandbox of an agent behind the fence has no `{name}`; it runs commands, and takes and gives files"
            )

        @staticmethod
        def type():
            return "fenced"

        @property
        def capabilities(self):
            from harbor.environments.capabilities import EnvironmentCapabilities

            return EnvironmentCapabilities.model_validate(self._capabilities or {})

        def _validate_definition(self):
            pass

        async def start(self, force_build):
            raise PermissionError("Harbor starts the sandbox")

        async def stop(self, delete):
            raise PermissionError("Harbor stops the sandbox")

        async def exec(self, command, cwd=None, env=None, timeout_sec=None, user=None, **more):
            if any(value is not None for value in more.values()):
                raise TypeError(f"exec() behind the fence takes no {', '.join(more)}")
            question = {
                "do": "exec", "command": command, "cwd": None if cwd is None else str(cwd), "env": self._merge_env(env),
                "timeout_sec": timeout_sec, "user": self.default_user if user is None else user,
            }
            done, _ = await self._side.ask(question)
            return ExecResult(**done)

        async def upload_file(self, source_path, target_path):
            data = Path(source_path).read_bytes()
            await self._side.ask({"do": "upload_file", "target": str(target_path)}, data)

        async def upload_dir(self, source_dir, target_dir):
            await self._side.ask({"do": "upload_dir", "target": str(target_dir)}, pack(source_dir))

        async def download_file(self, source_path, target_path):
            _, data = await self._side.ask({"do": "download_file", "source": str(source_path)})
            Path(target_path).parent.mkdir(parents=True, exist_ok=True)
            Path(target_path).write_bytes(data)

        async def download_dir(self, source_dir, target_dir):
            _, data = await self._side.ask({"do": "download_dir", "source": str(source_dir)})
            unpack(data, target_dir)

    return Sandbox


def task_config(told):
    from harbor.models.task.config import EnvironmentConfig

    return EnvironmentConfig.model_validate(told) if told is not None else None


def pack(directory):
    """A directory's files as an archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(directory, arcname=".")
    return stream.getvalue()


def unpack(data, directory):
    """The files of an archive, none of them outside of the directory."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    if data:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(directory, filter="data")
