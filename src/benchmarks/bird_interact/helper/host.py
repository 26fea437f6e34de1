"""The host: keeps the user simulator, the database service and a nursery for agents running, for any number of runs.

Runs find it through its description (`described`): the port of its door and the key of the seals. At the door a caller shows
a seal and gets the counterpart back; then it is told how the services are (`{"state": "healthy"}`, later perhaps
`{"state": "ended", "reason"}`), or is handed on to the nursery, which forks an agent's process for it. When one of its
processes ends, the host can no longer be used: it says so to everybody and ends.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile

import calls
import dataset
import environment
import roles
from nurse import Nursery
from postgres import PostgresError, Server, Session
from processes import become_subreaper, end_strays
from seal import Seal
from services import Upstream, make_view
from sockets import POSTGRES_UNUSABLE, StartError, listen

# A machine that is busy with other things takes long to import what there is.
SERVICE_START_S = 240.0
# How long a caller may take to show its seal.
GREETING_S = 10.0
DRAIN_S = 2.0


class Host:
    """The services of a command. Ends with `close`, which is harmless when called twice."""

    def __init__(self, options, agent, tasks):
        self.options, self.agent, self.tasks = options, agent, tasks
        self.key = Seal.new_key()
        self.seal = Seal(self.key)
        self.scratch = tempfile.mkdtemp(prefix="bird-", dir=os.environ.get("AUTOHARNESS_SCRATCH") or None)
        self.view, self.logs = os.path.join(self.scratch, "bench"), os.path.join(self.scratch, "logs")
        # What runs put there, agents' processes may read.
        self.agents = os.path.join(self.scratch, "agents")
        self.upstream = {
            "db": Upstream("db", "db_environment.server"),
            "user": Upstream("user", "user_simulator.server"),
        }
        self.nursery = None if options["mode"] == "oracle" else Nursery()
        pg = options["pg"]
        self.server = Server(
            pg["host"],
            pg["port"],
            pg["user"],
            os.environ.get(pg["password_env"], ""),
            environment.without_secrets(os.environ),
        )
        self.id = secrets.token_hex(4)
        self.role = None  # The server as agents' SQL has it, where that is not `self.server`.
        self.making = None
        self.session = Session(self.server, self.id)
        self.door = None
        self.guards, self.callers = [], set()
        self.state = {"state": "starting"}
        self.changed = asyncio.Event()
        self.tending = None

    # --------------------------------------------------------------------------------------------------------- start

    async def start(self):
        """Opens the door and starts everything; whether it comes up is told at the door."""
        become_subreaper()
        options = self.options
        os.mkdir(self.logs)
        os.mkdir(self.agents, 0o700)
        folders = {
            name: dataset.folder(name, options["data_path"], options["adk_dir"], options["dataset"])
            for name in dataset.databases(self.tasks)
        }
        make_view(options["adk_dir"], f"bird-interact-{options['dataset']}", folders, self.view)
        await self._make_role()
        programs = os.path.join(self.scratch, "bin")
        roles.write_programs(programs, with_base=self.role is not None)
        sockets = {}
        for kind, service in self.upstream.items():
            sockets[kind], guard = listen(options["ports"].get(kind) or 0)
            service.port = sockets[kind].getsockname()[1]
            self.guards.append(guard)
        environments = {
            "db": environment.for_db(options, self.role or self.server, programs),
            "user": environment.for_user(options, self.agent, self.upstream["db"].port),
        }
        for kind, service in self.upstream.items():
            log, warm = os.path.join(self.logs, f"{kind}.log"), kind == "user"
            await service.start(
                options["python"], self.view, environments[kind], log, sockets[kind], self.key, warm=warm
            )
            sockets[kind].close()
        if self.nursery is not None:
            surroundings, behind = environment.without_proxies(environment.base(options, secret=False)), options["fence"]
            if behind:
                model = calls.Model(self.agent.get("model"), os.environ)
                behind = {**behind, "ports": model.reached_at(behind["hosts"]) is not None}
            await self.nursery.start(options["python"], surroundings, self.scratch, self.logs, behind, self.agents)
        sock, guard = listen()
        self.guards.append(guard)
        self.port = sock.getsockname()[1]
        self.door = await asyncio.start_server(self._greet, sock=sock)
        self.tending = asyncio.ensure_future(self._tend())

    async def _make_role(self):
        """Its session tells runs that the role is in use."""
        try:
            await self.session.open()
            self.making = asyncio.ensure_future(asyncio.to_thread(roles.make, self.server, self.id))
            self.role = await asyncio.shield(self.making)
        except PostgresError as error:
            raise StartError(self.server.unusable(error), POSTGRES_UNUSABLE) from None

    async def _drop_role(self):
        """Where the server is lost, the next run sees to it."""
        if self.session.process is None:
            return
        with contextlib.suppress(PostgresError):
            # A host that was stopped while the role was made does not know it yet.
            role = await self.making if self.making is not None else None
            if role is not None:
                await asyncio.to_thread(roles.drop, self.server, role.user)
        await self.session.close()
        with contextlib.suppress(PostgresError):
            await asyncio.to_thread(self.server.open_templates)

    def described(self):
        """What a run must know to use this host. Holds the key and a password: for stdin only."""
        ports = {kind: service.port for kind, service in self.upstream.items()}
        role = self.role and {"name": self.role.user, "password": self.role.password}
        about = {"port": self.port, "key": self.key, "view": self.view, "agents": self.agents}
        return {**about, "services": ports, "role": role}

    # ---------------------------------------------------------------------------------------------------------- tend

    def _set(self, **state):
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()

    async def _tend(self):
        """Waits until the services are up, and then until one of them ends."""
        watched = {asyncio.ensure_future(service.child.process.wait()): service for service in self.upstream.values()}
        if self.nursery is not None:
            watched[asyncio.ensure_future(self.nursery.child.process.wait())] = None
        rising = asyncio.ensure_future(self._rise())
        try:
            await rising
            self._set(state="healthy")
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            service = watched[done.pop()]
            kept, name = (self.nursery, "nursery") if service is None else (service, f"{service.kind} service")
            # Its log may quote tasks.
            self._set(state="ended", reason=f"the {name} ended with {kept.child.status()}")
        except StartError as error:
            self._set(state="ended", reason=str(error))
        finally:
            for future in (*watched, rising):
                future.cancel()
            await asyncio.gather(*watched, rising, return_exceptions=True)

    async def _rise(self):
        waits = [service.healthy(SERVICE_START_S, self.seal) for service in self.upstream.values()]
        if self.nursery is not None:
            waits.append(self.nursery.up(SERVICE_START_S))
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def ended(self):
        """Waits until the host can no longer be used; says why."""
        while self.state["state"] != "ended":
            await self.changed.wait()
        return self.state["reason"]

    # ---------------------------------------------------------------------------------------------------------- door

    async def _greet(self, reader, writer):
        caller = asyncio.current_task()
        self.callers.add(caller)
        try:
            line = await asyncio.wait_for(reader.readline(), GREETING_S)
            asked = json.loads(line)
            proof = self.seal.counterpart(asked.get("seal"))
            if proof is None:
                return
            if asked.get("want") == "agent":
                await self.nursery.ready.wait()
                writer.write(json.dumps({"proof": proof}).encode() + b"\n")
                await writer.drain()
                # The nursery gets the connection itself. It neither has the key nor sees what is said to the services.
                self.nursery.hand_on(int(asked.get("port") or 0), writer.get_extra_info("socket").fileno())
                return
            said = None
            while said is None or said["state"] != "ended":
                changed, said = self.changed, self.state
                writer.write(json.dumps({"proof": proof, **said}).encode() + b"\n")
                await writer.drain()
                if said["state"] != "ended":
                    await changed.wait()
        except (OSError, ValueError, AttributeError, TypeError, asyncio.TimeoutError):
            pass
        except asyncio.CancelledError:
            pass  # By `close`. asyncio would put a traceback into the log for it.
        finally:
            self.callers.discard(caller)
            writer.close()

    # ----------------------------------------------------------------------------------------------------------- end

    async def close(self):
        """Ends every process and removes every file."""
        if self.door is not None:
            self.door.close()
        if self.tending is not None:
            self.tending.cancel()
            await asyncio.gather(self.tending, return_exceptions=True)
        if self.callers and self.state["state"] == "ended":
            await asyncio.wait(set(self.callers), timeout=DRAIN_S)  # The reason is on its way to them.
        for caller in list(self.callers):
            caller.cancel()
        children = [service.child for service in self.upstream.values() if service.child]
        children += [self.nursery.child] if self.nursery and self.nursery.child else []
        for child in children:
            child.kill()
        for child in children:
            await child.end()
        if self.nursery is not None:
            self.nursery.hang_up()
        await self._drop_role()
        for guard in self.guards:
            if guard is not None:
                guard.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


async def serve(options, agent, tasks, say):
    """Runs a host as a program: describes it once its door is open, and lives until it is stopped or of no use."""
    host = Host(options, agent, tasks)
    try:
        await host.start()
        say(event="host", host=host.described())
        reason = await host.ended()
        say(event="log", level="error", message=reason)
        return 1
    finally:
        await host.close()
        end_strays()
