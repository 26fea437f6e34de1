"""Check, before money is spent, that the agent can reach a model through the installed packages.

    PYTHONPATH=<staging root> <harbor's python> canary.py [--run] [--timeout 120]

In order: Harbor and litellm can be imported, `agent.agent:HarnessAgent` can be imported and constructed, and one
completion with `tools=` goes through litellm to a stub on loopback that this program starts itself. With `--run` the
agent then also works on a trivial task in a pretended sandbox, against the same stub. No key is used, no request
leaves this machine.

With `--behind` all of it happens behind a fence that these words start, but for the network: the agent file is foreign code.

Prints one JSON object and exits 0 or 1:
{"ok": bool, "stage": last stage reached, "error": str|null, "hint": str|null, "harbor": version, "litellm": version,
 "python": version, "seconds": float}
Stages: packages, import, construct, model_call, run. The agent file is foreign code and may end the process: no
JSON at all means that it did.
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

TOOLS = [{"type": "function", "function": {
    "name": "bash", "description": "Run a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}}]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Stub(BaseHTTPRequestHandler):
    """A model that answers a request with tools by a call of the first tool, and is done after that."""

    requests = []

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.requests.append(request)
        messages = request.get("messages") or []
        tools = request.get("tools") or []
        if tools and not any(message.get("role") == "tool" for message in messages):
            call = {"name": tools[0]["function"]["name"], "arguments": json.dumps({"command": "true"})}
            message = {"role": "assistant", "content": None,
                       "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
        else:
            message = {"role": "assistant", "content": "done"}
        body = json.dumps({
            "id": "canary", "object": "chat.completion", "created": int(time.time()), "model": "canary",
            "choices": [{"index": 0, "message": message,
                         "finish_reason": "tool_calls" if message.get("tool_calls") else "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing on stderr."""


class PretendedSandbox:
    """Answers every command with success."""

    async def exec(self, command, **_):
        return SimpleNamespace(return_code=0, stdout="ok\n", stderr="")


class Failure(Exception):
    """A check that did not hold, with what to do about it."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


def version(package):
    """The installed version, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages():
    """Everything that the agent's model call needs is installed."""
    for package, wanted in (("harbor", "harbor"), ("litellm", "litellm[mcp]"), ("mcp", "litellm[mcp]")):
        if importlib.util.find_spec(package) is None:
            raise Failure(f"no module named '{package}'", f"pip install '{wanted}' next to harbor")


def construct(agent_class, directory):
    """An instance, as Harbor makes it."""
    return agent_class(logs_dir=directory, model_name="openai/canary", logger=logging.getLogger("canary"))


async def model_call(base):
    """One completion with a tool, answered by a tool call."""
    import litellm

    litellm.suppress_debug_info = True
    response = await litellm.acompletion(
        model="openai/canary", messages=[{"role": "user", "content": "canary"}], tools=TOOLS,
        api_base=base, api_key="canary", timeout=30, max_retries=0)
    if not response.choices[0].message.tool_calls:
        raise Failure("the stub's tool call did not arrive")


async def run_agent(agent):
    """The agent's own loop, from the instruction to its end."""
    from harbor.models.agent.context import AgentContext

    before = len(Stub.requests)
    context, sandbox = AgentContext(), PretendedSandbox()
    await agent.setup(sandbox)
    await agent.run("This is a check of the setup: run `true` and finish.", sandbox, context)
    if len(Stub.requests) == before:
        raise Failure("the agent ended without a model call")
    if not context.n_output_tokens:
        raise Failure("the agent reported no tokens", "set context.n_input_tokens and n_output_tokens in run()")


async def calls(agent, base, options, report):
    """The two stages that talk to the stub."""
    report["stage"] = "model_call"
    await asyncio.wait_for(model_call(base), options.timeout)
    if options.run:
        report["stage"] = "run"
        await asyncio.wait_for(run_agent(agent), options.timeout)


def check(options, report):
    """Carry out the stages; `report["stage"]` says how far it came."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    # Set before litellm and the agent are imported, so that neither sees a real address or key.
    os.environ.update(OPENAI_API_BASE=base, OPENAI_BASE_URL=base, OPENAI_API_KEY="canary", AGENT_MODEL="openai/canary",
                      LITELLM_LOCAL_MODEL_COST_MAP="True", HARBOR_TELEMETRY="0", AGENT_MODEL_RETRIES="0")
    os.environ.pop("AGENT_REASONING_EFFORT", None)
    for name in PROXIES:
        os.environ.pop(name, None)

    report["stage"] = "packages"
    packages()
    report["stage"] = "import"
    module = importlib.import_module("agent.agent")
    if not hasattr(module, "HarnessAgent"):
        raise Failure(f"{module.__file__} defines no class HarnessAgent")
    with tempfile.TemporaryDirectory() as directory:
        report["stage"] = "construct"
        agent = construct(module.HarnessAgent, Path(directory))
        asyncio.run(calls(agent, base, options, report))


def go_behind(options):
    """Starts over behind the fence. Nothing of the agent has run yet, so what this interpreter says of itself is true."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__), *sys.path}
    words = [*options.behind, "--network", "--output"]
    words += [word for place in sorted(filter(os.path.isdir, places)) for word in ("--read", place)]
    words += [word for name in os.environ for word in ("--env", name)]
    again = [sys.executable, "-B", os.path.abspath(__file__), "--timeout", str(options.timeout), *["--run"] * options.run]
    os.execv(words[0], [*words, "--", *again])


def main():
    parser = argparse.ArgumentParser(description="Check the agent's packages and its model call, without money.")
    parser.add_argument("--run", action="store_true", help="also run the agent on a trivial task")
    parser.add_argument("--behind", type=json.loads, help="a JSON list of the words that start a fence")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each of the two calls")
    options = parser.parse_args()
    if options.behind:
        go_behind(options)
    # The agent and its libraries may print; the answer has stdout to itself.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    started = time.monotonic()
    report = {"ok": False, "stage": None, "error": None, "hint": None, "harbor": version("harbor"),
              "litellm": version("litellm"), "python": platform.python_version()}
    try:
        check(options, report)
        report["ok"] = True
    except BaseException as error:  # SystemExit from the agent file included.
        report["error"] = f"{type(error).__name__}: {error}"[:2000]
        report["hint"] = getattr(error, "hint", None)
        if isinstance(error, Failure):
            report["error"] = str(error)
        elif "No module named" in report["error"]:
            report["hint"] = "install the missing package into harbor's environment"
    report["seconds"] = round(time.monotonic() - started, 2)
    print(json.dumps(report), file=answer, flush=True)
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
