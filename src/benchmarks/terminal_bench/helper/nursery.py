"""Forks agents: imports what takes seconds, Harbor's classes and the packages that the agent names, and none of the agent's own
code. Each request on the socket that is stdin brings a child's connection and the end of a pipe; when that is closed, the child
ends, with whatever it started."""

import ast
import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from terminal_bench import agent_side, fence, processes  # noqa: E402

HARBORS = ("harbor.agents.base", "harbor.agents.installed.base", "harbor.environments.base", "harbor.models.agent.context")


def warm_up(agent_file, staging):
    """Imports Harbor's classes, and packages that the agent names: from where packages are installed, and nowhere else."""
    for name in HARBORS:
        importlib.import_module(name)
    for name in named(agent_file):
        top = os.path.join(staging, name.partition(".")[0])
        if os.path.exists(top) or os.path.exists(f"{top}.py"):
            continue  # A module of the experiment's own of that name.
        # The agent's own process will hear what is wrong with it.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)


def named(agent_file):
    """The modules that a Python file imports at its top level."""
    try:
        with open(agent_file, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            yield statement.module


class Nursery:
    """The children, and who wants them."""

    def __init__(self, job, requests):
        self.job, self.requests = job, requests
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ, self.answer)
        self.places = fence.readable(job["staging"])
        self.filters = fence.filters(job["fence"], True)
        self.room = tempfile.mkdtemp(prefix="agents-", dir=job["scratch"])
        self.children = {}  # By the pipe that they live by.

    def serve(self):
        """Runs until the caller is gone."""
        while self.requests is not None:
            for key, _ in self.selector.select():
                key.data()
        processes.end_all()
        remove(self.room)

    def answer(self):
        """Forks a child, or hears that nobody will ask again."""
        said, descriptors, _, _ = socket.recv_fds(self.requests, 16, 2)
        if not said:
            self.requests = None
            return
        done = len(descriptors) == 2
        try:
            done = done and self.fork(*descriptors)
        except OSError as error:
            done = False
            print(f"autoharness: no process for an agent: {error}", file=sys.stderr, flush=True)
        for descriptor in descriptors[: 1 if done else 2]:
            os.close(descriptor)

    def fork(self, connection, lifeline):
        """Forks a child with this connection, for as long as the other end of the pipe is open. Returns True."""
        for descriptor in (connection, lifeline):
            os.set_inheritable(descriptor, False)
        private = tempfile.mkdtemp(dir=self.room)
        way = None
        if "--host" in self.job["fence"]:
            way = fence.Way(self.job["fence"], {})
            processes.alive.add(way.process.pid)
        child = processes.fork()
        if not child:
            processes.keep_only([connection, *([way.socket.fileno()] if way else [])])
            fenced = (self.places, way or True, self.filters, private)
            raise processes.Become(agent_side.main, (socket.socket(fileno=connection), self.job, fenced))
        self.children[lifeline] = child, private, way
        self.selector.register(lifeline, selectors.EVENT_READ, lambda: self.end(lifeline))
        if hasattr(os, "pidfd_open"):
            ended = os.pidfd_open(child)
            self.selector.register(ended, selectors.EVENT_READ, lambda: self.bury(child, ended))
        return True

    def bury(self, child, ended):
        """Ends what a child left when it ended by itself: it may hold the connection, on which Harbor's side waits."""
        self.selector.unregister(ended)
        os.close(ended)
        if child in processes.alive:
            processes.kill(child)
            processes.reap(child)
            processes.end_strays()

    def end(self, lifeline):
        """Ends a child that nobody waits for anymore, and what is left of it."""
        self.selector.unregister(lifeline)
        os.close(lifeline)
        child, private, way = self.children.pop(lifeline)
        if child in processes.alive:
            processes.kill(child)
            processes.reap(child)
        if way:
            processes.alive.discard(way.process.pid)
            way.end()
        processes.end_strays()
        remove(private)


def remove(directory):
    """Removes a directory in which an agent did as it liked."""

    def open_up(function, path, _error):
        with contextlib.suppress(Exception):
            os.chmod(os.path.dirname(path), 0o700)
            if function in (os.unlink, os.rmdir):
                function(path)
            elif not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)

    with contextlib.suppress(Exception):
        shutil.rmtree(directory, onerror=open_up)


def main():
    # It ends only when the caller is gone: ending earlier would lose the agents' trials.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    job = json.loads(sys.argv[1])
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    warm_up(job["agent_file"], job["staging"])
    processes.adopt_orphans()
    nursery = Nursery(job, requests)
    gc.collect()
    gc.freeze()  # Children then share these objects instead of copying them at their first collection.
    nursery.serve()


if __name__ == "__main__":
    try:
        main()
    except processes.Become as become:
        work, arguments = become.work, become.arguments
    else:
        sys.exit(0)
    work(*arguments)
