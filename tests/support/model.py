"""A model on loopback for tests of real coding agents: Anthropic's messages and OpenAI's responses, both with streaming.

model.py PLACE COMMAND...: runs COMMAND, which finds the model through ANTHROPIC_BASE_URL and ~/.codex/config.toml, and ends as
that ends. In a network namespace of its own, which it was started in or not, it switches loopback on.

`PLACE/steps.json` has what it answers, in order, however many sessions ask; an object a request:
  shell: a command line for the agent's shell
  write: [path, text]: a file, by the agent's own tool for that where it has one
  say: text; the session ends
  status: an HTTP status instead of an answer, with `say` as the message; `times`: so many requests get it
  hold: never answer; `PLACE/held` says that it waits
`PLACE/next` has how many of them are answered, `PLACE/asked.jsonl` gets a line a request, and `PLACE/pid` the process of COMMAND.
"""

import fcntl
import json
import os
import pathlib
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading

import scripted

PLACE = pathlib.Path(sys.argv[1])
USED = {"read": 1000, "written": 50}


def next_step():
    """The step that is to be answered; there is no other after the last."""
    with scripted.LOCK:
        steps = json.loads((PLACE / "steps.json").read_text(encoding="utf-8"))
        counter = PLACE / "next"
        done = json.loads(counter.read_text()) if counter.exists() else 0
        flat = [step for step in steps for _ in range(step.get("times", 1))]
        step = flat[done] if done < len(flat) else {"status": 400, "say": "the script has come to its end"}
        replace(counter, json.dumps(done + 1))
        return done, step


def replace(path, text):
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


class Handler(scripted.Handler):
    def do_HEAD(self):
        self.answer(200, b"")

    def do_GET(self):
        self.answer(200, b'{"data": [], "models": []}')

    def do_POST(self):
        body = self.request_body()
        path = self.path.partition("?")[0]
        tools = [tool.get("name", tool.get("type")) for tool in body.get("tools") or []]
        # Requests on the side, for a title or a count of tokens, are no turns of the session.
        turn = bool(tools) and path in ("/v1/messages", "/v1/responses")
        number, step = next_step() if turn else (None, {"say": "aside"})
        key = self.headers.get("x-api-key") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        line = {"path": path, "step": number, "tools": tools, "key": key, "model": body.get("model"), "body": body}
        scripted.note(PLACE / "asked.jsonl", line)
        if "hold" in step:
            (PLACE / "held").touch()
            threading.Event().wait()
        if "status" in step:
            kind = "rate_limit_error" if step["status"] == 429 else "invalid_request_error"
            error = {"type": "error", "error": {"type": kind, "message": step["say"]}}
            return self.answer(step["status"], json.dumps(error).encode())
        if path == "/v1/messages":
            return self.anthropic(body, number, step)
        if path == "/v1/responses":
            return self.openai(body, number, step, tools)
        return self.answer(200, b'{"input_tokens": 1}')

    def stream(self, events):
        body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self.answer(200, body.encode(), "text/event-stream")

    def anthropic(self, body, number, step):
        if "shell" in step:
            block = {"type": "tool_use", "name": "Bash", "input": {"command": step["shell"], "description": "a step"}}
        elif "write" in step:
            path, text = step["write"]
            full = os.path.join(self.directory(body), path)
            block = {"type": "tool_use", "name": "Write", "input": {"file_path": full, "content": text}}
        else:
            block = {"type": "text", "text": step["say"]}
        usage = {"input_tokens": USED["read"], "output_tokens": USED["written"]}
        usage.update(cache_creation_input_tokens=0, cache_read_input_tokens=0)
        message = {"id": f"msg_{number}_{os.getpid()}", "type": "message", "role": "assistant", "content": [], "usage": usage}
        message.update(model=body.get("model"), stop_reason=None, stop_sequence=None)
        stop = "end_turn" if block["type"] == "text" else "tool_use"
        if block["type"] == "tool_use":
            block["id"] = f"toolu_{number}"
        if not body.get("stream"):
            return self.answer(200, json.dumps({**message, "content": [block], "stop_reason": stop}).encode())
        if block["type"] == "text":
            start, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            start = {**block, "input": {}}
        return self.stream([
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ])

    def directory(self, body):
        """Where the session is at work: its tool for files wants whole paths."""
        text = json.dumps(body)
        for sign in ("Primary working directory: ", "Working directory: "):
            if sign in text:
                return text.split(sign, 1)[1].split("\\n", 1)[0].split('"', 1)[0].strip()
        return ""

    def openai(self, body, number, step, tools):
        command = step.get("shell")
        if "write" in step:
            path, text = step["write"]
            if "apply_patch" in tools:
                lines = "".join(f"+{line}\n" for line in text.splitlines())
                patch = f"*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch"
                item = {"type": "custom_tool_call", "name": "apply_patch", "input": patch}
            else:
                command = f"printf %s {shlex.quote(text)} > {shlex.quote(path)}"
        if command is not None:
            name = next(name for name in ("exec_command", "shell_command", "shell") if name in tools)
            arguments = {
                "exec_command": {"cmd": command},
                "shell_command": {"command": command},
                "shell": {"command": ["bash", "-c", command]},
            }[name]
            item = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
        elif "say" in step:
            item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": step["say"]}]}
        item["id"] = f"item_{number}"
        if item["type"] != "message":
            item["call_id"] = f"call_{number}"
        usage = {"input_tokens": USED["read"], "output_tokens": USED["written"]}
        usage.update(total_tokens=sum(USED.values()), input_tokens_details={"cached_tokens": 0})
        usage.update(output_tokens_details={"reasoning_tokens": 0})
        response = {"id": f"resp_{number}", "object": "response", "model": body.get("model")}
        return self.stream([
            {"type": "response.created", "response": {**response, "status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {**response, "status": "completed", "output": [item], "usage": usage}},
        ])


def loopback():
    """Switches loopback on, where that is ours to do."""
    request = struct.pack("16sh14x", b"lo", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            flags = struct.unpack_from("h", fcntl.ioctl(made, 0x8913, request), 16)[0]
            if not flags & 1:
                fcntl.ioctl(made, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))
        except OSError as error:
            print(f"loopback: {error}", file=sys.stderr)


def main():
    if sys.platform == "linux":
        loopback()
    server = scripted.serving(Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    codex = pathlib.Path(os.environ["HOME"], ".codex")
    codex.mkdir(exist_ok=True)
    replace(codex / "config.toml", f"""model = "stub-model"
model_provider = "stub"
[model_providers.stub]
name = "stub"
base_url = "{url}/v1"
env_key = "STUB_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
""")
    child = subprocess.Popen(sys.argv[2:], env={**os.environ, "ANTHROPIC_BASE_URL": url})
    # Signals of the terminal are for the command; it decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replace(PLACE / "pid", str(child.pid))
    code = child.wait()
    sys.exit(code if code >= 0 else 128 - code)


main()
