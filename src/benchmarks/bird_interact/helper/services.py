"""The processes of the benchmark: what they may see, how they start and how they end."""

import asyncio
import contextlib
import os
import shutil
import signal

import local_http
from sockets import StartError

HERE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = os.path.join(HERE, "launch.py")
GUARD = os.path.join(HERE, "guard.py")
# Enough of the benchmark's code for its services and its orchestrator. A local model provider that somebody dropped
# beside it (shared/_local_provider.py) is left behind: it would silently take the place of the configured models.
CODE = ("shared", "user_simulator", "db_environment", "orchestrator")
AGENT_CODE = ("shared", "system_agent")
NOT_COPIED = ("__pycache__", "*.pyc", "_local_provider.py", "test_harness.py", ".env*")
TAIL = 2000


def tail(log):
    """The end of a log, in one line: the reason is usually the last thing said."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - TAIL))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-6:] if line.strip())
    return ""


class Child:
    """A process in a session of its own, writing to a log of its own."""

    def __init__(self, name, process, log):
        self.name, self.process, self.log = name, process, log

    @classmethod
    async def start(cls, name, python, arguments, cwd, environment, log, keep=(), **streams):
        """Starts it; `keep` are the file descriptors that it inherits."""
        arguments = [python, "-s", "-B", LAUNCHER, str(os.getpid()), *arguments]
        with open(log, "ab") as output:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                cwd=cwd,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=tuple(keep),
                **{"stdin": asyncio.subprocess.DEVNULL, **streams},
            )
        return cls(name, process, log)

    @property
    def alive(self):
        return self.process.returncode is None

    def kill(self):
        """Ends the whole group at once. A service asked politely would first wait for the calls it is making."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def end(self):
        self.kill()
        await self.process.wait()
        self.kill()  # What it started while it was dying.

    async def wait(self):
        await self.process.wait()

    def status(self):
        code = self.process.returncode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def tail(self):
        return tail(self.log)


class Upstream:
    """One of the benchmark's own two services."""

    def __init__(self, kind, module):
        self.kind, self.module, self.child, self.port = kind, module, None, None

    async def start(self, python, cwd, environment, log, sock, key, warm):
        """Starts it behind its guard, which learns the key of the seals through stdin."""
        self.port = sock.getsockname()[1]
        warm = ["--warm", "litellm"] if warm else []
        arguments = [*warm, "--file", GUARD, str(sock.fileno()), self.kind, self.module]
        keep, stdin = (sock.fileno(),), asyncio.subprocess.PIPE
        self.child = await Child.start(self.kind, python, arguments, cwd, environment, log, keep, stdin=stdin)
        self.child.process.stdin.write(key.encode() + b"\n")

    async def healthy(self, limit, seal):
        """Waits until the service answers; at once an error when it has ended instead."""
        answer = asyncio.ensure_future(local_http.request(self.port, "GET", "/health", limit=limit, seal=seal))
        ended = asyncio.ensure_future(self.child.process.wait())
        try:
            await asyncio.wait({answer, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise StartError(f"the {self.kind} service ended with {self.child.status()}: {self.child.tail()}")
            status, body, _ = await answer
        except OSError as error:
            raise StartError(f"the {self.kind} service did not come up: {error}; {self.child.tail()}") from None
        finally:
            for task in (answer, ended):
                task.cancel()
            await asyncio.gather(answer, ended, return_exceptions=True)
        if status != 200:
            raise StartError(
                f"the {self.kind} service answered {status} to /health: {body[:400].decode('utf-8', 'replace')}"
            )


def copy_code(source, target, packages):
    os.makedirs(target, mode=0o700)
    # The services look for .env in the directories above them, and must not find the experiment's.
    with open(os.path.join(target, ".env"), "w", encoding="utf-8"):
        pass
    for package in packages:
        if os.path.isdir(os.path.join(source, package)):
            shutil.copytree(
                os.path.join(source, package), os.path.join(target, package), ignore=shutil.ignore_patterns(*NOT_COPIED)
            )


def make_view(adk_dir, data_name, folders, bench):
    """A private copy of the benchmark's code with its data, made before any agent runs."""
    missing = [name for name in CODE if not os.path.isdir(os.path.join(adk_dir, name))]
    if missing:
        raise StartError(f"{adk_dir} is no BIRD-Interact-ADK: there is no {missing[0]}/ in it")
    copy_code(adk_dir, bench, CODE)
    data = os.path.join(bench, data_name)
    os.mkdir(data)
    for name, folder in folders.items():
        if folder is not None:
            os.symlink(folder, os.path.join(data, name))
