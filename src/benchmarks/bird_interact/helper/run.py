"""One run: every trial has an orchestrator process, an agent's process, an input file and an alias of its own. The benchmark's
services are a host's (host.py), which many runs share; a run that was not told of one has its own."""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import shutil
import tempfile
import time

import calls
import dataset
import environment
import fence
import local_http
import reference
import report
import roles
import verdict
from door import Door
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
# What the orchestrator itself waits for one turn of the agent.
TURN_LIMIT_S = {"a-interact": 1800.0, "c-interact": 600.0, "oracle": 60.0}
CLEANUP_LIMIT_S = 30.0
REFUSALS_LIMIT_S = 60.0
PROBE_LIMIT_S = 120.0
FIRST_CALL_S = 120.0
# How long the database service may be busy with requests of a run that is over.
SETTLE_S = 30.0
UNDONE = ", for later sessions too; that was undone"
PASSWORD_CHANGED = f"changed the password of the database role{UNDONE}"


class Broken(Exception):
    """The run cannot go on; trials that were not reported have no evidence."""


class Run:
    """A run of trials. Use as an asynchronous context manager: leaving it removes whatever it started or created."""

    def __init__(self, request, options, tasks, say):
        self.request, self.options, self.tasks, self.say = request, options, tasks, say
        self.mode, self.keep = options["mode"], bool(request.get("keep_traces"))
        self.id = secrets.token_hex(4)
        self.counter, self.numbers = 0, itertools.count()
        parent = os.environ.get("AUTOHARNESS_SCRATCH") or None
        self.scratch = tempfile.mkdtemp(prefix="bird-", dir=parent)
        pg = options["pg"]
        self.password = os.environ.get(pg["password_env"], "")
        self.databases = dataset.databases(tasks)
        self.server = Server(pg["host"], pg["port"], pg["user"], self.password, environment.without_secrets(os.environ))
        self.role = None  # The server as agents' SQL has it, where that is not `self.server`.
        self.bases = {}  # By database: what copies are made from, under way or made.
        self.looks = set()  # Second looks that are under way.
        self.session = Session(self.server, self.id)
        self.host = self.link = self.agent_view = None
        self.proxy = Proxy(self, self._note)
        self.ports, self.guards = {}, []
        about = request.get("agent") or {}
        keys = calls.keys_of(os.environ, environment.SECRET_ENDINGS)
        model, fenced = calls.Model(about.get("model"), os.environ, keys), options["fence"] is not None
        self.hosts = model.reached_at(options["fence"]["hosts"]) if fenced else None
        self.door = Door(model, self.hosts, lambda message: say(event="log", level="warning", message=message))
        self.spare = None  # An agent's process that is on its way, for the next trial.
        self.first_call = None  # Whether a model can be called at all with what is installed, once somebody has doubts.
        self.agent_failure = None
        self.children, self.settings = set(), []
        self.swept, self.opened = False, False

    # ------------------------------------------------------------------------------------------- what the proxy asks

    def port(self, kind, record):
        return record.shard.port if kind == "agent" else self.link.services[kind]

    @property
    def seal(self):
        return self.link.seal

    async def second_look(self, record, sql):
        """Notes what the agent's SQL did to the comparison of a second phase that was passed. Where that cannot be found out, the
        pass does not count."""
        try:
            database = record.task["selected_database"]
            template = f"{database}_template" if self.role is None else self._base_of(database)
            look = asyncio.to_thread(
                reference.spoiled, self.role or self.server, template, record.task, record.alias, sql
            )
            look = asyncio.ensure_future(look)
            self.looks.add(look)
            look.add_done_callback(self.looks.discard)
            record.spoiled = await asyncio.shield(look) or record.spoiled
        except (PostgresError, ValueError) as error:  # A name may hold whatever separates names.
            record.suspicions.append(f"what passed could not be looked at again: {error}")
            raise local_http.Refused(502, "what passed could not be looked at again") from None

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
        if self.link.role:
            self.role = roles.known(self.server, self.link.role["name"], self.link.role["password"])
        # A directory of its own for every run: what an agent leaves there must not reach the next run.
        self.agent_view = os.path.join(self.link.agents, self.id)
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
        if self.mode == "oracle":
            return
        sock, guard = listen()
        self.guards.append(guard)
        self.ports["model"] = sock.getsockname()[1]
        await self.door.open(sock)
        if self.hosts is not None and fence.version() < fence.WITH_PORTS:
            message = "this machine's Landlock is too old to keep agents to their model: they have the whole network"
            self.say(event="log", level="warning", message=message)
        agent = await self._spawn_agent()
        try:
            await agent.load(AGENT_LOAD_S)
        except AgentError as error:
            self.agent_failure = str(error)
        self.spare = asyncio.get_running_loop().create_future()
        self.spare.set_result(agent)

    async def _postgres(self):
        """Logs in, marks our copies as in use, and removes what killed runs have left."""
        try:
            await self.session.open()
            self.opened = True
            leaked = await asyncio.to_thread(self.server.leaked)
            await asyncio.to_thread(self.server.close_templates, self.databases)
            self.settings = await asyncio.to_thread(self.server.settings)
            failed = await asyncio.to_thread(self.server.drop, leaked)
            await asyncio.to_thread(roles.drop_left, self.server)
        except PostgresError as error:
            raise StartError(self.server.unusable(error), POSTGRES_UNUSABLE) from None
        if leaked:
            count = len(leaked) - len(failed)
            self.say(event="log", level="info", message=f"removed {count} database copies that an earlier run had left")
        for name, reason in failed.items():
            self.say(event="log", level="warning", message=f"the database copy {name} cannot be removed: {reason}")

    async def _spawn_agent(self):
        """A process for one trial. Never one of another trial or run, even of the same agent: it may have seen tasks of the
        hold-out, and could carry them into a trace; and whose call of a model a call is must be beyond doubt."""
        ports = (self.ports["agent", "user"], self.ports["agent", "db"])
        about = self.request.get("agent") or {}
        number, token = next(self.numbers), secrets.token_hex(16)
        # With the doors alone it reaches whom they lead to.
        network = None if self.hosts is None else [*ports, self.ports["model"]]
        agent = await self.link.agent(
            number,
            self.options["ports"].get("agent") or 0,
            {
                "ports": network,
                "cwd": self.agent_view,
                "own": [self.agent_view, os.getcwd()],
                "environment": environment.for_agent(self.options, about, *ports),
                "door": {"port": self.ports["model"], "token": token, "own_ports": ports},
                "mode": self.mode,
                "agent_file": os.path.abspath(about["path"]),
            },
            os.path.join(self.logs, f"agent-{number}.log"),
        )
        agent.token, agent.calls = token, self.door.admit(token)
        self.children.add(agent)
        await agent.prepared(SERVICE_START_S)
        return agent

    async def _agent(self):
        """A process that has loaded the agent and nothing else yet; raises AgentError when it cannot. The next one is begun
        meanwhile, because it takes long where processes cannot be forked."""
        spare, self.spare = self.spare, None
        agent = await (spare if spare is not None else self._spawn_agent())
        if self.spare is None:
            self.spare = asyncio.ensure_future(self._spawn_agent())
        if not agent.loaded:
            await agent.load(AGENT_LOAD_S)
        return agent

    # -------------------------------------------------------------------------------------------------------- trials

    async def trial(self, task_id):
        """Runs one trial; returns the fields of its event, and whether the cause of its failure is final."""
        start = time.monotonic()
        task = self.tasks[task_id]
        self.counter += 1
        alias = f"ah{self.id}t{self.counter}"
        budget = dataset.budget(task, self.options["patience"])
        record = Record(alias, self.mode, budget, dataset.has_follow_up(task), dataset.questions(task))
        record.task = task
        paths = {name: os.path.join(self.scratch, name, alias) for name in ("in", "out", "logs")}
        try:
            try:
                await self._base(task["selected_database"])
            except PostgresError as error:
                judged = verdict.infra(f"no copies of {task['selected_database']}_template can be made: {error}")
                return report.event(task_id, record, None, judged, time.monotonic() - start, self.keep), False
            if self.mode != "oracle":
                try:
                    record.shard = await self._agent()
                except AgentError as error:
                    # It was loaded before. An agent that sometimes ends its process has not lost a trial by that.
                    judged = verdict.agent_error(f"the agent file cannot be loaded: {error}")
                    return report.event(task_id, record, None, judged, time.monotonic() - start, self.keep), False
            ended = await self._orchestrate(task, record, paths)
            result = None if ended != "done" else report.read_result(paths["out"])
            if ended == "done" and isinstance(result, str):
                ended, result = f"broken: {result}", None
            trouble = self._trouble(record, result, ended)
            await self._unspoil(record)
            await self._corroborate(record, task)
            await self._bypassed(record)
            judged = verdict.judge(record, result, ended, trouble)
            await self._tidy(record)
            fields = report.event(task_id, record, result, judged, time.monotonic() - start, self.keep)
            remark = report.odd_books(task_id, record, result, judged) if self.keep else None
            if remark:
                self.say(event="log", level="warning", message=remark)
            return fields, judged.fatal
        finally:
            record.closed = True
            if record.shard is not None:
                self.door.dismiss(record.shard.token)
                await self._end(record.shard)
            for path in paths.values():
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _base_of(self, database):
        return f"{database}__ah{self.id}t0"

    async def _base(self, database):
        """Makes sure that there is something for the copies of a database to be made from. Raises PostgresError."""
        if self.role is None:
            return
        made = self.bases.get(database)
        if made is None or (made.done() and made.exception()):
            work = asyncio.to_thread(
                roles.make_base, self.server, self.role, f"{database}_template", self._base_of(database)
            )
            made = self.bases[database] = asyncio.ensure_future(work)
        await asyncio.shield(made)

    def _trouble(self, record, result, ended):
        """What the provider of the agent's model is to blame for, as the door saw it."""
        if record.shard is None:
            return None
        ran_out = ended == "timeout" or verdict.gave_up(record, result)
        limit = self.request.get("timeout_s") or TURN_LIMIT_S[self.mode]
        return record.shard.calls.trouble(time.monotonic(), limit, ran_out)

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
            return f"agent-died: {shard.status()}"
        if child.process.returncode != 0:
            return f"broken: {child.status()}: {child.tail() if self.keep else 'see its log'}"
        return "done"

    async def _unspoil(self, record):
        """Undoes what the agent's SQL has left for sessions of the role that come after it. Trials of other agents do not run
        meanwhile, so it is this one's doing."""
        if self.mode == "oracle":
            return
        try:
            opened = await asyncio.to_thread(self.server.close_templates, self.databases)
            changed = await asyncio.to_thread(self.server.restore_settings, self.settings)
            if self.role and self.link.reason is None:
                renewed = await asyncio.to_thread(roles.renew_password, self.server, self.role)
                record.spoiled = PASSWORD_CHANGED if renewed else record.spoiled
        except PostgresError as error:
            if "authentication failed" not in str(error) or not await self.session.restore_password():
                return  # A server that is lost is looked into where that counts.
            record.spoiled = PASSWORD_CHANGED
            with contextlib.suppress(PostgresError):
                await asyncio.to_thread(self.server.restore_settings, self.settings)
            return
        if opened:
            record.spoiled = f"opened {', '.join(opened)} to connections{UNDONE}"
        elif changed:
            record.spoiled = f"changed settings of a database role{UNDONE}"

    async def _corroborate(self, record, task):
        """What an agent could have brought about counts as infrastructure only where something fails without it as well."""
        if not record.suspicions or record.infrastructure:
            await self._doubt_installation(record)
            return
        sign = record.suspicions[0][:300]
        if await self.session.server_lost():
            record.infrastructure.append(f"PostgreSQL was lost: {sign}")
            return
        for kind, port in self.link.services.items():
            try:
                await local_http.request(port, "GET", "/health", limit=REFUSALS_LIMIT_S, seal=self.seal)
            except OSError as error:
                record.infrastructure.append(f"the {kind} service is out of reach: {error}; {sign}")
                return
        # Its own copy an agent can spoil, but not another one of the same template.
        template, name = task["selected_database"], f"{task['selected_database']}__{record.alias}00000"
        try:
            await asyncio.to_thread(self.server.try_copy, f"{template}_template", name, PROBE_LIMIT_S)
        except PostgresError as error:
            record.infrastructure.append(f"no copy of {template}_template can be made: {error}")
            return
        await self._doubt_installation(record)

    async def _doubt_installation(self, record):
        """Where an agent's process says that a package is missing: whether one is, is tried without the agent."""
        said = any(
            isinstance(answer, dict) and isinstance(answer.get("detail"), dict) and answer["detail"].get("kind") == "environment"
            for _, _, answer in record.sessions
        )
        if not said or record.infrastructure:
            return
        if self.first_call is None:
            self.first_call = asyncio.ensure_future(self._first_call())
        record.broken_installation = await asyncio.shield(self.first_call)

    async def _first_call(self):
        """Why no model can be called with what is installed; None when one can."""
        log = os.path.join(self.logs, "first-call.log")
        child = await Child.start(
            "first-call",
            self.options["python"],
            ["first_call"],
            os.path.dirname(os.path.abspath(__file__)),
            environment.base(self.options, secret=False),
            log,
        )
        self.children.add(child)
        try:
            await asyncio.wait_for(child.wait(), FIRST_CALL_S)
        except asyncio.TimeoutError:
            return None
        finally:
            await self._end(child)
        return None if child.process.returncode == 0 else child.tail()[-400:] or "it ended without a word"

    async def _bypassed(self, record):
        """Finds out whether somebody who is not the proxy has asked a service for something in this trial's name."""
        about = {"task_id": record.alias}
        for kind, port in self.link.services.items():
            if self.link.reason is None:
                try:
                    _, body, _ = await local_http.request(port, "POST", REFUSED_PATH, about, REFUSALS_LIMIT_S, self.seal)
                except OSError as error:
                    record.infrastructure.append(f"the {kind} service is out of reach: {error}")
                else:
                    record.bypasses.extend(json.loads(body)["refused"])

    async def _tidy(self, record):
        """After a trial: its process ended, its copies gone."""
        record.closed = True
        if record.shard is not None:
            await self._end(record.shard)  # Before its copy goes: it could still be asking.
        if not record.cleaned and "db" in record.initialised and self.link.reason is None:
            port, about = self.link.services["db"], {"task_id": record.alias}
            with contextlib.suppress(OSError):
                await local_http.request(port, "POST", "/cleanup_task", about, CLEANUP_LIMIT_S, self.seal)
        self.proxy.records.pop(record.alias, None)

    # ----------------------------------------------------------------------------------------------------------- end

    async def problem(self):
        """Why no further trial can succeed, and the exit status that says so; None if they can."""
        if self.link.reason:
            return self.link.reason, 1
        return ("PostgreSQL was lost", POSTGRES_UNUSABLE) if await self.session.server_lost() else None

    async def _end(self, child):
        if child in self.children:
            self.children.discard(child)
            await child.end()

    async def close(self):
        """Ends every process and removes every copy and file. Called on every path, and harmless when called twice."""
        self.proxy.close()
        for task in (self.spare, self.first_call):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in self.children))
        self.children.clear()
        await self.door.close()
        # Threads cannot be cancelled, and what they make must be seen when copies are removed.
        if self.looks or self.bases:
            await asyncio.wait({*self.looks, *self.bases.values()}, timeout=SETTLE_S)
        if self.host is not None:
            await self.host.close()
        if not self.swept and self.session.process is not None:
            self.swept = True
            await self._sweep()
        if self.link is not None:
            await self.link.close()
        await self.session.close()
        await self._open_templates()
        end_strays()
        for guard in self.guards:
            if guard is not None:
                guard.close()
        if self.agent_view is not None:
            shutil.rmtree(self.agent_view, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    async def _open_templates(self):
        """The templates are the user's again, unless another run is on. Where the server is lost, the next run sees to it."""
        if self.opened:
            self.opened = False
            with contextlib.suppress(PostgresError):
                await asyncio.to_thread(self.server.open_templates)

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
