"""Write small Harbor tasks in the real format, for tests.

    python make_dataset.py DIR --task NAME=CLASS ... [--agent-timeout S] [--org ORG] [--registry FILE]

CLASS is a behaviour of stub_model.py: `solved`, `capability:WORD` (solved once the agent's system prompt contains
WORD), `never`, `status:401`, and so on. It may carry what the tests do, after a plus sign: `solved+no-reward`. MODES:

  normal (default)   reward 1 if /app/answer.txt holds the task's secret, else 0
  no-reward          test.sh writes no reward file
  garbage            the reward file cannot be parsed
  reward=X           the reward is X, whatever the agent did
  both               reward.txt and reward.json, as some public tasks do
  no-key             reward.json without the key "reward"
  sleep=S            test.sh takes S seconds first

Each task has a secret that occurs in its instruction, in the command that solves it and in the tests' output, so
that a leak of any of them can be found with grep: `SECRET-<name>-<hash>`.

Prints {"dataset": DIR, "tasks": {NAME: {"class", "secret", "path", "task_name"}}}.
"""

import argparse
import hashlib
import json
from pathlib import Path

INSTRUCTION = """\
Write this task's secret word into the file /app/answer.txt.

[stub task={name} behaviour={behaviour} secret={secret}]
"""

TASK_TOML = """\
version = "1.0"
{package}
[metadata]
difficulty = "easy"

[agent]
timeout_sec = {agent_timeout}

[verifier]
timeout_sec = {verifier_timeout}

[environment]
build_timeout_sec = 60.0
"""

PACKAGE = """
[task]
name = "{org}/{name}"
"""

TEST_SH = """\
#!/bin/bash
mkdir -p /logs/verifier
echo "expected {secret}, found $(cat /app/answer.txt 2>/dev/null)"
{verdict}
"""

NORMAL = """\
if [ "$(cat /app/answer.txt 2>/dev/null)" = "{secret}" ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi"""


def verdict(mode, secret):
    """The shell lines with which test.sh ends."""
    kind, _, value = mode.partition("=")
    normal = NORMAL.format(secret=secret)
    return {
        "normal": normal,
        "both": normal + "\necho '{\"reward\": '$(cat /logs/verifier/reward.txt)'}' > /logs/verifier/reward.json",
        "no-reward": "exit 1",
        "garbage": "echo not-a-number > /logs/verifier/reward.txt",
        "reward": f"echo {value} > /logs/verifier/reward.txt",
        "no-key": "echo '{\"accuracy\": 0.75}' > /logs/verifier/reward.json",
        "sleep": f"sleep {value}\n{normal}",
    }[kind]


def secret_of(name):
    """A word that occurs nowhere else; tests can recompute it."""
    return f"SECRET-{name}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def write_task(directory, name, kind, options):
    """Write one task directory and describe it."""
    behaviour, _, mode = kind.partition("+")
    secret = secret_of(name)
    path = directory / name
    for sub in ("environment", "tests", "solution"):
        (path / sub).mkdir(parents=True, exist_ok=True)
    package = PACKAGE.format(org=options.org, name=name) if options.org else ""
    (path / "instruction.md").write_text(INSTRUCTION.format(name=name, behaviour=behaviour, secret=secret))
    (path / "task.toml").write_text(TASK_TOML.format(
        package=package, agent_timeout=options.agent_timeout, verifier_timeout=options.verifier_timeout))
    (path / "environment" / "Dockerfile").write_text("FROM debian:stable-slim\nWORKDIR /app\n")
    (path / "tests" / "test.sh").write_text(TEST_SH.format(secret=secret, verdict=verdict(mode or "normal", secret)))
    (path / "tests" / "test.sh").chmod(0o755)
    (path / "solution" / "solve.sh").write_text(f"#!/bin/bash\necho {secret} > /app/answer.txt\n")
    task_name = f"{options.org}/{name}" if options.org else name
    return {"class": kind, "secret": secret, "path": str(path), "task_name": task_name}


def main():
    parser = argparse.ArgumentParser(description="Write small Harbor tasks for tests.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--task", action="append", default=[], metavar="NAME=CLASS")
    parser.add_argument("--agent-timeout", type=float, default=60.0)
    parser.add_argument("--verifier-timeout", type=float, default=30.0)
    parser.add_argument("--org", help="write [task] name = ORG/NAME into task.toml")
    parser.add_argument("--registry", type=Path, help="also write a registry file with dataset rig@1.0")
    options = parser.parse_args()
    directory = options.directory.resolve()
    tasks = {}
    for item in options.task:
        name, _, kind = item.partition("=")
        tasks[name] = write_task(directory, name, kind or "solved", options)
    if options.registry:
        entries = [{"name": name, "path": task["path"]} for name, task in tasks.items()]
        dataset = {"name": "rig", "version": "1.0", "description": "tasks for tests", "tasks": entries}
        options.registry.write_text(json.dumps([dataset], indent=1))
    print(json.dumps({"dataset": str(directory), "tasks": tasks}))


if __name__ == "__main__":
    main()
