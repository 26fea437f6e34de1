"""Checks the agent template of terminal-bench: the real Harbor classes and litellm, a model on loopback, bash as the sandbox.

    <venv with harbor>/bin/python tests/support/check_terminal_template.py [NAME...]

Exit status 0 when everything holds.
"""

import asyncio
import hashlib
import http.server
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import types

sys.dont_write_bytecode = True
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True", HARBOR_TELEMETRY="0", OPENAI_API_KEY="none", ANTHROPIC_API_KEY="none",
    AGENT_MODEL="openai/stub",
)
TEMPLATE = pathlib.Path(__file__).resolve().parents[2] / "agent/templates/terminal_bench.py"
OUTPUT = "x" * 30_000


class Model(http.server.BaseHTTPRequestHandler):
    """Gives the next of `answers`: a status, bytes, a command to run, or None for the last word. Refuses temperatures."""

    protocol_version = "HTTP/1.1"
    answers, requests, times = [], [], []

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Model.requests.append(asked)
        Model.times.append(time.monotonic())
        answer = Model.answers.pop(0) if Model.answers else None
        if asked.get("temperature") not in (None, 1):
            answer = 400
        headers = {}
        if isinstance(answer, tuple):
            answer, headers = answer
        if isinstance(answer, int):
            self.give(answer, json.dumps({"error": {"message": f"status {answer}"}}).encode(), headers)
        elif isinstance(answer, bytes):
            self.give(200, answer, headers)
        elif answer == "hang":
            threading.Event().wait(30)
        elif self.path.endswith("/messages"):
            self.give(200, json.dumps({
                "id": "x", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use" if answer else "end_turn",
                "content": [{"type": "tool_use", "id": "c1", "name": "bash", "input": {"command": answer}}] if answer
                else [{"type": "text", "text": "Done."}], "usage": {"input_tokens": 9, "output_tokens": 3},
            }).encode(), headers)
        else:
            message = {"role": "assistant", "content": None if answer else "Done."}
            if answer:
                function = {"name": "bash", "arguments": json.dumps({"command": answer})}
                message["tool_calls"] = [{"id": f"c{len(Model.requests)}", "type": "function", "function": function}]
            self.give(200, json.dumps({
                "id": "x", "object": "chat.completion", "created": 1, "model": "stub",
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if answer else "stop"}],
                "usage": {"prompt_tokens": len(json.dumps(asked["messages"])) // 4, "completion_tokens": 1, "total_tokens": 2},
            }).encode(), headers)

    def give(self, status, data, headers):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)


class Sandbox:
    """Bash in a directory."""

    environment_name = "some-task"

    def __init__(self, directory):
        self.directory = directory

    async def exec(self, command, timeout_sec=None, **_):
        command = command.replace("/tmp/.shell-state", f"{self.directory}/shell-state")
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", command, cwd=self.directory, stdout=-1, stderr=-1, stdin=asyncio.subprocess.DEVNULL
        )
        out, err = await asyncio.wait_for(process.communicate(), timeout_sec)
        return types.SimpleNamespace(stdout=out.decode(), stderr=err.decode(), return_code=process.returncode)


def run(*answers, limit=None, change=None, within=None, **variables):
    """Has the template do a task; returns its trace, the requests of the model, and what was raised."""
    Model.answers, Model.requests, Model.times = list(answers), [], []
    for name in ("AGENT_TIME_LIMITS", "AGENT_MODEL_RETRIES"):
        os.environ.pop(name, None)
    os.environ["AGENT_MODEL"] = "openai/stub"
    if limit:
        os.environ["AGENT_TIME_LIMITS"] = json.dumps({hashlib.sha256(b"some-task").hexdigest()[:16]: limit})
    os.environ.update(variables)
    specification = importlib.util.spec_from_file_location("agent_under_test", TEMPLATE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.RETRY_WAIT_SEC = 0.2
    for name, value in (change or {}).items():
        assert hasattr(module, name), name
        setattr(module, name, value)
    raised = None
    with tempfile.TemporaryDirectory() as directory:
        logs = pathlib.Path(directory, "logs")
        logs.mkdir()
        pathlib.Path(directory, "app").mkdir()
        agent, context = module.HarnessAgent(logs_dir=logs), types.SimpleNamespace()
        work = agent.run("Do it.", Sandbox(f"{directory}/app"), context)
        try:
            asyncio.run(asyncio.wait_for(work, within))
        except Exception as error:
            raised = error
        trace = json.loads((logs / "trace.json").read_text())
    assert context.metadata["stopped"] == trace["stopped"], context
    return trace, Model.requests, raised


def check_no_temperature_is_sent():
    trace, requests, raised = run("echo hi")
    assert raised is None and trace["stopped"] == "finished", trace
    assert not any("temperature" in request for request in requests), requests


def check_output_is_cut_once_and_truthfully():
    trace, requests, _ = run(f"head -c 100000 /dev/zero | tr '\\0' x; echo END; head -c 50000 /dev/zero | tr '\\0' y >&2")
    text = next(message["content"] for message in trace["messages"] if message["role"] == "tool")
    assert text.count("characters left out]") == 1, text[:200]
    before, _, rest = text.partition("\n[")
    cut, _, rest = rest.partition(" of ")
    whole, _, after = rest.partition(" characters left out]\n")
    assert len(before) + len(after) + int(cut) == int(whole), (len(before), len(after), cut, whole)
    assert int(whole) == len("exit code: 0\nstdout:\n") + 100_004 + len("\nstderr:\n") + 50_000, whole
    sent = next(message["content"] for message in requests[-1]["messages"] if message["role"] == "tool")
    assert sent == text


def check_a_first_look_at_the_sandbox():
    _, requests, _ = run()
    first = requests[0]["messages"][1]["content"]
    assert first.startswith("Do it.") and "/app" in first and "git" in first and "exit code: 0" in first, first
    _, requests, _ = run(change={"FIRST_LOOK": ""})
    assert requests[0]["messages"][1]["content"] == "Do it.", requests


def check_how_it_went_is_in_the_trace():
    trace, _, _ = run("sleep 1", limit=300)
    assert trace["stopped"] == "finished" and trace["limit_seconds"] == 300 and trace["seconds"] >= 1, trace
    assert trace["started_at"].endswith("+00:00"), trace
    slept = [entry for entry in trace["timeline"] if entry["what"] == "command" and entry["step"] == 1]
    assert [(entry["exit_code"], entry["seconds"] >= 1) for entry in slept] == [(0, True)], trace["timeline"]
    assert sum(entry["what"] == "model call" for entry in trace["timeline"]) == 2, trace["timeline"]
    trace, _, _ = run("true", "true", change={"MAX_STEPS": 1})
    assert trace["stopped"] == "step limit" and trace["limit_seconds"] is None, trace
    trace, _, raised = run("sleep 60", within=8)
    assert isinstance(raised, TimeoutError) and "time limit" in trace["stopped"], (raised, trace["stopped"])
    trace, _, raised = run(404, AGENT_MODEL_RETRIES="0")
    assert trace["stopped"] == f"raised {type(raised).__name__}", (raised, trace["stopped"])


def check_passing_trouble_is_waited_for():
    trace, _, raised = run((429, {"Retry-After": "3"}), 503, "true")
    assert raised is None and trace["stopped"] == "finished", raised
    assert Model.times[1] - Model.times[0] >= 3, Model.times
    failed = [entry["error"] for entry in trace["timeline"] if entry["what"] == "failed model call"]
    assert failed == ["RateLimitError", "ServiceUnavailableError"], failed


def check_retries_span_minutes_and_differ():
    specification = importlib.util.spec_from_file_location("agent_under_test", TEMPLATE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    spans = {sum(module.retry_wait(None, attempt) for attempt in range(module.MODEL_RETRIES)) for _ in range(20)}
    assert len(spans) == 20 and 100 < min(spans) and max(spans) < 300, spans


def check_replies_without_an_answer():
    for body in (b'{"choices": [{"message": {"rol', b"<html>502</html>", b'{"error": {"code": 502, "message": "x"}}',
                 b'{"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": null}', b"",
                 b'{"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'):
        trace, requests, raised = run(body, "true")
        assert raised is None and len(requests) == 3, (body, raised)
        _, requests, raised = run(body, body, AGENT_MODEL_RETRIES="1")
        assert len(requests) == 2 and type(raised).__module__.startswith("harbor."), (body, raised)


def check_a_failure_is_told_before_the_time_limit():
    begun = time.monotonic()
    trace, _, raised = run(*[(429, {"Retry-After": "60"})] * 9, limit=40)
    assert time.monotonic() - begun < 30 and trace["stopped"] == "raised ApiRateLimitError", trace["stopped"]
    trace, _, raised = run("hang", "hang", limit=16, within=16)
    assert trace["stopped"] == f"raised {type(raised).__name__}" and not isinstance(raised, TimeoutError), trace["stopped"]


def check_old_output_is_left_out_before_the_window_is_full():
    commands = [f"echo {number}; head -c 5000 /dev/zero | tr '\\0' x" for number in range(12)]
    trace, requests, raised = run(*commands, change={"CONTEXT_TOKENS": 10_000})
    assert raised is None and trace["stopped"] == "finished", raised
    assert max(len(json.dumps(request["messages"])) for request in requests) < 40_000, "the window was overrun"
    last = [message["content"] for message in requests[-1]["messages"] if message["role"] == "tool"]
    assert len(last) == 12 and "was shown earlier" in last[0] and "of 502" in last[0], last[0]
    assert all("earlier" not in text for text in last[-4:]), "the newest stay whole"
    kept = [message["content"] for message in trace["messages"] if message["role"] == "tool"]
    assert all(len(text) > 5000 for text in kept) and trace["left_out"], "the trace is whole"
    # A window that is smaller than expected.
    words = "This model's maximum context length is 9 tokens. However, your messages resulted in 99 tokens."
    full = json.dumps({"error": {"message": words, "code": "context_length_exceeded"}})
    commands[8:8] = [(400, {})]
    original = Model.give
    try:
        Model.give = lambda self, status, data, headers: original(self, status, full.encode() if status == 400 else data, headers)
        trace, requests, raised = run(*commands)
    finally:
        Model.give = original
    assert raised is None and trace["left_out"] == [3, 5, 7, 9], (raised, trace["left_out"])


def check_the_prompt_is_cached():
    base = os.environ["OPENAI_API_BASE"].removesuffix("/v1")
    _, requests, raised = run("echo hi", "echo ho", AGENT_MODEL="anthropic/claude-sonnet-4-5", ANTHROPIC_API_BASE=base)
    assert raised is None and len(requests) == 3, raised
    for request in requests:
        assert "cache_control" in json.dumps(request["system"]), request["system"]
        assert "cache_control" in json.dumps(request["messages"][-1]), request["messages"][-1]
        assert json.dumps(request).count("cache_control") <= 4
    _, requests, _ = run("echo hi")
    assert "cache_control" not in json.dumps(requests)


def check_a_persistent_shell():
    commands = ["mkdir -p deep && cd deep && WORD='two words' && greet() { echo hello $1; }", "pwd; echo [$WORD]; greet you; exit 3", "pwd"]
    trace, requests, _ = run(*commands, change={"PERSISTENT_SHELL": True})
    said = [message["content"] for message in trace["messages"] if message["role"] == "tool"]
    assert "exit code: 0" in said[0] and said[0].count("\n") == 0, said[0]
    assert said[1].startswith("exit code: 3") and "/app/deep\n[two words]\nhello you\n" in said[1], said[1]
    assert said[2].rstrip().endswith("/app/deep"), said[2]
    assert "carry over from" in requests[0]["messages"][0]["content"]
    trace, requests, _ = run(*commands)
    said = [message["content"] for message in trace["messages"] if message["role"] == "tool"]
    assert "/app\n[]\n" in said[1] and "do not carry over" in requests[0]["messages"][0]["content"], said[1]


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["OPENAI_API_BASE"] = f"http://127.0.0.1:{server.server_port}/v1"
    checks = {name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")}
    failed = 0
    for name in sys.argv[1:] or checks:
        begun = time.monotonic()
        try:
            checks[name]()
            verdict = "ok"
        except Exception as error:
            verdict, failed = f"FAILED: {type(error).__name__}: {error}"[:1500], failed + 1
        print(f"{name} ({time.monotonic() - begun:.1f} s): {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
