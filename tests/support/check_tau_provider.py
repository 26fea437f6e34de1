#!/usr/bin/env python3
"""The tau-bench helper with the real tau2 and litellm, and a provider on loopback that fails in every way.

    python3 tests/support/check_tau_provider.py --python <venv>/bin/python --data <checkout>/data [FAULT...]

Needs an environment as for compare_tau.py; no keys, no network. Prints a line for each fault: outcome, requests, seconds.
Exit status 0 when every outcome is the expected one.
"""

import argparse
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
from tau_rig import BENCH, TEMPLATE  # noqa: E402

LIMIT = 24
# The fault is the name of the model: who is asked, what goes wrong, what the trial counts as.
FAULTS = [
    ("agent", fault, "infra_error") for fault in
    ("401", "403", "404", "429", "429wait", "500", "503", "529", "reset", "cut", "cutlength", "page", "page502", "error",
     "errortext", "null", "none", "choice", "empty200", "hang", "trickle")
] + [
    ("user", fault, "infra_error") for fault in ("401", "429", "500", "cut", "page", "error", "null", "hang")
] + [
    ("agent", "400", "agent_error"), ("agent", "context", "agent_error"), ("agent", "badjson", "agent_error"),
    ("agent", "nothing", "agent_error"), ("agent", "once", "graded"), ("agent", "busy", "graded"), ("agent", "o3", "graded"),
    ("user", "o3", "graded"), ("user", "once", "graded"),
    # What only this agent's requests are refused.
    *(("agent", f"only-{fault}", "agent_error") for fault in ("500", "page", "403", "null", "reset", "hang")),
    ("said", "500", "agent_error"), ("said", "400", "agent_error"),
]
PROBE = "Answer with this JSON object"


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    counts, lock = {}, threading.Lock()

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        role, _, fault = asked["model"].partition("-")
        with self.lock:
            count = self.counts[asked["model"]] = self.counts.get(asked["model"], 0) + 1
        text = json.dumps(asked["messages"])
        if fault.startswith("only-"):
            fault = "" if PROBE in text else fault.removeprefix("only-")
        if "<said" in text and role == "user":
            fault = text.partition("<said")[2][:3]
        if role == "said" or not self.fault(fault, count, asked):
            self.answer(role, asked)

    def fault(self, fault, count, asked):
        """Does what goes wrong; false when nothing does."""
        if fault == "429wait":
            self.give(429, {"error": {"message": "slow"}}, {"Retry-After": "60"})
        elif fault == "busy" and count < 3 or fault == "once" and count < 2:
            self.give(429 if fault == "busy" else 502, {"error": {"message": "slow"}}, {"Retry-After": "2"})
        elif fault.isdigit():
            self.give(int(fault), {"error": {"message": f"status {fault}", "type": "x", "code": None, "param": None}})
        elif fault == "context":
            words = "This model's maximum context length is 8 tokens."
            self.give(400, {"error": {"message": words, "code": "context_length_exceeded"}})
        elif fault == "o3" and "temperature" in asked:
            words = "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default is supported."
            self.give(400, {"error": {"message": words, "param": "temperature", "code": "unsupported_value"}})
        elif fault == "reset":
            self.close_connection = True
            self.connection.shutdown(2)
        elif fault == "cut":
            self.raw(b'{"choices": [{"message": {"role": "assistant", "content": "Hel')
        elif fault == "cutlength":
            self.raw(b'{"choices": [', length=900)
        elif fault in ("page", "page502"):
            self.raw(b"<html>Bad Gateway</html>", kind="text/html", status=502 if fault == "page502" else 200)
        elif fault == "empty200":
            self.raw(b"")
        elif fault in ("error", "errortext"):
            self.give(200, {"error": {"message": "upstream", "code": 502} if fault == "error" else "upstream failed"})
        elif fault == "null":
            self.give(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": None})
        elif fault == "none":
            self.give(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []})
        elif fault == "choice":
            self.say({"role": "assistant", "content": ""}, error={"code": 502, "message": "x"}, finish_reason="error")
        elif fault == "hang":
            threading.Event().wait(LIMIT * 2)
        elif fault == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while not threading.Event().wait(0.5):
                    self.wfile.write(b" ")
            except OSError:
                pass
        elif fault == "badjson":
            call = {"id": "c", "type": "function", "function": {"name": "create_task", "arguments": "{"}}
            self.say({"role": "assistant", "content": None, "tool_calls": [call]})
        elif fault == "nothing":
            self.say({"role": "assistant", "content": ""})
        else:
            return False
        return True

    def answer(self, role, asked):
        if PROBE in json.dumps(asked["messages"]):
            self.say({"role": "assistant", "content": "{}"})
        elif role == "user":
            said = sum(message["role"] == "assistant" for message in asked["messages"])
            self.say({"role": "assistant", "content": "Bye ###STOP###" if said else "Please create a task."})
        else:
            said = "<said" + asked["model"].partition("-")[2] if role == "said" else "Done."
            self.say({"role": "assistant", "content": said})

    def say(self, message, finish_reason="stop", **more):
        self.give(200, {
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **more}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        })

    def give(self, status, value, headers=None):
        self.raw(json.dumps(value).encode(), status, headers=headers)

    def raw(self, data, status=200, kind="application/json", length=None, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": length or len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)
        if length:
            self.close_connection = True


def request(role, fault, data):
    """A trial in which that goes wrong."""
    models = {"agent": "openai/agent", "user": "openai/user"}
    models["agent" if role == "said" else role] = f"openai/{role}-{fault}"
    return {
        "protocol": 1, "action": "run", "tasks": ["create_task_1"], "split": None, "trials": 1, "concurrency": 1, "seed": 300,
        "timeout_s": LIMIT, "keep_traces": True, "options": {"domain": "mock", "base_seed": 300, "data_dir": data},
        "agent": {"path": TEMPLATE, "model": models["agent"], "user_model": models["user"]},
    }


# Imports tau2 once, and is the helper once for each line of the list: importing takes longer than a trial.
NURSERY = """
import json, os, runpy, sys
bench, jobs, data = sys.argv[1:]
sys.path.insert(0, os.path.dirname(os.path.dirname(bench)))
from tau_bench import tasks
tasks.load_upstream(data)
sys.path.pop(0)
running = 0
for job in json.load(open(jobs)):
    if running == 4:
        os.wait()
        running -= 1
    running += 1
    if os.fork() == 0:
        os.dup2(os.open(job["in"], os.O_RDONLY), 0)
        os.dup2(os.open(job["out"], os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = [bench]
        runpy.run_path(bench, run_name="__main__")
        os._exit(0)
while running:
    os.wait()
    running -= 1
"""


def attempts(options, port, rows):
    """The trials' events, in the order of the rows."""
    with tempfile.TemporaryDirectory() as home:
        jobs = [{name: os.path.join(home, f"{number}.{name}") for name in ("in", "out")} for number in range(len(rows))]
        for job, (role, fault, _) in zip(jobs, rows):
            with open(job["in"], "w", encoding="utf-8") as file:
                file.write(json.dumps(request(role, fault, options.data)) + "\n")
        with open(os.path.join(home, "jobs"), "w", encoding="utf-8") as file:
            json.dump(jobs, file)
        variables = {"PATH": os.environ["PATH"], "HOME": home, "OPENAI_API_KEY": "none"}
        variables["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        subprocess.run(
            [options.python, "-B", "-c", NURSERY, options.bench, file.name, options.data], check=True, env=variables
        )
        for job in jobs:
            with open(job["out"], encoding="utf-8") as file:
                ended = [event for line in file if (event := json.loads(line))["event"] == "trial"]
            yield ended[0] if ended else {"outcome": "none", "seconds": 0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--bench", default=BENCH, help="another helper, to compare")
    parser.add_argument("faults", nargs="*", help="such as agent-cut")
    options = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rows = [row for row in FAULTS if not options.faults or f"{row[0]}-{row[1]}" in options.faults]
    wrong = 0
    for (role, fault, expected), event in zip(rows, attempts(options, server.server_port, rows)):
        found = "graded" if event["outcome"] in ("passed", "failed") else event["outcome"]
        wrong += found != expected
        print(
            f"{'ok   ' if found == expected else 'WRONG'} {role} {fault}: {event['outcome']} after {event['seconds']:.1f} s, "
            f"{Provider.counts.get(f'{role}-{fault}', 0)} requests; {event.get('error', '')[:150]}",
            flush=True,
        )
    print(f"{len(rows) - wrong} of {len(rows)} as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
