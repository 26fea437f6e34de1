"""One call of a model with a tool, through google-adk's own model class, against a model of our own on loopback.

Imports prove nothing: some releases of litellm import a package that they do not declare, only when a request has tools.
Prints nothing and exits 0 when the call works; else the exception.
"""

import asyncio
import http.server
import json
import os
import threading

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "probe", "arguments": '{"word": "here"}'}}
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Model(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def probe(word: str) -> str:
    """Says that the call arrived."""
    return word


async def call(base):
    from google.adk import Agent
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    # Nobody's real key or address may play a part in this.
    model = LiteLlm(model="openai/probe", api_base=base, api_key="probe", num_retries=0)
    runner = InMemoryRunner(
        agent=Agent(name="probe", model=model, instruction="Probe.", tools=[probe]), app_name="probe"
    )
    session = await runner.session_service.create_session(app_name="probe", user_id="u")
    message = types.Content(role="user", parts=[types.Part(text="go")])
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=message):
        for part in event.content.parts if event.content else []:
            if part.function_response and "here" in str(part.function_response.response):
                return
    raise RuntimeError("the tool was not called")


def main():
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(call(f"http://127.0.0.1:{server.server_address[1]}/v1"))


if __name__ == "__main__":
    main()
