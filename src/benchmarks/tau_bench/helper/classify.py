"""What a trial that did not reach a grade counts as.

The agent's own failures are `agent_error` or `agent_timeout`, worth 0.0: crashing must never raise a score. Failures of
models, user simulator and judge are `infra_error`, no evidence. In doubt it was the agent: otherwise an agent could shed the
tasks that it would fail.
"""

AGENT, ENVIRONMENT, USER, GRADING, BUILDING = "agent", "environment", "user", "grading", "building"


class AgentFailed(Exception):
    """The agent raised, answered nothing usable, or its process is gone. `loading`: no conversation had begun."""

    def __init__(self, message, loading=False):
        super().__init__(message)
        self.loading = loading


class JudgeFailed(Exception):
    """The judge's reply could not be read."""


class JudgeIncomplete(Exception):
    """The judge did not give one verdict per assertion. Upstream takes no verdict for agreement."""


class Deadline(BaseException):
    """Time is up. Not an Exception, so that nothing on the way swallows it. `pending`: the model calls that had no answer
    by then."""

    def __init__(self, message, pending):
        super().__init__(message)
        self.pending = pending


def outcome(error, phase, models, limit):
    """The outcome of a trial that ended with `error` in `phase`.

    `limit` is the phase's time limit in seconds. A time-out is no evidence when a tenth of it or more was lost to a provider
    that was seen to fail.
    """
    if isinstance(error, Deadline):
        return "infra_error" if models.lost(error.pending, limit) >= limit / 10 else "agent_timeout"
    if isinstance(error, JudgeIncomplete):
        return "verifier_error"
    if isinstance(error, JudgeFailed):
        return "infra_error"
    if isinstance(error, AgentFailed):
        # The agent gave up; what counts is how the last model call of this turn went.
        return "infra_error" if models.last_failure else "agent_error"
    if phase in (AGENT, ENVIRONMENT):
        return "agent_error"  # Only the agent's messages can make either of them raise.
    if hasattr(error, "provider"):
        # The provider answers others. What it does not take then is the conversation, and the agent had a part in it.
        return "infra_error" if error.provider or not models.spoken else "agent_error"
    if phase == GRADING:
        return "agent_error"  # Replaying what was done failed, such as an assertion about what was never created.
    return "infra_error"


def died(phase, forced):
    """The outcome of a trial whose runner process ended without a word; `forced` when it had to be killed."""
    if phase in (AGENT, ENVIRONMENT):
        return "agent_timeout" if forced else "agent_error"
    return "infra_error"
