"""What a trial counts as. Pure: takes what was seen, returns the fields of the trial event.

The order of the questions is the order of trust: what the proxy saw, how processes ended, what the agent service
answered, and last what the orchestrator wrote about it.
"""

import collections
import math

Verdict = collections.namedtuple("Verdict", "outcome reward error fatal")

# Rewards of the phases, by mode: at the first attempt and, in c-interact, after the error was shown.
LEGAL = {"a-interact": {1: (0.7,), 2: (0.3,)}, "c-interact": {1: (0.7, 0.5), 2: (0.3, 0.2)}}
LEGAL["oracle"] = LEGAL["a-interact"]
PASS_THRESHOLD = 0.5
CLOSE = 1e-6


def infra(error, fatal=False):
    return Verdict("infra_error", None, error, fatal)


def agent_error(error):
    return Verdict("agent_error", 0.0, error, False)


def verifier_error(error):
    return Verdict("verifier_error", None, error, False)


def judge(record, result, ended, trouble=None):
    """The verdict on one trial.

    `record`: what the proxy saw. `result`: the orchestrator's entry for the task, None when there is none. `ended`: how
    the orchestrator came to its end: "done", "timeout", "agent-died: WHY", or "broken: WHY". `trouble`: what the door saw of
    the provider's failures (calls.Trouble), None when there were none.

    Only what we saw ourselves is infrastructure. What the agent's process says, is, or makes of others counts for nothing,
    or it could choose which of its trials count.
    """
    if record.spoiled:
        return agent_error(f"the agent's SQL {record.spoiled}")
    if record.infrastructure:
        return infra(record.infrastructure[0])
    if record.bypasses:
        return agent_error("the agent spoke to a service behind the tool's back")
    kind, _, why = ended.partition(": ")
    failure = session_failure(record)
    sound = kind == "done" and failure is None and isinstance(result, dict) and "error" not in result
    if trouble and not (sound and record.reward >= PASS_THRESHOLD):
        return infra(f"the agent's model failed: {trouble.reason}", fatal=trouble.fatal)
    if kind == "agent-died":
        return agent_error(f"the agent's process ended while it worked on this task: {why}")
    if failure:
        return failure
    at_work = record.agent_busy or record.asking
    if kind == "timeout":
        if at_work:
            return Verdict("agent_timeout", None, "the agent was still at work when the time limit ended", False)
        return infra("the time limit ended before or after the agent's turn")
    if gave_up(record, result):
        return Verdict("agent_timeout", None, "the agent was still at work when the orchestrator gave up", False)
    # The orchestrator has three to talk to. The two that are ours gave no cause, or it would be on record.
    had_a_say = any(status == 200 for _, status, _ in record.sessions)
    if kind == "broken":
        if had_a_say and not why.startswith("signal "):
            return agent_error(f"the orchestrator cannot make sense of what the agent's process handed back: {why}")
        return infra(f"the orchestrator failed: {why}")
    if not isinstance(result, dict):
        return infra("the orchestrator wrote no result")
    # An error may be the empty string: it is the key that tells.
    if "error" in result:
        said = result["error"] or "a time limit of its own"
        if had_a_say:
            return agent_error(f"the orchestrator cannot make sense of what the agent's process handed back: {said}")
        return infra(f"the orchestrator reported an error: {said}")
    return compare(record, result)


def gave_up(record, result):
    """Whether a time limit of the orchestrator's own ended the agent's turn."""
    return isinstance(result, dict) and "error" in result and not str(result["error"]) and record.agent_busy


def session_failure(record):
    """The verdict that an answer of the agent service demands, if any. It is the agent's process that answers, so whatever
    it names as the cause is its own affair; what it can be right about has been looked at before."""
    for path, status, answer in record.sessions:
        if status == 200 and isinstance(answer, dict):
            continue
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if not isinstance(detail, dict):
            return agent_error(f"the agent's process answered {path} with status {status} and nothing that can be read")
        error = str(detail.get("error") or "no reason given")
        if detail.get("kind") == "environment" and record.broken_installation:
            return infra(f"no model can be called with what is installed: {record.broken_installation}", fatal=True)
        if detail.get("kind") == "model":
            error = f"the call of a model failed, and not for reasons of its provider: {error}"
        return agent_error(error)
    return None


def compare(record, result):
    """The recorded reward, after a look at the reported one."""
    legal = LEGAL[record.mode]
    for phase, reward in record.passes.items():
        if reward not in legal[phase]:
            return verifier_error(f"the database service gave {reward!r} for phase {phase}")
    recorded = record.reward
    claimed = result.get("total_reward")
    number = isinstance(claimed, int) or (isinstance(claimed, float) and math.isfinite(claimed))
    flags = [phase for phase in (1, 2) if result.get(f"phase{phase}_passed") and phase not in record.passes]
    if not number or claimed > recorded + CLOSE or flags:
        what = f"reward {str(claimed)[:100]}" + "".join(f", phase {phase} passed" for phase in flags)
        return agent_error(f"the agent's process reported {what}; {recorded} was earned")
    return Verdict("passed" if recorded >= PASS_THRESHOLD else "failed", recorded, None, False)


def under_reported(record, result):
    """The reported reward where it is lower than the earned one: the agent's books are wrong, and nobody is harmed."""
    claimed = result.get("total_reward") if isinstance(result, dict) else None
    return claimed if isinstance(claimed, (int, float)) and claimed < record.reward - CLOSE else None
