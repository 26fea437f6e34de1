"""What a test tells the scripted model while it runs, and what it is told: files in the directory that STUB_BED names.

    faults   a JSON object: {"agent" | "user" | "judge": {marker of a conversation: what the call does wrong}}
    hold     a JSON list of markers: their calls wait until it no longer holds them
    calls    one line for each begin and end of a call: `begin agent MARKER1X`
"""

import contextlib
import json
import os
import re
import time


PROVIDER = {"401", "403", "404", "429", "500", "503", "drop", "slow", "hang", "page", "cut", "error200", "null"}
_last = {}


def _read(name, default):
    try:
        with open(os.path.join(os.environ["STUB_BED"], name), encoding="utf-8") as file:
            return json.load(file)
    except (KeyError, FileNotFoundError):
        return default


def _note(*words):
    calls = os.open(os.path.join(os.environ["STUB_BED"], "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(calls, (" ".join(words) + "\n").encode())
    os.close(calls)


@contextlib.contextmanager
def call(texts):
    """Accompanies one call; gives what it does wrong, or None."""
    if "STUB_BED" not in os.environ:
        yield None
        return
    role = {"JUDGE": "judge", "SCENARIO": "user"}.get(texts[0].split(" ")[0], "agent")
    marker = (re.findall(r"MARKER\d+X", " ".join(texts)) or [None])[0]
    if marker is None:
        # A request of the helper's own, about the last call of its process: a provider that fails fails there as well.
        fault = _read("faults", {}).get(_last.get("role"), {}).get(_last.get("marker"))
        yield fault if fault in PROVIDER else None
        return
    _last.update(role=role, marker=marker)
    _note("begin", role, marker)
    while marker in _read("hold", []):
        time.sleep(0.01)
    try:
        yield _read("faults", {}).get(role, {}).get(marker)
    finally:
        _note("end", role, marker)
