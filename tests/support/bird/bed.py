"""What the checks stand on: a PostgreSQL, a scripted model, a data set, and runs of the real helper program."""

import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
HELPER = os.path.join(ROOT, "agent", "helpers", "bird_interact")
TEMPLATE = os.path.join(ROOT, "agent", "templates", "bird_interact.py")
sys.path.insert(0, HERE)

import database  # noqa: E402
import tasks  # noqa: E402

LIMIT_S = 400
Result = collections.namedtuple("Result", "status trials events stdout stderr")


def wait_for(condition, what, limit=60):
    """Waits for an event of another process; the limit is there for the case that it never comes."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)


class Started:
    """A run under way; its output is collected as it comes."""

    def __init__(self, process, marker):
        self.process, self.marker, self.lines, self.errors = process, marker, [], []
        self.readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((process.stdout, self.lines), (process.stderr, self.errors))
        ]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line)

    def events(self):
        return [json.loads(line) for line in list(self.lines)]

    def finish(self):
        status = self.process.wait(LIMIT_S)
        for reader in self.readers:
            reader.join(10)
        events = self.events()
        trials = {event["task"]: event for event in events if event["event"] == "trial"}
        return Result(status, trials, events, "".join(self.lines), "".join(self.errors))

    def survivors(self):
        """Processes that carry this run's mark in their environment."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with contextlib.suppress(OSError):
                    with open(f"/proc/{name}/environ", "rb") as file:
                        if self.marker.encode() not in file.read():
                            continue
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        command = file.read().replace(b"\0", b" ").decode()
                    if command:  # A zombie has none.
                        found.append(f"{name} {command}")
        return found


class Bed:
    """Lives as long as the checks; use as a context manager."""

    def __init__(self, python, adk):
        self.python, self.adk = python, adk or os.path.join(HERE, "adk")
        self.directory = tempfile.mkdtemp(prefix="check-bird-")
        self.count = 0

    def __enter__(self):
        try:
            os.chmod(self.directory, 0o711)
            self.database = database.Database(self.directory)
            self.database.create()
            self.data = tasks.write(os.path.join(self.directory, "data"))
            self.scripts = os.path.join(self.directory, "scripts.json")
            self.script({})
            port = os.path.join(self.directory, "port")
            self.stub = subprocess.Popen([sys.executable, "-B", os.path.join(HERE, "stub.py"), self.scripts, port])
            wait_for(lambda: os.path.exists(port), "the scripted model starts")
            with open(port, encoding="utf-8") as file:
                self.model_port = int(file.read())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if hasattr(self, "stub"):
            self.stub.kill()
            self.stub.wait()
        if hasattr(self, "database"):
            self.database.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def script(self, scripts):
        with open(self.scripts + ".tmp", "w", encoding="utf-8") as file:
            json.dump(scripts, file)
        os.replace(self.scripts + ".tmp", self.scripts)

    def path(self, name):
        return os.path.join(self.directory, name)

    def agent(self, source=None, extra=""):
        """An agent file: the template, with something added."""
        self.count += 1
        folder = self.path(f"exp{self.count}/agent")
        os.makedirs(folder)
        if source is None:
            with open(TEMPLATE, encoding="utf-8") as file:
                source = file.read()
        path = os.path.join(folder, "agent.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(source + "\n\n" + extra)
        return path

    def start(
        self,
        names=None,
        mode="a-interact",
        agent=None,
        concurrency=2,
        timeout_s=120,
        keep=True,
        action="run",
        program="bench.py",
        trials=1,
        options=None,
        password=database.PASSWORD,
        model="openai/scripted",
        effort=None,
        before=(),
        **variables,
    ):
        self.count += 1
        scratch = self.path(f"scratch{self.count}")
        os.makedirs(scratch)
        self.scratch = scratch
        request = {
            "protocol": 1,
            "action": action,
            "tasks": names,
            "split": "train" if keep else "test",
            "trials": trials,
            "concurrency": concurrency,
            "seed": 1,
            "timeout_s": timeout_s,
            "keep_traces": keep,
            "agent": {
                "path": agent or self.agent(),
                "model": model,
                "user_model": "openai/scripted-user",
                "reasoning_effort": effort,
            },
            "options": {
                "mode": mode,
                "dataset": "lite",
                "patience": 3,
                "adk_dir": self.adk,
                "data_path": self.data,
                "python": self.python,
                "pg": {
                    "host": "127.0.0.1",
                    "port": self.database.port,
                    "user": database.USER,
                    "password_env": "PG_PASSWORD",
                },
                **(options or {}),
            },
        }
        marker = f"CHECK_BIRD_MARK={os.getpid()}x{self.count}x"
        environment = {
            **os.environ,
            "PG_PASSWORD": password,
            "OPENAI_API_KEY": "scripted",
            "AUTOHARNESS_SCRATCH": scratch,
            "OPENAI_API_BASE": f"http://127.0.0.1:{self.model_port}/v1",
            "CHECK_BIRD_MARK": marker.split("=")[1],
            **variables,
        }
        process = subprocess.Popen(
            [*before, self.python, "-B", os.path.join(HELPER, program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.close()
        return Started(process, marker)

    def run(self, names=None, script=None, clean=True, **fields):
        """Runs to the end; what a run must never leave behind is checked every time."""
        if script is not None:
            self.script(script)
        started = self.start(names, **fields)
        result = started.finish()
        if clean:
            self.check_clean(started)
        return result

    def check_clean(self, started, limit=10):
        wait_for(lambda: not started.survivors(), f"processes end: {started.survivors()}", limit)
        assert not os.listdir(self.scratch), f"left in the scratch directory: {os.listdir(self.scratch)}"
        assert not self.database.copies(), f"database copies are left: {self.database.copies()}"
        assert not self.database.roles(), f"roles are left: {self.database.roles()}"

    def kill(self, started):
        """Kills the program itself and nothing else, as an impatient person would."""
        started.process.send_signal(signal.SIGKILL)
        started.process.wait()


@contextlib.contextmanager
def listener(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((address, 0))
        sock.listen()
        yield sock.getsockname()[1]
