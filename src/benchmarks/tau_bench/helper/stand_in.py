"""The agent as its runner process sees it: a stand-in that tau2 takes for the agent, and the connection behind it."""

import json
import threading

from tau_bench import classify
from tau_bench.classify import AgentFailed
from tau_bench.protocol import sound

MAX_LINE = 8 << 20
MAX_TEXT = 100_000
MAX_CALLS = 64
MAX_DEPTH = 40
AGENT_THREADS = 8


class Asker:
    """The connection to the agent's process, seen from here: everything that comes in is checked."""

    def __init__(self, connection, trial):
        self._connection = connection
        self._file = connection.makefile("rwb")
        self._trial = trial
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(AGENT_THREADS)
        self._unanswered = 0

    @property
    def idle(self):
        """Whether every model call that the agent asked for has ended."""
        with self._lock:
            return self._unanswered == 0

    def close(self):
        """Ends the connection, and with it the agent's process. No thread may be using it."""
        try:
            self._file.close()
        except OSError:
            pass  # The agent's end is gone already.
        self._connection.close()

    def _send(self, message):
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._file.write(data)
                self._file.flush()
        except OSError:
            raise AgentFailed("the agent ended its process") from None

    def ask(self, **question):
        """Asks the agent and serves its model calls until it answers."""
        self._trial.enter(classify.AGENT)
        self._trial.models.last_failure = None
        self._trial.models.told += len(json.dumps(question))
        self._send(question)
        while True:
            try:
                line = self._file.readline(MAX_LINE)
                if not line.endswith(b"\n"):
                    raise AgentFailed("the agent sent too much" if line else "the agent ended its process")
                message = json.loads(line)
            except (OSError, ValueError, RecursionError):
                raise AgentFailed("the agent's process sent something that is not an answer") from None
            if not isinstance(message, dict):
                raise AgentFailed("the agent's process sent something that is not an answer")
            if "model" in message:
                self._serve(message)
                continue
            printed = message.get("printed")
            self._trial.progress.printed(printed if isinstance(printed, str) else "")
            if "error" in message:
                raise AgentFailed(str(message["error"])[:2000], loading=message.get("loading") is True)
            return message.get("ok")

    def _serve(self, message):
        arguments, number = message["model"], message.get("number")
        if not isinstance(arguments, dict):
            raise AgentFailed("the agent made a model call without arguments")

        def work():
            with self._slots:
                try:
                    answer = self._trial.models.for_agent(arguments)
                except Exception as error:
                    answer = {"refused": f"{type(error).__name__}: {error}"[:1000]}
            try:
                self._send({"answer_to": number, **answer})
            except Exception:
                pass  # Nobody is waiting for it by now.
            with self._lock:
                self._unanswered -= 1

        with self._lock:
            self._unanswered += 1
        threading.Thread(target=work, daemon=True).start()


def stand_in_class(upstream):
    """A tau2 agent that passes everything on to the agent's process and trusts nothing that comes back."""

    class StandIn(upstream.HalfDuplexAgent):
        def __init__(self, tools, domain_policy, trial):
            super().__init__(tools=tools, domain_policy=domain_policy)
            self._trial, self._stop = trial, False

        def set_seed(self, seed):
            pass  # The trial knows it.

        def get_init_state(self, message_history=None):
            history = [_sendable(upstream, item) for item in message_history or []]
            self._trial.asker.ask(op="start", policy=self.domain_policy, seed=self._trial.seed, history=history)

        def generate_next_message(self, message, state):
            before = self._trial.models.meters["agent"].copy()
            answer = self._trial.asker.ask(op="next", message=_sendable(upstream, message))
            reply = rebuilt(upstream, answer, before, self._trial.models.meters["agent"])
            self._stop = answer.get("stop") is True
            self._trial.models.spoken = True
            return reply, None

        def is_stop(self, message):
            return self._stop

    return StandIn


def _sendable(upstream, item):
    kind = "multi" if isinstance(item, upstream.MultiToolMessage) else item.role
    return {"kind": kind, "message": item.model_dump(mode="json", exclude={"raw_data", "cost", "usage"})}


def rebuilt(upstream, answer, before, after):
    """The agent's message, made anew from the parts that are its to choose: a text, and calls of its own tools."""
    if not isinstance(answer, dict):
        raise AgentFailed("the agent's process sent something that is not a message")
    content, calls = answer.get("content"), answer.get("tool_calls") or None
    if content is not None and not isinstance(content, str):
        raise AgentFailed(f"the message's content is a {type(content).__name__}, not a string")
    if len(content or "") > MAX_TEXT or len(json.dumps(calls)) > MAX_TEXT:
        raise AgentFailed(f"the message is longer than {MAX_TEXT} characters")
    made = None
    if calls is not None:
        if not isinstance(calls, list) or len(calls) > MAX_CALLS:
            raise AgentFailed(f"tool_calls must be a list of at most {MAX_CALLS}")
        made = [_call(upstream, call) for call in calls]
    elif not (content or "").strip():
        raise AgentFailed("the agent answered with an empty message")
    usage = None
    if after.calls > before.calls:
        usage = {
            "prompt_tokens": after.tokens_in - before.tokens_in,
            "completion_tokens": after.tokens_out - before.tokens_out,
        }
    return upstream.AssistantMessage(
        role="assistant",
        content=None if content is None else sound(content),
        tool_calls=made,
        cost=after.cost - before.cost,
        usage=usage,
    )


def _call(upstream, call):
    name, number, arguments = (call.get(key) if isinstance(call, dict) else None for key in ("name", "id", "arguments"))
    if not isinstance(name, str) or not isinstance(arguments, dict) or not isinstance(number, (str, type(None))):
        raise AgentFailed("a tool call needs a name, an id and an object of arguments")
    if _deep(arguments, MAX_DEPTH):
        raise AgentFailed("a tool call's arguments are nested too deeply")
    arguments = json.loads(sound(json.dumps(arguments, ensure_ascii=False)))
    return upstream.ToolCall(id=sound(number or ""), name=sound(name), arguments=arguments, requestor="assistant")


def _deep(value, room):
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return room == 0 or any(_deep(item, room - 1) for item in value)
