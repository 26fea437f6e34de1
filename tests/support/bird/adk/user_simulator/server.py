"""The user simulator: two calls of a model for every question, and a shrug when they fail."""

import asyncio
import logging
import os

import httpx
from fastapi import Body, FastAPI, HTTPException

from shared import config

app = FastAPI()
config.mark("user")
log = logging.getLogger(__name__)
TASKS = {}
SHRUG = "I'm not sure I understand your question."


def ask_model(prompt):
    import litellm  # As late as the benchmark does it.

    try:
        answer = litellm.completion(
            model=os.environ["USER_SIM_MODEL"], messages=[{"role": "user", "content": prompt}], num_retries=1
        )
        return answer.choices[0].message.content or ""
    except Exception as error:
        log.error("LLM call failed: %s", error)
        return ""


def answer(task, question):
    gold = task["data"]["sol_sql"] if task["phase"] == 1 else task["data"]["follow_up"]["sol_sql"]
    action = ask_model(f"Choose an action for: {question}\n{gold}")
    said = ask_model(f"Answer as the user, by {action}: {question}\n{gold}")
    return said.split("<s>", 1)[1].split("</s>", 1)[0].strip() if "<s>" in said else SHRUG


@app.post("/init_task")
async def init_task(body: dict = Body()):
    TASKS[body["task_id"]] = {"data": body["task_data"], "phase": 1}
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(config.url("db", "/schema"), json={"task_id": body["task_id"]})
    return {"status": "ok", "task_id": body["task_id"]}


@app.post("/ask")
async def ask(body: dict = Body()):
    if body["task_id"] not in TASKS:
        raise HTTPException(404, "not initialized")
    return {"answer": await asyncio.to_thread(answer, TASKS[body["task_id"]], body["question"])}


@app.post("/phase_transition")
async def phase_transition(body: dict = Body()):
    TASKS[body["task_id"]]["phase"] = 2
    return {"status": "ok", "phase": 2}


@app.get("/health")
async def health():
    return {"status": "healthy", "service": "user_simulator"}
