#!/usr/bin/env python3
"""BIRD-Interact behind the trial protocol: one JSON request on stdin, JSON lines on stdout, words for humans on stderr.

Needs nothing but Python 3.10 or newer; the benchmark's services, its orchestrator and the agent run under the interpreter
that `options.python` names, where google-adk and its companions are installed.

    bench.py      the request, the order of trials, the answers
    run.py        one run: orchestrators, aliases, copies, cleaning up
    host.py       the services, for many runs    link.py      a run's side of it
    guard.py      a service and its door         seal.py      how processes know each other
    nursery.py    forks agents' processes        nurse.py     the host's side of it
    service.py    what these processes do        first_call.py a call of a model, for what it imports
    services.py   starting, ending, views        processes.py what the kernel does about orphans
    proxy.py      what is forwarded, recorded, refused        local_http.py, sockets.py
    door.py       the same for calls of models      redirect.py  sends them there     calls.py  what follows from them
    verdict.py    what a trial counts as         report.py    what is told of it
    reference.py  whether a follow-up was compared with what is meant
    roles.py      what agents' SQL runs under
    dataset.py    the tasks                      postgres.py  psql              sql.py  whether SQL only asks
    environment.py what a process may know       doctor.py    checks before money is spent
    smoke.py      one call of a tool by the agent  pretended.py  the model, database and user that it is made with

Beside the actions of the protocol there is "host": starts a host and answers with {"event": "host", "host": …} once its door
is open; it ends with SIGTERM, with its parent, or with a log event that says which of its processes ended. What is in "host"
is for the option `host` of runs.

Options: mode ("a-interact", "c-interact"; "oracle" hands in the gold SQL and needs no model), dataset ("lite", "full"),
patience, adk_dir, data_path, python, pg {host, port, user, password_env}, ports {agent, user, db} (default: any), host (see
above; default: one of its own), fence {words, hosts, alone, staging} (what starts a program behind autoharness's fence, which
hosts agents may reach, whether the program has processes of its own there, and what holds the copies of agents; default: no
fence).

Exit status: 0 when every trial was reported, 2 when the request makes no sense, else the run broke off: 3 because PostgreSQL
cannot be used, 4 because a port is in use, 5 because a model refuses every request, 1 for other reasons. The log events that
say more are not shown of runs that touch the hold-out; the status is.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import dataset  # noqa: E402
import host  # noqa: E402
import report  # noqa: E402
from processes import be_closed, die_with_parent  # noqa: E402
from run import Broken, Run  # noqa: E402
from sockets import MODEL_REFUSES, StartError  # noqa: E402

PROTOCOL = 1
MODES = ("a-interact", "c-interact", "oracle")
DATASETS = ("lite", "full")


class Usage(Exception):
    """The request makes no sense; the text says why."""


def private_stdout():
    """Keeps the protocol's stream to ourselves: whatever else is printed, by anybody, goes to stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def read_options(request):
    """The options, complete and checked."""
    options = dict(request.get("options") or {})
    pg = dict(options.get("pg") or {})
    complete = {
        "mode": options.get("mode") or "a-interact",
        "dataset": options.get("dataset") or "lite",
        "patience": options.get("patience", 3),
        "adk_dir": options.get("adk_dir"),
        "python": options.get("python") or sys.executable,
        "ports": dict(options.get("ports") or {}),
        "host": options.get("host"),
        "fence": options.get("fence"),
        "pg": {
            "host": pg.get("host") or "127.0.0.1",
            "port": int(pg.get("port") or 5432),
            "user": pg.get("user") or "root",
            "password_env": pg.get("password_env") or "PG_PASSWORD",
        },
    }
    if complete["mode"] not in MODES:
        raise Usage(f"unknown mode {complete['mode']!r}; known are {', '.join(MODES)}")
    if complete["dataset"] not in DATASETS:
        raise Usage(f"unknown dataset {complete['dataset']!r}; known are {', '.join(DATASETS)}")
    if not complete["adk_dir"] or not os.path.isdir(complete["adk_dir"]):
        raise Usage(f"adk_dir is not a directory: {complete['adk_dir']!r}")
    complete["adk_dir"] = os.path.abspath(complete["adk_dir"])
    complete["data_path"] = options.get("data_path") or dataset.default_path(complete["adk_dir"], complete["dataset"])
    return complete


async def run_trials(request, options, tasks, say):
    """Runs what was asked for; returns the exit status."""
    wanted = request.get("tasks") or list(tasks)
    unknown = [task for task in wanted if task not in tasks]
    if unknown:
        raise Usage(f"unknown task {unknown[0]!r}")
    pending = [(task, trial) for trial in range(request["trials"]) for task in wanted]
    async with Run(request, options, tasks, say) as run:
        if run.agent_failure:
            # Once for all trials, which are told the same.
            reason = f"the agent file cannot be loaded: {run.agent_failure}"
            say(event="log", level="error", message=reason)
            for task, trial in pending:
                say(event="started", task=task, trial=trial)
                say(
                    event="trial",
                    task=task,
                    trial=trial,
                    reward=0.0,
                    outcome="agent_error",
                    seconds=0.0,
                    error=reason,
                )
            return 0
        queue = list(reversed(pending))
        state = {"model_worked": False, "stop": None}

        async def one(task, trial):
            say(event="started", task=task, trial=trial)
            fields, fatal = await run.trial(task)
            say(event="trial", task=task, trial=trial, **fields)
            state["model_worked"] |= bool(fields.get("tokens_in"))
            if fatal and not state["model_worked"]:
                state["stop"] = f"no further trial is started: {fields['error']}", MODEL_REFUSES

        async def worker():
            while queue and not state["stop"]:
                await one(*queue.pop())
                state["stop"] = state["stop"] or await run.problem()

        workers = [asyncio.ensure_future(worker()) for _ in range(min(request["concurrency"], len(pending)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if not queue:
            return 0
        reason, status = state["stop"]
        say(event="log", level="error", message=reason)
        return status


async def supervised(work):
    """Runs `work`, which SIGTERM and SIGINT cancel; cancelled work tidies up. Returns its status, or 128 + signal."""
    task = asyncio.ensure_future(work)
    received = []

    def stop(number):
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A second signal changes nothing: what is under way then is the tidying up.
        loop.add_signal_handler(number, lambda number=number: received or stop(number))
    try:
        return await task
    except asyncio.CancelledError:
        return 128 + received[0] if received else 1


def main():
    be_closed()
    parent = os.getppid()
    stream = private_stdout()

    def say(**event):
        try:
            stream.write(report.line(event))
            stream.flush()
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)  # Nobody is listening by now.

    try:
        request = json.loads(sys.stdin.readline())
        if not isinstance(request, dict) or request.get("protocol") != PROTOCOL:
            raise Usage(f"only version {PROTOCOL} of the trial protocol is spoken")
        options = read_options(request)
        tasks = dataset.load(options["data_path"])
        if request.get("action") == "list":
            for task in tasks:
                say(event="task", task=task)
            return 0
        if request.get("action") == "host":
            die_with_parent(parent, signal.SIGTERM)
            os.umask(0o077)
            return asyncio.run(supervised(host.serve(options, request.get("agent") or {}, tasks, say)))
        if request.get("action") != "run":
            raise Usage(f"unknown action {request.get('action')!r}")
        request = {
            **request,
            "trials": int(request.get("trials") or 1),
            "concurrency": max(1, int(request.get("concurrency") or 1)),
        }
        return asyncio.run(supervised(run_trials(request, options, tasks, say)))
    except (Usage, dataset.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Broken, StartError) as error:
        say(event="log", level="error", message=str(error))
        return getattr(error, "status", 1)
    finally:
        with contextlib.suppress(OSError):
            stream.close()


if __name__ == "__main__":
    sys.exit(main())
