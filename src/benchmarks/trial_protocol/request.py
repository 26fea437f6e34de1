"""A request of the trial protocol, version 1, read and checked. Helpers have it beside them, as a link."""

import json
import math
import os
import sys

VERSION = 1


class RequestError(Exception):
    """The request makes no sense; says why in one line."""


def read():
    """The JSON object on stdin, taken as soon as it is complete: the caller may keep the pipe open."""
    text = b""
    for line in sys.stdin.buffer:
        text += line
        try:
            request = json.loads(text)
        except ValueError:
            continue
        if not isinstance(request, dict):
            raise RequestError("the request is not a JSON object")
        # Nobody here reads stdin again, least of all the agent.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        return request
    raise RequestError("stdin holds no complete JSON object")


def field(source, name, default, valid, meaning):
    """A field of the request or its options; null and absent mean the default."""
    value = source.get(name)
    if value is None:
        return default
    if isinstance(value, bool) is not isinstance(default, bool) or not valid(value):
        raise RequestError(f"{name} must be {meaning}, not {json.dumps(value)}")
    return value


def whole(least):
    return lambda value: isinstance(value, int) and value >= least


def seconds(value):
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 < value <= 1e6


def names(value):
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def checked(request, concurrency, seed, timeout_s):
    """What every program is asked, with defaults filled in; `agent` and `options` as they were sent."""
    if request.get("protocol") != VERSION:
        raise RequestError(f"this program speaks protocol {VERSION}, not {json.dumps(request.get('protocol'))}")
    action = request.get("action")
    if action not in ("list", "run"):
        raise RequestError(f'action must be "list" or "run", not {json.dumps(action)}')
    agent = field(request, "agent", {}, lambda value: isinstance(value, dict), "an object")
    path = agent.get("path")
    if action == "run" and not (isinstance(path, str) and os.path.isfile(path)):
        raise RequestError(f"agent.path does not name a file: {json.dumps(path)}")
    return {
        "action": action,
        "tasks": field(request, "tasks", None, names, "a list of task ids"),
        "split": field(request, "split", None, lambda name: name in ("train", "test"), '"train" or "test"'),
        "trials": field(request, "trials", 1, whole(1), "a whole number from 1"),
        "concurrency": field(request, "concurrency", concurrency, whole(1), "a whole number from 1"),
        "seed": field(request, "seed", seed, whole(0), "a whole number from 0"),
        "timeout_s": float(field(request, "timeout_s", timeout_s, seconds, "a number above 0, at most 1000000")),
        "fence": field(request, "fence", [], names, "a list of words"),
        "keep_traces": field(request, "keep_traces", False, lambda _: True, "true or false"),
        "agent": agent,
        "options": field(request, "options", {}, lambda value: isinstance(value, dict), "an object"),
    }
