"""Hands out trials: for each one a fresh agent process and an idle or new runner process, a deadline for both, one event
when it ends."""

import gc
import json
import os
import selectors
import socket
import time

from tau_bench import agent_side, classify, fence, processes, runner, tasks, warm
from tau_bench.processes import Become
from tau_bench.protocol import emit, log

# Beyond what the runner process allows itself, for starting up and for saying its last word.
HARD_MARGIN_S = 15.0
MAX_KEPT = 64 << 20
PROXIES = [name for plain in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") for name in (plain, plain.lower())]


class Runner:
    """A runner process and what it says. `trial` is the one it is busy with."""

    def __init__(self, process, control, pipe, shown):
        self.process, self.control, self.pipe, self.shown = process, control, pipe, shown
        self.trial = None
        self.buffer = b""

    def lines(self, chunk):
        """The whole lines that a chunk completes, as values."""
        self.buffer += chunk
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            try:
                yield json.loads(line), len(line)
            except ValueError:
                continue


class Running:
    """A trial in flight."""

    def __init__(self, index, number, agent, way, runner, limit):
        self.index, self.number, self.agent, self.way, self.runner = index, number, agent, way, runner
        self.begun = time.monotonic()
        self.killed_at = self.begun + limit
        self.size = 0
        self.phase, self.forced, self.result = classify.BUILDING, False, None
        self.messages, self.printed = [], []

    def take(self, item, size):
        """Takes in one thing that the runner process says."""
        self.size += size
        if "phase" in item:
            self.phase = item["phase"]
        elif "result" in item:
            self.result = item["result"]
        elif self.size > MAX_KEPT:
            pass  # A conversation without end; its beginning says enough.
        elif "message" in item:
            self.messages.append(item["message"])
        elif "printed" in item:
            self.printed.append(item["printed"])


class Pool:
    """One run: a queue of trials, and those in flight."""

    def __init__(self, upstream, request, vault, known, chosen):
        self.upstream, self.request, self.vault, self.known = upstream, request, vault, known
        self.settings = tasks.settings(upstream, request)
        self.tools = tasks.tool_schemas(upstream, request)
        self.seeds = tasks.seeds(request)
        # Trial by trial, as tau2 does: a run that is cut short has seen every task as often as possible.
        self.queue = [(index, number) for number in range(request["trials"]) for index in chosen]
        self.queue.reverse()
        self.limit = request["timeout_s"] + runner.grading_time(request["timeout_s"]) + HARD_MARGIN_S
        # None: agents' processes are kept from nothing.
        self.places = fence.readable(os.path.dirname(request["agent_path"])) if request["fenced"] else None
        # The network is for keys of the agent's own; where hosts are named, by a way of each agent's own.
        self.network = bool(request["agent_env"])
        self.has_way = self.network and request["fenced"] and "--host" in request["fence"]
        self.filters = fence.filters(request["fence"], self.network)
        self.running = set()
        self.runners = {}  # By the pipe they speak on.
        self.selector = selectors.DefaultSelector()
        self.parent = os.getppid()

    def run(self):
        """Runs every trial; returns the exit status."""
        vault, upstream = self.vault, self.upstream
        vault.take_environment()  # What importing tau2 may have added.
        self.request["tasks"] = None
        processes.adopt_orphans()
        warm.open_connections(upstream)
        warm.warm_up(upstream, self.tools, self.request["agent_model"])
        self.warn()
        gc.collect()
        gc.freeze()  # Children then share these objects instead of copying them at their first collection.
        while self.queue or self.running:
            if os.getppid() != self.parent:
                processes.end_all()  # The program that asked is gone.
                return 1
            while self.queue and len(self.running) < self.request["concurrency"]:
                self.start(*self.queue.pop())
            for key, _ in self.selector.select(timeout=1.0):
                self.read(key.fd)
            self.enforce()
        processes.end_all()
        return 0

    def warn(self):
        """Prints what a user should know about this run."""
        from tau2.utils.utils import DATA_DIR

        if not self.filters and self.request["fence"]:
            log("autoharness's seccomp filters cannot be had: agents can leave something behind for each other")
        if self.places is None:
            log("without a fence: the agent's process can read tau2's data, answers included")
        elif not fence.version():
            log("this machine has no Landlock: the agent's process can read tau2's data, answers included")
        elif place := fence.uncovers(self.places, DATA_DIR):
            log(f"the agent's process can read tau2's data, answers included: it lies inside {place}")
        if self.request["domain"] == "banking_knowledge" and self.request["retrieval_config"] is None:
            log("banking_knowledge without retrieval_config uses tau2's default, which may need more keys and programs")

    def start(self, index, number):
        """Forks the trial's agent process and finds it a runner process."""
        name, request = self.known.name_and_split(index), self.request
        shown = request["keep_traces"] and name["split"] != "test"
        here, there = socket.socketpair()
        way = None
        if self.has_way:
            way = fence.Way(request["fence"], self.vault.environment(PROXIES))
            processes.alive.add(way.process.pid)
        agent = processes.fork()
        if not agent:
            processes.keep_only([there.fileno(), *([way.socket.fileno()] if way else [])])
            raise Become(
                agent_side.main,
                (self.upstream, request["agent_path"], self.tools, self.settings, there, self.vault,
                 request["agent_env"], request["effort"], self.places, way or self.network, self.filters),
            )
        there.close()
        job = runner.job(self.known.places[index], self.seeds[number])
        while True:
            chosen = self.runner(shown)
            try:
                socket.send_fds(chosen.control, [job], [here.fileno()])
                break
            except OSError:
                self.end(chosen)  # It died while it was idle.
        here.close()
        chosen.trial = Running(index, number, agent, way, chosen, self.limit)
        self.running.add(chosen.trial)
        emit("started", task=name["task"], trial=number)

    def runner(self, shown):
        """An idle runner process of the hold-out or of the rest; a new one if there is none."""
        idle = [one for one in self.runners.values() if one.trial is None]
        for one in idle:
            if one.shown == shown:
                return one
        for one in idle:
            self.end(one)  # Of the other kind; it would only take up memory.
        control, theirs = socket.socketpair()
        reader, writer = os.pipe()
        process = processes.fork()
        if not process:
            processes.keep_only([theirs.fileno(), writer])
            raise Become(
                runner.main, (self.upstream, self.request, self.settings, self.vault, theirs, writer, shown)
            )
        theirs.close()
        os.close(writer)
        self.runners[reader] = Runner(process, control, reader, shown)
        self.selector.register(reader, selectors.EVENT_READ)
        return self.runners[reader]

    def end(self, one):
        """Ends a runner process."""
        self.selector.unregister(one.pipe)
        del self.runners[one.pipe]
        os.close(one.pipe)
        one.control.close()
        processes.kill(one.process)
        processes.reap(one.process)

    def read(self, pipe):
        """Takes in what a runner process says. A trial ends with its result or with the process."""
        one = self.runners.get(pipe)
        if one is None:
            return  # Ended meanwhile.
        chunk = os.read(pipe, 1 << 20)
        trial, again = one.trial, False
        for item, size in one.lines(chunk):
            if trial is not None:
                trial.take(item, size)
                again = item.get("again", False)
        if chunk and (trial is None or trial.result is None):
            return
        one.trial = None
        if not again or not self.queue:
            self.end(one)
        if trial is not None:
            self.running.discard(trial)
            processes.kill(trial.agent)
            processes.reap(trial.agent)
            if trial.way:
                processes.alive.discard(trial.way.process.pid)
                trial.way.end()
            processes.end_strays()
            self.report(trial)

    def enforce(self):
        """Ends trials whose runner process does not end them itself."""
        now = time.monotonic()
        for trial in self.running:
            if now > trial.killed_at and not trial.forced:
                trial.forced = True
                processes.kill(trial.agent)
                processes.kill(trial.runner.process)

    def report(self, trial):
        """Writes the trial's event."""
        name = self.known.name_and_split(trial.index)
        shown = self.request["keep_traces"] and name["split"] != "test"
        result = trial.result
        if result is None:
            outcome = classify.died(trial.phase, trial.forced)
            result = {
                "outcome": outcome,
                "reward": None if outcome == "infra_error" else 0.0,
                "seconds": round(time.monotonic() - trial.begun, 3),
                "error": f"its runner process {'had to be ended' if trial.forced else 'died'} while at {trial.phase}",
            }
            if shown:
                result["detail"] = {"phase": trial.phase}
        if shown:
            result["trace"] = {"messages": trial.messages}
            if trial.printed:
                result["trace"]["agent_output"] = "".join(trial.printed)
        emit("trial", task=name["task"], trial=trial.number, **result)

