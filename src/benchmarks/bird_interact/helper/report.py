"""What is reported of a trial beside its verdict: tokens, the breakdown of the reward, the trace."""

import json
import math
import os

import verdict

LARGEST_OUTPUT = 256 << 20
# In characters. A line of the protocol may have 16 MB, and an honest trace has 0.1.
LARGEST_TRACE = 3 << 20
DEEPEST = 40
LONGEST_REASON = 2000


def plain(value, depth=0):
    """What an agent's process has handed over, as JSON that everybody can read: no lone surrogates, no NaN, no abyss."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else "a giant number"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= DEEPEST:
        return "..."
    if isinstance(value, dict):
        return {plain(str(name)): plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, depth + 1) for one in value]
    return plain(str(value))


def line(event):
    """A line of the protocol."""
    return json.dumps(plain(event), allow_nan=False) + "\n"


def read_result(path):
    """The orchestrator's entry for its one task; a text when there is none."""
    try:
        if os.path.getsize(path) > LARGEST_OUTPUT:
            return "its output is absurdly large"
        with open(path, encoding="utf-8") as file:
            results = json.load(file)["results"]
        return results[0] if len(results) == 1 and isinstance(results[0], dict) else "its output is not about one task"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        return f"its output cannot be read ({type(error).__name__})"


def count(value):
    """A number of tokens, if it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def collect_usage(record):
    """Tokens: what the door saw in the provider's answers; where it saw none, because the agent has a way of its own to its
    model, what the agent's process says."""
    seen = record.shard.calls.tokens() if record.shard is not None else None
    if seen is not None:
        return seen
    for _, _, answer in reversed(record.sessions):
        usage = None
        if isinstance(answer, dict):
            detail = answer.get("detail")
            usage = answer.get("usage") or (detail.get("usage") if isinstance(detail, dict) else None)
        if isinstance(usage, dict):
            named = {name: count(usage.get(name)) for name in ("tokens_in", "tokens_out")}
            return {name: number for name, number in named.items() if number is not None}
    return {"tokens_in": 0, "tokens_out": 0} if record.sessions else {}


def trace(task_id, record, result):
    """What a coding agent may see of a train trial, finished or cut off."""
    state, failure = {}, None
    for _, status, answer in record.sessions:
        if isinstance(answer, dict):
            detail = answer.get("detail")
            if status == 200 and isinstance(answer.get("state"), dict):
                state = answer["state"]
            elif isinstance(detail, dict):
                failure = detail.get("traceback")
                state = detail.get("state") or state
    source = result if isinstance(result, dict) and "error" not in result else state
    about = {"task": task_id, "mode": record.mode}
    for name in (
        "database",
        "has_follow_up",
        "dialogue_history",
        "tool_trajectory",
        "adk_events",
        "final_response",
        "budget_used",
        "budget_remaining",
    ):
        if name in source:
            about[name] = source[name]
    if failure:
        about["traceback"] = failure
    # The alias means nothing to anybody; it stands for the task everywhere.
    try:
        text = json.dumps(plain(about), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError, MemoryError):
        text = ""
    if not text or len(text) > LARGEST_TRACE:
        return {"task": task_id, "mode": record.mode, "note": "what the agent's process gave back is no trace, or a giant one"}
    return json.loads(text.replace(record.alias, task_id))


def detail(record, result):
    """The breakdown of a trial, for its result file."""
    phases = {}
    for phase in (1, 2) if record.follow_up else (1,):
        phases[f"phase{phase}"] = {
            "passed": phase in record.passes,
            "reward": record.passes.get(phase, 0.0),
            "submissions": record.submissions[phase],
        }
    about = {"mode": record.mode, **phases, "questions_asked": record.asked}
    if record.mode == "a-interact":
        about["bird_coins_spent"] = record.spent
    if isinstance(result, dict) and "error" not in result:
        about["reported_reward"] = result.get("total_reward")
    if record.refused:
        about["refused_requests"] = sorted(set(record.refused))
    return about


def event(task_id, record, result, judged, seconds, keep):
    """The fields of the trial event; what tells of the conversation only where that may be kept."""
    usage = collect_usage(record)
    fields = {"reward": judged.reward, "outcome": judged.outcome, "seconds": round(seconds, 3), **usage}
    if judged.error:
        fields["error"] = judged.error[:LONGEST_REASON]
    if keep:
        fields["detail"] = detail(record, result)
        fields["trace"] = trace(task_id, record, result)
    return fields


def odd_books(task_id, record, result, judged):
    """A remark on an agent whose own books say less than it earned, `None` when there is nothing to say."""
    low = verdict.under_reported(record, result)
    if low is None or judged.outcome not in ("passed", "failed"):
        return None
    return f"{task_id}: the agent's own books say {low}; what it earned, {record.reward}, counts"
