"""The role that agents' SQL runs under: one for every host, without a right to anything but copies.

It is made when a host starts, with a password that nobody else knows, and dropped with all that it owns when the host
ends; that of a killed host is dropped at the next start of a run. It owns no template and belongs to no other role, so its SQL reaches neither
a template nor another run. But an agent's SQL must be able to change what is in a copy. So copies are made from a *base*, a
copy of the template in which everything belongs to that role, made once a run and database, and closed to connections. The
benchmark asks for copies of the template; a `createdb` of ours, first on its PATH, takes the base instead.

Where `pg_user` may not create roles, all of this is left out, and agents' SQL runs under `pg_user`.
"""

import os
import secrets
import shutil
import time

from postgres import APPLICATION, COPY_SQL, PostgresError, Server, identifier, quoted

ROLES = f"SELECT rolname FROM pg_roles WHERE rolname ~ '^{APPLICATION}[0-9a-f]{{8}}$'"
MAY = "SELECT rolsuper OR (rolcreaterole AND rolcreatedb) FROM pg_roles WHERE rolname = current_user"
END_S = 10
BASE_S = 300
# Copies and databases that a role keeps from being dropped.
HELD = (
    "SELECT datname FROM pg_database d WHERE datname ~ {copy} AND EXISTS (SELECT FROM pg_shdepend s JOIN pg_roles r ON "
    "r.oid = s.refobjid WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = {role} AND (s.dbid = d.oid OR "
    "(s.classid = 'pg_database'::regclass AND s.objid = d.oid)))"
)
# Gives everything in a database to its owner, and complains about what cannot be given. What belongs to an extension stays.
GIVE = r"""
DO $$ DECLARE change text; BEGIN
  FOR change IN
    WITH own AS (SELECT oid, nspname, nspowner FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    SELECT format('ALTER SCHEMA %I', nspname) FROM own
      WHERE nspowner IS DISTINCT FROM (SELECT oid FROM pg_roles WHERE rolname = 'pg_database_owner')
    UNION ALL
    SELECT format('ALTER %s %I.%I', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
        WHEN 'c' THEN 'TYPE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, nspname, relname)
      FROM pg_class JOIN own ON own.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'c', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i', 'e'))
    UNION ALL
    SELECT format('ALTER TYPE %I.%I', nspname, typname)
      FROM pg_type JOIN own ON own.oid = typnamespace WHERE typtype IN ('e', 'd')
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_type.oid AND deptype = 'e')
    UNION ALL
    SELECT format('ALTER ROUTINE %s', pg_proc.oid::regprocedure)
      FROM pg_proc JOIN own ON own.oid = pronamespace WHERE prokind <> 'a'
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
  LOOP EXECUTE change || ' OWNER TO ROLE_NAME'; END LOOP;
END $$
"""
# In the place of the client programs that the benchmark starts. What has the name of a copy of a run is made from that run's
# base. Only a superuser may end the server's own workers, and dropping a database ends them by itself.
CREATEDB = """#!/bin/sh
for word; do case $word in *__ah[0-9a-f]*t[0-9]*) copy=$word ;; esac; done
for word; do
  shift
  case $word in *_template) word=${copy%t[0-9]*}t0 ;; esac
  set -- "$@" "$word"
done
"""
PSQL = """#!/bin/sh
for word; do
  shift
  case $word in *pg_terminate_backend*) word="${word%;} AND backend_type = 'client backend'" ;; esac
  set -- "$@" "$word"
done
"""


def make(server, host):
    """The server as a new role; None where there may be none. Raises PostgresError."""
    if server.query(MAY) != ["t"]:
        return None
    name, password = f"{APPLICATION}{host}", secrets.token_hex(24)
    # From stdin: everybody can read arguments.
    server.script(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD {quoted(password)} ROLE CURRENT_USER;\n")
    role = known(server, name, password)
    try:
        role.query("SELECT 1")
    except PostgresError:
        drop(server, name)  # The server lets in nobody but those it knows.
        return None
    return role


def known(server, name, password):
    """The server as a role."""
    return Server(server.host, server.port, name, password, server.environment)


def drop(server, name):
    """Ends what a role is at, and drops it with its copies. Raises PostgresError."""
    sessions = f"FROM pg_stat_activity WHERE usename = {quoted(name)}"
    deadline = time.monotonic() + END_S
    # A CREATE DATABASE goes on when its client has died.
    while server.query(f"SELECT pg_terminate_backend(pid) {sessions}") and time.monotonic() < deadline:
        time.sleep(0.1)
    server.drop(server.query(HELD.format(copy=quoted(COPY_SQL), role=quoted(name))))
    server.query(f"DROP ROLE IF EXISTS {name}")


def drop_left(server):
    """Drops the roles of hosts that are over; how many."""
    roles = server.query(ROLES)
    live = server.live_runs() if roles else set()
    dropped = 0
    for name in roles:
        if name[len(APPLICATION) :] not in live:
            try:
                drop(server, name)
                dropped += 1
            except PostgresError:
                pass  # It belongs to another user, who will drop it.
    return dropped


def renew_password(server, role):
    """Gives a role its password back when it has another by now; whether it had."""
    try:
        role.query("SELECT 1")
        return False
    except PostgresError as error:
        if "authentication failed" not in str(error) or not server.query(ROLES + f" AND rolname = {quoted(role.user)}"):
            return False
    server.script(f"ALTER ROLE {role.user} PASSWORD {quoted(role.password)};\n")
    return True


def make_base(server, role, template, base):
    """A copy of a template in which everything is the role's. Raises PostgresError."""
    name, own = identifier(base), identifier(server.user)
    server.query(f"CREATE DATABASE {name} TEMPLATE {identifier(template)} OWNER {role.user}", limit=BASE_S)
    server.query(GIVE.replace("ROLE_NAME", role.user), database=base, limit=BASE_S)
    # The database itself is not the role's, so that it is nothing but copied.
    server.query(*(f"ALTER DATABASE {name} {how}" for how in ("IS_TEMPLATE true", "ALLOW_CONNECTIONS false", f"OWNER TO {own}")))


def write_programs(directory, with_base):
    """Puts our `psql`, and where there are bases our `createdb`, into a directory for the benchmark's PATH."""
    os.mkdir(directory, 0o700)
    for name, text in (("psql", PSQL), *([("createdb", CREATEDB)] if with_base else [])):
        real = shutil.which(name)
        if real:
            path = os.path.join(directory, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{text}exec '{real}' \"$@\"\n")
            os.chmod(path, 0o700)
