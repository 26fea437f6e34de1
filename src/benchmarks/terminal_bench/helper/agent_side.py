"""The agent's process: behind the fence it imports the agent file, and does for Harbor's side what that asks of the agent.
Nothing here is trusted by anybody.

Its sandbox, its logger and its context are stand-ins: commands and files go over the connection, and so does what the agent noted.
"""

import asyncio
import builtins
import contextlib
import contextvars
import importlib
import logging
import os
import resource
import sys
import traceback
from pathlib import Path, PurePosixPath
from uuid import UUID

from terminal_bench import fence, frames, processes, trees

MEMORY, LARGEST_FILE = 16 << 30, 1 << 30
# Between two looks at what the agent noted and wrote.
NOTES_SEC = 1.0
MAX_FILES, MAX_FILE = 1000, 64 << 20
MAX_TEXT = 20_000
# What is asked for at a time; others wait.
MAX_ASKED = 48
# Among the agent's logs, what it printed.
PRINTED = "agent-output.txt"


def main(connection, job, fenced):
    """Runs in a freshly forked process until the connection is closed."""
    places, network, filters, private = fenced
    # As Harbor lays out a trial's directory.
    logs = Path(private, "agent")
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
        failure = plain_error(RuntimeError("the fence around the agent cannot be built"))
        frames.ask(connection, {"failed": failure}, frames.FOREVER)
        os._exit(1)
    sys.path.insert(0, job["staging"])
    sys.argv = [job["agent_file"]]
    for name in ("chmod", "fchmod", "utime", "setxattr"):
        setattr(os, name, unless_refused(getattr(os, name)))
    asyncio.run(serve(connection, job, logs))
    os._exit(0)  # Not through what the agent may have registered for the end.


async def serve(connection, job, logs):
    await Side(frames.Line(connection), job, logs).serve()


def unless_refused(function):
    """A function of `os` that puts a mark on files, which the fence refuses: copying them goes on without it."""

    def marked(*arguments, **more):
        with contextlib.suppress(PermissionError):
            function(*arguments, **more)

    return marked


class Side:
    """One agent, and the requests to it."""

    def __init__(self, line, job, logs):
        self.line, self.job, self.logs = line, job, logs
        self.agent = self.context = self.task = None
        self.waiting, self.number, self.room = {}, 0, asyncio.Semaphore(MAX_ASKED)
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
                    self.task = asyncio.create_task(self.carry_out(head))
        except frames.Broken:
            os._exit(0)

    async def carry_out(self, head):
        """Answers one question."""
        try:
            said = {"done": await getattr(self, "do_" + head["call"])(head)}
        except BaseException as error:
            said = {"failed": plain_error(error)}
        await self.tell_news()
        await self.line.send(said)

    async def do_describe(self, _head):
        """What Harbor asks an agent's class before it makes one."""
        return description(self.load())

    async def do_setup(self, head):
        await self.with_agent(head, lambda sandbox: self.agent.setup(sandbox))

    async def do_run(self, head):
        await self.work(head, "run")

    async def do_resume(self, head):
        await self.work(head, "resume")

    async def work(self, head, method):
        self.context, self.sent_context = read_context(head), None
        notes = asyncio.create_task(self.keep_telling())

        async def at_work(sandbox):
            try:
                await getattr(self.agent, method)(head["instruction"], sandbox, self.context)
            finally:
                await self.read_logs(sandbox)

        try:
            await self.with_agent(head, at_work)
        finally:
            notes.cancel()

    async def read_logs(self, sandbox):
        """What Harbor does after a run that noted nothing: has the agent read its logs, those in the sandbox too."""
        from harbor.agents.base import BaseAgent

        kind = type(self.agent)
        if not self.context.is_empty() or kind.populate_context_post_run is BaseAgent.populate_context_post_run:
            return
        with contextlib.suppress(Exception):
            await sandbox.download_dir(str(getattr(self.agent, "environment_logs_dir", "/logs/agent")), self.logs)
        self.agent.populate_context_post_run(self.context)

    async def with_agent(self, head, method):
        self.made(head)
        await method(sandbox_class()(self, head["sandbox"], self.logger))

    def load(self):
        """The agent's class."""
        module, name = self.job["agent"].split(":")
        return getattr(importlib.import_module(module), name)

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
        self.agent.session_id = head["session_id"]
        self.agent.context_id = head["context_id"] and UUID(head["context_id"])

    # What the agent wants of Harbor's side.

    async def ask(self, what, data=b""):
        """Has Harbor's side do something; returns what came of it, or raises what was raised there."""
        if asyncio.get_running_loop() is not self.line.loop:
            there = asyncio.run_coroutine_threadsafe(self.ask(what, data), self.line.loop)
            return await asyncio.wrap_future(there)
        async with self.room:
            await self.tell_news(files=False)
            self.number += 1
            number = self.number
            waiting = self.waiting[number] = asyncio.get_running_loop().create_future()
            await self.line.send({"ask": number, **what}, data)
            try:
                head, data = await waiting
            except asyncio.CancelledError:
                self.waiting.pop(number, None)
                await self.line.send({"drop": number})
                raise
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
                self.sent_context = noted
                try:
                    await self.line.send({"context": noted})
                except ValueError:  # Too long: the numbers alone, which say what was used, are short.
                    plain = {name: value for name, value in noted.items() if isinstance(value, (int, float))}
                    await self.line.send({"context": plain})
        if files and self.job["save_trace"]:
            paths = sorted(self.logs.rglob("*"), key=lambda path: (len(path.parts), path))
            for path in paths[:MAX_FILES]:
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
            send = self.side.line.send({"log": frames.plain(text), "level": record.levelno})
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
    from harbor.models.trial.paths import TrialPaths

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
            # The agent's logs are not those that a sandbox may have mounted.
            self.is_mounted = False
            self.trial_paths = TrialPaths(side.logs.parent)
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
            done, data = await self._side.ask(question)
            length = done["stdout"]
            streams = [None if length is None else data[:length], None if done["stderr"] is None else data[length or 0 :]]
            stdout, stderr = [stream if stream is None else stream.decode("utf-8", "replace") for stream in streams]
            return ExecResult(stdout=stdout, stderr=stderr, return_code=done["return_code"])

        async def upload_file(self, source_path, target_path):
            source = Path(source_path)
            about = {"name": source.name, "mode": source.stat().st_mode & 0o777, "target": str(target_path)}
            await self._side.ask({"do": "upload_file", **about}, source.read_bytes())

        async def upload_dir(self, source_dir, target_dir):
            entries, data = trees.pack(source_dir, frames.MAX_BYTES, follow=True)
            await self._side.ask({"do": "upload_dir", "target": str(target_dir), "entries": entries}, data)

        async def download_file(self, source_path, target_path):
            _, data = await self._side.ask({"do": "download_file", "source": str(source_path)})
            Path(target_path).parent.mkdir(parents=True, exist_ok=True)
            Path(target_path).write_bytes(data)

        async def download_dir(self, source_dir, target_dir):
            entries, data = await self._side.ask({"do": "download_dir", "source": str(source_dir)})
            trees.unpack(entries, data, target_dir)

    return Sandbox


def task_config(told):
    from harbor.models.task.config import EnvironmentConfig

    return EnvironmentConfig.model_validate(told) if told is not None else None
