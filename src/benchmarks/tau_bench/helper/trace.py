"""What a train task leaves behind: its conversation, and what its grader saw."""

from tau_bench.protocol import sound


def message(item):
    """One message of the conversation: who said what, which tools were called, which calls failed."""
    result = {"role": item.role, "content": None if item.content is None else sound(item.content)}
    calls = getattr(item, "tool_calls", None)
    if calls:
        result["tool_calls"] = [{"name": call.name, "arguments": call.arguments, "id": call.id} for call in calls]
        if item.role == "user":
            result["tools"] = "the user's own"
    if item.role == "tool":
        result["id"] = item.id
        result["error"] = bool(item.error)
        if item.requestor == "user":
            result["tools"] = "the user's own"
    return result


def checks(info, with_gold):
    """The grader's findings. Arguments of the expected actions are answers: they are given only when asked for."""
    if info is None:
        return {}
    plain = info.model_dump(mode="json")
    result = {
        "reward_basis": plain.get("reward_basis"),
        "reward_breakdown": plain.get("reward_breakdown"),
        "db_check": plain.get("db_check"),
        "env_assertions": plain.get("env_assertions"),
        "communicate_checks": plain.get("communicate_checks"),
        "nl_assertions": plain.get("nl_assertions"),
    }
    actions = plain.get("action_checks")
    if actions is not None:
        result["action_checks"] = [_action(check, with_gold) for check in actions]
    note = (plain.get("info") or {}).get("note")
    if note:
        result["note"] = note
    return {name: value for name, value in result.items() if value is not None}


def _action(check, with_gold):
    action = check["action"]
    result = {
        "name": action["name"],
        "requestor": action.get("requestor"),
        "tool_type": check.get("tool_type"),
        "match": check["action_match"],
    }
    if with_gold:
        result["arguments"] = action.get("arguments")
        result["compare_args"] = action.get("compare_args")
    return result


def costs(meters):
    """Calls, tokens and dollars of each role that called a model; dollars are null where a price is unknown."""
    return {
        role: {
            "calls": meter.calls,
            "tokens_in": meter.tokens_in,
            "tokens_out": meter.tokens_out,
            "cost_usd": round(meter.cost, 6) if meter.priced else None,
        }
        for role, meter in meters.items()
        if meter.calls
    }
