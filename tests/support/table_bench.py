"""A benchmark for tests: which tasks pass is written in the agent file, how the benchmark behaves in `options`.

The agent file says `SKILLS = {...}`: a task `name-3` passes when `name` is in it. `options`:
  tasks: {"train": [ids], "test": [ids]} or {"all": [ids]} (no splits); or tasks_file: a file with that
  misbehave: {task id: reward or outcome word or "nan" or "inf" or "hang" or "raise" or an object with fields of the event, or
    a list with one of them a trial}
  log, mood, tasks_file, in_step: `~` is the home directory
  log: file that gets a line `task trial` for every trial run (to see what was paid for); `<log>.requests` gets what was asked
  gate: directory; before each trial wait until the file `go` exists there (for kill tests) and is empty or holds a
    number greater than that of the trials this process has run (`go-<split>`, where it exists, in its place); `held-<split>`
    there says that it waits
  in_step: ledger; a trial begins when the one before it is there, so that no run gets ahead of what is kept of it
  linger: split whose run takes a second to end when it is asked to
  fault: how the run misbehaves before its first trial (`garbage`), or after its last one (`flood`, `flood_stderr`, `endless_line`,
    `close`: close stdout and stay; `escape`: leave a process in a session of its own)
  exit: exit status after the last trial; die_after: stop with status 9 after that many trials
  say: {task id: raw line} printed before that task's trial ends
  tokens: tokens_in of every trial
  trace_size: {task id: bytes that its trace has more}
  meet: wait until that many runs are under way at the same time; status 7 when they never are
  reads: path in the working directory (a file, or a directory with `count` files) that every trial must find whole, else
    `agent_error`; `leaves`: file that a run writes there, and must not
    find when it begins, and one in its scratch directory, which has to stay
  spoils: {split: file of the working directory that a run of that split overwrites}
  stumble: tasks that end with infra_error the first time they are asked for
  until: {split: n}: before its first trial, a run of that split looks at `reads` again and again until n runs were asked for
  mood: file whose JSON object replaces options of the same name, and is no part of the protocol; with "once" the first
        run takes it away
"""
import os
import sys
import time
from _json import encode_basestring_ascii as quoted


class json:
    """What there is to do here with JSON. The module of that name takes longer to import than a run takes."""

    @staticmethod
    def loads(text):
        return eval(text, {"true": True, "false": False, "null": None})  # It comes from autoharness and from the test.

    @staticmethod
    def dumps(value):
        if isinstance(value, dict):
            return "{%s}" % ", ".join(f"{quoted(name)}: {json.dumps(value[name])}" for name in value)
        if isinstance(value, (list, tuple)):
            return "[%s]" % ", ".join(map(json.dumps, value))
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, float) and not abs(value) < float("inf"):
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        words = {"None": "null", "True": "true", "False": "false"}
        return words.get(repr(value), repr(value))


def main():
    request = json.loads(sys.stdin.read())
    options = request["options"]
    for name in ("log", "mood", "tasks_file", "in_step"):
        if name in options:
            options[name] = os.path.expanduser(options[name])
    if request["action"] == "list":
        for split, ids in tasks(options).items():
            for task in ids:
                say(event="task", task=task, split=None if split == "all" else split)
        return 0
    options.update(mood(options))
    if options.get("log"):
        with open(options["log"] + ".requests", "a", encoding="utf-8") as log:
            log.write(json.dumps({name: value for name, value in request.items() if name != "options"}) + "\n")
    if options.get("meet") and not meet(options):
        return 7
    scope = {}
    with open(request["agent"]["path"], encoding="utf-8") as file:
        exec(compile(file.read(), "agent.py", "exec"), scope)  # The agent of a test is the test's own.
    if options.get("linger") == request["split"]:
        import signal  # Here and below: most runs need neither, and both take longer to import than a run.

        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), os._exit(0)))
    spoilt = begin(options, request["split"])
    done = 0
    fault = options.get("fault")
    if fault == "garbage":
        print("Traceback (most recent call last): no event at all", flush=True)
    for task in request["tasks"]:
        for trial in range(request["trials"]):
            say(event="started", task=task, trial=trial)
            wait(options, request["split"], done)
            if options.get("log"):
                with open(options["log"], "a", encoding="utf-8") as log:
                    log.write(f"{task} {trial}\n")
            spoilt = spoilt or look(options)
            if spoilt:
                options.setdefault("misbehave", {})[task] = "agent_error"
                sys.stderr.write(f"{spoilt}\n")
            elif task in options.get("stumble", []) and len(asked(options, task)) == 1:
                options = {**options, "misbehave": {**options.get("misbehave", {}), task: "infra_error"}}
            before = kept(options, task)
            run(options, scope, task, trial)
            end = time.monotonic() + 30
            while options.get("in_step") and kept(options, task) == before and time.monotonic() < end:
                time.sleep(0.005)
            done += 1
            if done == options.get("die_after"):
                sys.stderr.write("dying as told\n")
                return 9
    misbehave(fault)
    if fault:
        wait(options, "end", done)
    return options.get("exit", 0)


def begin(options, split):
    """Why the working directory is not as it should be."""
    left = options.get("leaves")
    if left and os.path.exists(left):
        return f"{left} was left by an earlier run"
    if left:
        with open(left, "w", encoding="utf-8") as file:
            file.write("left")
        with open(scratch(), "w", encoding="utf-8") as file:
            file.write("left")
    if split in options.get("spoils", {}):
        with open(options["spoils"][split], "w", encoding="utf-8") as file:
            file.write("spoilt")
    spoilt, wanted, end = None, options.get("until", {}).get(split, 0), time.monotonic() + 30
    while len(asked(options)) < wanted and not spoilt:
        spoilt = look(options) or (time.monotonic() > end and "waited in vain")
    return spoilt


def look(options):
    """What is wrong with the path that has to be there."""
    path = options.get("reads")
    try:
        if options.get("leaves"):
            os.stat(scratch())
        if path and os.path.isdir(path) and len(os.listdir(path)) != options["count"]:
            return f"{path} is not whole"
        if path and not os.path.isdir(path):
            with open(path, encoding="utf-8"):
                pass
    except OSError as error:
        return str(error)
    return None


def scratch():
    return os.path.join(os.environ["AUTOHARNESS_SCRATCH"], "left")


def asked(options, task=None):
    """The requests so far, or those for one task."""
    with open(options["log"] + ".requests", encoding="utf-8") as file:
        requests = [json.loads(line) for line in file if line.endswith("\n")]
    return [request for request in requests if task is None or task in request["tasks"]]


def kept(options, task):
    """How often the ledger names a task."""
    try:
        with open(options["in_step"], encoding="utf-8") as file:
            return file.read().count(f'"task":"{task}"')
    except (KeyError, FileNotFoundError):
        return 0


def misbehave(fault):
    if fault == "flood":
        line = json.dumps({"event": "log", "level": "info", "message": "x" * 1000}) + "\n"
        for _ in range(100):
            sys.stdout.write(line * 1000)
    elif fault == "endless_line":
        for _ in range(100):
            sys.stdout.write("x" * 1_000_000)
    elif fault == "flood_stderr":
        for _ in range(100):
            sys.stderr.write("y" * 1_000_000)
    elif fault == "close":
        os.close(1)
        time.sleep(3600)
    elif fault == "escape":
        import subprocess

        subprocess.Popen(["sleep", "3600"], start_new_session=True)
    sys.stdout.flush()


def tasks(options):
    if "tasks" in options:
        return options["tasks"]
    with open(options["tasks_file"], encoding="utf-8") as file:
        return json.loads(file.read())


def mood(options):
    try:
        with open(options["mood"], encoding="utf-8") as file:
            found = json.loads(file.read())
    except (KeyError, FileNotFoundError):
        return {}
    if found.get("once"):
        os.remove(options["mood"])
    return found


def meet(options):
    with open(options["log"] + ".meeting", "a", encoding="utf-8") as file:
        file.write("x")
    end = time.monotonic() + 30
    while os.path.getsize(options["log"] + ".meeting") < options["meet"]:
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def run(options, scope, task, trial):
    how = options.get("misbehave", {}).get(task)
    if isinstance(how, list):
        how = how[trial]
    reward = 1.0 if task.rsplit("-", 1)[0] in scope["SKILLS"] else 0.0
    extra = {}
    if isinstance(how, (int, float)):
        reward = how
    elif how == "nan":
        reward = float("nan")
    elif how == "inf":
        reward = float("inf")
    elif how == "hang":
        while True:
            time.sleep(3600)
    elif how == "raise":
        raise RuntimeError(f"broken at {task}")
    elif isinstance(how, dict):
        reward = how.get("reward", reward)
        extra.update({name: value for name, value in how.items() if name != "reward"})
    elif how:
        extra["outcome"], reward = how, None
        extra["error"] = f"{how} as told at {task}"
    if "tokens" in options:
        extra["tokens_in"] = options["tokens"]
    line = options.get("say", {}).get(task)
    if line is not None:
        print(line, flush=True)
    trace = {"messages": [{"role": "user", "content": f"do {task}"}], "marker": f"SECRET-OF-{task}"}
    if task in options.get("trace_size", {}):
        trace["filler"] = "x" * options["trace_size"][task]
    fields = {"seconds": 0.01, "trace": trace, "detail": {"task": task}, **extra}
    say(event="trial", task=task, trial=trial, reward=reward, **fields)


def wait(options, split, done):
    if not options.get("gate"):
        return
    own = os.path.join(options["gate"], f"go-{split}")
    while not may_go(own if os.path.exists(own) else os.path.join(options["gate"], "go"), done):
        with open(os.path.join(options["gate"], f"held-{split}"), "w", encoding="utf-8"):
            pass
        time.sleep(0.005)


def may_go(path, done):
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return False
    return not text or done < int(text)


def say(**event):
    print(json.dumps(event), flush=True)


def end():
    status = main()
    sys.stdout.flush()
    os._exit(status)  # An interpreter takes as long to tidy up as a run takes.


if __name__ == "__main__":
    end()
