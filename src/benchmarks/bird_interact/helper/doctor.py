#!/usr/bin/env python3
"""Checks everything that a run needs before it costs anything. Reads the same request as bench.py, from stdin.

Answers with one JSON object a line: {"event": "finding", "check", "ok", "level", "message", "hint"?, "agent"?}. Level
"error" means that scores would be missing or wrong, "warning" that something should be known; "agent" is true where the
agent is to blame. That the data is whole and the databases are filled is seen to elsewhere, before this is asked.

Options beside those of bench.py: basics (packages, code, names; default true), postgres (whether the server can be asked,
default true), oracle_sample (tasks whose gold SQL is handed in, default 4; 0 for none). Where the request names an agent,
one call of a tool is made through its service.

Exit status: 0 without errors, 1 with errors, 2 when the request makes no sense.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bench  # noqa: E402
import dataset  # noqa: E402
import roles  # noqa: E402
import smoke  # noqa: E402
from postgres import PostgresError, Server  # noqa: E402
from run import Run  # noqa: E402
from environment import without_secrets  # noqa: E402
from processes import be_closed  # noqa: E402
from services import CODE  # noqa: E402
from sockets import StartError  # noqa: E402

# Distribution names, for the hint; google-adk and litellm declare neither mcp nor the ones the services need. In both, mcp is
# an extra: https://github.com/google/adk-docs/pull/2067, https://github.com/BerriAI/litellm/pull/38399
PACKAGES = {
    "google.adk": "google-adk",
    "litellm": "litellm",
    "mcp": "mcp",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "aiohttp": "aiohttp",
    "httpx": "httpx",
    "psycopg2": "psycopg2-binary",
    "sqlglot": "sqlglot",
    "dotenv": "python-dotenv",
    "pydantic_settings": "pydantic-settings",
}
RIGHTS = (
    "SELECT rolsuper OR rolcreatedb, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
)
LONGEST_ALIAS = len("ah01234567t99999")
SNAPSHOT = "__p1snap"
SHOWN = 5


class Doctor:
    """Collects findings; every check is a method that reports at least one."""

    def __init__(self, request, options, say):
        self.request, self.options, self.say = request, options, say
        self.errors = 0
        pg = options["pg"]
        password = os.environ.get(pg["password_env"], "")
        self.server = Server(pg["host"], pg["port"], pg["user"], password, without_secrets(os.environ))
        self.tasks = {}

    def report(self, check, ok, message, hint=None, level="error", agent=False):
        self.errors += not ok and level == "error"
        self.say(
            event="finding",
            check=check,
            ok=ok,
            level="info" if ok else level,
            message=message,
            **({"hint": hint} if hint and not ok else {}),
            **({"agent": True} if agent else {}),
        )
        return ok

    def few(self, names):
        names = sorted(names)
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    def packages(self):
        text = "import importlib.util as u, sys; print(' '.join(m for m in sys.argv[1:] if not u.find_spec(m.split('.')[0]) or not u.find_spec(m)))"
        try:
            done = subprocess.run(
                [self.options["python"], "-c", text, *PACKAGES], capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return self.report(
                "packages",
                False,
                f"the interpreter of the services does not work: {error}",
                "run `autoharness prepare`.",
            )
        missing = [PACKAGES[name] for name in done.stdout.split()]
        if done.returncode != 0:
            return self.report(
                "packages", False, f"the interpreter of the services fails: {done.stderr.strip()[-300:]}"
            )
        return self.report(
            "packages",
            not missing,
            f"not installed: {', '.join(missing)}" if missing else "all packages are installed",
            f"{self.options['python']} -m pip install -r requirements.txt",
        )

    async def smoke(self, agent_file):
        try:
            tool = await smoke.smoke(self.options, agent_file, self.request.get("agent") or {})
        except smoke.AgentFault as fault:
            text = f"in a pretended task: {fault}" if fault.loads else str(fault)
            hint = "fix the agent file." if fault.final else "look at it before you pay for a run."
            level = "error" if fault.final else "warning"
            return self.report("agent", False, text, hint, level, agent=True)
        except (StartError, ImportError) as error:
            return self.report(
                "model-call",
                False,
                f"no tool could be called through the agent service: {error}",
                "install the versions of requirements.txt; newer ones are often incomplete.",
            )
        return self.report("model-call", True, f"a scripted model called {tool} through the agent service")

    def adk(self):
        directory = self.options["adk_dir"]
        missing = [name for name in CODE if not os.path.isdir(os.path.join(directory, name))]
        ok = self.report(
            "adk",
            not missing,
            f"{directory} has no {', '.join(missing)}" if missing else f"{directory} is complete",
            "adk_dir must name the directory BIRD-Interact-ADK of a checkout of BIRD-Interact.",
        )
        provider = os.path.join(directory, "shared", "_local_provider.py")
        if os.path.exists(provider):
            self.report(
                "adk-provider",
                False,
                f"{provider} would replace the configured models; runs leave it out",
                level="warning",
            )
        return ok

    def data(self, basics):
        try:
            self.tasks = dataset.load(self.options["data_path"])
        except dataset.DataError as error:
            return self.report("data", False, str(error), "run `autoharness prepare`.")
        if not basics:
            return True
        long = [
            name
            for name in self.databases()
            if len(name) + 2 + LONGEST_ALIAS + len(SNAPSHOT) > dataset.LONGEST_DATABASE_NAME
        ]
        self.report(
            "name-length",
            not long,
            f"names of copies of {self.few(long)} would be cut by PostgreSQL"
            if long
            else "all names of database copies fit",
        )
        return True

    def databases(self):
        return dataset.databases(self.tasks)

    def postgres(self):
        pg = self.options["pg"]
        where = f"{pg['user']} at {pg['host']}:{pg['port']}"
        try:
            rights = self.server.query(RIGHTS)[0].split("|")
        except (PostgresError, IndexError) as error:
            return self.report(
                "postgres-login",
                False,
                f"cannot log in as {where}: {error}",
                f"start the server, or set pg_host, pg_port, pg_user and {pg['password_env']}.",
            )
        databases, makes_roles = (right == "t" for right in rights)
        if not databases:
            self.report("postgres-role", False, "the role may not create databases", f"as a superuser: ALTER ROLE {pg['user']} CREATEDB.")
        elif not makes_roles:
            self.report(
                "postgres-role",
                False,
                f"the role may not create roles, so agents' SQL runs under it and reaches whatever it owns, templates too",
                f"as a superuser: ALTER ROLE {pg['user']} CREATEROLE.",
                level="warning",
            )
        else:
            lets_in = self.lets_in_new_roles()
            self.report(
                "postgres-role",
                lets_in,
                "the role may create databases, and roles for agents' SQL"
                if lets_in
                else "the server lets in no role that is new, so agents' SQL runs under this one and reaches whatever it owns",
                "let every role that has a password log in (pg_hba.conf), with scram-sha-256 at best.",
                level="warning",
            )
        busy = self.server.query("SELECT DISTINCT datname FROM pg_stat_activity WHERE datname LIKE '%\\_template'")
        self.report(
            "template-sessions",
            not busy,
            f"somebody is connected to {self.few(busy)}: no copy can be made"
            if busy
            else "nobody is connected to a template",
            "close that session.",
        )
        leaked = self.server.leaked()
        self.report(
            "leaked-copies",
            not leaked,
            f"{len(leaked)} copies of ended runs: {self.few(leaked)}" if leaked else "no copies of ended runs",
            "the next run removes them.",
            level="warning",
        )
        closed = self.server.open_templates()
        if closed:
            self.report(
                "closed-templates",
                True,
                f"a run that was killed had left {self.few(closed)} closed to connections; open again",
            )
        return True

    def lets_in_new_roles(self):
        try:
            role = roles.make(self.server, secrets.token_hex(4))
            if role is not None:
                roles.drop(self.server, role.user)
            return role is not None
        except PostgresError:
            return False

    async def oracle(self, size):
        """Hands in gold SQL: whatever does not pass has broken data, tests or databases."""
        plain = [
            name
            for name, task in self.tasks.items()
            if len(dataset.statements(task.get("sol_sql"))) == 1 and not dataset.missing_truth(task)
        ]
        # One task of every database first, and of every kind.
        order = sorted(
            plain,
            key=lambda name: sum(
                self.tasks[other]["selected_database"] == self.tasks[name]["selected_database"]
                for other in plain[: plain.index(name)]
            ),
        )
        sample = order[:size]
        if not sample:  # Only gold of several statements, which the benchmark's own oracle cannot hand in.
            return
        failed = {}
        request = {**self.request, "keep_traces": False, "timeout_s": None, "concurrency": 2}
        async with Run(request, {**self.options, "mode": "oracle"}, self.tasks, lambda **_: None) as run:
            limit = asyncio.Semaphore(2)

            async def one(name):
                async with limit:
                    fields, _ = await run.trial(name)
                full = 1.0 if dataset.has_follow_up(self.tasks[name]) else 0.7
                if fields["reward"] != full:
                    failed[name] = fields.get("error") or f"{fields['reward']} of {full}"

            await asyncio.gather(*map(one, sample))
        self.report(
            "oracle",
            not failed,
            f"gold SQL does not pass: {'; '.join(f'{name}: {why}' for name, why in list(failed.items())[:SHOWN])}"
            if failed
            else f"the gold SQL of {len(sample)} tasks passes",
            "databases, tests or gold SQL do not fit together; where the server was only busy, run the same command again.",
        )

    async def examine(self, extra):
        basics = extra.get("basics", True)
        agent = (self.request.get("agent") or {}).get("path")
        packages, adk = not basics or self.packages(), not basics or self.adk()
        if agent and packages and adk:
            await self.smoke(agent)
        data = self.data(basics)
        try:
            if basics and extra.get("postgres", True):
                self.postgres()
        except PostgresError as error:
            self.report("postgres", False, f"PostgreSQL failed on the way: {error}")
        size = int(extra.get("oracle_sample", 4))
        if size and packages and adk and data and not self.errors:
            try:
                await self.oracle(size)
            except (StartError, ImportError) as error:
                self.report("oracle", False, str(error))
        return 1 if self.errors else 0


def main():
    be_closed()
    stream = bench.private_stdout()

    def say(**event):
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    try:
        request = json.loads(sys.stdin.readline())
        options = bench.read_options(request)
        doctor = Doctor(request, options, say)
        return asyncio.run(bench.supervised(doctor.examine(request.get("options") or {})))
    except (bench.Usage, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
