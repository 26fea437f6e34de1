"""Starts this interpreter once more, behind a fence that lets it read what belongs to it, and hands on what comes on stdin as the last
argument. It runs none of the agent's code, so what it says of itself is true. Arguments: how many words the fence has, these, this
interpreter's own options, and the script."""
import sys

sys.path[:] = [entry for entry in sys.path if entry]  # Nothing of the copy may stand in for a module of ours.

import os

end = 2 + int(sys.argv[1])
behind, own, script = sys.argv[2:end], sys.argv[end:-1], sys.argv[-1]
prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__))
options = ["--output"]
for place in sorted({*prefixes, *sys.path, os.getcwd()}):
    options += ["--read", place]
for name in os.environ:
    options += ["--env", name]
os.execv(behind[0], [*behind, *options, "--", sys.executable, *own, "-B", "-c", script, sys.stdin.buffer.read()])
