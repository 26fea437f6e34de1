#!/usr/bin/env python3
"""A PostgreSQL of our own on loopback, from Debian's packages, with the databases of the task set.

    database.py DIRECTORY      starts one there, prints {"port", "user", "password", "pid"}, and stops it when stdin ends;
                               the lines `stop` and `start` on stdin are answered when that is done

The role that runs use may create databases and roles and owns the templates, but is no superuser. The server itself refuses to run
as root, so root runs it as the user `postgres`.
"""

import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tasks  # noqa: E402

USER, PASSWORD = "bird", "not-a-secret"


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    path = found[-1] if found else shutil.which("initdb")
    if not path:
        raise SystemExit("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return os.path.dirname(path)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Database:
    """A server, from `start()` to `stop()`; it can be stopped and started again in between."""

    def __init__(self, directory):
        self.bin, self.directory, self.port, self.process = programs(), directory, free_port(), None
        own = os.path.join(self.bin, "psql")  # What Debian has on the PATH is a script that looks for it.
        self.psql = own if os.path.exists(own) else "psql"
        self.data = os.path.join(directory, "pg")
        self.become = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}

    def create(self):
        os.makedirs(self.data, mode=0o700)
        if self.become:
            os.chmod(self.directory, 0o711)
            shutil.chown(self.data, "postgres", "postgres")
        password = os.path.join(self.data + ".password")
        with open(password, "w", encoding="utf-8") as file:
            file.write(PASSWORD)
        os.chmod(password, 0o644)
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "admin",
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "--no-sync",
            "-E",
            "UTF8",
        )
        self.start()
        self.admin(f"CREATE ROLE {USER} LOGIN CREATEDB CREATEROLE NOSUPERUSER PASSWORD '{PASSWORD}'")
        for name, sql in tasks.DATABASES.items():
            self.admin(f"CREATE DATABASE {name}_template OWNER {USER} TEMPLATE template0")
            self.admin(sql, database=f"{name}_template", user=USER)
            self.admin(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE {name}_template")
            self.admin(f"UPDATE pg_database SET datistemplate = true WHERE datname = '{name}_template'")

    def _run(self, program, *arguments):
        subprocess.run(
            [os.path.join(self.bin, program), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.become
        )

    def admin(self, sql, database="postgres", user="admin"):
        done = subprocess.run(
            [
                self.psql,
                "-X",
                "-q",
                "-A",
                "-t",
                "-w",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-p",
                str(self.port),
                "-U",
                user,
                "-d",
                database,
                "-c",
                sql,
            ],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.splitlines()

    def start(self):
        with open(os.path.join(self.directory, "pg.log"), "ab") as log:
            self.process = subprocess.Popen(
                [
                    os.path.join(self.bin, "postgres"),
                    "-D",
                    self.data,
                    "-p",
                    str(self.port),
                    "-h",
                    "127.0.0.1",
                    "-c",
                    "fsync=off",
                    "-c",
                    "full_page_writes=off",
                    "-c",
                    "synchronous_commit=off",
                    "-c",
                    "autovacuum=off",
                    "-c",
                    "unix_socket_directories=",
                    "-c",
                    "max_connections=100",
                    "-c",
                    "dynamic_shared_memory_type=mmap",
                ],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self.become,
            )
        for _ in range(300):
            try:
                self.admin("SELECT 1")
                return
            except RuntimeError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start")

    def stop(self):
        if self.process and self.process.poll() is None:
            # An immediate shutdown, as a power cut or a killed container would look from outside.
            self.process.send_signal(3)
            self.process.wait()

    def roles(self):
        return self.admin("SELECT rolname FROM pg_roles WHERE rolname LIKE 'autoharness%'")

    def copies(self):
        return self.admin("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_%' ORDER BY 1")


def main():
    database = Database(os.path.abspath(sys.argv[1]))
    try:
        database.create()
        print(
            json.dumps({"port": database.port, "user": USER, "password": PASSWORD, "pid": database.process.pid}),
            flush=True,
        )
        for line in sys.stdin:
            {"stop": database.stop, "start": database.start}[line.strip()]()
            print("done", flush=True)
    finally:
        database.stop()


if __name__ == "__main__":
    main()
