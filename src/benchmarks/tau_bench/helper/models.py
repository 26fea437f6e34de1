"""Every model call of a trial, made by its runner process: bounded, metered, and with its failures seen first-hand.

The agent's calls arrive as messages (see agent_side) and are made here as well. So the agent needs no key, what it used is
counted rather than claimed, and "the provider failed" is something that was observed, not an exception anybody can raise.

An agent may also ask for what no provider answers: far too much, or something refused. So a failure is the provider's only
when a request of our own, with nothing of the agent's in it, fails as well. Otherwise what was asked is to blame.
"""

import json
import random
import re
import threading
import time

from tau_bench.wire import Wire

# A failing call is repeated for so long, and for a third of the time limit at most: an agent may want to live with it.
RETRY_FOR_S = 240.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
# Requests of our own that must be answered, while the agent's fails each time, before the agent's is to blame.
PROBES = 3
PROBE_TIMEOUT_S = 30.0
LAST_PROBE_TIMEOUT_S = 6.0
PROBE = 'Answer with this JSON object: {"answer": "yes"}'

# Statuses that may say nothing about the agent; another attempt fixes those of the second line only.
LASTING = {401, 402, 403, 404, 407}
PASSING = {408, 409, *range(500, 600)}
# What any status may be about, with other words.
ASKED_FOR_IT = {"ContextWindowExceededError", "ContentPolicyViolationError"}
# Providers also answer 400 for a bad key or an empty account, and litellm for a model it cannot place.
MISCONFIGURED = ("LLM Provider NOT provided", "credit balance is too low", "API key not valid", "API_KEY_INVALID")
# What reasoning models refuse in any value but their default, so that a call is worth making without it.
OPTIONAL = ("temperature", "seed")
REFUSAL = re.compile(r"unsupported|not support|only the default", re.IGNORECASE)

# What an agent may say about a call. Keys, addresses, other models and made-up replies are not among it.
AGENT_MAY_SET = {
    "messages", "tools", "tool_choice", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens",
    "seed", "response_format", "reasoning_effort", "thinking", "verbosity", "parallel_tool_calls", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs",
}
# Taken and ignored: the bounds are ours.
AGENT_MAY_MENTION = {"model", "num_retries", "max_retries", "timeout", "request_timeout", "drop_params"}
# Tokens that an agent's request may weigh beside what the agent was told, before a rate limit is the agent's own doing.
ORDINARY_TOKENS = 16_384

# The trial's random numbers are tau2's, and the same in every trial.
_chance = random.SystemRandom()


class ModelFailed(Exception):
    """A model call failed for good. `provider` says that the provider was at fault and not what was asked of it."""

    def __init__(self, error, provider):
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error
        self.provider = provider


class InternalServerError(Exception):
    """The provider answered with status 200 and no answer. Named as litellm names the like, so that agents know it."""

    status_code, llm_provider = 502, None


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
        self.wire = Wire()
        # Optional arguments that models refused, by model. An agent's belong to its trial.
        self.refused = {}
        try:
            import httpx
        except ImportError:
            return
        self.wire.watch(httpx)

    def install(self, completion):
        """Puts a trial's bounded calls where tau2 and its evaluators call models."""
        self._llm_utils.completion = completion
        self._litellm.completion = completion

    def ask(self, arguments):
        """One attempt; raises also when litellm makes a reply of what is none."""
        self.wire.forget()
        response = self.completion(**arguments)
        if self.wire.answered is False:
            raise InternalServerError("the provider's reply holds no answer")
        return response

    def trouble(self, error, arguments):
        """What a failure looks like: "rate", "lasting" or "passing" trouble of the provider's, or None."""
        text, status = str(error), self.wire.status
        for sign in MISCONFIGURED:
            # What was asked is often quoted in the error, and the agent may have asked just that.
            if sign in text and sign not in json.dumps(arguments, default=str):
                return "lasting"
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & ASKED_FOR_IT:
            return None
        if status is None:
            return "lasting" if "AuthenticationError" in kinds else None
        if status == 200:
            # Accepted, and then no answer; with one, it was litellm that stumbled over odd arguments.
            return None if self.wire.answered else "passing"
        if status == 429:
            return "lasting" if "insufficient_quota" in text else "rate"
        if status in LASTING:
            return "lasting"
        return "passing" if status == "broken" or status in PASSING else None


def refused(error, arguments):
    """Optional arguments that a model refuses, as an error says."""
    text = str(error)
    if getattr(error, "status_code", None) not in (400, 422) or not REFUSAL.search(text):
        return set()
    return {name for name in OPTIONAL if name in arguments and re.search(rf"\b{name}\b", text)}


class Call:
    """One call with all its attempts. `down`: the provider was seen to fail by itself; `up`: how often it was seen not to,
    while this call failed. `last`: when the last attempt began or failed."""

    def __init__(self, role, arguments):
        self.role, self.arguments = role, arguments
        self.begun = self.last = time.monotonic()
        self.failures = self.up = 0
        self.down = False


class Models:
    """The model calls of one trial. `role` is who is speaking: agent, user or judge."""

    def __init__(self, provider, agent_model, timeout, retry_for=RETRY_FOR_S):
        self._provider = provider
        self._agent_model = agent_model
        self._timeout, self._retry_for = timeout, retry_for
        self._lock = threading.Lock()
        self._wire = provider.wire
        self.role = "user"
        # When the phase is cut off; nothing waits for what comes later.
        self.until = float("inf")
        self.meters = {"agent": Meter(), "user": Meter(), "judge": Meter(), "probe": Meter()}
        self.last_failure = None
        # Whether the agent has said anything, and how much it was told, in characters.
        self.spoken, self.told = False, 0
        self._pending = set()
        self._lost = []
        # After a rate limit the trial's requests are made one at a time, so that it does not keep itself limited.
        self._limited, self._turn = False, threading.Lock()
        self._refused = {}

    def install(self):
        """Makes this trial the one whose limits and meters every model call of the process meets."""
        self._provider.install(self._for_tau2)

    @property
    def idle(self):
        """Whether no call is waiting for its answer."""
        return not self._pending

    def pending(self):
        """The calls without an answer. Takes no lock: a signal handler asks."""
        return list(self._pending)

    def lost(self, pending, limit):
        """Seconds of a phase, cut off just now after `limit`, that went into calls whose provider was seen to fail."""
        now = time.monotonic()
        unknown = [call for call in pending if not call.down and not call.up and now - call.begun > limit / 4]
        if unknown and not self._probe(unknown[0], LAST_PROBE_TIMEOUT_S):
            for call in unknown:
                call.down = True
        spans = [*self._lost, *((call.begun, now) for call in pending if call.down)]
        total, until = 0.0, now - limit
        for begun, ended in sorted(spans):
            total += max(0.0, ended - max(begun, until))
            until = max(until, ended)
        return total

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
        call = Call(role, {**arguments, "num_retries": 0, "timeout": self._timeout})
        self._pending.add(call)
        try:
            response = self._persist(call)
        finally:
            if call.down:
                self._lost.append((call.begun, call.last))
            self._pending.discard(call)
        self._count(role, response)
        return response

    def _persist(self, call):
        """Repeats a call until it is answered, it is clear who is to blame for its failure, or time is up."""
        refusals = self._refused if call.role == "agent" else self._provider.refused
        known = refusals.setdefault(call.arguments["model"], set())
        while True:
            for name in known:
                call.arguments.pop(name, None)
            call.last, paced = time.monotonic(), self._limited
            try:
                if not paced:
                    return self._provider.ask(call.arguments)
                with self._turn:
                    return self._provider.ask(call.arguments)
            except Exception as raised:
                error = raised
            trouble, asked = self._provider.trouble(error, call.arguments), self._wire.wait
            call.last = time.monotonic()
            if trouble is None:
                if more := refused(error, call.arguments):
                    known |= more
                    continue
                # What an agent asks for is its own. The customer's and the judge's calls have settings of ours, too.
                raise ModelFailed(error, call.role != "agent" and not self._probe(call)) from error
            call.failures += 1
            if trouble == "rate" and self._ordinary(call):
                # A small request may pass where an ordinary one does not, so none is made.
                self._limited, call.down = True, call.down or paced
            elif call.failures > 1 or trouble == "lasting":
                self._look(call)
            pause = self._pause(call, asked)
            settled = call.down if trouble == "lasting" else call.up >= PROBES and not call.down
            late = call.failures > 1 and call.last > call.begun + self._retry_for or call.last + pause > self.until - 1.0
            if settled or late:
                if call.up < PROBES:
                    self._look(call)
                raise ModelFailed(error, call.down) from error
            time.sleep(pause)

    def _pause(self, call, asked):
        """Seconds before the next attempt; never the same for two trials that failed at the same time."""
        pause = min(FIRST_PAUSE_S * 2 ** (call.failures - 1), LONGEST_PAUSE_S) * _chance.uniform(0.5, 1.0)
        if asked is None:
            return pause
        return asked + pause / 4

    def _look(self, call):
        if call.down:
            return
        if self._probe(call):
            call.up += 1
        else:
            call.down = True

    def _probe(self, call, timeout=PROBE_TIMEOUT_S):
        """Whether the provider answers a request of our own, in place of this call's."""
        timeout = min(timeout, self._timeout)
        # Everything but the messages is ours in a call that is not the agent's, and may be what is refused.
        kept = {"model": self._agent_model} if call.role == "agent" else call.arguments
        arguments = {**kept, "messages": [{"role": "user", "content": PROBE}], "num_retries": 0, "timeout": timeout}
        answers = []

        def ask():
            try:
                answers.append(self._provider.ask(arguments))
            except Exception:
                pass

        # A thread, since a reply that trickles in keeps to no time limit, and so that what is known of the call's own
        # last request stays.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(timeout + 1.0)
        for response in answers:
            self._count("probe", response)
        return bool(answers)

    def _ordinary(self, call):
        """Whether a request is no bigger than an agent's work explains; a quarter of a token for each character."""
        if call.role != "agent":
            return True
        arguments = call.arguments
        told = (arguments.get("messages"), arguments.get("tools"))
        wanted = max((_number(arguments.get(name)) for name in ("max_tokens", "max_completion_tokens")), default=0)
        weight = len(json.dumps(told, default=str)) / 4 + wanted * max(1, _number(arguments.get("n")))
        return weight <= self.told + ORDINARY_TOKENS

    def _count(self, role, response):
        usage = getattr(response, "usage", None)
        try:
            cost = float(self._provider.cost(completion_response=response))
        except Exception:
            cost = None  # litellm knows no price for this model.
        with self._lock:
            tokens = [getattr(usage, name, 0) or 0 for name in ("prompt_tokens", "completion_tokens")]
            self.meters[role].add(*tokens, cost)


def _number(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value else 0


def unfenced(text):
    """The JSON that a judge wrapped in a Markdown fence; any other text unchanged."""
    match = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text or "", re.DOTALL)
    return match.group(1) if match else text
