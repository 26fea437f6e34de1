#!/usr/bin/env python3
"""tau-bench behind the trial protocol: one JSON request on stdin, JSON lines on stdout, words for humans on stderr.

Runs with the interpreter of an environment in which `tau2` is installed, at any revision that has `tau2.runner`. Three
kinds of process:

    this one    imports tau2 once, stays single-threaded, forks, reports; it keeps no key and no task (pool, tasks, warm)
    runner      orchestrator, user simulator, environment, grader, every model call; one trial at a time, and another
                after it if that one ended in good order                                  (runner, stand_in, models)
    agent       a fresh one for each trial: the agent file, the policy, the tools' schemas, the messages
                                                                                               (agent_side, fence)

Runner and agent exchange nothing but messages, so whatever the agent does, it does to a process that holds neither the
grader nor the answers. See README.md here for the options and for what this does not rule out.

Exit status: 0 when every trial was reported, 1 when the run broke off, 2 when the request makes no sense.
"""

import os
import sys

sys.dont_write_bytecode = True
# The agent may call its own modules `tasks` or `trace`: ours are only found inside their package.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.getcwd()) != HERE]
sys.path.insert(0, os.path.dirname(HERE))

from tau_bench import pool, processes, protocol, request, tasks  # noqa: E402
from tau_bench.vault import Vault  # noqa: E402


def run():
    """Serves one request; returns the exit status, or raises `processes.Become` in a forked child."""
    processes.stop_on_signals()
    try:
        asked = protocol.checked(request.read())
        vault = Vault()
        vault.take_environment()
        upstream = tasks.load_upstream(asked["data_dir"])
        known = tasks.load(upstream, asked, vault)
        if asked["action"] == "list":
            for index in range(known.count):
                protocol.emit("task", **known.name_and_split(index))
            for name, text in tasks.context(upstream, asked).items():
                protocol.emit("context", name=name, text=text)
            return 0
        chosen = known.select(asked)
        return pool.Pool(upstream, asked, vault, known, chosen).run()
    except request.RequestError as error:
        print(f"tau-bench: {error}", file=sys.stderr)
        return 2


def main():
    """Unwinds to here before a child begins its work, so that no frame of the run is left on the child's stack."""
    protocol.take_stdout()
    try:
        status = run()
    except processes.Become as child:
        work, arguments = child.work, child.arguments
    else:
        sys.stderr.flush()
        os._exit(status)
    work(*arguments)


if __name__ == "__main__":
    main()
