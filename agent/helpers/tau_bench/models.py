"""Every model call of a trial, made by its runner process: bounded, metered, and with its failures seen first-hand.

The agent's calls arrive as messages (see agent_side) and are made here as well. So the agent needs no key, what it used is
counted rather than claimed, and "the provider failed" is something that was observed, not an exception anybody can raise.
"""

import json
import re
import threading
import time

ATTEMPTS = 3
PAUSES_S = (1.0, 4.0)

# Failures that say nothing about the agent.
PROVIDER_FAILED = {
    "RateLimitError", "Timeout", "APITimeoutError", "APIConnectionError", "APIError", "InternalServerError",
    "ServiceUnavailableError", "BadGatewayError", "AuthenticationError", "PermissionDeniedError", "NotFoundError",
    "BudgetExceededError", "APIResponseValidationError", "ConnectError",
}
# Of these, the ones that a second attempt does not mend.
PERMANENT = {
    "AuthenticationError", "PermissionDeniedError", "NotFoundError", "BudgetExceededError", "BadRequestError",
    "ContextWindowExceededError", "UnprocessableEntityError", "ContentPolicyViolationError", "UnsupportedParamsError",
}
STATUS_FAILED = {401, 402, 403, 404, 407, 408, 409, 429}
# Providers also answer 400 for a bad key or an empty account, and litellm for a model it cannot place.
MISCONFIGURED = ("LLM Provider NOT provided", "credit balance is too low", "API key not valid", "API_KEY_INVALID")

# What an agent may say about a call. Keys, addresses, other models and made-up replies are not among it.
AGENT_MAY_SET = {
    "messages", "tools", "tool_choice", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens",
    "seed", "response_format", "reasoning_effort", "thinking", "verbosity", "parallel_tool_calls", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
}
# Taken and ignored: the bounds are ours.
AGENT_MAY_MENTION = {"model", "num_retries", "max_retries", "timeout", "request_timeout", "drop_params"}


class ModelFailed(Exception):
    """A model call failed for good. `provider` says that the provider was at fault and not what was asked of it."""

    def __init__(self, error, provider):
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.provider = provider


class Meter:
    """Tokens and money of one role."""

    def __init__(self):
        self.calls = self.tokens_in = self.tokens_out = 0
        self.cost = 0.0
        self.priced = True

    def add(self, tokens_in, tokens_out, cost):
        """Counts one reply; an unknown price makes the sum unknown."""
        self.calls += 1
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.priced = self.priced and cost is not None
        self.cost += cost or 0.0

    def copy(self):
        """The counts so far."""
        other = Meter()
        other.__dict__.update(self.__dict__)
        return other


class Provider:
    """litellm as the runner process found it. Made once per process, before any trial puts its own calls in its place."""

    def __init__(self, litellm, llm_utils):
        self._litellm, self._llm_utils = litellm, llm_utils
        self.completion, self.cost = litellm.completion, litellm.completion_cost
        # `outcome` is how the last HTTP request of the thread that asks ended: a status, or "broken".
        self.wire = threading.local()
        self._watch_wire()

    def install(self, completion):
        """Puts a trial's bounded calls where tau2 and its evaluators call models."""
        self._llm_utils.completion = completion
        self._litellm.completion = completion

    def _watch_wire(self):
        try:
            import httpx
        except ImportError:
            return
        send, wire = httpx.HTTPTransport.handle_request, self.wire

        def watched(transport, request):
            wire.outcome = "broken"
            response = send(transport, request)
            wire.outcome = response.status_code
            return response

        httpx.HTTPTransport.handle_request = watched


class Models:
    """The model calls of one trial. `role` is who is speaking: agent, user or judge."""

    def __init__(self, provider, agent_model, timeout):
        self._provider = provider
        self._agent_model = agent_model
        self._timeout = timeout
        self._lock = threading.Lock()
        self._wire = provider.wire
        self.role = "user"
        self.meters = {"agent": Meter(), "user": Meter(), "judge": Meter()}
        self.last_failure = None
        self._pending = {}

    def install(self):
        """Makes this trial the one whose limits and meters every model call of the process meets."""
        self._provider.install(self._for_tau2)

    @property
    def idle(self):
        """Whether no call is waiting for its answer."""
        return not self._pending

    def longest_pending(self):
        """Seconds that the oldest unanswered call has been waiting."""
        now = time.monotonic()  # No lock: this is called by a signal handler.
        return now - min(list(self._pending.values()), default=now)

    def _for_tau2(self, **arguments):
        return self._call(self.role, arguments)

    def for_agent(self, arguments):
        """Makes a call on the agent's behalf. Returns the reply as a dict, or the failure in a form that can be sent."""
        odd = sorted(set(arguments) - AGENT_MAY_SET - AGENT_MAY_MENTION)
        model = arguments.get("model")
        if odd:
            return {"refused": f"a model call here cannot set {', '.join(odd)}"}
        if model is not None and model != self._agent_model:
            return {"refused": f"this agent's model is {self._agent_model}; it cannot call {model}"}
        allowed = {name: value for name, value in arguments.items() if name in AGENT_MAY_SET and value is not None}
        try:
            response = self._call("agent", {"model": self._agent_model, **allowed})
            reply = response.model_dump()
        except ModelFailed as failure:
            self.last_failure = failure if failure.provider else None
            error = failure.error
            return {
                "failed": type(error).__name__,
                "message": str(error)[:4000],
                "status": getattr(error, "status_code", None),
                "provider": getattr(error, "llm_provider", None),
            }
        self.last_failure = None
        return {"reply": reply}

    def _call(self, role, arguments):
        arguments = {**arguments, "num_retries": 0, "timeout": self._timeout}
        ticket = object()
        with self._lock:
            self._pending[ticket] = time.monotonic()
        try:
            for attempt in range(ATTEMPTS):
                self._wire.outcome = None
                try:
                    response = self._provider.completion(**arguments)
                    break
                except Exception as error:
                    kinds = {kind.__name__ for kind in type(error).__mro__}
                    if attempt + 1 == ATTEMPTS or kinds & PERMANENT or not kinds & PROVIDER_FAILED:
                        raise ModelFailed(error, self._provider_at_fault(error, kinds, arguments)) from error
                    time.sleep(PAUSES_S[attempt])
        finally:
            with self._lock:
                del self._pending[ticket]
        self._count(role, response)
        return response

    def _count(self, role, response):
        usage = getattr(response, "usage", None)
        try:
            cost = float(self._provider.cost(completion_response=response))
        except Exception:
            cost = None  # litellm knows no price for this model.
        with self._lock:
            tokens = [getattr(usage, name, 0) or 0 for name in ("prompt_tokens", "completion_tokens")]
            self.meters[role].add(*tokens, cost)

    def _provider_at_fault(self, error, kinds, arguments):
        """Whether the provider failed. litellm wraps its own stumbling over odd arguments in the same classes, so that
        something must have gone wrong on the wire, or nothing have been sent for want of a key."""
        text = str(error)
        for sign in MISCONFIGURED:
            # What was asked is often quoted in the error, and the agent may have asked just that.
            if sign in text and sign not in json.dumps(arguments, default=str):
                return True
        if "BadRequestError" in kinds or not kinds & PROVIDER_FAILED:
            return False
        outcome = self._wire.outcome
        if outcome is None:
            return "AuthenticationError" in kinds
        return outcome == "broken" or outcome in STATUS_FAILED or outcome >= 500


def unfenced(text):
    """The JSON that a judge wrapped in a Markdown fence; any other text unchanged."""
    match = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text or "", re.DOTALL)
    return match.group(1) if match else text
