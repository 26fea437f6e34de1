"""The agent's process: loads the agent file and answers the runner's questions. Nothing here is trusted by anybody.

It holds the policy, the tools' schemas and the messages of its own conversation. Model calls made through litellm or
tau2's `generate` are carried to the runner process and made there.
"""

import importlib.util
import json
import os
import queue
import random
import sys
import threading
import traceback

from tau_bench import fence, processes

MAX_PRINTED = 8000
MODULE = "harness_agent"


class Printed:
    """Keeps the beginning of what the agent prints; it lands in the traces of train tasks."""

    encoding, errors, closed = "utf-8", "replace", False

    def __init__(self):
        self.kept, self.room = [], MAX_PRINTED

    def write(self, text):
        part = text[: self.room]
        self.room -= len(part)
        self.kept.append(part)
        return len(text)

    def take(self):
        text, self.kept = "".join(self.kept), []
        return text

    def flush(self):
        pass

    def isatty(self):
        return False

    def writable(self):
        return True


class Line:
    """The connection to the runner. One thread reads; any thread may ask."""

    def __init__(self, connection):
        self._file = connection.makefile("rwb")
        self._lock = threading.Lock()
        self._waiting = {}
        self._next = 0
        self.questions = queue.SimpleQueue()

    def listen(self):
        for line in self._file:
            message = json.loads(line)
            if "answer_to" in message:
                self._waiting.pop(message["answer_to"]).put(message)
            else:
                self.questions.put(message)
        os._exit(0)  # The runner is done.

    def send(self, message):
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._file.write(data)
            self._file.flush()

    def model(self, arguments):
        """Has the runner make a model call and waits for the answer."""
        answer = queue.SimpleQueue()
        with self._lock:
            self._next += 1
            number = self._next
            self._waiting[number] = answer
        try:
            self.send({"model": arguments, "number": number})
        except (TypeError, ValueError):
            del self._waiting[number]
            raise TypeError("the arguments of a model call must be plain JSON values") from None
        return answer.get()


def carry_model_calls(litellm, llm_utils, line):
    """Replaces litellm's completion functions by ones that ask the runner."""

    def completion(model=None, messages=None, **arguments):
        if arguments.pop("stream", None):
            raise TypeError("streamed replies are not offered here")
        arguments = {name: _plain(value) for name, value in arguments.items()}
        answer = line.model({"model": model, "messages": _plain(messages), **arguments})
        if "reply" in answer:
            return litellm.ModelResponse(**answer["reply"])
        if "refused" in answer:
            raise TypeError(answer["refused"])
        raise _same_error(litellm, answer)

    async def acompletion(*arguments, **named):
        import asyncio  # Slow to import. An agent that awaits has imported it already; the others do not need it.

        return await asyncio.to_thread(completion, *arguments, **named)

    litellm.completion, litellm.acompletion = completion, acompletion
    llm_utils.completion = completion


def _plain(value):
    """The value with messages and schemas, which may be pydantic objects, made plain."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _same_error(litellm, answer):
    """An error of litellm's own class, so that an agent's `except` clauses work; its constructors differ too much."""
    kind = getattr(litellm, answer["failed"], None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return RuntimeError(answer["message"])
    error = kind.__new__(kind)
    Exception.__init__(error, answer["message"])
    fields = {"message": answer["message"], "status_code": answer["status"], "llm_provider": answer["provider"]}
    for name, value in {**fields, "model": None, "num_retries": None, "max_retries": None}.items():
        try:
            setattr(error, name, value)
        except AttributeError:
            pass  # A read-only property in some class.
    return error


def describe(error, path):
    """The error, and the line of the agent's own file that raised it."""
    place = ""
    try:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == path:
                place = f" ({os.path.basename(path)} line {frame.lineno})"
        return f"{type(error).__name__}: {error}{place}"[:2000]
    except BaseException:
        return "an error that cannot be described"


class Agent:
    """The agent under test and the state it asked us to keep."""

    def __init__(self, upstream, path, tools, settings):
        self._path, self._tools, self._settings = path, tools, settings
        kinds = upstream
        self._kinds = {
            "user": kinds.UserMessage, "tool": kinds.ToolMessage, "assistant": kinds.AssistantMessage,
            "multi": kinds.MultiToolMessage,
        }
        self._agent = self._state = self._class = None

    def load(self):
        specification = importlib.util.spec_from_file_location(MODULE, self._path)
        module = importlib.util.module_from_spec(specification)
        sys.modules[MODULE] = module
        specification.loader.exec_module(module)
        self._class = getattr(module, "HarnessAgent", None)
        if self._class is None:
            raise AttributeError("the agent file defines no HarnessAgent")

    def start(self, question):
        random.seed(question["seed"])
        self._agent = self._class(
            tools=self._tools,
            domain_policy=question["policy"],
            llm=self._settings.llm_agent,
            llm_args=self._settings.llm_args_agent,
        )
        if hasattr(self._agent, "set_seed"):
            self._agent.set_seed(question["seed"])
        self._state = self._agent.get_init_state(message_history=[self._message(m) for m in question["history"]])
        return {}

    def next(self, question):
        message, self._state = self._agent.generate_next_message(self._message(question["message"]), self._state)
        if message is None:
            raise TypeError("generate_next_message() returned no message")
        calls = message.tool_calls
        if calls is not None:
            calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
        stop = bool(self._agent.is_stop(message)) if hasattr(self._agent, "is_stop") else False
        return {"content": message.content, "tool_calls": calls, "stop": stop}

    def _message(self, item):
        return self._kinds[item["kind"]].model_validate(item["message"])


def main(upstream, path, tools, settings, connection, vault, agent_env, effort, places, network, filters):
    """Runs in a freshly forked process until the runner closes the connection."""
    environment = vault.environment(agent_env)
    vault.close()
    processes.silence()
    processes.go_first()
    os.environ.update(environment, AGENT_MODEL=settings.llm_agent, AGENT_REASONING_EFFORT=effort or "")
    sys.path.insert(0, os.path.dirname(path))
    if places is not None:
        fence.put_up(places, network, filters)
    line = Line(connection)
    carry_model_calls(upstream.litellm, upstream.llm_utils, line)
    threading.Thread(target=line.listen, daemon=True).start()
    sys.stdout = sys.stderr = printed = Printed()
    agent = Agent(upstream, path, tools, settings)
    load_error = None
    try:
        agent.load()
    except BaseException as error:
        load_error = describe(error, path)
    while True:
        question = line.questions.get()
        try:
            if load_error:
                answer = {"error": load_error, "loading": True}
            else:
                answer = {"ok": (agent.start if question["op"] == "start" else agent.next)(question)}
            text = json.dumps(answer)
        except BaseException as error:
            text = json.dumps({"error": describe(error, path)})
        line.send({**json.loads(text), "printed": printed.take()})
