"""The trial protocol, version 1: reading and checking the request, writing events."""

import json
import math
import os
import sys

VERSION = 1
MAX_ERROR = 500
DEFAULT_BASE_SEED = 300
# With no limit asked for, a trial still has to end.
NO_LIMIT_S = 3600.0

OPTIONS = {
    "domain", "judge_model", "max_steps", "max_errors", "trace_gold", "base_seed", "retrieval_config", "data_dir",
    "agent_env", "model_timeout", "fenced",
}


class RequestError(Exception):
    """The request makes no sense; says why in one line."""


class _Output:
    descriptor = 1


def take_stdout():
    """Keeps stdout for events: from now on whatever anybody prints goes to stderr. Children must not inherit it."""
    _Output.descriptor = os.dup(1)
    os.set_inheritable(_Output.descriptor, False)
    os.dup2(2, 1)


def emit(event, **fields):
    """Writes one event, straight to the descriptor, so that nothing waits in a buffer when this process is killed."""
    line = json.dumps({"event": event, **fields}).encode() + b"\n"
    while line:
        line = line[os.write(_Output.descriptor, line):]


def log(message, level="warning"):
    """Tells the user something."""
    emit("log", level=level, message=message)


def sound(text):
    """The text without lone surrogates, which agents and models can produce and JSON readers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def one_line(text):
    """The text fit for an `error` field."""
    return sound(" ".join(str(text).split()))[:MAX_ERROR]


def read_request():
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


def _whole(least):
    return lambda value: isinstance(value, int) and value >= least


def _seconds(value):
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 < value <= 1e6


def _text(value):
    return isinstance(value, str) and bool(value.strip())


def _names(value):
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def checked(request):
    """The request with its defaults filled in."""
    if request.get("protocol") != VERSION:
        raise RequestError(f"this program speaks protocol {VERSION}, not {json.dumps(request.get('protocol'))}")
    action = request.get("action")
    if action not in ("list", "run"):
        raise RequestError(f'action must be "list" or "run", not {json.dumps(action)}')
    agent = field(request, "agent", {}, lambda value: isinstance(value, dict), "an object")
    result = {
        "action": action,
        "tasks": field(request, "tasks", None, _names, "a list of task ids"),
        "split": field(request, "split", None, lambda name: name in ("train", "test"), '"train" or "test"'),
        "trials": field(request, "trials", 1, _whole(1), "a whole number from 1"),
        "concurrency": field(request, "concurrency", 3, _whole(1), "a whole number from 1"),
        "seed": field(request, "seed", DEFAULT_BASE_SEED, _whole(0), "a whole number from 0"),
        "timeout_s": float(field(request, "timeout_s", NO_LIMIT_S, _seconds, "a number above 0, at most 1000000")),
        "fence": field(request, "fence", [], _names, "a list of words"),
        "keep_traces": field(request, "keep_traces", False, lambda _: True, "true or false"),
        **_options(field(request, "options", {}, lambda value: isinstance(value, dict), "an object")),
    }
    result["base_seed"] = result["seed"] if result["base_seed"] is None else result["base_seed"]
    # Listing draws nothing, and says seed 0.
    if action == "run" and not 0 <= result["seed"] - result["base_seed"] <= 100_000:
        raise RequestError(f"seed {result['seed']} must lie 0 to 100000 above base_seed {result['base_seed']}")
    if action == "run":
        path = agent.get("path")
        if not isinstance(path, str) or not os.path.isfile(path):
            raise RequestError(f"agent.path does not name a file: {json.dumps(path)}")
        result["agent_path"] = os.path.realpath(path)
        result["agent_model"] = field(agent, "model", None, _text, "the name of a model")
        if result["agent_model"] is None:
            raise RequestError("agent.model is missing: tau-bench needs a model for the agent")
        result["user_model"] = field(agent, "user_model", result["agent_model"], _text, "the name of a model")
        result["effort"] = field(agent, "reasoning_effort", None, _text, "a word such as low, medium or high")
    return result


def _options(options):
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise RequestError(f"unknown option {json.dumps(unknown[0])}; known: {', '.join(sorted(OPTIONS))}")
    domain = field(options, "domain", None, _text, "the name of a domain")
    if domain is None:
        raise RequestError("options.domain is missing: one of mock, airline, retail, telecom, banking_knowledge")
    data_dir = field(options, "data_dir", None, _text, "a directory")
    if data_dir is not None and not os.path.isdir(data_dir):
        raise RequestError(f"data_dir is not a directory: {json.dumps(data_dir)}")
    return {
        "domain": domain,
        "judge_model": field(options, "judge_model", None, _text, "the name of a model"),
        "max_steps": field(options, "max_steps", 200, _whole(1), "a whole number from 1"),
        "max_errors": field(options, "max_errors", 10, _whole(1), "a whole number from 1"),
        "trace_gold": field(options, "trace_gold", False, lambda _: True, "true or false"),
        "base_seed": field(options, "base_seed", None, _whole(0), "a whole number from 0"),
        "retrieval_config": field(options, "retrieval_config", None, _text, "the name of a retrieval variant"),
        "data_dir": data_dir,
        "agent_env": field(options, "agent_env", [], _names, "a list of names of variables"),
        "fenced": field(options, "fenced", True, lambda _: True, "true or false"),
        "model_timeout": float(field(options, "model_timeout", 120.0, _seconds, "a number of seconds")),
    }
