#!/usr/bin/env python3
"""Checks everything that a run needs before it costs anything. Reads the same request as bench.py, from stdin.

Answers with one JSON object a line: {"event": "finding", "check", "ok", "level", "message", "hint"?}. Level "error" means
that scores would be missing or wrong, "warning" that something should be known. Options beside those of bench.py:
oracle_sample (tasks whose gold SQL is handed in, default 4; 0 for none), smoke (default true).

Exit status: 0 without errors, 1 with errors, 2 when the request makes no sense.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bench  # noqa: E402
import dataset  # noqa: E402
from postgres import PostgresError, Server  # noqa: E402
from run import Run  # noqa: E402
from environment import without_secrets  # noqa: E402
from services import CODE  # noqa: E402
from sockets import StartError  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ("psql", "createdb", "dropdb")
# Distribution names, for the hint; google-adk and litellm declare neither mcp nor the ones the services need.
PACKAGES = {
    "google.adk": "google-adk",
    "litellm": "litellm",
    "mcp": "mcp",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "httpx": "httpx",
    "psycopg2": "psycopg2-binary",
    "sqlglot": "sqlglot",
    "dotenv": "python-dotenv",
    "pydantic_settings": "pydantic-settings",
}
LONGEST_ALIAS = len("ah01234567t99999")
SNAPSHOT = "__p1snap"
SMOKE_LIMIT_S = 180
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

    def report(self, check, ok, message, hint=None, level="error"):
        self.errors += not ok and level == "error"
        self.say(
            event="finding",
            check=check,
            ok=ok,
            level="info" if ok else level,
            message=message,
            **({"hint": hint} if hint and not ok else {}),
        )
        return ok

    def few(self, names):
        names = sorted(names)
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    def postgres_tools(self):
        missing = [tool for tool in TOOLS if not shutil.which(tool)]
        return self.report(
            "postgres-tools",
            not missing,
            f"not on PATH: {', '.join(missing)}" if missing else "psql, createdb, dropdb found",
            "Debian: apt-get install postgresql-client; macOS: brew install libpq.",
        )

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

    def smoke(self):
        done = subprocess.run(
            [self.options["python"], "-s", "-B", os.path.join(HERE, "smoke.py")],
            capture_output=True,
            text=True,
            timeout=SMOKE_LIMIT_S,
            env=without_secrets(os.environ),
            cwd=HERE,
        )
        lines = done.stderr.strip().splitlines()
        return self.report(
            "model-call",
            done.returncode == 0,
            "a model can call a tool"
            if done.returncode == 0
            else f"a scripted model could not call a tool: {lines[-1][:300] if lines else 'no reason given'}",
            "install the versions of requirements.txt; newer ones are often incomplete.",
        )

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

    def data(self):
        try:
            self.tasks = dataset.load(self.options["data_path"])
        except dataset.DataError as error:
            return self.report("data", False, str(error), "run `autoharness prepare`.")
        self.report("data", True, f"{len(self.tasks)} tasks on {len(self.databases())} databases")
        missing = {name: dataset.missing_truth(task) for name, task in self.tasks.items()}
        missing = {name: what for name, what in missing.items() if what}
        self.report(
            "ground-truth",
            not missing,
            f"{len(missing)} of {len(self.tasks)} tasks have no ground truth, such as {self.few(missing)}: "
            f"they would score 0.0 whatever the agent does"
            if missing
            else "every task has its ground truth",
            "ask the authors for the ground truth and merge it; the output must be another file than the input.",
        )
        absent = []
        for name in self.databases():
            folder = dataset.folder(name, self.options["data_path"], self.options["adk_dir"], self.options["dataset"])
            files = [name + ending for ending in ("_schema.txt", "_column_meaning_base.json", "_kb.jsonl")]
            absent += [
                f"{name}/{file}" for file in files if not folder or not os.path.isfile(os.path.join(folder, file))
            ]
        self.report(
            "data-folders",
            not absent,
            f"missing beside the tasks: {self.few(absent)}" if absent else "schemas and knowledge are there",
            "the agent would be told that there is no schema; fetch the whole data set.",
        )
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
            rights = self.server.query("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")[
                0
            ].split("|")
        except (PostgresError, IndexError) as error:
            return self.report(
                "postgres-login",
                False,
                f"cannot log in as {where}: {error}",
                f"start the server, or set pg_host, pg_port, pg_user and {pg['password_env']}.",
            )
        self.report("postgres-login", True, f"logged in as {where}")
        if rights[0] == "t":
            self.report(
                "postgres-role",
                False,
                "the role is a superuser, so an agent's SQL can read files and run programs on the server",
                "use a role with CREATEDB only, which owns the templates.",
                level="warning",
            )
        else:
            self.report(
                "postgres-role",
                rights[1] == "t",
                "the role may create databases" if rights[1] == "t" else "the role may not create databases",
                f"as a superuser: ALTER ROLE {pg['user']} CREATEDB.",
            )
        self.templates()
        leaked = self.server.leaked()
        self.report(
            "leaked-copies",
            not leaked,
            f"{len(leaked)} copies of ended runs: {self.few(leaked)}" if leaked else "no copies of ended runs",
            "the next run removes them.",
            level="warning",
        )
        return True

    def templates(self):
        known = set(self.server.query("SELECT datname FROM pg_database"))
        missing = [name for name in self.databases() if f"{name}_template" not in known]
        self.report(
            "templates",
            not missing,
            f"no template for {self.few(missing)}" if missing else f"{len(self.databases())} templates found",
            "the server is still being filled, or lacks the data set; it takes several minutes.",
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
        # Looked for in the database of the same content: a session in a template keeps others from copying it.
        empty, unseen = [], []
        for name in self.databases():
            if name not in known:
                unseen.append(name)
                continue
            tables = self.server.query(
                "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
                database=name,
            )
            filled = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables) or "false"
            if self.server.query(f"SELECT {filled}", database=name) != ["t"]:
                empty.append(name)
        self.report(
            "tables",
            not empty,
            f"without any rows: {self.few(empty)}" if empty else "the databases hold rows",
            "the import of the server's dumps failed, which it only logs; make the container anew.",
        )
        if unseen:
            self.report(
                "tables-unseen",
                False,
                f"there is no database {self.few(unseen)} beside its template to look into",
                level="warning",
            )

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
        )

    async def examine(self, extra):
        tools, packages = self.postgres_tools(), self.packages()
        if packages and extra.get("smoke", True):
            self.smoke()
        adk, data = self.adk(), self.data()
        try:
            reachable = tools and self.postgres()
        except PostgresError as error:
            reachable = self.report("postgres", False, f"PostgreSQL failed on the way: {error}")
        size = int(extra.get("oracle_sample", 4))
        if size and reachable and packages and adk and data and not self.errors:
            try:
                await self.oracle(size)
            except StartError as error:
                self.report("oracle", False, str(error))
        return 1 if self.errors else 0


def main():
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
