"""The runner process: orchestrator, user simulator, environment and grader around a stand-in for the agent.

It runs one trial after the other, because a new process first has to do much that the last one had done already. What one
trial leaves behind must not reach the next:

- The conversation, the task, the environment with its database, limits and meters are made anew for each trial. What stays
  is code, litellm's connections and its caches, whose keys are models and addresses. No agent can choose those.
- An agent's messages are plain JSON, rebuilt field by field (stand_in), and end in objects of their own trial.
- Random numbers start at the same state each time.
- Only a trial that came to a grade with every call answered is followed by another. An error, a time limit, a reply that
  nobody waits for may have left a lock or a connection in any state, and such a process ends.
- One that has held a task of the hold-out serves the hold-out only: what it may still remember, no train trace can show.
- Domains whose tools keep state outside their database get a new process for each trial.
"""

import json
import os
import random
import signal
import socket
import time

from tau_bench import classify, processes, trace
from tau_bench.classify import Deadline, JudgeFailed, JudgeIncomplete
from tau_bench.models import RETRY_FOR_S, ModelFailed, Models, Provider, unfenced
from tau_bench.protocol import one_line, sound
from tau_bench.stand_in import Asker, stand_in_class

# Domains whose tools keep everything in the database that each trial loads for itself.
REUSABLE = {"mock", "airline", "retail", "telecom"}
# Should something grow from trial to trial, it ends here.
MAX_TRIALS = 100
MAX_JOB = 4096
HIDDEN = "the agent failed; a train task that fails alike says why"


def grading_time(timeout):
    """Seconds that grading may take on top of the conversation's limit."""
    return max(30.0, 0.25 * timeout)


class Progress:
    """Tells the parent how far the trial is, so that a runner that dies leaves its conversation behind."""

    def __init__(self, pipe, shown):
        self._pipe, self._shown, self._phase = pipe, shown, None

    def _write(self, value):
        data = json.dumps(value).encode() + b"\n"
        while data:
            data = data[os.write(self._pipe, data):]

    def phase(self, phase):
        if phase != self._phase:
            self._phase = phase
            self._write({"phase": phase})

    def messages(self, items):
        if self._shown:
            for item in items:
                self._write({"message": trace.message(item)})

    def printed(self, text):
        if self._shown and text:
            self._write({"printed": sound(text)})

    def result(self, result, again):
        """The trial's last word. `again`: this process is fit for another one."""
        self._phase = None
        self._write({"result": result, "again": again})


class Process:
    """What the trials of one process share. Made before the first of them."""

    def __init__(self, upstream, request, settings, progress):
        self.upstream, self.request, self.settings, self.progress = upstream, request, settings, progress
        self.provider = Provider(upstream.litellm, upstream.llm_utils)
        self.trial = None
        self._random = random.getstate()
        adapt(upstream, request)
        kind = stand_in_class(upstream)
        upstream.registry.register_agent_factory(
            lambda tools, domain_policy, **_: kind(tools, domain_policy, self.trial), settings.agent
        )

    def begin(self, task, seed, connection):
        """The next trial; the one before must have ended."""
        random.setstate(self._random)
        self.trial = Trial(self, task, seed, connection)
        return self.trial


class Trial:
    """One conversation and its grade."""

    def __init__(self, process, task, seed, connection):
        self.upstream, self.request, self.settings = process.upstream, process.request, process.settings
        self.task, self.seed, self.progress = task, seed, process.progress
        timeout = min(self.request["model_timeout"], max(5.0, self.request["timeout_s"] / 3))
        retry_for = min(RETRY_FOR_S, self.request["timeout_s"] / 3)
        self.models = Models(process.provider, self.settings.llm_agent, timeout, retry_for)
        self.asker = Asker(connection, self)
        self.phase, self.limit, self.sent = classify.BUILDING, self.request["timeout_s"], 0
        self.orchestrator = self.simulation = self.error = None

    def enter(self, phase):
        self.phase = phase
        self.progress.phase(phase)

    def arm(self, seconds):
        """Raises Deadline after that time, and again each second should somebody swallow it. 0 disarms."""
        self.limit = seconds or self.limit
        self.models.until = time.monotonic() + seconds if seconds else float("inf")
        signal.setitimer(signal.ITIMER_REAL, seconds, 1.0 if seconds else 0.0)

    def run(self):
        """Runs and grades; returns the fields of the trial event."""

        def expired(*_):
            message = f"no end within {self.limit:g} s, while at {self.phase}"
            raise Deadline(message, self.models.pending())

        signal.signal(signal.SIGALRM, expired)
        outcome, reward, info = None, None, None
        try:
            try:
                self.arm(self.request["timeout_s"])
                self.converse()
                self.arm(grading_time(self.request["timeout_s"]))
                info = self.grade()
            finally:
                self.arm(0)
            reward = float(info.reward)
            outcome = "passed" if reward >= 0.5 else "failed"
        except (Deadline, Exception) as raised:
            self.error = raised
            outcome = classify.outcome(raised, self.phase, self.models, self.limit)
            reward = 0.0 if outcome in ("agent_error", "agent_timeout") else None
        return self.event(outcome, reward, info)

    def converse(self):
        upstream = self.upstream
        self.models.install()
        self.orchestrator = upstream.build_orchestrator(self.settings, self.task, seed=self.seed)
        step = self.orchestrator.step

        def watched():
            role, sender = self.orchestrator.to_role.value, self.orchestrator.from_role.value
            if role not in ("agent", "user"):
                role = classify.ENVIRONMENT if sender == "agent" else classify.USER
            self.enter(role)
            step()
            self.flush()

        self.orchestrator.step = watched
        self.simulation = self.orchestrator.run()

    def flush(self):
        """Passes on what has been said since last time."""
        said = self.orchestrator.trajectory if self.orchestrator else []
        self.progress.messages(said[self.sent:])
        self.sent = len(said)

    def grade(self):
        self.enter(classify.GRADING)
        self.models.role = "judge"
        upstream, task = self.upstream, self.task
        basis = task.evaluation_criteria.reward_basis if task.evaluation_criteria else []
        # Revisions differ in their defaults; this asks for the judge exactly where its verdict is part of the reward.
        judged = upstream.RewardType.NL_ASSERTION in basis
        kinds = upstream.EvaluationType
        return upstream.evaluate_simulation(
            simulation=self.simulation,
            task=task,
            evaluation_type=kinds.ALL_WITH_NL_ASSERTIONS if judged else kinds.ALL,
            solo_mode=False,
            domain=self.orchestrator.environment.get_domain_name(),
            env_kwargs=upstream.tau2_build._build_env_kwargs(self.settings, task) or None,
        )

    @property
    def clean(self):
        """Whether it ended in good order, with nothing left to wait for."""
        return self.error is None and self.asker.idle and self.models.idle

    def event(self, outcome, reward, info):
        self.flush()
        error = self.error
        meter = self.models.meters["agent"].copy()
        result = {"outcome": outcome, "reward": reward, "tokens_in": meter.tokens_in, "tokens_out": meter.tokens_out}
        if meter.priced:
            result["cost_usd"] = round(meter.cost, 6)
        reason = getattr(self.simulation, "termination_reason", None)
        result["detail"] = {
            "termination_reason": getattr(reason, "value", reason),
            **trace.checks(info, self.request["trace_gold"]),
            "costs": trace.costs(self.models.meters),
            "seed": self.seed,
        }
        if error is not None:
            result["detail"]["phase"] = "loading" if getattr(error, "loading", False) else self.phase
            result["error"] = one_line(error) or type(error).__name__
            result["loading"] = getattr(error, "loading", False)
        return result


def adapt(upstream, request):
    """Evens out what differs between revisions or would spoil a grade. This process has the grader to itself."""
    replay = upstream.Environment.set_state

    def set_state(self, initialization_data, initialization_actions, message_history, **more):
        return replay(self, initialization_data, initialization_actions, _replayable(self, message_history), **more)

    upstream.Environment.set_state = set_state
    judge = upstream.judge
    if request["judge_model"]:
        judge.DEFAULT_LLM_NL_ASSERTIONS = request["judge_model"]
    ask = judge.generate
    evaluate = judge.NLAssertionsEvaluator.evaluate_nl_assertions

    def generate(*arguments, **named):
        reply = ask(*arguments, **named)
        reply.content = unfenced(reply.content)
        return reply

    def evaluate_nl_assertions(_, trajectory, nl_assertions):
        try:
            verdicts = evaluate(trajectory, nl_assertions)
        except ModelFailed:
            raise
        except Exception as error:
            raise JudgeFailed(f"the judge's reply cannot be read: {type(error).__name__}: {error}") from error
        if len(verdicts) != len(nl_assertions):
            raise JudgeIncomplete(f"the judge gave {len(verdicts)} verdicts on {len(nl_assertions)} assertions")
        return verdicts

    judge.generate = generate
    judge.NLAssertionsEvaluator.evaluate_nl_assertions = classmethod(evaluate_nl_assertions)


def _replayable(environment, messages):
    """The messages without calls of tools that do not exist. Such a call changed nothing when it was made, yet the older
    revision refuses to replay a conversation with one in it."""
    kept, position = [], 0
    while position < len(messages):
        item = messages[position]
        calls = getattr(item, "tool_calls", None) or []
        answers = messages[position + 1:position + 1 + len(calls)]
        position += 1 + len(calls)
        known = [pair for pair in zip(calls, answers) if environment._has_tool(pair[0].name)]
        if len(known) < len(answers):
            item = item.model_copy(update={"tool_calls": [call for call, _ in known] or None})
            answers = [answer for _, answer in known]
        kept += [item, *answers]
    return kept


def job(place, seed):
    """A trial as the parent asks for it; the connection to its agent travels beside it."""
    return json.dumps({"place": place, "seed": seed}).encode()


def _next_job(control):
    """Waits for the next trial: its place in the vault, its seed and the connection to its agent. None when there is none."""
    data, descriptors, _, _ = socket.recv_fds(control, MAX_JOB, 1)
    if not data or not descriptors:
        return None
    asked = json.loads(data)
    return asked["place"], asked["seed"], socket.socket(fileno=descriptors[0])


def main(upstream, request, settings, vault, control, pipe, shown):
    """Runs in a freshly forked process: trials one by one, each ended by a line on `pipe`, until there are no more."""
    os.environ.update(vault.environment())
    if not shown:
        processes.silence()  # A conversation of the hold-out must not end up in a log either.
    progress = Progress(pipe, shown)
    process = Process(upstream, request, settings, progress)
    left = MAX_TRIALS if request["domain"] in REUSABLE else 1
    while left and (asked := _next_job(control)):
        place, seed, connection = asked
        begun = time.monotonic()
        trial = process.begin(upstream.Task.model_validate_json(vault.get(place)), seed, connection)
        result = trial.run()
        result["seconds"] = round(time.monotonic() - begun, 3)
        left = left - 1 if trial.clean else 0
        if left:
            trial.asker.close()
        progress.result(_told(result, trial, shown), again=left > 0)
    os._exit(0)


def _told(result, trial, shown):
    """The part of a result that may be told."""
    loading = result.pop("loading", False)
    if shown:
        return result
    error = result.get("error")
    result = {name: result[name] for name in result if name not in ("detail", "error")}
    if error and result["outcome"] == "agent_error":
        result["error"] = error if loading else HIDDEN
    elif error:
        result["error"] = result["outcome"].replace("_", " ") + f" while at {trial.phase}"
    return result
