"""One run: every trial has an orchestrator process, an input file and an alias of its own. The benchmark's services are a
host's (host.py), which many runs share; a run that was not told of one has its own."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import tempfile
import time

import dataset
import environment
import http1
import report
import verdict
from guard import REFUSED_PATH
from host import SERVICE_START_S, Host
from link import AgentError, Link
from postgres import PostgresError, Server, Session
from processes import become_subreaper, end_strays
from proxy import Proxy, Record
from services import AGENT_CODE, Child, copy_code
from sockets import POSTGRES_UNUSABLE, StartError, listen

AGENT_LOAD_S = 120.0
# The orchestrator's own limits for the agent's turns, with room for copying databases; used where no limit is configured.
DEFAULT_LIMIT_S = {"a-interact": 1800.0 + 600, "c-interact": 4 * 600.0 + 600, "oracle": 900.0}
TRIALS_PER_AGENT_SERVICE = 4
CLEANUP_LIMIT_S = 30.0
REFUSALS_LIMIT_S = 10.0
# How long the database service may be busy with requests of a run that is over.
SETTLE_S = 30.0


class Broken(Exception):
    """The run cannot go on; trials that were not reported have no evidence."""


class Run:
    """A run of trials. Use as an asynchronous context manager: leaving it removes whatever it started or created."""

    def __init__(self, request, options, tasks, say):
        self.request, self.options, self.tasks, self.say = request, options, tasks, say
        self.mode, self.keep = options["mode"], bool(request.get("keep_traces"))
        self.id = secrets.token_hex(4)
        self.counter = 0
        parent = os.environ.get("AUTOHARNESS_SCRATCH") or None
        self.scratch = tempfile.mkdtemp(prefix="bird-", dir=parent)
        pg = options["pg"]
        self.password = os.environ.get(pg["password_env"], "")
        self.server = Server(pg["host"], pg["port"], pg["user"], self.password, environment.without_secrets(os.environ))
        self.session = Session(self.server, self.id)
        self.host = self.link = None
        self.proxy = Proxy(self, self._note)
        self.ports, self.guards = {}, []
        self.agents, self.solo = [], None
        self.solo_lock = asyncio.Lock()
        self.agent_lock = asyncio.Lock()
        self.agent_failure = None
        self.children = set()
        self.swept = False

    # ------------------------------------------------------------------------------------------- what the proxy asks

    def port(self, kind, record):
        return record.shard.port if kind == "agent" else self.link.services[kind]

    @property
    def seal(self):
        return self.link.seal

    def _note(self, message, record):
        if self.keep:
            self.say(event="log", level="warning", message=message)

    # --------------------------------------------------------------------------------------------------------- start

    async def __aenter__(self):
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def _start(self):
        become_subreaper()
        # Other users of this machine must not read gold SQL, logs or the agent's answers.
        os.umask(0o077)
        self.logs = os.path.join(self.scratch, "logs")
        for name in (self.logs, os.path.join(self.scratch, "in"), os.path.join(self.scratch, "out")):
            os.mkdir(name)
        options = self.options
        if not options["host"]:
            self.host = Host(options, self.request.get("agent") or {}, self.tasks)
            await self.host.start()
        self.link = Link(options["host"] or self.host.described())
        await self.link.open()
        # A directory of its own for every run: what an agent leaves there must not reach the next run.
        self.agent_view = os.path.join(self.scratch, "agent")
        copy_code(options["adk_dir"], self.agent_view, AGENT_CODE)
        await self._postgres()
        doors = {}
        for side, kind in (
            ("orchestrator", "agent"),
            ("orchestrator", "user"),
            ("orchestrator", "db"),
            ("agent", "user"),
            ("agent", "db"),
        ):
            doors[side, kind], guard = listen()
            self.ports[side, kind] = doors[side, kind].getsockname()[1]
            self.guards.append(guard)
        await self.proxy.open(doors)
        await self.link.up()
        if self.mode != "oracle":
            count = options["agent_services"] or -(-self.request["concurrency"] // TRIALS_PER_AGENT_SERVICE)
            self.agents = await asyncio.gather(*(self._spawn_agent(number) for number in range(count)))
        await asyncio.gather(*(agent.prepared(SERVICE_START_S) for agent in self.agents))
        try:
            await asyncio.gather(*(agent.load(AGENT_LOAD_S) for agent in self.agents))
        except AgentError as error:
            self.agent_failure = str(error)

    async def _postgres(self):
        """Logs in, marks our copies as in use, and removes what killed runs have left."""
        try:
            await self.session.open()
            leaked = await asyncio.to_thread(self.server.leaked)
            failed = await asyncio.to_thread(self.server.drop, leaked)
        except PostgresError as error:
            pg = self.options["pg"]
            raise StartError(
                f"PostgreSQL at {pg['host']}:{pg['port']} is not usable as {pg['user']}: {error}", POSTGRES_UNUSABLE
            ) from None
        if leaked:
            count = len(leaked) - len(failed)
            self.say(event="log", level="info", message=f"removed {count} database copies that an earlier run had left")
        for name, reason in failed.items():
            self.say(event="log", level="warning", message=f"the database copy {name} cannot be removed: {reason}")

    async def _spawn_agent(self, number):
        """A fresh process for agents. Never one of another run, even of the same agent: it may have seen tasks of the
        hold-out, and could carry them into a trace."""
        port = (self.options["ports"].get("agent") or 0) if number == 0 else 0
        ports = (self.ports["agent", "user"], self.ports["agent", "db"])
        about = self.request.get("agent") or {}
        agent = await self.link.agent(
            number,
            port,
            {
                "cwd": self.agent_view,
                "environment": environment.for_agent(self.options, about, *ports),
                "log": os.path.join(self.logs, f"agent-{number}.log"),
                "mode": self.mode,
                "agent_file": os.path.abspath(about["path"]),
            },
        )
        self.children.add(agent)
        return agent

    async def _agent_service(self, solo):
        """A working agent service with the least to do; a broken one is replaced. A solo trial has one to itself."""
        async with self.agent_lock:
            if solo:
                if self.solo is None or self.solo.broken or not self.solo.alive:
                    self.solo = await self._fresh("solo", self.solo)
                return self.solo
            for index, agent in enumerate(self.agents):
                if (agent.broken or not agent.alive) and not agent.running:
                    self.agents[index] = await self._fresh(agent.name, agent)
            usable = [agent for agent in self.agents if not agent.broken and agent.alive]
            return min(usable, key=lambda agent: len(agent.running), default=None)

    async def _fresh(self, name, old):
        if old is not None:
            await self._end(old)
        agent = await self._spawn_agent(name)
        try:
            await agent.prepared(SERVICE_START_S)
            await agent.load(AGENT_LOAD_S)
        except AgentError as error:
            raise Broken(f"the agent file was loaded before and cannot be loaded now: {error}") from None
        return agent

    # -------------------------------------------------------------------------------------------------------- trials

    async def trial(self, task_id, solo=False):
        """Runs one trial; returns the fields of its event, and whether the cause of its failure is final."""
        start = time.monotonic()
        task = self.tasks[task_id]
        self.counter += 1
        alias = f"ah{self.id}t{self.counter}"
        record = Record(alias, self.mode, dataset.budget(task, self.options["patience"]), dataset.has_follow_up(task))
        paths = {name: os.path.join(self.scratch, name, alias) for name in ("in", "out", "logs")}
        if self.mode != "oracle":
            record.shard = await self._agent_service(solo)
            while record.shard is None:  # All are broken, and waiting for their last trials to end.
                await asyncio.sleep(0.2)
                record.shard = await self._agent_service(solo)
            record.shard.running.add(alias)
        try:
            ended = await self._orchestrate(task, record, paths)
            result = None if ended != "done" else report.read_result(paths["out"])
            if ended == "done" and isinstance(result, str):
                ended, result = f"broken: {result}", None
            if ended.startswith("agent-died") and not solo and len(record.shard.victims) > 1:
                return None  # Whose fault it was shows when they run one at a time.
            await self._corroborate(record)
            bypassed = await self._bypassed(record)
            judged = verdict.judge(record, result, ended, bypassed)
            await self._tidy(record)
            fields = report.event(task_id, record, result, judged, time.monotonic() - start, self.keep)
            remark = report.odd_books(task_id, record, result, judged) if self.keep else None
            if remark:
                self.say(event="log", level="warning", message=remark)
            return fields, judged.fatal
        finally:
            record.closed = True
            if record.shard is not None:
                record.shard.running.discard(alias)
            for path in paths.values():
                with contextlib.suppress(OSError):
                    os.unlink(path)

    async def _orchestrate(self, task, record, paths):
        """Runs the orchestrator on one task; says how that ended."""
        with open(paths["in"], "w", encoding="utf-8") as file:
            json.dump({**task, "instance_id": record.alias}, file)
            file.write("\n")

        def loaded():
            with contextlib.suppress(OSError):
                os.unlink(paths["in"])  # It holds the gold SQL, and the agent is about to start.

        record.on_loaded = loaded
        self.proxy.add(record)
        child = await Child.start(
            "orchestrator",
            self.options["python"],
            [
                "orchestrator.runner",
                "--mode",
                self.mode,
                "--data",
                paths["in"],
                "--output",
                paths["out"],
                "--concurrency",
                "1",
            ],
            self.link.view,
            environment.for_orchestrator(
                self.options, *(self.ports["orchestrator", kind] for kind in ("agent", "user", "db"))
            ),
            paths["logs"],
        )
        self.children.add(child)
        shard = record.shard
        watched = [child.wait(), self.link.ended(), *([shard.wait()] if shard is not None else [])]
        watched = [asyncio.ensure_future(wait) for wait in watched]
        limit = self.request.get("timeout_s") or DEFAULT_LIMIT_S[self.mode]
        try:
            first, _ = await asyncio.wait(watched, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for future in watched:
                future.cancel()
            await self._end(child)
        if not first:
            return "timeout"
        if shard is not None and record.sessions and record.sessions[-1][2] is None:
            # The answer broke off: the process is dying, and the orchestrator may have heard of it before us.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(shard.wait(), 5)
        if self.link.reason:
            record.infrastructure.append(self.link.reason)
        if shard is not None and shard.lost:
            record.infrastructure.append("the agent service was lost with the process that keeps it")
        if shard is not None and not shard.alive:
            shard.victims = shard.victims or set(shard.running)
            return f"agent-died: {shard.status()}"
        if child.process.returncode != 0:
            return f"broken: {child.status()}: {child.tail() if self.keep else 'see its log'}"
        return "done"

    async def _corroborate(self, record):
        """A lost connection counts as infrastructure only if the server was gone: SQL can end connections."""
        if record.suspicions and not record.infrastructure and await self.session.server_lost():
            record.infrastructure.append(f"PostgreSQL was lost: {record.suspicions[0][:300]}")

    async def _bypassed(self, record):
        """Whether somebody who is not the proxy has asked a service for something in this trial's name."""
        about = {"task_id": record.alias}
        for kind, port in self.link.services.items():
            if self.link.reason is None:
                try:
                    _, body, _ = await http1.request(port, "POST", REFUSED_PATH, about, REFUSALS_LIMIT_S, self.seal)
                except OSError as error:
                    record.infrastructure.append(f"the {kind} service is out of reach: {error}")
                else:
                    record.bypasses.extend(json.loads(body)["refused"])
        return bool(record.bypasses)

    async def _tidy(self, record):
        """After a trial: its session ended, its copies gone."""
        record.closed = True
        shard = record.shard
        if shard is not None and shard.alive:
            try:
                await http1.request(shard.port, "POST", "/end_session", {"task_id": record.alias}, limit=10)
            except OSError:
                shard.broken = True
            # A turn that was cut off may sit in a tool that cannot be interrupted; such threads must not pile up.
            shard.broken = shard.broken or record.agent_busy
        if not record.cleaned and "db" in record.initialised and self.link.reason is None:
            port, about = self.link.services["db"], {"task_id": record.alias}
            with contextlib.suppress(OSError):
                await http1.request(port, "POST", "/cleanup_task", about, CLEANUP_LIMIT_S, self.seal)
        self.proxy.records.pop(record.alias, None)

    # ----------------------------------------------------------------------------------------------------------- end

    async def problem(self):
        """Why no further trial can succeed, and the exit status that says so; None if they can."""
        if self.link.reason:
            return self.link.reason, 1
        return ("PostgreSQL was lost", POSTGRES_UNUSABLE) if await self.session.server_lost() else None

    async def _end(self, child):
        self.children.discard(child)
        await child.end()

    async def close(self):
        """Ends every process and removes every copy and file. Called on every path, and harmless when called twice."""
        self.proxy.close()
        await asyncio.gather(*(child.end() for child in self.children))
        self.children.clear()
        if self.host is not None:
            await self.host.close()
        if not self.swept and self.session.process is not None:
            self.swept = True
            await self._sweep()
        if self.link is not None:
            await self.link.close()
        await self.session.close()
        end_strays()
        for guard in self.guards:
            if guard is not None:
                guard.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    async def _sweep(self):
        """Removes the copies of this run. A service that stays is perhaps still making one for a trial that was cut off."""
        deadline = time.monotonic() + SETTLE_S
        try:
            while True:
                busy = self.proxy.busy > 0 and self.link is not None and self.link.reason is None and self.host is None
                failed = await asyncio.to_thread(self.server.sweep_run, self.id)
                if not busy or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.2)
        except PostgresError as error:
            failed = {"of this run": str(error)} if self.counter else {}
        for name, reason in failed.items():
            self.say(
                event="log",
                level="warning",
                message=f"database copies are left ({name}): {reason}; the next run removes them",
            )

    async def __aexit__(self, *_):
        await self.close()
