"""The trial protocol, version 1: what this program adds to the request, and its events."""

import json
import os

from tau_bench import request
from tau_bench.request import RequestError, field, names, seconds, whole

MAX_ERROR = 500
DEFAULT_BASE_SEED = 300
# With no limit asked for, a trial still has to end.
NO_LIMIT_S = 3600.0

OPTIONS = {
    "domain", "judge_model", "max_steps", "max_errors", "trace_gold", "base_seed", "retrieval_config", "data_dir",
    "agent_env", "model_timeout", "fenced",
}


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


def _text(value):
    return isinstance(value, str) and bool(value.strip())


def checked(asked):
    """The request with its defaults filled in."""
    result = request.checked(asked, concurrency=3, seed=DEFAULT_BASE_SEED, timeout_s=NO_LIMIT_S)
    agent = result.pop("agent")
    result.update(_options(result.pop("options")))
    result["base_seed"] = result["seed"] if result["base_seed"] is None else result["base_seed"]
    if result["action"] == "list":
        # Listing draws nothing, and says seed 0.
        return result
    if not 0 <= result["seed"] - result["base_seed"] <= 100_000:
        raise RequestError(f"seed {result['seed']} must lie 0 to 100000 above base_seed {result['base_seed']}")
    result["agent_path"] = os.path.realpath(agent["path"])
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
        "max_steps": field(options, "max_steps", 200, whole(1), "a whole number from 1"),
        "max_errors": field(options, "max_errors", 10, whole(1), "a whole number from 1"),
        "trace_gold": field(options, "trace_gold", False, lambda _: True, "true or false"),
        "base_seed": field(options, "base_seed", None, whole(0), "a whole number from 0"),
        "retrieval_config": field(options, "retrieval_config", None, _text, "the name of a retrieval variant"),
        "data_dir": data_dir,
        "agent_env": field(options, "agent_env", [], names, "a list of names of variables"),
        "fenced": field(options, "fenced", True, lambda _: True, "true or false"),
        "model_timeout": float(field(options, "model_timeout", 120.0, seconds, "a number of seconds")),
    }
