"""tau2 itself, its tasks and their splits, the tools' schemas, and the seeds of trials."""

import gc
import importlib
import json
import logging
import os
import random
import types
import warnings

from tau_bench import processes
from tau_bench.protocol import log
from tau_bench.request import RequestError


def load_upstream(data_dir=None):
    """Imports everything that is used of tau2 and litellm. Done once, before any fork; starts no thread."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Otherwise the import asks the network for prices.
    if data_dir:
        os.environ["TAU2_DATA_DIR"] = data_dir  # Read once, at the import.
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"  # tau2 would load a .env from any directory above it.
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    try:
        from loguru import logger

        logger.remove()
        import litellm
        from tau2.registry import registry
    except ImportError as error:
        raise RequestError(
            f"tau2 cannot be imported ({error}). It comes from its git repository: the package that PyPI calls tau2 is"
            " another project. `autoharness prepare` installs the right one."
        ) from None
    from tau2.agent.base_agent import HalfDuplexAgent
    from tau2.data_model.message import AssistantMessage, MultiToolMessage, ToolCall, ToolMessage, UserMessage
    from tau2.data_model.simulation import TextRunConfig
    from tau2.data_model.tasks import RewardType, Task
    from tau2.environment.environment import Environment
    from tau2.evaluator import evaluator_nl_assertions as judge
    from tau2.evaluator.evaluator import EvaluationType, evaluate_simulation
    from tau2.runner import build as tau2_build
    from tau2.runner import build_orchestrator, get_tasks
    from tau2.runner.helpers import load_task_splits
    from tau2.utils import llm_utils

    logger.remove()  # Importing tau2 adds a sink, and its messages quote conversations.
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    return types.SimpleNamespace(**locals())


class Known:
    """The domain's tasks. They lie in the vault; here are only the places of their names and of themselves.

    The parent reads names and never a task: what it frees stays in memory until it is overwritten, and agents' processes
    are copies of it."""

    def __init__(self, vault, places):
        self._vault = vault
        self._names = [name for name, _ in places]
        self.places = [task for _, task in places]

    @property
    def count(self):
        """How many there are."""
        return len(self.places)

    def name_and_split(self, index):
        """Id and split of a task, as an event names them."""
        record = self._vault.get(self._names[index])
        return {"task": record["id"], "split": record["split"]}

    def select(self, request):
        """Indices of the tasks that are asked for: those named, each once and in that order, or those of the split."""
        index = {}
        for position in range(self.count):
            record = self.name_and_split(position)
            index[record["task"]] = (position, record["split"])
        wanted = request["tasks"]
        if wanted is None:
            return [position for position, split in index.values() if request["split"] in (None, split)]
        unknown = [name for name in wanted if name not in index]
        if unknown:
            shown = ", ".join(json.dumps(name) for name in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            raise RequestError(f"unknown task {shown} in {request['domain']}, which has {self.count} tasks")
        return [index[name][0] for name in dict.fromkeys(wanted)]


def load(upstream, request, vault):
    """Reads the domain's tasks in a process of their own, which leaves nothing but records in the vault."""
    reader, writer = os.pipe()
    child = processes.fork()
    if not child:
        raise processes.Become(_fill, (upstream, request["domain"], vault, writer))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    processes.reap(child)
    try:
        answer = json.loads(answer)
    except ValueError:
        raise RequestError(f"the tasks of domain {request['domain']} could not be read") from None
    if "error" in answer:
        raise RequestError(answer["error"])
    vault.grow_to(answer["end"])
    return Known(vault, answer["places"])


def _fill(upstream, domain, vault, writer):
    """Child: puts each task into the vault and tells the parent where they lie."""
    try:
        if domain not in upstream.registry.get_info().domains:
            known = ", ".join(upstream.registry.get_info().domains)
            raise RequestError(f"tau2 has no domain {json.dumps(domain)}; it has {known}")
        split_of = _splits(upstream, domain)
        tasks = upstream.get_tasks(domain, "base", None)
        places = [
            (vault.put({"id": task.id, "split": split_of.get(task.id)}), vault.put(task.model_dump_json()))
            for task in tasks
        ]
        if not places:
            raise RequestError(f"domain {domain} has no tasks; is its data there?")
        answer = {"places": places, "end": vault.end}
    except RequestError as error:
        answer = {"error": str(error)}
    except Exception as error:
        answer = {"error": f"the tasks of domain {domain} cannot be read: {type(error).__name__}: {error}"}
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())
    os._exit(0)


def _splits(upstream, domain):
    """Split of each task id. Empty where the data draws no line between train and test."""
    try:
        splits = upstream.load_task_splits(domain) or {}
    except Exception:
        return {}  # banking_knowledge has no splits file: its loader answers any name with every task.
    train, test = set(splits.get("train") or ()), set(splits.get("test") or ())
    if not train or not test or train & test:
        return {}
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(test, "test")}


def settings(upstream, request):
    """tau2's own configuration of a run. Its time limit stays off: the runner process has one that interrupts."""
    arguments = {"temperature": 0.0}
    effort = {"reasoning_effort": request["effort"]} if request["effort"] else {}
    return upstream.TextRunConfig(
        domain=request["domain"],
        agent="harness_agent_proxy",
        llm_agent=request["agent_model"],
        llm_user=request["user_model"],
        llm_args_agent={**arguments, **effort},
        llm_args_user=dict(arguments),
        max_steps=request["max_steps"],
        max_errors=request["max_errors"],
        retrieval_config=request["retrieval_config"],
    )


def _environment(upstream, request):
    variant = {"retrieval_variant": request["retrieval_config"]} if request["retrieval_config"] else {}
    return upstream.registry.get_env_constructor(request["domain"])(**variant)


def context(upstream, request):
    """What every task of the domain shares, by file name: the agent's policy, and its tools as a model is told of them."""
    try:
        environment = _environment(upstream, request)
        schemas = [tool.openai_schema for tool in environment.get_tools()]
        policy = environment.get_policy()
    except Exception as error:
        # A domain that needs a key or a program of its own; a run says what is missing.
        log(f"no policy and no tools can be had of {request['domain']}: {type(error).__name__}: {error}")
        return {}
    return {"policy.md": policy, "tools.json": json.dumps(schemas, indent=2, ensure_ascii=False) + "\n"}


def tool_schemas(upstream, request):
    """The domain's tools without what they do: enough to describe them to a model."""
    environment = _environment(upstream, request)
    tools = environment.get_tools()
    for tool in tools:
        tool._func = _refuse  # Cuts the way from a tool to the toolkit and its database.
    del environment
    gc.collect()
    return tools


def _refuse(*_, **__):
    raise RuntimeError("a tool is called by returning a message with tool_calls, not directly")


def seeds(request):
    """Seed of each trial: tau2's own derivation from the base seed, so that trial n always gets the n-th."""
    numbers = random.Random(request["base_seed"])
    first = request["seed"] - request["base_seed"]
    drawn = [numbers.randint(0, 1000000) for _ in range(first + request["trials"])]
    return drawn[first:]
