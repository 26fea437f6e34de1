#!/usr/bin/env python3
"""The benchmark's container, as far as a client sees it: a PostgreSQL that is filled step by step, on command.

    container.py DIRECTORY PORT_FILE

Reads commands from stdin, one a line, and answers `ok` when each is done: `start` (logins work from now on), `template NAME`
(with its rows), `database NAME` (made of the template), `empty NAME` (a database and a template without rows). Role and
password are those of the benchmark's compose file. The port is written to PORT_FILE. It ends when stdin does.
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import database  # noqa: E402
import tasks  # noqa: E402

USER, PASSWORD = "root", "123123"


class Container(database.Database):
    def create(self):
        os.makedirs(self.data, mode=0o700)
        if self.become:
            os.chmod(self.directory, 0o711)
            database.shutil.chown(self.data, "postgres", "postgres")
        password = self.data + ".password"
        with open(password, "w", encoding="utf-8") as file:
            file.write(PASSWORD)
        os.chmod(password, 0o644)
        how = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
        self._run("initdb", "-D", self.data, *how)

    def admin(self, sql, name="postgres"):
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", name]
        done = subprocess.run(
            [self.psql, "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", *where, "-c", sql],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)

    def obey(self, what, name):
        if what == "start":
            self.start()
        elif what == "template":
            self.admin(f"CREATE DATABASE {name}_template TEMPLATE template0")
            self.admin(tasks.DATABASES[name], f"{name}_template")
        elif what == "database":
            self.admin(f"CREATE DATABASE {name} TEMPLATE {name}_template")
        elif what == "empty":
            self.admin(f"CREATE DATABASE {name}_template TEMPLATE template0")
            self.admin("CREATE TABLE orders (id int)", f"{name}_template")
            self.admin(f"CREATE DATABASE {name} TEMPLATE {name}_template")
        else:
            raise SystemExit(f"unknown command {what}")


def main():
    container = Container(os.path.abspath(sys.argv[1]))
    try:
        container.create()
        for line in sys.stdin:
            what, _, name = line.strip().partition(" ")
            container.obey(what, name)
            if what == "start":
                with open(sys.argv[2], "w", encoding="utf-8") as file:
                    file.write(str(container.port))
            print("ok", flush=True)
    finally:
        container.stop()


if __name__ == "__main__":
    main()
