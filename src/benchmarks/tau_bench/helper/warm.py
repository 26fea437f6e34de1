"""What the parent does once so that no trial has to: connections' limits, late imports, schemas and caches of first use."""

import importlib
import json
import threading
from concurrent import futures

# Replies of a made-up model: each kind of reply takes ways through litellm that the other does not.
CALLS = [{"id": "x", "type": "function", "function": {"name": "x", "arguments": "{}"}}]
REPLIES = [{"content": None, "tool_calls": CALLS}, {"content": "x"}]
NOWHERE = "http://127.0.0.1:9/v1"


def open_connections(upstream):
    """Gives litellm a client whose limits no trial can reach: tau2's allows ten connections to all of a run's trials.
    Connections are opened after the fork, by each runner process."""
    try:
        import httpx
    except ImportError:
        return
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
    upstream.litellm.client_session = httpx.Client(limits=limits)


def warm_up(upstream, tools, model):
    """Has model calls answered from memory. Nothing is sent, no thread is started (those do not survive a fork), and
    nothing but time depends on it: other versions have other parts."""
    try:
        with _NoThreads():
            _model_calls(upstream, tools, model)
    except Exception:
        pass


def _model_calls(upstream, tools, model):
    import httpx

    importlib.import_module("litellm.llms.openai_like.dynamic_config")
    replies = iter(REPLIES)

    def answer(_):
        message = {"role": "assistant", **next(replies)}
        return httpx.Response(200, json={
            "id": "x", "created": 1, "model": model.rpartition("/")[2], "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        })

    litellm, session = upstream.litellm, upstream.litellm.client_session
    call = upstream.ToolCall(id="x", name="x", arguments={})
    messages = [
        upstream.UserMessage(role="user", content="x"),
        upstream.AssistantMessage(role="assistant", content=None, tool_calls=[call]),
        upstream.ToolMessage(id="x", role="tool", content="x"),
    ]
    litellm.client_session = httpx.Client(transport=httpx.MockTransport(answer))
    try:
        for offered in (tools, None):
            said = upstream.llm_utils.generate(
                model=f"openai/{model.rpartition('/')[2]}", messages=messages, tools=offered, temperature=0.0, seed=1,
                timeout=5.0, num_retries=0, api_key="x", api_base=NOWHERE,
            )
            json.dumps(said.model_dump(mode="json", exclude={"raw_data", "cost", "usage"}))
    finally:
        litellm.client_session = session
        litellm.in_memory_llm_clients_cache.flush_cache()  # The client that is answered from memory is in it.


class _NoThreads:
    """While it is entered, work meant for another thread is dropped."""

    def __enter__(self):
        self._submit, self._start = futures.ThreadPoolExecutor.submit, threading.Thread.start

        def submit(*_, **__):
            done = futures.Future()
            done.set_result(None)
            return done

        def start(_):
            raise RuntimeError("no threads before the fork")

        futures.ThreadPoolExecutor.submit, threading.Thread.start = submit, start

    def __exit__(self, *_):
        futures.ThreadPoolExecutor.submit, threading.Thread.start = self._submit, self._start
