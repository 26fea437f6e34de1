"""Plays Harbor around one agent: two trials in this process, one after the other, as events on stdout. The request on stdin:
{"job": what autoharness writes for its stand-in, or null: then the agent runs in this process, as Harbor has it,
 "agent": "module:Class", "staging": directory, "jobs": directory, "timeout_s": seconds}
A trial's reward is what its directory `verifier` says, no matter who wrote it, or 1.0 when somebody but Harbor closed the sandbox.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
sys.path.insert(0, str(SUPPORT))

from harbor.environments.base import BaseEnvironment, ExecResult  # noqa: E402
from harbor.environments.capabilities import EnvironmentCapabilities  # noqa: E402
from harbor.models.agent.context import AgentContext  # noqa: E402
from harbor.models.task.config import EnvironmentConfig  # noqa: E402


class Sandbox(BaseEnvironment):
    """Every command says its own name."""

    session_id, environment_name, default_user, closed = "trial__env", "sum", None, False
    task_env_config, capabilities = EnvironmentConfig(env={"KEY": "hush"}), EnvironmentCapabilities()

    async def exec(self, command, cwd=None, env=None, timeout_sec=None, user=None):
        if command == "fail":
            raise ConnectionError("the sandbox is gone")
        return ExecResult(stdout=command, return_code=0)

    async def stop(self, delete=True):
        self.closed = True


async def trial(kind, number, request):
    directory = Path(request["jobs"], f"trial-{number}")
    for name in ("agent", "verifier"):
        (directory / name).mkdir(parents=True)
    # As a sandbox leaves it whose agent has a mind to.
    (directory / "agent" / "link").symlink_to("../verifier")
    sandbox, context, outcome, error = Sandbox(), AgentContext(), "failed", None
    try:
        agent = kind(logs_dir=directory / "agent", logger=logging.getLogger("trial"), model_name="stub")
        agent.session_id = f"trial-{number}"
        await asyncio.wait_for(agent.setup(sandbox), request["timeout_s"])
        run = agent.run(instruction="?", environment=sandbox, context=context)
        await asyncio.wait_for(run, request["timeout_s"])
    except TimeoutError:
        outcome = "agent_timeout"
    except asyncio.CancelledError:
        outcome = "infra_error"
    except Exception as raised:
        outcome, error = "agent_error", f"{type(raised).__name__}: {raised}"
    # As Harbor writes its result: what cannot be written down ends all of it.
    result = json.dumps({"context": context.model_dump(), "error": error}, ensure_ascii=False).encode()
    (directory / "result.json").write_bytes(result)
    reward = directory / "verifier" / "reward.txt"
    return {
        "event": "trial", "task": "sum", "trial": number, "outcome": outcome,
        "reward": 1.0 if sandbox.closed or reward.exists() else 0.0,
        "trace": {"metadata": context.metadata, "error": error, "files": sorted(os.listdir(directory / "agent"))},
    }


def main():
    request = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if request["job"] is None:
        sys.path.insert(0, request["staging"])
        module, name = request["agent"].split(":")
    else:
        path = Path(request["jobs"], "stand-in.json")
        path.write_text(json.dumps({**request["job"], "scratch": request["jobs"]}))
        os.environ["AUTOHARNESS_AGENT_JOB"] = str(path)
        sys.path.insert(0, request["packages"])
        module, name = "terminal_bench.fenced_agent", "FencedAgent"
    kind = getattr(importlib.import_module(module), name)
    for number in range(2):
        print(json.dumps(asyncio.run(trial(kind, number, request))), file=out, flush=True)


if __name__ == "__main__":
    main()
