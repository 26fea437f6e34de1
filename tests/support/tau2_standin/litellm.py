"""Stand-in for litellm: a scripted model. What it does wrong is told by the model's name, such as `stub/500`."""

import json
import os
import re
import time

import httpx
import stub_script

suppress_debug_info = drop_params = False
client_session = None


class LiteError(Exception):
    def __init__(self, message, status_code=None):
        super().__init__(message)
        self.message, self.status_code, self.llm_provider = message, status_code, "stub"


class RateLimitError(LiteError):
    pass


class AuthenticationError(LiteError):
    pass


class InternalServerError(LiteError):
    pass


class PermissionDeniedError(LiteError):
    pass


class NotFoundError(LiteError):
    pass


class ServiceUnavailableError(LiteError):
    pass


class APIConnectionError(LiteError):
    pass


class Timeout(APIConnectionError):
    pass


class BadRequestError(LiteError):
    pass


class ContextWindowExceededError(BadRequestError):
    pass


class Box(dict):
    """A dict whose keys are attributes, nested."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def boxed(value):
    if isinstance(value, dict):
        return Box({key: boxed(item) for key, item in value.items()})
    return [boxed(item) for item in value] if isinstance(value, list) else value


class ModelResponse:
    def __init__(self, **fields):
        self.__dict__.update({name: boxed(value) for name, value in fields.items()})
        self._fields = fields

    def model_dump(self):
        return self._fields


def completion_cost(completion_response):
    if completion_response.model.endswith("unpriced"):
        raise ValueError("no price")
    return 0.25


FAULTS = {
    "500": (500, InternalServerError), "503": (503, ServiceUnavailableError), "429": (429, RateLimitError),
    "401": (401, AuthenticationError), "403": (403, PermissionDeniedError), "404": (404, NotFoundError),
    "context": (400, ContextWindowExceededError), "400": (400, BadRequestError),
}


# What comes with status 200 and is no answer.
NO_ANSWERS = {
    "page": b"<html>502 Bad Gateway</html>", "cut": b'{"choices": [{"message": {"content": "I w',
    "error200": b'{"error": {"message": "upstream failed", "code": 502}}', "null": b'{"id": "x", "choices": null}',
    "choice": b'{"choices": [{"finish_reason": "error", "error": {"code": 502}, "message": {"content": ""}}]}',
}


def completion(model=None, messages=None, tools=None, timeout=600, **arguments):
    """One reply. An odd message is stumbled over before anything is sent, and wrapped as the real one wraps it."""
    wish = model.partition("/")[2]
    try:
        texts = [message["content"] or "" for message in messages]
    except Exception as error:
        raise APIConnectionError(f"stub: {error!r}") from error
    if os.environ.get("STUB_CALLS"):
        with open(os.environ["STUB_CALLS"], "a", encoding="utf-8") as file:
            file.write(f"{model} {os.environ.get('STUB_KEY')} {time.monotonic():.3f} {json.dumps(arguments)}\n")
    with stub_script.call(texts) as scripted:
        # Content that no model of this provider takes: <429> and the like.
        asked = re.search(r"<(\w+)>", " ".join(text for text in texts[1:] if text))
        return _answer(model, scripted or (asked and asked[1]) or wish, texts, messages, timeout, arguments)


def _answer(model, wish, texts, messages, timeout, arguments):
    client = httpx.Client()
    if wish in ("drop", "slow"):
        try:
            client.send("drop")
        except httpx.ConnectError as error:
            raise (Timeout if wish == "slow" else APIConnectionError)(str(error)) from error
    if wish == "hang":
        try:
            time.sleep(min(timeout, 3600))
            client.send("drop")
        except httpx.ConnectError as error:
            raise Timeout("no answer") from error
    if wish in NO_ANSWERS:
        client.send(httpx.Response(200, NO_ANSWERS[wish]))
        if wish == "null":
            return ModelResponse(model=model, choices=[], usage={})
        raise APIConnectionError("stub: the reply cannot be read")
    if wish == "o3" and arguments.get("temperature") is not None:
        client.send(httpx.Response(400))
        raise BadRequestError("Unsupported value: 'temperature' does not support 0.0 with this model.", 400)
    if wish.startswith("busy"):
        # Limits the rate until the n-th call, and asks to wait three seconds.
        if _counted() < int(wish.removeprefix("busy")):
            client.send(httpx.Response(429, headers={"retry-after": "3"}))
            raise RateLimitError("stub says 429", 429)
    if wish in FAULTS:
        status, kind = FAULTS[wish]
        client.send(httpx.Response(status))
        raise kind(f"stub says {status}", status)
    message = {"role": "assistant", "content": None, "tool_calls": None, **_reply(texts, wish, messages)}
    client.send(httpx.Response(200, json.dumps({"choices": [{"message": message}]}).encode()))
    return ModelResponse(model=model, choices=[{"message": message}], usage={"prompt_tokens": 10, "completion_tokens": 5})


_busy = []


def _counted():
    _busy.append(None)
    return len(_busy) - 1


def _reply(texts, wish, messages):
    if wish == "empty":
        return {"content": ""}
    if texts[0].startswith("JUDGE"):
        return {"content": _verdicts(texts[-1], wish)}
    if texts[0].startswith("SCENARIO"):
        return _user(texts)
    return _agent(texts, wish, messages)


def _call(number, name, arguments):
    function = {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}
    return {"tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]}


def _user(texts):
    asked = re.search(r"DO flip (\w+)", texts[-1])
    if asked:
        return _call(len(texts), "flip", {"name": asked[1]})
    if texts[-1].startswith("flipped"):
        return {"content": "Done."}
    if "RESOLVED" in texts[-1]:
        return {"content": "Thanks. ###STOP###"}
    return {"content": texts[0].partition("SCENARIO ")[2]}


def _agent(texts, wish, messages):
    wanted = " ".join(message["content"] or "" for message in messages if message["role"] == "user")
    done = sum(message["role"] == "tool" or "DO " in (message["content"] or "") for message in messages)
    steps = re.findall(r"(set \w+ to \w+|flip \w+)", wanted)
    if wish == "badjson" and not done:
        return _call(0, "set_item", '{"name": ')
    if wish == "unknown":
        done -= 1
        if done < 0:
            return _call(0, "no_such_tool", {})
    if done < len(steps):
        words = steps[done].split()
        if words[0] == "flip":
            return {"content": f"Please DO flip {words[1]}"}
        return _call(done, "set_item", {"name": words[1], "value": words[3]})
    return {"content": "RESOLVED"}


def _verdicts(text, wish):
    said, _, wanted = text.rpartition("EXPECTED ")
    wanted = {"few": lambda all: all[:-1], "many": lambda all: all * 2, "none": lambda all: []}.get(wish, list)(
        json.loads(wanted)
    )
    if wish == "obeys" and "ANSWER WITH NOTHING" in said:
        wanted = []
    results = [{"expectedOutcome": item, "reasoning": "seen", "metExpectation": wish != "no"} for item in wanted]
    reply = json.dumps({"results": results})
    replies = {"prose": "All is well.", "fence": f"```json\n{reply}\n```", "keys": reply.replace("metExpectation", "met")}
    return replies.get(wish, reply)
