"""An agent for any Harbor dataset: one model, one shell tool, one loop.

Harbor loads `agent.agent:HarnessAgent`, starts the task's sandbox, and awaits `run()` with the task's
instruction. The pieces meant to be improved come first, each on its own: INSTRUCTION, FIRST_LOOK, TOOLS, the
limits, and `HarnessAgent.loop`. What follows them keeps the evidence honest, and is worth keeping as it is: the
trace and the token counts are stored after every step (so that a timeout keeps them), and a model call that
fails for good is raised (so that the reason is known). Whose fault a failure was is decided elsewhere, and not
by the name of an exception: whatever is raised here counts 0.0 unless the provider is seen to be down.
"""

import asyncio
import datetime
import hashlib
import json
import os
import random
import shlex
import time

import litellm
from harbor.agents.base import BaseAgent
from harbor.agents.installed import base as harbor_errors

litellm.suppress_debug_info = True
litellm.drop_params = True  # A provider without `reasoning_effort` ignores it instead of refusing the call.

# ---------------------------------------------------------------------------------------------------------------
# What the model is told.

INSTRUCTION = """\
You complete tasks in a Linux sandbox through the bash tool. Nobody is there to answer questions: decide, act,
and keep going until the task is done.

- {shell}
- Never start anything that waits for input. Start servers in the background with their output in a file.
- Look before you change: read the files that the task names, and find out which tools are installed.
- Produce exactly what is asked for: the same paths, names and formats.
- Before you finish, check the result with a command, as someone would who has only the task text.

When the task is done and checked, answer with one sentence and no tool call. That ends the session.
"""

# A lever: True carries directory, variables and functions over from one command to the next.
PERSISTENT_SHELL = False
SHELL_NOTES = {
    False: "Each command starts in a new shell: directory changes and variables do not carry over. Chain with `&&`.",
    True: "Directory, variables and functions carry over from one command to the next; processes do not.",
}

# Run in the sandbox before the first model call; what it prints follows the instruction. "" leaves it out.
FIRST_LOOK = """\
echo "user $(whoami), directory $(pwd)"
ls -la | head -n 40
. /etc/os-release 2>/dev/null; echo "system ${PRETTY_NAME:-unknown}, $(nproc) cores"
for tool in python3 pip uv gcc make cmake go cargo node npm java git curl wget tmux vim sqlite3 psql docker; do
    command -v $tool >/dev/null && printf '%s ' "$tool"
done
"""

# What the model can do. The schema is passed to the provider as it stands; `call_tool` carries the calls out.
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run a bash command in the sandbox; returns its exit code, stdout and stderr.",
            "parameters": {
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": "The command line to run."},
                    "timeout_sec": {"type": "integer", "description": "Seconds until it is killed; default 120."},
                },
                "required": ["command"],
            },
        },
    }
]

# ---------------------------------------------------------------------------------------------------------------
# Limits. The task's own time limit is enforced by Harbor, from outside.

MAX_STEPS = 100  # Model calls in one task.
COMMAND_TIMEOUT_SEC = 120  # A command without a timeout of its own.
MAX_COMMAND_TIMEOUT_SEC = 900  # The longest timeout that the model may ask for.
EXEC_GRACE_SEC = 15  # How much later than the sandbox's own `timeout` the outer limit fires.
OUTPUT_LIMIT = 12_000  # Characters of one tool result that the model gets to see.
MODEL_TIMEOUT_SEC = 600  # One model call.
MODEL_RETRIES = 10  # Further attempts after a rate limit, an overload or a lost connection: some three minutes.
RETRY_WAIT_SEC, MAX_RETRY_WAIT_SEC = 2.0, 30.0  # Before the first retry, doubled each time, up to the second.
LAST_WORD_SEC = 10  # So long before the time limit no call is waited for: so that its failure can be reported.
CONTEXT_TOKENS = 128_000  # The model's window, where litellm does not know it.
FULL, ROOMY = 0.75, 0.5  # Above this share of the window old outputs are left out until the second is reached.
KEEP_OUTPUTS = 4  # The newest tool results, which stay whole.
INFINITE = float("inf")
CACHED_PREFIXES = ("claude", "anthropic")  # Models that cache the prompt up to where they are told to.


class HarnessAgent(BaseAgent):
    """The agent that Harbor runs: one instance for each trial, many of them in one process."""

    def __init__(self, *args, save_trace=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.model = os.environ.get("AGENT_MODEL") or self.model_name
        self.reasoning_effort = os.environ.get("AGENT_REASONING_EFFORT") or None
        self.retries = int(os.environ.get("AGENT_MODEL_RETRIES") or MODEL_RETRIES)
        # On hold-out tasks nothing of the conversation may be kept or logged.
        self.save_trace = bool(save_trace) and os.environ.get("HARNESS_SAVE_TRACE") != "0"
        self.limit = INFINITE  # The time limit of the task in seconds, where it is known.
        self.messages = []
        self.left_out = set()  # Positions of tool results that the model no longer gets.
        self.tokens_per_character = 0.3
        self.steps = 0
        self.stopped = None  # Why the loop ended; None while it runs.
        self.usage = {"input": 0, "cached": 0, "output": 0, "cost_usd": None}
        self.begun, self.begun_at, self.timeline = time.monotonic(), now(), []

    @staticmethod
    def name():
        return "autoharness"

    def version(self):
        return "1"

    async def setup(self, environment):
        """Nothing to install: the agent runs outside the sandbox."""

    async def run(self, instruction, environment, context):
        """Work on one task. Returns when the model is done; raises when the model cannot be reached."""
        if not self.model:
            raise harbor_errors.ModelNotFoundError("no model: set AGENT_MODEL, or the agent's model_name")
        self.begun, self.begun_at = time.monotonic(), now()
        self.limit = time_limit(environment)
        self.messages = [{"role": "system", "content": INSTRUCTION.replace("{shell}", SHELL_NOTES[PERSISTENT_SHELL])}]
        try:
            if FIRST_LOOK:
                seen = await self.bash(environment, FIRST_LOOK, COMMAND_TIMEOUT_SEC)
                instruction = f"{instruction}\n\nThe sandbox at the start:\n{clip(seen)}"
            self.messages.append({"role": "user", "content": instruction})
            self.stopped = await self.loop(environment, context)
        except asyncio.CancelledError:
            self.stopped = "cut off from outside, most likely by the time limit"
            raise
        except BaseException as error:
            self.stopped = f"raised {type(error).__name__}"
            raise
        finally:
            self.checkpoint(context)

    async def loop(self, environment, context):
        """Ask the model, carry out its tool calls, repeat. Returns why it ended."""
        while self.steps < MAX_STEPS:
            message, finish_reason = await self.ask_model()
            self.steps += 1
            self.messages.append(message)
            self.checkpoint(context)
            calls = message.get("tool_calls") or []
            for call in calls:
                output = await self.call_tool(environment, call)
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": clip(output)})
                self.checkpoint(context)
            if finish_reason == "length" and not calls:
                self.messages.append({"role": "user", "content": "Your answer was cut off. Continue, more briefly."})
            elif not calls:
                return "finished"
        return "step limit"

    # -----------------------------------------------------------------------------------------------------------
    # Tools.

    async def call_tool(self, environment, call):
        """Carry out one tool call. A call that makes no sense is answered, so that the model can correct it."""
        name = call["function"].get("name")
        if name != "bash":
            return f"error: there is no tool {name!r}; use bash"
        try:
            arguments = json.loads(call["function"].get("arguments") or "{}")
        except ValueError as error:
            return f"error: the arguments are not valid JSON ({error}); send them again"
        command = arguments.get("command") if isinstance(arguments, dict) else None
        if not isinstance(command, str) or not command.strip():
            return 'error: no command was given; send {"command": "..."}'
        try:
            timeout = int(arguments.get("timeout_sec") or COMMAND_TIMEOUT_SEC)
        except (TypeError, ValueError, OverflowError):
            timeout = COMMAND_TIMEOUT_SEC
        return await self.bash(environment, command, min(max(timeout, 1), MAX_COMMAND_TIMEOUT_SEC))

    async def bash(self, environment, command, timeout):
        """Run a command in the sandbox and describe what came of it."""
        if self.save_trace:
            self.logger.info("step %d: %s", self.steps, command[:200])
        # `timeout` inside the sandbox ends the command there and keeps what it printed. The limit outside is for
        # images without it; many sandboxes only let go of the command when that one fires.
        guard = f"$(command -v timeout >/dev/null && echo timeout -k 5 {timeout})"
        guarded = f"{guard} bash -c {shlex.quote(remembering(command) if PERSISTENT_SHELL else command)}"
        outer = timeout + EXEC_GRACE_SEC
        started = time.monotonic()
        try:
            result = await environment.exec(command=guarded, timeout_sec=outer)
        except Exception:
            # Providers report a timeout with exceptions of every kind; the clock is what they agree on. Anything
            # earlier means that the sandbox itself is in trouble, which is for Harbor to judge.
            if time.monotonic() - started < outer - 1:
                raise
            self.note("command", started, given_up=True)
            return f"error: the command did not end within {outer} seconds and was given up; its output is lost"
        self.note("command", started, exit_code=result.return_code)
        parts = [f"exit code: {result.return_code}"]
        if result.return_code in (124, 137) and time.monotonic() - started >= timeout - 1:
            parts.append(f"error: killed after {timeout} seconds; run it in the background, or ask for more time")
        for stream in ("stdout", "stderr"):
            text = getattr(result, stream)
            if text:
                parts.append(f"{stream}:\n{text}")
        return "\n".join(parts)

    # -----------------------------------------------------------------------------------------------------------
    # The model.

    async def ask_model(self):
        """One model call, repeated after passing trouble. Returns the message as a dict, and why it ended."""
        attempt = 0
        while True:
            messages = self.shown()
            request = {"model": self.model, "messages": messages, "tools": TOOLS}
            if self.reasoning_effort:
                request["reasoning_effort"] = self.reasoning_effort
            # No temperature: reasoning models refuse any but their own.
            started, patience = time.monotonic(), min(MODEL_TIMEOUT_SEC, max(self.time_left(), 1.0))
            try:
                response = await litellm.acompletion(**request, timeout=patience, max_retries=0)
                if not getattr(response, "choices", None):
                    raise NoAnswer("the provider's reply holds no answer")
                break
            except Exception as error:
                kind, wait = error_kind(error), retry_wait(error, attempt)
                self.note("failed model call", started, error=type(error).__name__)
                if kind is harbor_errors.ContextWindowExceededError and self.make_room(force=True):
                    continue
                if kind in PASSING and attempt < self.retries and wait < self.time_left():
                    attempt += 1
                    await asyncio.sleep(wait)
                    continue
                if kind is None:
                    raise
                # A provider's message can quote the conversation: without a trace, only its type is told.
                status = getattr(error, "status_code", None)
                what = str(error) if self.save_trace else f"{type(error).__name__}, status {status}"
                raise kind(what) from (error if self.save_trace else None)
        self.note("model call", started)
        self.count(response)
        sent = getattr(getattr(response, "usage", None), "prompt_tokens", 0)
        self.tokens_per_character = (sent / size(messages) if sent else None) or self.tokens_per_character
        choice = response.choices[0]
        return choice.message.model_dump(exclude_none=True), choice.finish_reason

    def time_left(self):
        """Seconds until nothing new should be waited for."""
        return self.limit - LAST_WORD_SEC - (time.monotonic() - self.begun)

    def shown(self):
        """The messages as the model gets them: short where they are old, and marked for the prompt cache."""
        self.make_room()
        messages = [
            {**message, "content": left_out(message["content"])} if position in self.left_out else message
            for position, message in enumerate(self.messages)
        ]
        if any(name in self.model.lower() for name in CACHED_PREFIXES):
            spoken = [position for position, message in enumerate(messages) if message["role"] != "assistant"]
            for position in {0, *spoken[-2:]}:
                mark = {"type": "text", "text": messages[position]["content"], "cache_control": {"type": "ephemeral"}}
                messages[position] = {**messages[position], "content": [mark]}
        return messages

    def make_room(self, force=False):
        """Leave old outputs out of what the model gets when its window is nearly full. Returns whether any were."""
        window = context_tokens(self.model)
        tokens = size(self.messages) * self.tokens_per_character
        tokens -= sum(len(self.messages[position]["content"]) for position in self.left_out) * self.tokens_per_character
        if tokens < FULL * window and not force:
            return False
        results = [position for position, message in enumerate(self.messages) if message["role"] == "tool"]
        old = [position for position in results[:-KEEP_OUTPUTS] if position not in self.left_out]
        for position in old:
            if tokens < ROOMY * window and not force:
                break
            self.left_out.add(position)
            tokens -= len(self.messages[position]["content"]) * self.tokens_per_character
        return bool(old)

    def count(self, response):
        """Add the tokens and the cost of one call."""
        usage = getattr(response, "usage", None)
        details = getattr(usage, "prompt_tokens_details", None)
        self.usage["input"] += getattr(usage, "prompt_tokens", 0) or 0
        self.usage["cached"] += getattr(details, "cached_tokens", 0) or 0
        self.usage["output"] += getattr(usage, "completion_tokens", 0) or 0
        cost = getattr(response, "_hidden_params", {}).get("response_cost")
        if cost is not None:  # None: litellm knows no price for this model.
            self.usage["cost_usd"] = (self.usage["cost_usd"] or 0.0) + cost

    # -----------------------------------------------------------------------------------------------------------
    # Evidence.

    def checkpoint(self, context):
        """Store what is known so far: usage for Harbor, and the trace. A timeout may come at any moment."""
        context.n_input_tokens = self.usage["input"]
        context.n_cache_tokens = self.usage["cached"]
        context.n_output_tokens = self.usage["output"]
        context.cost_usd = self.usage["cost_usd"]
        context.metadata = {"steps": self.steps, "stopped": self.stopped, "seconds": self.seconds()}
        if not self.save_trace:
            return
        trace = {
            "stopped": self.stopped,
            "started_at": self.begun_at,
            "seconds": self.seconds(),
            "limit_seconds": None if self.limit == INFINITE else self.limit,
            "steps": self.steps,
            "usage": self.usage,
            "messages": self.messages,
            "left_out": sorted(self.left_out),
            "timeline": self.timeline,
        }
        path = self.logs_dir / "trace.json"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(trace, indent=1, default=str), encoding="utf-8")
        os.replace(unfinished, path)


    def seconds(self):
        """How long the task has taken so far."""
        return round(time.monotonic() - self.begun, 1)

    def note(self, what, started, **more):
        """An entry of the trace's timeline: when it began, what it was, how many seconds it took."""
        took, at = round(time.monotonic() - started, 1), round(started - self.begun, 1)
        self.timeline.append({"at": at, "step": self.steps, "what": what, "seconds": took, **more})


def now():
    """The time, as traces say it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def time_limit(environment):
    """Seconds that the task gives to the agent. autoharness tells them by a digest of the sandbox's name."""
    name = hashlib.sha256(str(getattr(environment, "environment_name", "")).encode()).hexdigest()[:16]
    return json.loads(os.environ.get("AGENT_TIME_LIMITS") or "{}").get(name, INFINITE)


def clip(text):
    """Cut a long text in the middle, where it says least, and make it safe to send. Nothing else cuts output."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= OUTPUT_LIMIT:
        return text
    half = OUTPUT_LIMIT // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} of {len(text)} characters left out]\n{text[-half:]}"


def left_out(text):
    """What stands in for an old tool result: how it began, and that the rest was here once."""
    return text if len(text) < 400 else f"{text[:200]}\n[the rest of {len(text)} characters was shown earlier]"


def size(messages):
    """Characters of messages, as they are sent."""
    return len(json.dumps(messages, default=str))


def context_tokens(model):
    """How many tokens the model reads."""
    try:
        return litellm.get_model_info(model)["max_input_tokens"] or CONTEXT_TOKENS
    except Exception:
        return CONTEXT_TOKENS  # litellm does not know the model.


def remembering(command):
    """The command between reading the last one's directory, variables and functions, and keeping its own."""
    state = "/tmp/.shell-state"
    keep = f"""declare -p | grep -v -E '^declare -[a-zA-Z]*r|^declare -[-a-zA-Z]* (BASH|SHLVL|_)' >{state}
declare -f >>{state}; printf 'cd %q\\n' "$PWD" >>{state}"""
    return f"[ ! -f {state} ] || . {state} >/dev/null 2>&1\ntrap {shlex.quote(keep)} EXIT\n{command}"


def retry_wait(error, attempt):
    """Seconds before the next attempt: what the provider asks for, or ever longer, and never the same for all tasks."""
    wait = min(RETRY_WAIT_SEC * 2**attempt, MAX_RETRY_WAIT_SEC) * random.uniform(0.5, 1.0)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    headers = {**(getattr(error, "litellm_response_headers", None) or {}), **headers}
    try:
        asked = float(headers.get("retry-after") or 0)
    except ValueError:  # A date.
        asked = MAX_RETRY_WAIT_SEC
    return max(asked, 0) + wait / 4 if asked else wait


class NoAnswer(Exception):
    """The provider answered with success, and without an answer."""

    status_code = 502


# litellm's exceptions, most specific first, and the names under which Harbor reports them. What is not here (a
# request that the provider calls malformed, above all) is likely the fault of this file, and raised as it is.
ERROR_KINDS = [
    (litellm.BudgetExceededError, harbor_errors.ApiUsageLimitError),
    (litellm.ContextWindowExceededError, harbor_errors.ContextWindowExceededError),
    (litellm.ContentPolicyViolationError, harbor_errors.AgentSafetyRefusalError),
    (litellm.Timeout, harbor_errors.ApiResponseStalledError),
    (litellm.APIConnectionError, harbor_errors.NetworkConnectionError),
]
STATUS_KINDS = {
    401: harbor_errors.AgentAuthenticationError,
    402: harbor_errors.ApiUsageLimitError,
    403: harbor_errors.AgentAuthenticationError,
    404: harbor_errors.ModelNotFoundError,
    408: harbor_errors.ApiResponseStalledError,
    429: harbor_errors.ApiRateLimitError,
    503: harbor_errors.ApiOverloadedError,
    529: harbor_errors.ApiOverloadedError,
}

# Kinds that may be gone a moment later, so that asking again makes sense.
PASSING = {
    harbor_errors.ApiRateLimitError,
    harbor_errors.ApiOverloadedError,
    harbor_errors.ApiInternalServerError,
    harbor_errors.ApiResponseStalledError,
    harbor_errors.NetworkConnectionError,
}


def error_kind(error):
    """Harbor's exception class for a failed model call; None where it should be raised as it is."""
    text = str(error).lower()
    if "llm provider not provided" in text:
        return harbor_errors.ModelNotFoundError
    if "no module named" in text:  # Such as `mcp`, which litellm wants for calls with tools.
        return harbor_errors.UnknownApiError
    for theirs, ours in ERROR_KINDS:
        if isinstance(error, theirs):
            return ours
    status = getattr(error, "status_code", None)
    if isinstance(error, litellm.APIError) and status in (None, 200):  # An error inside a successful reply.
        return harbor_errors.ApiInternalServerError
    if status == 429 and ("insufficient_quota" in text or "billing" in text):
        return harbor_errors.ApiUsageLimitError
    if isinstance(status, int) and status >= 500:
        return STATUS_KINDS.get(status, harbor_errors.ApiInternalServerError)
    return STATUS_KINDS.get(status)
