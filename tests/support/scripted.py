"""What the scripted models on loopback have in common: requests and answers over HTTP, their log, and the format of
/chat/completions. What a model answers is its own affair: bird/stub.py, harbor/stub_model.py and model.py."""

import http.server
import json
import os
import threading
import time

LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing on stderr."""

    def request_body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def answer(self, status, data, kind="application/json", is_cut=False):
        """`is_cut`: half of it arrives, and the connection ends."""
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if is_cut else data)
        except ConnectionError:
            pass  # Whoever asked gave up waiting.
        self.close_connection |= is_cut


def serving(handler, port=0):
    """A server on loopback that answers many at a time and ends with its process."""
    http.server.ThreadingHTTPServer.request_queue_size = 256
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    return server


def note(path, entry):
    """A line of JSON in a log of requests."""
    with LOCK, open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def completion(model, text, calls):
    """An answer of /chat/completions: calls of tools as pairs of a name and arguments in JSON, or a text."""
    message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"type": "function", "id": f"call_{os.urandom(4).hex()}", "function": {"name": name, "arguments": arguments}}
            for name, arguments in calls
        ]
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 40}}
    return {
        "id": f"chatcmpl-{time.monotonic_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": usage,
    }
