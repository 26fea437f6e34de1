"""One call of a tool by the agent, through the agent service that runs use, with a model of our own on loopback.

Imports prove nothing: some releases of litellm import a package that they do not declare, only when a request has tools. The
agent is the experiment's own; what it calls beside the model (the database, the user) is pretended on loopback too. No key
and no address of anybody else's plays a part.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import tempfile

import calls
import environment
import local_http
from link import LONGEST_LINE, AgentError, AgentService
from nurse import Nursery
from pretended import ANSWER, World
from services import AGENT_CODE, copy_code, tail
from sockets import StartError, listen

START_LIMIT_S = 120.0
TURN_LIMIT_S = 120.0
MODEL = "openai/smoke"
# What a provider, or litellm on its behalf, says to a request with settings that the model does not have.
UNSUPPORTED = ("UnsupportedParamsError", "unsupported_parameter", "unsupported_value", "Unsupported parameter", "does not support")


class AgentFault(Exception):
    """The agent is to blame. `loads` says whether it got as far as running, `final` whether it will fare so in every task."""

    def __init__(self, text, loads, final=False):
        super().__init__(text)
        self.loads, self.final = loads, final or not loads


def pretended(model):
    """The model that is named to the agent: the configured one where its provider's manners can be pretended, because what a
    model refuses (a temperature, a reasoning effort) depends on its name and shows before a token is paid for."""
    provider, _, rest = (model or "").partition("/")
    if not rest and calls.Model(model, {}).provider in ("openai", "anthropic"):
        return model
    return model if provider in ("openai", "anthropic") and rest and "/" not in rest else MODEL


def state(mode, task):
    """The state of a session as the orchestrator fills it in, for the names that an instruction may use."""
    common = {"task_id": task, "db_name": "t", "dialogue_history": [], "tool_trajectory": []}
    if mode == "c-interact":
        more = {"mode": mode, "db_schema": ANSWER["schema"], "external_kg": "[]", "max_turn": 3, "phase_max_turns": 9}
        return {**common, **more, "model_turns": 0}
    return {
        **common,
        "user_query": "What is one?",
        "current_phase": 1,
        "budget_remaining": 20.0,
        "initial_budget": 20.0,
        "total_reward": 0.0,
        "adk_events": [],
        "phase1_completed": False,
        "phase2_completed": False,
        "task_done": False,
    }


async def _post(agent, world, path, body, limit):
    status, answer, _ = await local_http.request(agent.port, "POST", path, body, limit=limit)
    if status == 200:
        return
    with contextlib.suppress(ValueError):
        detail = json.loads(answer).get("detail")
        if isinstance(detail, dict):
            error = detail.get("error") or "no reason given"
            if any(word in error for word in UNSUPPORTED):
                raise AgentFault(f"its model refuses what the agent asks for: {error}", loads=True, final=True)
            if detail.get("kind") == "agent":
                raise AgentFault(error, loads=True)
            if not world.requests and "No module named" not in error:
                raise AgentFault(f"it calls another model than the configured one (AGENT_MODEL): {error}", loads=True)
            raise StartError(f"a model could not be called: {error}")
    raise StartError(f"the agent service answered {status} to {path}: {answer[:300].decode('utf-8', 'replace')}")


async def smoke(options, agent_file, about):
    """Returns the name of the tool that was called. `about`: the request's `agent`.

    Raises AgentFault for what the agent is to blame for, StartError for everything else.
    """
    scratch = tempfile.mkdtemp(prefix="smoke-", dir=os.environ.get("AUTOHARNESS_SCRATCH") or None)
    log, mode, task = os.path.join(scratch, "agent.log"), options["mode"], f"smoke_{secrets.token_hex(4)}"
    world, nursery, server, agent, guard = World(), Nursery(), None, None, None
    try:
        view = os.path.join(scratch, "agent")
        # Everybody is behind one port.
        behind = {**options["fence"], "ports": True} if options["fence"] else None
        own = [view, *([behind["staging"]] if behind else [])]
        copy_code(options["adk_dir"], view, AGENT_CODE)
        door, guard = listen()
        port = door.getsockname()[1]
        server = await local_http.serve(door, world.handle)
        model = pretended(about.get("model"))
        effort = about.get("reasoning_effort") if model == about.get("model") else None
        surroundings = environment.for_smoke(options, model, effort, port)
        await nursery.start(options["python"], surroundings, scratch, scratch, behind, view)
        await nursery.up(START_LIMIT_S)
        ours, theirs = socket.socketpair()
        nursery.hand_on(0, theirs.fileno())
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
        about = {"cwd": view, "own": own, "ports": [port], "environment": surroundings, "mode": mode, "agent_file": agent_file}
        writer.write(json.dumps(about).encode() + b"\n")
        agent = AgentService("smoke", reader, writer, log)
        await agent.prepared(START_LIMIT_S)
        try:
            await agent.load(START_LIMIT_S)
        except AgentError as error:
            raise AgentFault(f"the agent file cannot be loaded: {error}", loads=False) from None
        session = {"task_id": task, "mode": mode, "state": state(mode, task), "reset": True}
        await _post(agent, world, "/init_session", session, 60)
        await _post(agent, world, "/run_session", {**session, "message": "What is one?"}, TURN_LIMIT_S)
        if not world.requests:
            raise AgentFault("the agent did not call the configured model (AGENT_MODEL)", loads=True)
        if not world.called:
            raise AgentFault("the agent offered the model no tool", loads=True)
        if not world.answered:
            raise AgentFault(f"the model called {world.called}, and never heard what came of it", loads=True)
        return world.called
    except OSError as error:
        raise StartError(f"{error}; {tail(log)}") from None
    finally:
        if agent is not None:
            await agent.end()
        if nursery.child is not None:
            nursery.child.kill()
            await nursery.child.end()
        nursery.hang_up()
        if server is not None:
            server.close()
        if guard is not None:
            guard.close()
        shutil.rmtree(scratch, ignore_errors=True)

