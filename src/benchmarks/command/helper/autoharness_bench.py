"""Runs the agent apart from the benchmark: `serve(tasks, run_agent)` is a whole benchmark in autoharness's trial protocol.

The agent's process gets the question and nothing else. It is a new interpreter behind autoharness's fence, so it has no
answers in its memory, no output of this program, no files but Python's and its own, and no network; what it says arrives
as data. Nothing but Python 3.9 is needed. `autoharness docs benchmarks/command` says more.

    tasks       {id: {"split": "train" or "test", "question": any JSON, "answer": any JSON}}, or a function that makes them
                of the configuration's `options`.
    run_agent   run_agent(agent, question) returns an answer that JSON can carry. It runs behind the fence and is sent
                there as source text, so it must import and define whatever it uses within itself.
    grade       grade(task, answer) returns the reward, 0.0 to 1.0, or (reward, detail): any JSON that says why, for readers
                of the trials of train. It runs here. Default: 1.0 when answer equals task["answer"].
    reply       where given, run_agent gets a third argument: ask(message) returns what reply(task, message) returns here.
                So a model or a tool can serve the agent without giving it a key or the network.
    read, env   paths (relative to this program) and names of variables that the agent may have, too.
    network     True gives it the network: the hosts in `model_hosts` by a proxy (HTTPS_PROXY), or all of it where none is named.
"""

import concurrent.futures, inspect, json, os, signal, socket, struct, subprocess, sys, textwrap, threading, time

LONGEST = 16 << 20  # bytes of one message
STARTING_S = 60.0  # for the fence and the interpreter, which are no part of a trial

# What the agent's process does. Only after "up" has any of the agent's code run: a failure before that is not its fault.
LOADER = r'''
import importlib.util, io, json, os, random, socket, struct, sys
channel = socket.socket(fileno=os.dup(0))
null = os.open(os.devnull, os.O_RDWR)
for standard in (0, 1, 2):
    os.dup2(null, standard)
def send(message):
    data = json.dumps(message).encode()
    channel.sendall(struct.pack(">I", len(data)) + data)
def receive():
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">I", data[:4])[0]:
        chunk = channel.recv(1 << 20)
        if not chunk:
            os._exit(0)
        data += chunk
    return json.loads(data[4:])
def ask(message):
    send({"ask": message})
    return receive()["reply"]
def describe(error):
    step, line = error.__traceback__, getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    while step is not None:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == job["path"] else line
        step = step.tb_next
    where = " (%s, line %s)" % (os.path.basename(job["path"]), line) if line else ""
    try:
        return "%s: %s%s" % (type(error).__name__, str(error)[:500], where)
    except BaseException:
        return type(error).__name__ + where
send({"up": True})
job = receive()
sys.stdout = sys.stderr = printed = io.StringIO()
try:
    sys.pycache_prefix = os.devnull
    sys.path.append(os.path.dirname(job["path"]))
    random.seed(job["seed"])
    spec = importlib.util.spec_from_file_location("agent", job["path"])
    agent = sys.modules["agent"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)
    scope = {"__name__": "run_agent"}
    exec(compile(job["source"], "run_agent", "exec"), scope)
    end = {"answer": scope[job["name"]](agent, job["question"], *([ask] if job["asks"] else []))}
    json.dumps(end)
except BaseException as error:
    end = {"error": describe(error)}
send(dict(end, printed=printed.getvalue()[:20000]))
'''


class AgentFailed(Exception):
    """The agent's process did not answer; says why. Whatever it is, the agent caused it."""


class NotStarted(OSError):
    """The agent's process came not as far as running the agent."""


def serve(tasks, run_agent, grade=None, reply=None, read=(), env=(), network=False):
    """Answers the request on stdin; see the top of this file."""
    # Whatever this program prints must not end up in the protocol: stdout is kept for `say`, and everybody else's is stderr.
    out, lock = os.dup(1), threading.Lock()
    os.dup2(2, 1)

    def say(**event):
        line = json.dumps(event).encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(out, line):]

    request = json.load(sys.stdin)
    tasks = tasks(request.get("options") or {}) if callable(tasks) else tasks
    if request["action"] == "list":
        for name, task in tasks.items():
            say(event="task", task=name, split=task.get("split"))
        return
    command = _command(request, read, env, network)
    job = {"path": request["agent"]["path"], "name": run_agent.__name__, "asks": reply is not None}
    job["source"] = textwrap.dedent(inspect.getsource(run_agent))
    grade = grade or (lambda task, answer: 1.0 if answer == task["answer"] else 0.0)

    def trial(name, number):
        task, end, result, start = tasks[name], {}, {}, time.monotonic()
        say(event="started", task=name, trial=number)
        try:
            sent = dict(job, question=task["question"], seed=request["seed"] + number)
            end = _talk(command, sent, request["timeout_s"], lambda message: reply(task, message))
            if "error" in end:
                raise AgentFailed(str(end["error"]))
            graded = grade(task, end.get("answer"))
            result["reward"], detail = graded if isinstance(graded, tuple) else (graded, None)
            if detail is not None and request["keep_traces"]:
                result["detail"] = detail
        except TimeoutError as error:
            result.update(reward=0.0, outcome="agent_timeout", error=str(error))
        except OSError as error:  # also from `reply`: a model that does not answer is not the agent's failure
            result.update(outcome="infra_error", error=f"{type(error).__name__}: {error}"[:1000])
        except Exception as error:  # also from `grade` and `reply`, which cannot do with what the agent said
            failure = str(error) if isinstance(error, AgentFailed) else f"{type(error).__name__}: {error}"
            result.update(reward=0.0, outcome="agent_error", error=failure[:1000])
        result["seconds"] = end.get("seconds", time.monotonic() - start)
        if request["keep_traces"]:  # false for the hold-out
            said = [{"role": "assistant", "content": _text(end.get("answer"))}]
            printed = _text(end.get("printed"))
            result["trace"] = [{"role": "user", "content": task["question"]}, *said, {"printed": printed}]
        say(event="trial", task=name, trial=number, **result)

    with concurrent.futures.ThreadPoolExecutor(request["concurrency"]) as pool:
        trials = [pool.submit(trial, name, n) for n in range(request["trials"]) for name in request["tasks"]]
        for ended in trials:
            ended.result()


def _text(value):
    """What the agent said, as text, cut to a length that a trace can carry."""
    try:
        return (value if isinstance(value, str) else json.dumps(value))[:100_000]
    except RecursionError:
        return "(nested too deeply)"


def _command(request, read, env, network):
    """The agent's process: autoharness's fence, where there is one, and this very Python."""
    python = [sys.executable, "-I", "-B", "-c", LOADER]
    if not request.get("fence"):
        return python
    here = os.path.dirname(os.path.abspath(sys.argv[0]))
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, os.path.dirname(os.__file__)}
    places = {place for place in places if not (here + os.sep).startswith(place.rstrip(os.sep) + os.sep)}
    places |= {os.path.dirname(request["agent"]["path"])} | {os.path.join(here, path) for path in read}
    options = [word for place in sorted(places) for word in ("--read", place)]
    options += [word for name in env for word in ("--env", name)] + ["--network"] * network
    return [*request["fence"], *options, "--", *python]


def _talk(command, job, limit, reply):
    """One process for one trial: returns its last message, with the seconds it took."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.DEVNULL, start_new_session=True, cwd=os.path.dirname(job["path"])
    )
    theirs.close()
    try:
        try:
            _receive(ours, time.monotonic() + STARTING_S)
        except (AgentFailed, TimeoutError):
            raise NotStarted("the agent's process does not start; the log says why") from None
        start = time.monotonic()
        deadline = start + (limit or 1e6)
        _send(ours, job, deadline)
        while True:
            message = _receive(ours, deadline)
            if "ask" not in message:
                return dict(message, seconds=time.monotonic() - start)
            _send(ours, {"reply": reply(message["ask"])}, deadline)
    finally:
        ours.close()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
        process.wait()


def _send(channel, message, deadline):
    data = json.dumps(message).encode()
    channel.settimeout(max(0.001, deadline - time.monotonic()))
    try:
        channel.sendall(struct.pack(">I", len(data)) + data)
    except socket.timeout:
        raise TimeoutError("the agent ran out of time") from None
    except OSError:
        raise AgentFailed("the agent ended its process") from None


def _receive(channel, deadline):
    """One message: four bytes with its length, then JSON. Nothing that arrives here is more than data."""

    def exactly(length):
        data = bytearray()
        while len(data) < length:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the agent ran out of time")
            channel.settimeout(left)
            try:
                chunk = channel.recv(min(length - len(data), 1 << 20))
            except socket.timeout:
                continue
            except OSError:
                chunk = b""
            if not chunk:
                raise AgentFailed("the agent ended its process")
            data += chunk
        return bytes(data)

    (length,) = struct.unpack(">I", exactly(4))
    if length > LONGEST:
        raise AgentFailed(f"the agent's process sent {length} bytes at once; {LONGEST} are read")
    try:
        message = json.loads(exactly(length))
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise AgentFailed("the agent's process sent something that is no message")
    return message
