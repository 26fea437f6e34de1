"""The agent under test. `build_agent(mode)` returns a google-adk agent; the name and the argument must stay.

What to change: the two instructions, the tools' descriptions (the model reads the docstrings), what the tools return, the
callbacks, the model's settings. What not to count on: the budget below is only the agent's own book-keeping. The services
keep their own, and so does the program that computes the reward.
"""

import json
import os

import httpx
from google.adk import Agent
from google.adk.models.lite_llm import LiteLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.tools import FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

# ------------------------------------------------------------------------------------------------------- instructions

# {names in braces} are filled in from the session state; a name that is not there ends the task with an error.

C_INTERACT = """You write PostgreSQL for a user who describes, in plain and sometimes unclear words, what they want.

The database is "{db_name}". Its schema:

{db_schema}

What is known about the terms of this field:

{external_kg}

How to proceed:
1. Find what the request leaves open. You may ask the user up to {max_turn} questions with ask_user, one point at a time.
2. When the request is clear, hand in one PostgreSQL statement with submit_sql.
3. If it is rejected, find the mistake and hand in a corrected statement.
4. After success the user may have a follow-up request. Treat it the same way.
"""

A_INTERACT = """You write PostgreSQL for a user who describes, in plain and sometimes unclear words, what they want. You can
question the user and explore the database. The task is over when the right SQL is handed in or the budget is spent.

Every call of a tool costs bird-coins:
- execute_sql 1: run a query
- get_schema 1: the schema of the database
- get_all_column_meanings 1, get_column_meaning 0.5: what columns hold
- get_all_external_knowledge_names 0.5, get_knowledge_definition 0.5, get_all_knowledge_definitions 1: terms of the field
- ask_user 2: put a question to the user
- submit_sql 3: hand in the SQL for evaluation

How to proceed:
1. Look at the schema first, then at the columns and terms that matter. The tools that return everything return a lot.
2. Where the request is unclear, ask the user before you settle on an answer, one point at a time.
3. Try the query with execute_sql, compare it with every part of the request, then hand it in.
4. If it is rejected and coins are left, find the mistake and try again. Keep 3 coins for a submission.
5. After success the user may have a follow-up request. Treat it the same way.
"""

# -------------------------------------------------------------------------------------------------------------- tools

COSTS = {
    "execute_sql": 1.0,
    "get_schema": 1.0,
    "get_all_column_meanings": 1.0,
    "get_column_meaning": 0.5,
    "get_all_external_knowledge_names": 0.5,
    "get_knowledge_definition": 0.5,
    "get_all_knowledge_definitions": 1.0,
    "ask_user": 2.0,
    "submit_sql": 3.0,
}
MAX_MODEL_TURNS = 60
LONGEST_RESULT = 2000
# None: the model's own. A number, such as 0.0, only for a model that takes it: reasoning models (o1, o3, gpt-5 and others)
# refuse the whole request.
TEMPERATURE = None


def _post(service, path, context, timeout, **fields):
    """Asks the database environment or the user simulator about the task at hand."""
    port = os.environ["DB_ENV_PORT" if service == "db" else "USER_SIM_PORT"]
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        return client.post(
            f"http://localhost:{port}{path}", json={"task_id": context.state.get("task_id", ""), **fields}
        )


def _get(path, field, default, context, **fields):
    try:
        return _post("db", path, context, 30.0, **fields).json().get(field, default)
    except Exception as error:
        return f"Error: {error}"


def execute_sql(sql: str, tool_context: ToolContext) -> str:
    """Runs one read-only PostgreSQL query and returns its rows as a table, or the error. Costs 1 bird-coin.

    Args:
        sql: The query; it must begin with SELECT, WITH or EXPLAIN.
    """
    try:
        response = _post("db", "/execute", tool_context, 120.0, sql=sql)
        if response.status_code != 200:
            return f"SQL Error: Server returned status {response.status_code}: {response.text[:200]}"
        data = response.json()
    except Exception as error:
        return f"Error calling DB environment: {type(error).__name__}: {error}"
    if data.get("success"):
        return data.get("result", "The query ran and returned nothing.")
    return f"SQL Error: {data.get('error') or 'no details'}"


def get_schema(tool_context: ToolContext) -> str:
    """Returns the schema of the whole database as CREATE TABLE statements. Costs 1 bird-coin."""
    return _get("/schema", "schema", "Schema not available", tool_context)


def get_all_column_meanings(tool_context: ToolContext) -> str:
    """Returns what every column of every table holds, as JSON. Long. Costs 1 bird-coin."""
    return _get("/all_column_meanings", "column_meanings", "{}", tool_context)


def get_column_meaning(table_name: str, column_name: str, tool_context: ToolContext) -> str:
    """Returns what one column holds. Costs 0.5 bird-coins.

    Args:
        table_name: The table.
        column_name: The column of that table.
    """
    return _get(
        "/column_meaning",
        "meaning",
        "Column meaning not found",
        tool_context,
        table_name=table_name,
        column_name=column_name,
    )


def get_all_external_knowledge_names(tool_context: ToolContext) -> str:
    """Returns the names of all defined terms of this field, as a JSON list. Costs 0.5 bird-coins."""
    names = _get("/knowledge_names", "names", [], tool_context)
    return names if isinstance(names, str) else json.dumps(names)


def get_knowledge_definition(knowledge_name: str, tool_context: ToolContext) -> str:
    """Returns the definition of one term as JSON. Costs 0.5 bird-coins.

    Args:
        knowledge_name: The term, exactly as get_all_external_knowledge_names spells it.
    """
    return _get("/knowledge", "knowledge", "Knowledge not found", tool_context, knowledge_name=knowledge_name)


def get_all_knowledge_definitions(tool_context: ToolContext) -> str:
    """Returns the definitions of all terms as JSON. Long. Costs 1 bird-coin."""
    return _get("/knowledge", "knowledge", "[]", tool_context)


def ask_user(question: str, tool_context: ToolContext) -> str:
    """Puts one question to the user and returns the answer. Costs 2 bird-coins.

    Args:
        question: What you want to know about the request.
    """
    try:
        answer = (
            _post("user", "/ask", tool_context, 60.0, question=question).json().get("answer", "No response from user.")
        )
    except Exception as error:
        return f"Error: {error}"
    dialogue = tool_context.state.get("dialogue_history", [])
    exchange = [{"role": "agent", "content": question}, {"role": "user", "content": answer}]
    tool_context.state["dialogue_history"] = dialogue + exchange
    return answer


def submit_sql(sql: str, tool_context: ToolContext) -> str:
    """Hands in SQL for evaluation and returns the verdict, with a follow-up request if there is one. Costs 3 bird-coins.

    Args:
        sql: The complete PostgreSQL statement.
    """
    state = tool_context.state
    try:
        data = _post("db", "/submit", tool_context, 120.0, sql=sql).json()
    except Exception as error:
        return f"Error: {error}"
    if data.get("passed"):
        state["total_reward"] = state.get("total_reward", 0.0) + data.get("reward", 0.0)
        phase, more = data.get("phase_completed"), data.get("has_follow_up")
        state[f"phase{phase}_completed"] = True
        if phase == 1:
            state["current_phase"] = 2
        if phase == 1 and more:
            try:
                _post("user", "/phase_transition", tool_context, 120.0)
            except Exception:
                pass  # The user then answers as in phase 1; the SQL is judged all the same.
        else:
            state["task_done"] = True
    message = data.get("message", "")
    # The orchestrator of c-interact looks for the marker in this; the model has no use for it.
    state["_last_submit_raw"] = message
    lines = [message.replace("[exec_err_flg] ", "")]
    if data.get("reward", 0) > 0:
        lines.append(f"Reward: {data['reward']}")
    if data.get("has_follow_up"):
        lines.append(f"Follow-up question: {data['follow_up_query']}")
    lines.append(f"Budget remaining: {state.get('budget_remaining', 0)} bird-coins")
    return "\n".join(lines)


A_TOOLS = [
    execute_sql,
    get_schema,
    get_all_column_meanings,
    get_column_meaning,
    get_all_external_knowledge_names,
    get_knowledge_definition,
    get_all_knowledge_definitions,
    ask_user,
    submit_sql,
]
C_TOOLS = [ask_user, submit_sql]

# ---------------------------------------------------------------------------------------------------------- callbacks


def _say(text):
    """An answer in the model's place, which ends the turn."""
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))


def before_model(callback_context, llm_request):
    """Ends the turn when there is nothing left to do."""
    state = callback_context.state
    state["model_turns"] = state.get("model_turns", 0) + 1
    if state["model_turns"] > MAX_MODEL_TURNS:
        return _say("The limit of turns is reached.")
    if state.get("task_done", False):
        return _say("The task is complete.")
    if state.get("_submitted_this_phase", False):
        return _say("The SQL was submitted.")
    if state.get("budget_remaining", 0) < 0:
        return _say("The budget is spent.")
    return None


def pay(tool, args, tool_context):
    """Takes a tool's price from the budget (a-interact). The last submission is free when too little is left."""
    state, cost = tool_context.state, COSTS.get(tool.name)
    if cost is None:
        return None
    budget = state.get("budget_remaining", 0)
    state["_budget_before"] = budget
    if tool.name == "submit_sql":
        state["budget_remaining"] = budget - cost if budget > cost else -1
    elif budget < cost:
        return {
            "error": f"Only {budget:.1f} bird-coins are left, too few for this. Hand in your best SQL with submit_sql now."
        }
    else:
        state["budget_remaining"] = budget - cost
    return None


def _note(tool, args, tool_context, result, **more):
    """Adds a tool call to the trajectory, which the traces show."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    if len(text) > LONGEST_RESULT:
        text = text[:LONGEST_RESULT] + "...<truncated>"
    entry = {"type": "tool", "tool": tool.name, "args": args, "result": text, **more}
    trajectory = tool_context.state.get("tool_trajectory", []) + [entry]
    tool_context.state["tool_trajectory"] = trajectory
    return trajectory


def after_tool_a(tool, args, tool_context, tool_response):
    """Notes the call and tells the model what is left of the budget."""
    state = tool_context.state
    left = state.get("budget_remaining")
    _note(
        tool,
        args,
        tool_context,
        tool_response,
        cost=COSTS.get(tool.name, 0),
        budget_before=state.get("_budget_before"),
        budget_after=left,
    )
    if left is None or left < 0:
        return None
    return f"{tool_response}\n\n[Remaining budget: {left:.1f} of {state.get('initial_budget', 0):.1f} bird-coins]"


def after_tool_c(tool, args, tool_context, tool_response):
    """Notes the call; a submission ends the turn, a question counts against the questions allowed."""
    state = tool_context.state
    trajectory = _note(tool, args, tool_context, tool_response)
    if tool.name == "submit_sql":
        state["_submitted_this_phase"] = True
    if tool.name == "ask_user":
        allowed = state.get("max_turn", 0)
        left = max(0, allowed - sum(entry["tool"] == "ask_user" for entry in trajectory))
        return f"{tool_response}\n\n[Questions left: {left} of {allowed}]"
    return None


# -------------------------------------------------------------------------------------------------------------- agent


def build_model():
    """The model that the configuration names, with its reasoning effort where one is configured."""
    name = os.environ.get("AGENT_MODEL") or os.environ.get("SYSTEM_AGENT_MODEL") or ""
    settings = {"max_tokens": 4096, "num_retries": 5}
    for key, variable in (
        ("api_base", "LITELLM_API_BASE"),
        ("api_key", "LITELLM_API_KEY"),
        ("reasoning_effort", "AGENT_REASONING_EFFORT"),
    ):
        if os.environ.get(variable):
            settings[key] = os.environ[variable]
    return LiteLlm(model=name, **settings)


def build_agent(mode="a-interact"):
    """The agent for `a-interact` (all tools, a budget) or `c-interact` (asking and submitting, turn by turn)."""
    settings = {}
    if TEMPERATURE is not None:
        settings["generate_content_config"] = types.GenerateContentConfig(temperature=TEMPERATURE)
    a_interact = mode == "a-interact"
    return Agent(
        model=build_model(),
        name="bird_interact_agent",
        description="Turns a user's unclear request into PostgreSQL.",
        instruction=(A_INTERACT if a_interact else C_INTERACT).strip(),
        tools=[FunctionTool(tool) for tool in (A_TOOLS if a_interact else C_TOOLS)],
        before_model_callback=before_model,
        before_tool_callback=pay if a_interact else None,
        after_tool_callback=after_tool_a if a_interact else after_tool_c,
        **settings,
    )
