"""List the tasks of a dataset as Harbor sees them, without running anything.

    <harbor's python> tasks.py --path DIR                             a local directory of tasks
    <harbor's python> tasks.py --registry FILE --dataset NAME[@VERSION]   a registry file
    <harbor's python> tasks.py --dataset NAME[@VERSION] | ORG/NAME[@REF]  Harbor's own registry or hub

`--download-dir DIR` keeps downloaded tasks there instead of in Harbor's cache below HOME; they contain solutions
and tests.

Prints one JSON object: {"ok", "tasks": [...], "errors": [{"task", "error"}]}, exit 0, or 1 with "error" when the dataset
as a whole cannot be read. Each task:

  id                    the name in the trial's result.json ("task_name"): what the ledger calls the task
  aliases               further names that mean this task and no other, such as `x` for `org/x`
  config                its entry for `tasks[]` of a job config: exact, pinned, never a pattern
  agent_timeout_sec     null: the task sets no limit (Harbor then has none)
  verifier_timeout_sec, build_timeout_sec
  steps                 number of steps; the limits of a task with several are the sums over its steps
  tests_write_json      whether the task's own files name reward.json; false: only reward.txt; null: neither

A task that Harbor would drop in silence (unparsable task.toml, missing test) is an error here; so are two tasks
with one name.
"""

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path

from harbor.models.job.config import DatasetConfig
from harbor.models.task.config import TaskConfig as TaskToml
from harbor.models.task.task import Task
from harbor.models.trial.config import TaskConfig
from harbor.tasks.client import TaskClient

SETTINGS = "task.toml"


def dataset_config(options):
    """The dataset in Harbor's own terms."""
    common = {"download_dir": options.download_dir.resolve() if options.download_dir else None}
    if options.path:
        path = options.path.expanduser().resolve()
        if not path.is_dir():
            raise FileNotFoundError(f"no such directory: {path}")
        return DatasetConfig(path=path, **common)
    name, _, version = options.dataset.partition("@")
    if options.registry:
        return DatasetConfig(name=name, version=version or None, registry_path=options.registry.resolve(), **common)
    if "/" in name:
        return DatasetConfig(name=name, ref=version or None, **common)
    return DatasetConfig(name=name, version=version or None, **common)


async def resolve(config):
    """The tasks of the dataset; of a local directory also those that Harbor would leave out."""
    if not config.is_local():
        return await config.get_task_configs()
    # A directory that is itself a task counts as a dataset of one.
    paths = [config.path] if (config.path / SETTINGS).is_file() else sorted(config.path.iterdir())
    return [TaskConfig(path=path, source=config.path.name) for path in paths if (path / SETTINGS).is_file()]


async def download(configs, directory):
    """Where each task lies on this machine, and the commit it was taken from."""
    result = await TaskClient().download_tasks(
        task_ids=[config.get_task_id() for config in configs], output_dir=directory)
    return [(item.path, item.resolved_git_commit_id) for item in result.results]


def tests_write_json(path):
    """Whether the task's graders write reward.json: Harbor prefers that file, so an agent's own one must be told apart.

    Everything but the solution and the instruction is looked at: tests, steps, the image and what it contains.
    """
    text = False
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if inside.parts[0] == "solution" or "solution" in inside.parts[2:3] or file.name == "instruction.md":
            continue
        if not file.is_file() or file.stat().st_size > 4 << 20:
            continue
        content = file.read_bytes()
        # The package that Harbor's authors offer for rubrics writes that file.
        if b"reward.json" in content or b"rewardkit" in content:
            return True
        text = text or b"reward.txt" in content
    return False if text else None


def limits(settings):
    """The time limits in seconds; sums for a task with several steps."""
    steps = settings.steps or []
    agent, verifier = [settings.agent.timeout_sec], [settings.verifier.timeout_sec]
    if steps:
        agent = [own if (own := step.agent.timeout_sec) is not None else settings.agent.timeout_sec for step in steps]
        verifier = [step.verifier.timeout_sec for step in steps]
    return {
        "agent_timeout_sec": None if None in agent else sum(agent),
        "verifier_timeout_sec": sum(verifier),
        "build_timeout_sec": settings.environment.build_timeout_sec,
        "steps": max(len(steps), 1),
    }


def describe(config, path, commit):
    """One task of the answer. Raises when its files are not a task that Harbor would run."""
    if commit and config.git_url:
        config = config.model_copy(update={"git_commit_id": commit})
    path = Path(path).resolve()
    settings = TaskToml.model_validate_toml((path / SETTINGS).read_text(encoding="utf-8"))
    if not Task.is_valid_dir(path):
        raise ValueError("Harbor does not accept it as a task: environment/, instruction.md or tests/ is missing")
    entry = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if not config.git_url and config.path is not None:
        entry["path"] = str(path)
    name, aliases = config.get_task_id().get_name(), []
    if settings.task is not None:
        aliases.append(name)
        name = settings.task.name
    return {"id": name, "aliases": [*aliases, name.rsplit("/", 1)[-1]], "config": entry, **limits(settings),
            "tests_write_json": tests_write_json(path)}


def settle_names(tasks, errors):
    """Report double names, and leave only aliases that mean one task."""
    counts = Counter(task["id"] for task in tasks)
    for name in sorted(name for name, count in counts.items() if count > 1):
        errors.append({"task": name, "error": f"{counts[name]} tasks have this name; results could not be told apart"})
    owners = Counter(alias for task in tasks for alias in set(task["aliases"]))
    for task in tasks:
        task["aliases"] = sorted(
            alias for alias in set(task["aliases"]) if owners[alias] == 1 and alias not in counts)


async def collect(options):
    """The whole answer."""
    dataset = dataset_config(options)
    configs = await resolve(dataset)
    tasks, errors = [], []
    for config, (path, commit) in zip(configs, await download(configs, dataset.download_dir)):
        try:
            tasks.append(describe(config, path, commit))
        except Exception as error:
            errors.append({"task": config.get_task_id().get_name(), "error": f"{type(error).__name__}: {error}"})
    settle_names(tasks, errors)
    return {"ok": True, "tasks": tasks, "errors": errors}


def main():
    parser = argparse.ArgumentParser(description="List the tasks of a Harbor dataset as JSON.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--path", type=Path, help="local directory of tasks")
    source.add_argument("--dataset", help="name[@version], or org/name[@ref]")
    parser.add_argument("--registry", type=Path, help="registry file in which --dataset is looked up")
    parser.add_argument("--download-dir", type=Path)
    options = parser.parse_args()
    # Harbor's clients log and print; the answer has stdout to itself.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        report = asyncio.run(collect(options))
    except Exception as error:
        origin = error.__cause__ or error.__context__
        cause = f" ({type(origin).__name__}: {origin})" if origin else ""
        report = {"ok": False, "error": f"{type(error).__name__}: {error}{cause}", "tasks": [], "errors": []}
    print(json.dumps(report), file=answer, flush=True)
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
