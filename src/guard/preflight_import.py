"""Imports an agent file once, as its benchmark will. What to do comes on stdin, or as an argument; one JSON object on stdout says how it went."""
import sys

sys.path[:] = [entry for entry in sys.path if entry]  # Nothing of the copy may stand in for a module of ours.

import importlib
import importlib.util
import json
import os

asked = json.loads(os.fsencode(sys.argv[1])) if len(sys.argv) > 1 else json.load(sys.stdin)
out = os.fdopen(os.dup(1), "w")
null = os.open(os.devnull, os.O_RDWR)
for descriptor in (0, 1):
    os.dup2(null, descriptor)  # The agent may print and read what it likes.
path = asked["path"]


def answer(**fields):
    out.write(json.dumps(fields))
    out.flush()
    os._exit(0)  # Not through what the agent may have registered for the end.


def describe(error):
    try:
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:300]
    except BaseException:
        text = "(its message cannot be shown)"
    line, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            line = step.tb_lineno
        step = step.tb_next
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = " (%s, line %s)" % (os.path.basename(str(error.filename)), error.lineno)
    name = type(error).__name__
    return {"line": line, "message": (name + ": " + text if text else name) + where}


def load(way):
    # Beside a module `agent` the package `agent` would not be found.
    beside = os.path.dirname(path)
    last = [entry for entry in asked["last"] if "file" in way or entry != beside]
    sys.path[:] = asked["first"] + common + last
    if "module" in way:
        module = importlib.import_module(way["module"])
        found = getattr(module, "__file__", None)
        if not found or os.path.realpath(found) != os.path.realpath(path):
            raise ImportError("%s is %s, not the agent file" % (way["module"], found))
        return module
    specification = importlib.util.spec_from_file_location(way["file"], path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[way["file"]] = module
    specification.loader.exec_module(module)
    return module


sys.dont_write_bytecode = True
common = sys.path[:] = [entry for entry in sys.path if entry != os.getcwd()]
sys.argv = [path]
if asked["before"]:
    try:
        own = {}
        sys.path.insert(0, asked["before"]["modules"])
        exec(asked["before"]["code"], own)
        del sys.path[0]
        sys.path[:0] = asked["first"]  # Readable within a fence that it puts up.
        own["before"](path, **asked["before"]["arguments"])
    except BaseException as error:
        answer(before=describe(error)["message"])
failure = None
for way in asked["ways"]:
    known = set(sys.modules)
    try:
        module = load(way)
    except BaseException as error:
        failure = failure or describe(error)
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(os.getcwd() + os.sep):
                del sys.modules[name]
        continue
    if asked["symbol"] and not hasattr(module, asked["symbol"]):
        answer(line=None, message="does not define `%s` at the top level" % asked["symbol"])
    answer(ok=True)
answer(**failure)
