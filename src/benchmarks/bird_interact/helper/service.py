"""The agent service: loads `build_agent` from the agent file and runs it, task by task, behind two HTTP requests.

It is a process that the nursery makes (nursery.py). The agent file is imported only after a line on stdin, which comes when
the other services run: code of the agent must not be able to change them before they start.

Every task has a thread and an event loop of its own. Agents call tools that block (a slow query, the user simulator's
model); on a shared loop one such call would hold up every other task. It also has an agent of its own, so that nothing an
agent keeps in its objects reaches the next task.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import sys
import threading
import traceback

import redirect

LONGEST_TEXT = 4000
LONGEST_TRACEBACK = 8000
MODEL_LIBRARIES = {"litellm", "openai", "anthropic"}
NETWORK_LIBRARIES = {"httpx", "httpcore", "aiohttp", "google.genai.errors", "google.api_core"}
# The model's provider refuses the request itself: too long, or with parameters that it does not take. The agent wrote it.
REFUSED_REQUEST = (400, 413, 422)
# The next request, of any agent, will fail as well.
FATAL = (401, 403, 404)


class AgentExit(Exception):
    """Agent code tried to end the process."""


class Loader:
    """Imports the agent file, and tells its frames from everybody else's."""

    def __init__(self, path):
        self.path = os.path.realpath(path)
        self.directory = os.path.dirname(self.path)
        self.module = None

    def load(self):
        package, stem = os.path.basename(self.directory), os.path.splitext(os.path.basename(self.path))[0]
        sys.path[0] = os.path.dirname(self.directory)
        if package.isidentifier():
            self.module = importlib.import_module(f"{package}.{stem}")
            if os.path.realpath(self.module.__file__) != self.path:
                raise ImportError(f"{package}.{stem} is {self.module.__file__}, not the agent file")
        else:
            spec = importlib.util.spec_from_file_location(stem, self.path)
            self.module = sys.modules[stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(self.module)

    def build(self, mode):
        return self.module.build_agent(mode)

    def frames(self, error):
        """For every frame of the traceback, outermost first: whether it is the agent's, and its place."""
        return [
            (os.path.realpath(frame.filename).startswith(self.directory + os.sep), frame)
            for frame in traceback.extract_tb(error.__traceback__)
        ]

    def describe(self, error):
        """One line: where in the agent's files the error comes from, and what it is."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{os.path.basename(error.filename)} line {error.lineno}: {type(error).__name__}: {error.msg}"
        places = [frame for ours, frame in self.frames(error) if ours]
        where = f"{os.path.basename(places[-1].filename)} line {places[-1].lineno}: " if places else ""
        return f"{where}{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def library(error):
    module = type(error).__module__
    return next(
        (name for name in MODEL_LIBRARIES | NETWORK_LIBRARIES if module == name or module.startswith(name + ".")), None
    )


def chain(error):
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def blame(loader, error):
    """Whose failure an exception of a run is: `agent`, `model`, or `environment`, and whether it is final."""
    frames = loader.frames(error)
    if frames and frames[-1][0]:
        return "agent", False
    in_agent = any(ours for ours, _ in frames)
    for one in chain(error):
        name = library(one)
        if name in MODEL_LIBRARIES or (name and not in_agent):
            status = getattr(one, "status_code", None)
            if status in REFUSED_REQUEST:
                return "agent", False
            return "model", status in FATAL
    if isinstance(error, ImportError) and not in_agent:
        return "environment", True
    return "agent", False


def failure(loader, error):
    """What the driver is told about an exception."""
    kind, fatal = blame(loader, error)
    text = loader.describe(error)
    if "Context variable not found" in str(error):
        text += " (the instruction holds a {name} that the session state does not have)"
    whole = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"kind": kind, "fatal": fatal, "error": text, "traceback": whole[-LONGEST_TRACEBACK:]}


def short(value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "...<truncated>"


def part_record(part):
    call, response = getattr(part, "function_call", None), getattr(part, "function_response", None)
    if call is not None:
        return {"type": "function_call", "name": call.name, "id": call.id, "args": call.args or {}}
    if response is not None:
        return {
            "type": "function_response",
            "name": response.name,
            "id": response.id,
            "response": short(response.response),
        }
    if getattr(part, "text", None):
        return {"type": "thought" if getattr(part, "thought", None) else "text", "text": short(part.text)}
    return {"type": "other", "repr": short(repr(part))}


def event_record(event):
    content = getattr(event, "content", None)
    final = getattr(event, "is_final_response", None)
    return {
        "type": "adk_event",
        "author": event.author,
        "invocation_id": event.invocation_id,
        "branch": getattr(event, "branch", None),
        "final": bool(final and final()),
        "content": {
            "role": getattr(content, "role", "") or "",
            "parts": [part_record(part) for part in getattr(content, "parts", None) or []],
        },
    }


class Session:
    """One task: an agent, its ADK session, and the thread that runs it."""

    def __init__(self, loader, mode, task_id):
        self.loader, self.mode, self.task_id = loader, mode, task_id
        self.app, self.user = "bird_interact", f"user_{task_id}"
        self.runner = self.id = self.future = None
        self.usage = {"tokens_in": 0, "tokens_out": 0, "model_calls": 0}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._thread, daemon=True, name=task_id).start()

    def _thread(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        except BaseException as error:  # sys.exit() in a tool ends the loop, and nobody would ever answer.
            if self.future is not None and not self.future.done():
                self.future.set_exception(AgentExit(f"the agent called for the end of the process: {error!r}"))

    async def do(self, coroutine):
        self.future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return await asyncio.wrap_future(self.future)

    def abort(self):
        if self.future is not None:
            self.future.cancel()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)

    async def open(self, state):
        from google.adk.runners import InMemoryRunner

        self.runner = InMemoryRunner(agent=self.loader.build(self.mode), app_name=self.app)
        state = {"tool_trajectory": [], "adk_events": [], **state}
        session = await self.runner.session_service.create_session(app_name=self.app, user_id=self.user, state=state)
        self.id = session.id

    async def _stored(self):
        return await self.runner.session_service.get_session(app_name=self.app, user_id=self.user, session_id=self.id)

    async def turn(self, message):
        """One message of the orchestrator, and all that the agent does about it."""
        from google.adk.events import Event, EventActions
        from google.genai import types

        if self.mode == "c-interact":
            # A turn of c-interact ends with a submission; the mark of the last one must not end this one.
            event = Event(author="user", actions=EventActions(state_delta={"_submitted_this_phase": False}))
            await self.runner.session_service.append_event(await self._stored(), event)
        events, answer, error = [{"type": "user_message", "message": short(message)}], "", None
        try:
            content = types.Content(role="user", parts=[types.Part(text=message)])
            async for event in self.runner.run_async(user_id=self.user, session_id=self.id, new_message=content):
                events.append(event_record(event))
                answer = self._take(event) or answer
        except Exception as caught:
            error = caught
        state = dict((await self._stored()).state)
        state["adk_events"] = [*(state.get("adk_events") or []), *events]
        return state, answer, error

    def _take(self, event):
        usage = getattr(event, "usage_metadata", None)
        if usage is not None:
            self.usage["model_calls"] += 1
            self.usage["tokens_in"] += usage.prompt_token_count or 0
            self.usage["tokens_out"] += (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        parts = getattr(getattr(event, "content", None), "parts", None) or []
        return "\n".join(part.text for part in parts if getattr(part, "text", None)).strip()


def make_app(loader, mode):
    from fastapi import FastAPI, Request, Response

    app = FastAPI(title="autoharness BIRD-Interact agent service", openapi_url=None)
    sessions = {}

    def reply(value, status=200):
        return Response(json.dumps(value, default=str), status, media_type="application/json")

    @app.get("/health")
    async def health():
        return reply(
            {"status": "healthy", "service": "autoharness_bird_agent", "pid": os.getpid(), "adk_available": True}
        )

    @app.post("/init_session")
    async def init_session(request: Request):
        body = await request.json()
        task = body["task_id"]
        session = Session(loader, mode, task)
        if task in sessions:
            sessions.pop(task).abort()
        sessions[task] = session
        try:
            await session.do(session.open(body.get("state") or {}))
        except Exception as error:
            return reply({"detail": failure(loader, error)}, 500)
        return reply({"task_id": task, "mode": mode, "session_id": session.id, "adk_available": True})

    @app.post("/run_session")
    async def run_session(request: Request):
        body = await request.json()
        session = sessions.get(body["task_id"])
        if session is None:
            return reply({"detail": "no such session"}, 404)
        try:
            state, answer, error = await session.do(session.turn(body.get("message") or ""))
        except (Exception, asyncio.CancelledError) as caught:
            state, answer, error = {}, "", caught
        if error is not None:
            return reply({"detail": {**failure(loader, error), "state": state, "usage": session.usage}}, 500)
        return reply(
            {
                "task_id": body["task_id"],
                "mode": mode,
                "session_id": session.id,
                "response": answer,
                "state": state,
                "adk_available": True,
                "usage": session.usage,
            }
        )

    @app.post("/end_session")
    async def end_session(request: Request):
        session = sessions.pop((await request.json())["task_id"], None)
        if session is not None:
            session.abort()
        return reply({"status": "ok"})

    return app


def imports():
    """Everything but the agent: imported before, because it takes seconds, and failing here is not the agent's fault."""
    import fastapi  # noqa: F401
    import google.adk.models.lite_llm  # noqa: F401
    import google.adk.runners  # noqa: F401
    import litellm  # noqa: F401  # The first call would otherwise wait for it.
    import uvicorn  # noqa: F401


def serve(sock, status_fd, mode, agent_file, door=None):
    """Loads the agent file after a line on stdin, and serves it on `sock`; says how that goes on `status_fd`. `door`: where
    calls of models go."""
    import uvicorn

    if door:
        redirect.install(**door)

    def say(**state):
        os.write(status_fd, json.dumps(state).encode() + b"\n")

    say(state="prepared", port=sock.getsockname()[1])
    if not sys.stdin.readline():
        return 1
    sys.stdin.close()
    loader = Loader(agent_file)
    try:
        loader.load()
        if not callable(getattr(loader.module, "build_agent", None)):
            raise ImportError("the agent file defines no build_agent(mode)")
        loader.build(mode)
    except Exception as error:
        traceback.print_exc()
        say(state="failed", error=loader.describe(error))
        return 1
    app = make_app(loader, mode)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    say(state="serving")
    os.close(status_fd)
    asyncio.run(server.serve(sockets=[sock]))
    return 0
