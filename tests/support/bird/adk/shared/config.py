"""What the environment says, with the benchmark's names and defaults."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / f"bird-interact-{os.environ.get('DATASET', 'lite')}"
PATIENCE = int(os.environ.get("PATIENCE", "3"))
PORTS = {
    "agent": os.environ.get("SYSTEM_AGENT_PORT", "6000"),
    "user": os.environ.get("USER_SIM_PORT", "6001"),
    "db": os.environ.get("DB_ENV_PORT", "6002"),
}
PG = {
    "host": os.environ.get("PG_HOST", "127.0.0.1"),
    "port": os.environ.get("PG_PORT", "5432"),
    "user": os.environ.get("PG_USER", "root"),
    "password": os.environ.get("PG_PASSWORD", "123123"),
}


def url(service, path):
    return f"http://localhost:{PORTS[service]}{path}"


def mark(service):
    """Leaves a line beside the tasks, for tests that count how often services start."""
    for folder in sorted(DATA.glob("*"))[:1]:
        with open(folder.resolve().parent / "starts", "a", encoding="utf-8") as file:
            file.write(f"{service} {os.getpid()}\n")
