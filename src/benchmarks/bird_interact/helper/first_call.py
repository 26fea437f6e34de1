"""One call of a model with a tool, through google-adk's own model class, against a model of our own on loopback.

Imports prove nothing: some releases of litellm import a package that they do not declare, only when a request has tools.
Prints nothing and exits 0 when the call works; else the exception.
"""

import asyncio
import os

import local_http
from pretended import World
from sockets import listen

HERE = "the tool was called"


def probe(word: str) -> str:
    """Says that the call arrived."""
    return f"{HERE}: {word}"


async def call(base):
    from google.adk import Agent
    from google.adk.models.lite_llm import LiteLlm
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    # This must use no real key or address.
    model = LiteLlm(model="openai/probe", api_base=base, api_key="probe", num_retries=0)
    runner = InMemoryRunner(
        agent=Agent(name="probe", model=model, instruction="Probe.", tools=[probe]), app_name="probe"
    )
    session = await runner.session_service.create_session(app_name="probe", user_id="u")
    message = types.Content(role="user", parts=[types.Part(text="go")])
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=message):
        for part in event.content.parts if event.content else []:
            if part.function_response and HERE in str(part.function_response.response):
                return
    raise RuntimeError("the tool was not called")


async def try_it():
    door, guard = listen()
    server = await local_http.serve(door, World().handle)
    try:
        await call(f"http://127.0.0.1:{door.getsockname()[1]}/v1")
    finally:
        server.close()
        if guard is not None:
            guard.close()


def main():
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    asyncio.run(try_it())


if __name__ == "__main__":
    main()
