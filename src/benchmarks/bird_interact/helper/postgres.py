"""What the driver itself needs of PostgreSQL, through psql: logging in, and removing the copies that runs leave behind.

A copy is named after the alias of its trial, `<database>__ah<8 hex digits of the run>t<number>`, perhaps with `__p1snap`.
A run keeps one session open whose application name holds those digits, so that another run on the same server can tell
copies in use from copies whose run was killed; and so does a host, for its role (roles.py).
"""

import asyncio
import contextlib
import os
import re
import subprocess
import time

COPY = re.compile(r".+__ah([0-9a-f]{8})t[0-9]+(?:__p1snap)?\Z")
COPY_SQL = "__ah[0-9a-f]{8}t[0-9]+(__p1snap)?$"
APPLICATION = "autoharness_"
LIVE = r"autoharness\_%"
# Only a superuser may end the server's own workers, and dropping a database ends its autovacuum by itself.
CLIENT = "backend_type = 'client backend'"
CONNECT_LIMIT_S = 10
QUERY_LIMIT_S = 60
# Settings whose values are lists of names, written as they are read; others are texts.
LISTS = {"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"}
# What is set for a template that we have closed. A run that was killed leaves it, and the next one knows whose doing it is. (A
# name of our own only a superuser may set, and a comment may be the user's.)
CLOSED = "application_name", "closed by autoharness"
# Runs that begin and end at the same time take turns at closing and opening templates.
TURN = 0x61685F74
# What roles and databases have set for the sessions of others; copies have gone when it is looked at.
SETTINGS = (
    "SELECT coalesce(quote_ident(rolname), ''), coalesce(quote_ident(datname), ''), setting FROM pg_db_role_setting "
    "LEFT JOIN pg_roles r ON r.oid = setrole LEFT JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) setting "
    f"WHERE (datname IS NULL OR datname !~ '{COPY_SQL}') AND setting <> '{CLOSED[0]}={CLOSED[1]}' ORDER BY 1, 2, 3"
)
SWEEP_LIMIT_S = 40


class PostgresError(Exception):
    """psql failed; the text is its own, in one line."""


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


class Server:
    """A PostgreSQL server and the role that owns the template databases."""

    def __init__(self, host="127.0.0.1", port=5432, user="root", password="", environment=None):
        self.host, self.port, self.user, self.password = host, int(port), user, password
        base = os.environ if environment is None else environment
        # Files and variables of the user must not decide where we connect to.
        self.environment = {name: value for name, value in base.items() if not name.startswith("PG")}
        self.environment.update(PGPASSWORD=password, PGCONNECT_TIMEOUT=str(CONNECT_LIMIT_S), PGAPPNAME="autoharness")

    def unusable(self, error):
        """What is said when nothing can be done here."""
        return f"PostgreSQL at {self.host}:{self.port} is not usable as {self.user}: {error}"

    def command(self, *arguments, database="postgres"):
        where = ["-h", self.host, "-p", str(self.port), "-U", self.user, "-d", database]
        return ["psql", "-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, *arguments]

    def query(self, *statements, database="postgres", limit=QUERY_LIMIT_S, separator="|"):
        """Runs statements one by one, each in its own transaction; returns the lines of output."""
        arguments = ["-F", separator, *(part for statement in statements for part in ("-c", statement))]
        return self._psql(arguments, database, limit)

    def script(self, text, database="postgres", limit=QUERY_LIMIT_S, separator="\x1f"):
        """Runs a text as psql reads it; returns the lines of output. Nobody sees the text among psql's arguments."""
        return self._psql(["-F", separator], database, limit, text)

    def _psql(self, arguments, database, limit, text=None):
        try:
            done = subprocess.run(
                self.command(*arguments, database=database),
                env=self.environment,
                **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise PostgresError("psql is not installed (Debian: apt-get install postgresql-client)") from None
        except subprocess.TimeoutExpired:
            raise PostgresError(f"psql gave no answer within {limit} s") from None
        if done.returncode != 0:
            raise PostgresError(" ".join(done.stderr.split()) or f"psql ended with status {done.returncode}")
        return [line for line in done.stdout.splitlines() if line]

    def copies(self):
        """Names of all task copies on the server, whosever they are."""
        return self.query(f"SELECT datname FROM pg_database WHERE datname ~ {quoted(COPY_SQL)} ORDER BY datname")

    def live_runs(self):
        """The run ids that somebody holds a session for."""
        rows = self.query(
            f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE {quoted(LIVE)}"
        )
        return {row[len(APPLICATION) :] for row in rows}

    def leaked(self):
        """Copies of runs that are over."""
        copies = self.copies()
        live = self.live_runs() if copies else set()
        return [name for name in copies if COPY.match(name).group(1) not in live]

    def drop(self, names):
        """Drops copies, ending all connections to them; returns what could not be dropped, with the reason."""
        failed = {}
        for name in names:
            end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {quoted(name)} AND {CLIENT}"
            drop = f"DROP DATABASE IF EXISTS {identifier(name)}"
            try:
                try:
                    self.query(end, drop)
                except PostgresError:
                    # Its owner's SQL can have made it a template, and those cannot be dropped.
                    self.query(end, f"ALTER DATABASE {identifier(name)} IS_TEMPLATE false", drop)
            except PostgresError as error:
                failed[name] = str(error)
        return failed

    def copy(self, template, name):
        """Makes a copy of a database, in the place of one that has its name."""
        self.drop([name])
        self.query(f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(template)}")

    def try_copy(self, template, name, limit):
        """Makes a copy of a template and drops it again; raises PostgresError when that does not work."""
        create = f"CREATE DATABASE {identifier(name)} TEMPLATE {identifier(template)}"
        try:
            self.query(create, limit=limit)
        finally:
            self.drop([name])

    def settings(self):
        """What is set for sessions to come, as tuples of role, database (either may be empty) and `name=value`."""
        return [tuple(line.split("\x1f")) for line in self.query(SETTINGS, separator="\x1f")]

    def restore_settings(self, before):
        """Sets what is set otherwise by now as it was before; whether there was anything to do."""
        now, statements = self.settings(), []
        for role, database in sorted({setting[:2] for setting in set(before) ^ set(now)}):
            whose = f"ROLE {role}" + (f" IN DATABASE {database}" if database else "") if role else f"DATABASE {database}"
            statements.append(f"ALTER {whose} RESET ALL")
            for name, _, value in (setting.partition("=") for *where, setting in before if where == [role, database]):
                statements.append(f"ALTER {whose} SET {identifier(name)} TO {value if name in LISTS else quoted(value)}")
        if statements:
            self.query(*statements)
        return bool(statements)

    def close_templates(self, databases):
        """Has the templates of these databases refuse connections, where they are ours to close; a template can be copied all
        the same. The names of those that were open."""
        names = ", ".join(quoted(f"{name}_template") for name in databases)
        mine = f"datname IN ({names}) AND datallowconn AND pg_has_role(datdba, 'USAGE')"
        found = self.query(f"SELECT datname FROM pg_database WHERE {mine} ORDER BY 1")
        if found:
            self._each("datname FROM pg_database WHERE " + mine, f"SET {CLOSED[0]} TO {quoted(CLOSED[1])}", "ALLOW_CONNECTIONS false")
        return found

    def open_templates(self):
        """Opens what runs have closed, unless a run is on; the names of what was closed and has been opened."""
        marked = (
            f"datname FROM pg_database JOIN pg_db_role_setting ON setdatabase = pg_database.oid AND setrole = 0 WHERE "
            f"'{CLOSED[0]}={CLOSED[1]}' = ANY (setconfig) AND pg_has_role(datdba, 'USAGE') AND NOT EXISTS (SELECT FROM "
            f"pg_stat_activity WHERE application_name LIKE {quoted(LIVE)})"
        )
        found = self.query(f"SELECT {marked} ORDER BY 1")
        if found:
            self._each(marked, "ALLOW_CONNECTIONS true", f"RESET {CLOSED[0]}")
        return found

    def _each(self, databases, *changes):
        """Alters every database that a query names, all or none."""
        alter = " ".join(f"EXECUTE format({quoted(f'ALTER DATABASE %I {change}')}, one);" for change in changes)
        turn = f"PERFORM pg_advisory_xact_lock({TURN});"
        self.query(f"DO $$ DECLARE one name; BEGIN {turn} FOR one IN SELECT {databases} LOOP {alter} END LOOP; END $$")

    def sweep_run(self, run, limit=SWEEP_LIMIT_S):
        """Removes every copy of one run, including those that a killed client left the server busy with.

        Returns what could not be removed. A CREATE DATABASE goes on when its client has died, so a copy may appear after
        we looked: the work is ended first, and the look repeated until there is nothing left.
        """
        deadline = time.monotonic() + limit
        marker = quoted(f"%\\_\\_ah{run}t%")
        mine = f"pid <> pg_backend_pid() AND {CLIENT} AND (datname LIKE {marker} OR query LIKE {marker})"
        active = f"{mine} AND (state = 'active' OR datname LIKE {marker})"
        while True:
            self.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {active}")
            names = [name for name in self.copies() if COPY.match(name).group(1) == run]
            failed = self.drop(names)
            busy = self.query(f"SELECT pid FROM pg_stat_activity WHERE {active}")
            if (not names and not busy) or time.monotonic() > deadline:
                return failed
            if failed or busy:
                time.sleep(0.2)


class Session:
    """The open session of a run: marks its copies as in use, and notices when the server goes away."""

    def __init__(self, server, run):
        self.server, self.run, self.process, self.started = server, run, None, None
        self.lock = asyncio.Lock()

    async def open(self):
        """Opens the session; raises PostgresError."""
        environment = {**self.server.environment, "PGAPPNAME": APPLICATION + self.run}
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.server.command(),
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise PostgresError("psql is not installed (Debian: apt-get install postgresql-client)") from None
        started = await self._ask(CONNECT_LIMIT_S + 5)
        if not started:
            await self.close()
            error = (await self.process.stderr.read()).decode("utf-8", "replace")
            raise PostgresError(" ".join(error.split()) or "the server gives no answer")
        self.started = self.started or started
        if started != self.started:
            await self.close()
            raise PostgresError("the server was started anew")

    async def _ask(self, limit):
        """When the server was started, as it says itself; empty when it does not answer."""
        if self.process is None or self.process.returncode is not None:
            return b""
        try:
            self.process.stdin.write(b"SELECT pg_postmaster_start_time();\n")
            await self.process.stdin.drain()
            return await asyncio.wait_for(self.process.stdout.readline(), limit)
        except (OSError, asyncio.TimeoutError):
            return b""

    async def restore_password(self):
        """Gives the role its password back, in a session that was opened with it. Whether it may have worked."""
        async with self.lock:
            if not await self._ask(5.0):
                return False
            order = f"ALTER ROLE CURRENT_USER PASSWORD {quoted(self.server.password)};\n"
            with contextlib.suppress(OSError):
                self.process.stdin.write(order.encode())
                return bool(await self._ask(5.0))
        return False

    async def server_lost(self):
        """Whether the server is gone or was started anew. A session that somebody ended is merely opened again: an agent's
        SQL can do that to every session of its role, and must not pass for a lost server with it."""
        async with self.lock:
            if await self._ask(5.0):
                return False
            await self.close()
            try:
                await self.open()
                return False
            except PostgresError:
                return True

    async def close(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
