"""Runs the tau-bench helper against the stand-in for tau2: what check_tau.py and check_tau_cheats.py share."""

import collections
import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BENCH = os.path.join(ROOT, "agent", "helpers", "tau_bench", "bench.py")
TEMPLATE = os.path.join(ROOT, "agent", "templates", "tau_bench.py")
STANDIN = os.path.join(HERE, "tau2_standin")
STANDIN_DATA = os.path.join(HERE, "tau2_standin_data")
KEY = "a-key-that-no-agent-may-see"
LIMIT = 20
# The older revision of tau2 refuses to replay tools that do not exist, the newer one passes over them.
REPLAYS = ({}, {"STANDIN_STRICT_REPLAY": "1"})
# Most of the time a helper waits, so there may be more of them than cores.
AT_ONCE = threading.BoundedSemaphore(8)

Result = collections.namedtuple("Result", "status events stderr")

HEAD = """
import gc, json, os, re, sys, threading, time
import litellm
from tau2.agent.base_agent import HalfDuplexAgent
from tau2.data_model.message import AssistantMessage, MultiToolMessage, SystemMessage, ToolCall
from tau2.utils.llm_utils import generate

def text(content):
    return AssistantMessage(role="assistant", content=content)

def call(tool, /, requestor="assistant", **arguments):
    calls = [ToolCall(id="c", name=tool, arguments=arguments, requestor=requestor)]
    return AssistantMessage(role="assistant", content=None, tool_calls=calls)
"""

CLASS = """
class HarnessAgent(HalfDuplexAgent):
    def __init__(self, tools, domain_policy, llm=None, llm_args=None, **more):
        super().__init__(tools=tools, domain_policy=domain_policy)
        self.llm, self.turn, self.given = llm, 0, {"tools", "domain_policy", "llm", "llm_args", *more}

    def get_init_state(self, message_history=None):
        return []

    def ask(self, state):
        return generate(model=self.llm, messages=state, tools=self.tools)

    def generate_next_message(self, message, state):
        state.extend(message.tool_messages if isinstance(message, MultiToolMessage) else [message])
        self.turn += 1
        said = self.reply(message, state)
        state.append(said)
        return said, state

    def reply(self, message, state):
"""


def environment(**variables):
    """What the program is started with: no more than a caller would give it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": STANDIN, "STUB_KEY": KEY, **variables}


def request(**fields):
    """A run of the mock domain with the template, save for what is given."""
    agent = {"path": fields.pop("agent", TEMPLATE), "model": fields.pop("model", "stub/x")}
    agent["user_model"] = fields.pop("user_model", "stub/user")
    options = {"domain": fields.pop("domain", "mock"), "base_seed": 300, **fields.pop("options", {})}
    return {
        "protocol": 1, "action": "run", "tasks": None, "split": None, "trials": 1, "concurrency": 3, "seed": 300,
        "timeout_s": LIMIT, "keep_traces": True, "agent": agent, "options": options, **fields,
    }


def bench(message, cwd=None, variables=None):
    """Runs the program on one request and returns how it went."""
    with AT_ONCE:
        done = subprocess.run(
            [sys.executable, "-B", BENCH], input=json.dumps(message) + "\n", capture_output=True, text=True, timeout=180,
            env=environment(**variables or {}), cwd=cwd,
        )
    return Result(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def trials(result):
    """Trial events by task and number; insists on a complete and orderly stream."""
    assert result.status == 0, f"exit {result.status}: {result.stderr}"
    started, ended = set(), {}
    for event in result.events:
        if event["event"] == "log":
            continue
        key = (event["task"], event["trial"])
        if event["event"] == "started":
            assert key not in started, f"{key} started twice"
            started.add(key)
        else:
            assert event["event"] == "trial" and key in started and key not in ended, f"out of order: {event}"
            ended[key] = event
    assert started == set(ended), "a started trial never ended"
    return ended


def run(cwd=None, variables=None, **fields):
    """Runs trials; their events by task."""
    return {task: event for (task, _), event in trials(bench(request(**fields), cwd, variables)).items()}


def one(task="easy", variables=None, **fields):
    """The event of a single trial."""
    return run(tasks=[task], variables=variables, **fields)[task]


@contextlib.contextmanager
def agent_file(body, head=""):
    """A temporary agent file with `body` as the statements of reply(message, state)."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "agent.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(HEAD + textwrap.dedent(head) + CLASS + textwrap.indent(textwrap.dedent(body), " " * 8))
        yield path


def one_of(body, task="easy", head="", **fields):
    """The event of a single trial of an agent with that body."""
    with agent_file(body, head) as path:
        return one(task, agent=path, **fields)


def side_by_side(attempt, rows):
    """Tries each row, all at the same time; fails with everything that was found."""
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
        findings = [future.exception() for future in [pool.submit(attempt, row) for row in rows]]
    found = [str(finding) or repr(finding) for finding in findings if finding]
    assert not found, "; ".join(found)


def landlock():
    """Landlock's version on this machine."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(BENCH)))
    from tau_bench import fence

    return fence.version()
