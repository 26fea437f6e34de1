"""A scripted model on loopback: an OpenAI-compatible server that costs nothing and does what the task says.

    python stub_model.py [--log requests.jsonl] [--script behaviours.json] [--port 0]

prints {"port": N, "base": "http://127.0.0.1:N/v1"} as its first line and serves until it is ended. The agent gets
`OPENAI_API_BASE=<base>`, any `OPENAI_API_KEY`, and a model name such as `openai/stub`.

What to do comes from the marker line that make_dataset.py writes into an instruction:

    [stub task=NAME behaviour=BEHAVIOUR secret=SECRET]

unless the script file, read anew for every request, says otherwise: {"NAME": "BEHAVIOUR", "*": "BEHAVIOUR"}.

Behaviours (BEHAVIOUR:ARGUMENT):
  solved                   one bash call that solves the task, then finish
  capability:WORD          like `solved` if the system prompt contains WORD, else finish without doing anything
  never                    finish without doing anything
  endless                  one more bash call in every turn, forever (agent timeout, step limit)
  solved-endless           solve in the first turn, then go on forever
  delay:SECONDS            wait before every answer, then as `solved`
  status:CODE              HTTP CODE with a provider-like error body, always
  status-once:CODE         HTTP CODE on the first request for the task, then as `solved`
  status-after:CODE        the first turn is a bash call; after it HTTP CODE
  slow-command:SECONDS     a command with timeout_sec 2 that takes SECONDS, then as `solved`
  malformed                calls that make no sense (broken JSON, no command, an unknown tool), then as `solved`
  forge                    writes reward.json itself, then finish
  background               leaves a process behind in the sandbox, then as `solved`

Each request appends one JSON line to the log: time, task, behaviour, turn, status, path, tools, model, effort.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import scripted  # noqa: E402

MARKER = re.compile(r"\[stub task=(\S+) behaviour=(\S+) secret=([^\s\]]+)\]")
ERROR_CODES = {401: "invalid_api_key", 403: "permission_denied", 404: "model_not_found", 429: "rate_limit_exceeded"}
SEEN = {}


def bash(command, **more):
    """A tool call of the agent's one tool."""
    return {"name": "bash", "arguments": json.dumps({"command": command, **more})}


def decide(behaviour, task, secret, system, turn):
    """What to answer in this turn: an HTTP status (int), a tool call (dict), or a last word (str)."""
    kind, _, argument = behaviour.partition(":")
    solve = bash(f"echo {secret} > /app/answer.txt && cat /app/answer.txt")
    script = {
        "solved": [solve],
        "delay": [solve],
        "never": [],
        "capability": [solve] if argument in system else [],
        "forge": [bash("mkdir -p /logs/verifier && echo '{\"reward\": 1}' > /logs/verifier/reward.json")],
        "background": [bash("setsid nohup sleep 600 >/dev/null 2>&1 & echo started"), solve],
        "slow-command": [bash(f"echo {secret}-before; sleep {argument}", timeout_sec=2), solve],
        "malformed": [
            {"name": "bash", "arguments": '{"command": '},
            {"name": "bash", "arguments": "{}"},
            {"name": "browser", "arguments": "{}"},
            solve,
        ],
    }
    if kind == "status":
        return int(argument)
    if kind == "status-once":
        with scripted.LOCK:
            SEEN[task] = SEEN.get(task, 0) + 1
        return int(argument) if SEEN[task] == 1 else decide("solved", task, secret, system, turn)
    if kind == "status-after":
        return int(argument) if turn else bash("echo first")
    if kind in ("endless", "solved-endless"):
        return solve if kind == "solved-endless" and turn == 0 else bash(f"sleep 0.3; echo turn {turn}")
    if kind == "delay":
        time.sleep(float(argument))
    steps = script[kind]
    return steps[turn] if turn < len(steps) else f"Done with {task}."


def chat_completion(model, answer):
    """An answer in the format of /chat/completions."""
    if isinstance(answer, dict):
        return scripted.completion(model, None, [(answer["name"], answer["arguments"])])
    return scripted.completion(model, answer, [])


def response_object(model, answer):
    """The same in the format of /responses, which litellm uses for some models with a reasoning effort."""
    if isinstance(answer, dict):
        number = time.monotonic_ns()
        item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "status": "completed", **answer}
    else:
        item = {"type": "message", "id": f"msg_{time.monotonic_ns()}", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": answer, "annotations": []}]}
    return {
        "id": f"resp_{time.monotonic_ns()}", "object": "response", "created_at": int(time.time()), "model": model,
        "status": "completed", "output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": None, "top_p": None,
        "usage": {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 10,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 110},
    }


class Handler(scripted.Handler):
    """One request of the agent."""

    options = None

    def do_POST(self):
        request = self.request_body()
        responses = self.path.endswith("/responses")
        messages = request.get("input") if responses else request.get("messages")
        if not isinstance(messages, list):
            messages = [{"role": "user", "content": str(messages)}]
        texts = [json.dumps(message, ensure_ascii=False) for message in messages]
        system = (request.get("instructions") or "") + "".join(
            text for text, message in zip(texts, messages) if message.get("role") in ("system", "developer"))
        # One turn is one tool call already made; failed requests are no turns.
        turn = sum(message.get("role") == "tool" or message.get("type") == "function_call_output" for message in messages)
        found = MARKER.search("\n".join(texts))
        task, behaviour, secret = found.groups() if found else ("?", "never", "none")
        if self.options.script and self.options.script.exists():
            script = json.loads(self.options.script.read_text())
            behaviour = script.get(task, script.get("*", behaviour))
        answer = decide(behaviour, task, secret, system, turn)
        status = answer if isinstance(answer, int) else 200
        self.record(request, task=task, behaviour=behaviour, turn=turn, status=status)
        if isinstance(answer, int):
            code = ERROR_CODES.get(status, "server_error")
            body = {"error": {"message": f"stub refuses: {code}", "type": code, "param": None, "code": code}}
        else:
            body = (response_object if responses else chat_completion)(request.get("model"), answer)
        self.answer(status, json.dumps(body).encode())

    def record(self, request, **entry):
        if not self.options.log:
            return
        entry = {"time": time.time(), **entry, "path": self.path, "tools": len(request.get("tools") or []),
                 "model": request.get("model"),
                 "effort": request.get("reasoning_effort") or (request.get("reasoning") or {}).get("effort"),
                 "keys": sorted(request)}
        scripted.note(self.options.log, entry)


def main():
    parser = argparse.ArgumentParser(description="A scripted OpenAI-compatible model on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--script", type=Path)
    Handler.options = parser.parse_args()
    server = scripted.serving(Handler, Handler.options.port)
    port = server.server_address[1]
    print(json.dumps({"port": port, "base": f"http://127.0.0.1:{port}/v1"}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
