"""The benchmark's tasks: reading them, and saying what is wrong with them before money is spent."""

import collections
import json
import os
import re

# What may stand in an id: it ends up in URLs, file names and (with - and . replaced) in database names.
ID = re.compile(r"[A-Za-z0-9_.-]+\Z")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# The longest copy is "<database>__<alias>__p1snap"; PostgreSQL cuts names at 63 bytes, and then copies collide.
LONGEST_DATABASE_NAME = 63


class DataError(Exception):
    """The data set cannot be used; the text says why and what to do."""


def default_path(adk_dir, dataset):
    return os.path.join(adk_dir, f"bird-interact-{dataset}", "bird_interact_data.jsonl")


def load(path):
    """Every task, by id, in the order of the file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"cannot read the tasks: {error}") from None
    if data.startswith(LFS_POINTER):
        raise DataError(f"{path} is a git-lfs pointer, not the data; run `git lfs install && git lfs pull` beside it")
    tasks = collections.OrderedDict()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            task = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path} line {number} is not JSON: {error}") from None
        name = task.get("instance_id") if isinstance(task, dict) else None
        if not isinstance(name, str) or not ID.match(name):
            raise DataError(f"{path} line {number} has no usable instance_id: {name!r}")
        if name in tasks:
            raise DataError(f"{path} line {number} names task {name} a second time")
        if not isinstance(task.get("selected_database"), str) or not ID.match(task["selected_database"]):
            raise DataError(f"{path} line {number}: task {name} names no database")
        tasks[name] = task
    if not tasks:
        raise DataError(f"{path} holds no tasks")
    return tasks


def databases(tasks):
    return sorted({task["selected_database"] for task in tasks.values()})


def folder(database, path, adk_dir, dataset):
    """The folder with a database's schema and knowledge: beside the tasks, or where the benchmark itself looks."""
    for directory in (os.path.dirname(os.path.abspath(path)), os.path.join(adk_dir, f"bird-interact-{dataset}")):
        if os.path.isdir(os.path.join(directory, database)):
            return os.path.join(directory, database)
    return None


def has_follow_up(task):
    follow_up = task.get("follow_up")
    return bool(isinstance(follow_up, dict) and follow_up.get("sol_sql"))


def questions(task):
    """The phases whose task is a question, and not a change to the database."""
    parts = {1: task, 2: task.get("follow_up") if has_follow_up(task) else None}
    return {phase for phase, part in parts.items() if part and part.get("category", "Query") == "Query"}


def statements(value):
    """The statements of a gold solution, which may be one string or a list."""
    if isinstance(value, str):
        value = [value]
    return [text for text in value or [] if isinstance(text, str) and text.strip()]


def missing_truth(task):
    """What of a task's ground truth is not there. The public file leaves it empty, and empty scores 0.0 in silence."""
    missing = []
    if not statements(task.get("sol_sql")):
        missing.append("sol_sql")
    if task.get("category", "Query") != "Query" and not task.get("test_cases"):
        missing.append("test_cases")
    follow_up = task.get("follow_up")
    if isinstance(follow_up, dict) and follow_up.get("query"):
        if not statements(follow_up.get("sol_sql")):
            missing.append("follow_up.sol_sql")
        if follow_up.get("category", "Query") != "Query" and not follow_up.get("test_cases"):
            missing.append("follow_up.test_cases")
    return missing


def ambiguities(task):
    """How many points of a task are ambiguous; its budget depends on it."""
    critical = (task.get("user_query_ambiguity") or {}).get("critical_ambiguity") or []
    return len(critical) + len(task.get("knowledge_ambiguity") or [])


def budget(task, patience):
    """The bird-coins an agent may spend in a-interact."""
    return 6.0 + 2.0 * ambiguities(task) + 2.0 * patience
