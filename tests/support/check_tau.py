#!/usr/bin/env python3
"""Checks the tau-bench helper against the stand-in for tau2: outcomes, isolation, limits, secrecy.

    python3 tests/support/check_tau.py [-v] [NAME...]

Exit status 0 when everything holds, 1 with one line per finding otherwise. Needs Python alone, no tau2 and no network. The
checks run side by side, about a minute altogether on two cores: one of them waits for the last of the helper's limits.
"""

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import check_tau_cheats  # noqa: E402
from tau_rig import (  # noqa: E402
    BENCH, KEY, REPLAYS, agent_file, bench, environment, one, one_of, request, run, side_by_side, trials,
)

# ------------------------------------------------------------------------------------------------------------ tasks


def check_list():
    mock = bench(request(action="list", agent="none", seed=0))
    listed = [event for event in mock.events if event["event"] == "task"]
    assert mock.status == 0 and [event["split"] for event in listed] == [None] * 7, mock
    shared = {event["name"]: event["text"] for event in mock.events if event["event"] == "context"}
    assert set(shared) == {"policy.md", "tools.json"} and json.loads(shared["tools.json"])[0]["function"]["name"], shared
    telecom = bench(request(action="list", agent="none", domain="telecom")).events
    telecom = [event for event in telecom if event["event"] == "task"]
    assert [event["split"] for event in telecom] == ["train"] * 40 + ["test"] * 20
    assert len(telecom[0]["task"].encode()) == 215 and "[" in telecom[0]["task"] and "|" in telecom[0]["task"]


def check_requests_that_make_no_sense():
    for change, words in [
        ({"protocol": 2}, "protocol"), ({"action": "walk"}, "action"), ({"domain": "nix"}, "no domain"),
        ({"tasks": ["nix"]}, "unknown task"), ({"options": {"domian": "mock"}}, "domian"), ({"agent": "/nix"}, "agent.path"),
        ({"model": None}, "agent.model"), ({"seed": 1}, "base_seed"), ({"trials": 0}, "trials"),
    ]:
        result = bench(request(**change))
        assert result.status == 2 and not result.events and words in result.stderr, (change, result)
    result = bench(request(), variables={"PYTHONPATH": ""})
    assert result.status == 2 and "git repository" in result.stderr, result


# --------------------------------------------------------------------------------------------------------- outcomes


def check_template():
    events = run()
    expected = dict.fromkeys(("easy", "asserted", "judged", "unjudged", "both", "lenient"), 1.0)
    assert {task: event["reward"] for task, event in events.items()} == {**expected, "hard": 0.0}
    event = events["easy"]
    assert (event["outcome"], event["tokens_in"], event["tokens_out"], event["cost_usd"]) == ("passed", 20, 10, 0.5), event
    assert [message["role"] for message in event["trace"]["messages"]] == (
        ["assistant", "user", "assistant", "tool", "assistant", "user"]
    )
    called = event["trace"]["messages"][2]["tool_calls"]
    assert called == [{"name": "set_item", "arguments": {"name": "alpha", "value": "1"}, "id": "call_0"}], called
    assert "raw_data" not in json.dumps(event)
    detail = events["hard"]["detail"]
    assert detail["termination_reason"] == "user_stop" and detail["reward_breakdown"] == {"DB": 0.0}, detail
    assert detail["action_checks"] == [
        {"name": "set_item", "requestor": "assistant", "tool_type": "write", "match": False}
    ], detail
    assert detail["costs"]["user"]["calls"] == 2 and detail["seed"] == 626729, detail
    gold = one("hard", options={"trace_gold": True})["detail"]["action_checks"][0]["arguments"]
    assert gold == {"name": "alpha", "value": "1"}, gold
    assert "judge" not in events["unjudged"]["detail"]["costs"], "the judge was paid for a verdict that counts for nothing"
    assert "cost_usd" not in one(model="stub/unpriced"), "an unknown price was given"


AGENTS = [
    ("raises", "raise ValueError('boom')", "agent_error", "boom"),
    ("answers nothing", "return None", "agent_error", "no message"),
    ("answers with no text", "return text(None)", "agent_error", "empty"),
    ("answers with an empty text", "return text('')", "agent_error", "empty"),
    ("answers with white space", "return text('  ')", "agent_error", "empty"),
    ("answers with a number", "return text(7)", "agent_error", "not a string"),
    ("bad arguments", "m = call('set_item'); m.tool_calls[0].arguments = 'x'; return m", "agent_error", "arguments"),
    ("set in arguments", "return call('set_item', name={1})", "agent_error", "serializable"),
    ("deep arguments", "a = []\nfor _ in range(200): a = [a]\nreturn call('set_item', name=a)", "agent_error", "deep"),
    ("endless text", "return text('x' * 10**6)", "agent_error", "longer"),
    ("exits", "sys.exit(0)", "agent_error", "SystemExit"),
    ("exits at once", "os._exit(0)", "agent_error", "ended its process"),
    ("interrupts", "raise KeyboardInterrupt", "agent_error", "KeyboardInterrupt"),
    ("kills itself", "os.kill(os.getpid(), 9)", "agent_error", "ended its process"),
    ("recurses", "def f(): return f()\nreturn f()", "agent_error", "Recursion"),
    ("raises a provider's error", "raise litellm.RateLimitError('slow down', 429)", "agent_error", "RateLimit"),
    ("fakes a failing call", "litellm.completion(messages=[42])", "agent_error", "APIConnectionError"),
    ("raises an error of its own with a telling name", "class ApiGaveUpError(Exception): pass\nraise ApiGaveUpError('429')",
     "agent_error", "ApiGaveUp"),
    ("calls a dead endpoint", "litellm.completion(messages=[], api_base='http://127.0.0.1:9')", "agent_error", "cannot set"),
    ("calls a dead endpoint by itself", "import urllib.request as u; u.urlopen('http://127.0.0.1:9')", "agent_error", "line"),
    *((f"asks for what only it is refused: {what}", f"""
        ask = [{{"role": "system", "content": "x"}}, {{"role": "user", "content": "{what}"{more}}}]
        litellm.completion(messages=ask)
      """, "agent_error", "(agent.py line") for what, more in [
        ("<500>", ""), ("<403>", ""), ("<401>", ""), ("<drop>", ""), ("<slow>", ""), ("<page>", ""), ("<null>", ""), ("<hang>", ""),
        ("<429>", " + 'x' * 200_000"),
    ]),
    ("goes while its refused call is repeated", """
        ask = [{"role": "system", "content": "x"}, {"role": "user", "content": "<500>"}]
        threading.Thread(target=litellm.completion, kwargs={"messages": ask}, daemon=True).start()
        time.sleep(1)
        os._exit(0)
      """, "agent_error", "ended its process"),
    ("says what the customer's model refuses", "return text('<context>')", "agent_error", "stub says 400"),
    ("says what the customer's model fails at", "return text('<500>')", "agent_error", "stub says 500"),
    ("asks for a fake reply", "litellm.completion(messages=[], mock_response='x')", "agent_error", "cannot set"),
    ("calls another model", "litellm.completion(model='stub/better', messages=[])", "agent_error", "cannot call"),
    ("calls a tool itself", "self.tools[0](name='alpha', value='1')", "agent_error", "tool_calls"),
    ("too many errors", "return call('nix')", "failed", "too_many_errors"),
    ("never ends", "return text('and?')", "failed", "max_steps"),
    ("ends what is not its to end", "return text('###STOP###')", "failed", "max_steps"),
    ("lone surrogate", "return text('RESOLVED \\ud800')", "failed", "user_stop"),
]


def check_agents():
    def attempt(row):
        name, body, outcome, words = row
        event = one_of(body)
        assert (event["outcome"], event["reward"]) == (outcome, 0.0), f"{name}: {event}"
        said = event["detail"]["termination_reason"] if outcome == "failed" else event["error"]
        assert words in said, f"{name}: {event}"
        assert event["trace"]["messages"][1]["content"].startswith("Please"), f"{name}: the conversation is lost"

    side_by_side(attempt, AGENTS)


def check_files_that_do_not_load():
    for head, words in [("import nix", "nix"), ("def (", "SyntaxError"), ("sys.exit(3)", "SystemExit"), ("1 / 0", "Zero")]:
        event = one_of("return text('hi')", head=head)
        assert event["outcome"] == "agent_error" and words in event["error"], event
        assert event["detail"]["phase"] == "loading", event
        # Nothing of a conversation can be in it, so it is told of the hold-out as well.
        with agent_file("return text('hi')", head) as path:
            hidden = run(agent=path, domain="telecom", split="test", keep_traces=False)
        assert all(words in event["error"] for event in hidden.values()), hidden


MODELS = [
    ({"model": "stub/500"}, "infra_error", "agent"), ({"model": "stub/429"}, "infra_error", "agent"),
    ({"model": "stub/401"}, "infra_error", "agent"), ({"model": "stub/403"}, "infra_error", "agent"),
    ({"model": "stub/404"}, "infra_error", "agent"), ({"model": "stub/503"}, "infra_error", "agent"),
    ({"model": "stub/drop"}, "infra_error", "agent"), ({"model": "stub/slow"}, "infra_error", "agent"),
    ({"model": "stub/context"}, "agent_error", "agent"), ({"model": "stub/400"}, "agent_error", "agent"),
    ({"model": "stub/badjson"}, "agent_error", "agent"), ({"model": "stub/empty"}, "agent_error", "agent"),
    ({"model": "stub/unknown"}, "passed", None),
    ({"user_model": "stub/500"}, "infra_error", "user"), ({"user_model": "stub/401"}, "infra_error", "user"),
    ({"user_model": "stub/429"}, "infra_error", "user"), ({"user_model": "stub/drop"}, "infra_error", "user"),
    ({"user_model": "stub/empty"}, "infra_error", "user"), ({"user_model": "stub/page"}, "infra_error", "user"),
    # The agent has said nothing yet.
    ({"user_model": "stub/context"}, "infra_error", "user"),
    *(({"model": f"stub/{fault}"}, "infra_error", "agent") for fault in ("page", "cut", "error200", "null", "choice")),
    ({"judge": "stub/cut"}, "infra_error", "grading"), ({"judge": "stub/400"}, "infra_error", "grading"),
    # A reasoning model refuses any temperature but its own.
    ({"model": "stub/o3", "user_model": "stub/o3", "judge": "stub/o3"}, "passed", None),
    ({"judge": "stub/500"}, "infra_error", "grading"), ({"judge": "stub/prose"}, "infra_error", "grading"),
    ({"judge": "stub/401"}, "infra_error", "grading"), ({"judge": "stub/keys"}, "infra_error", "grading"),
    ({"judge": "stub/few"}, "verifier_error", "grading"), ({"judge": "stub/none"}, "verifier_error", "grading"),
    ({"judge": "stub/many"}, "verifier_error", "grading"), ({"judge": "stub/fence"}, "passed", None),
    ({"judge": "stub/no"}, "failed", None),
]


def check_models():
    def attempt(row):
        fields, outcome, phase = dict(row[0]), row[1], row[2]
        options = {"judge_model": fields.pop("judge", "stub/judge")}
        event = one("judged", options=options, **fields)
        assert event["outcome"] == outcome, f"{row}: {event}"
        expected = {"agent_error": 0.0, "passed": 1.0, "failed": 0.0}.get(outcome)
        assert event["reward"] == expected, f"{row}: {event}"
        assert phase is None or event["detail"]["phase"] == phase, f"{row}: {event}"

    side_by_side(attempt, MODELS)


def check_tools_that_do_not_exist():
    """Tau2 1.0.0 cannot replay a conversation with such a call in it, 1.0.1 can; here both grade what was done."""
    first = """
        if self.turn == 1: return call("nix")
        return self.ask(state[:1] if self.turn == 2 else state)
    """
    only = "return call('nix') if self.turn == 1 else text('RESOLVED')"
    among = """
        if self.turn > 1: return text("RESOLVED")
        m = call("set_item", name="alpha", value="1")
        m.tool_calls += call("nix").tool_calls
        for number, made in enumerate(m.tool_calls): made.id = str(number)
        return m
    """

    def attempt(row):
        variables, (body, outcome) = row
        event = one_of(body, variables=variables)
        assert event["outcome"] == outcome, f"{variables} {body}: {event}"
        assert any(message.get("error") for message in event["trace"]["messages"]), event

    side_by_side(attempt, [
        (replay, row) for replay in REPLAYS for row in [(first, "passed"), (among, "passed"), (only, "failed")]
    ])
    assert all(one(model="stub/unknown", variables=replay)["outcome"] == "passed" for replay in REPLAYS)


def check_grading_that_raises():
    event = one_of("return text('RESOLVED')", "asserted")
    assert (event["outcome"], event["reward"]) == ("agent_error", 0.0) and "not found" in event["error"], event


def check_agent_that_survives_a_failing_model():
    body = "try: return self.ask(state)\nexcept litellm.InternalServerError: return text('RESOLVED')"
    event = one_of(body, model="stub/500")
    assert (event["outcome"], event["reward"]) == ("failed", 0.0), event


def check_agent_that_ends_the_conversation():
    event = one_of("self.is_stop = lambda message: True\nreturn text('Good-bye')", "lenient")
    assert event["outcome"] == "passed" and event["detail"]["termination_reason"] == "agent_stop", event


def calls_of(**fields):
    """A trial's event, and its model calls: model and key, when, and with what."""
    with tempfile.TemporaryDirectory() as directory:
        calls = os.path.join(directory, "calls")
        event = one(variables={"STUB_CALLS": calls}, **fields)
        with open(calls, encoding="utf-8") as file:
            lines = [line.split(" ", 3) for line in file.read().splitlines()]
    return event, [(f"{model} {key}", float(at), json.loads(arguments)) for model, key, at, arguments in lines]


def check_calls_are_bounded_and_keys_reach_them():
    event, calls = calls_of(model="stub/500", timeout_s=12)
    asked = [who for who, _, arguments in calls if "seed" in arguments]
    assert 2 <= asked.count(f"stub/500 {KEY}") <= 6, calls
    # One request of the helper's own says enough.
    own = [arguments for who, _, arguments in calls if who == f"stub/500 {KEY}" and "seed" not in arguments]
    assert len(own) == 1 and "temperature" not in own[0], calls
    assert [who for who, *_ in calls].count(f"stub/user {KEY}") == 1, calls
    assert event["outcome"] == "infra_error" and event["seconds"] < 12, event


def check_a_wish_to_wait_is_heard():
    event, calls = calls_of(model="stub/busy1")
    first, second = [at for who, at, _ in calls if who.startswith("stub/busy1")][:2]
    assert event["outcome"] == "passed" and second - first >= 3, (event, calls)
    # Not past the trial's limit.
    event, calls = calls_of(model="stub/busy9", timeout_s=3)
    assert event["outcome"] == "infra_error" and event["seconds"] < 3, event


def check_refused_temperatures():
    event, calls = calls_of(model="stub/o3", user_model="stub/o3")
    assert event["outcome"] == "passed", event
    # Asked for once by the customer and once by the agent, and never again.
    assert sum("temperature" in arguments for *_, arguments in calls) == 2, calls
    assert any(arguments.keys() == {"seed", "num_retries"} for *_, arguments in calls), "the seed went with it"


def check_replies_without_an_answer():
    sys.path.insert(0, os.path.dirname(os.path.dirname(BENCH)))
    from tau_bench.wire import asked_to_wait, holds_answer

    message = {"message": {"role": "assistant", "content": "hi"}}
    for body, expected in [
        ({"choices": [message]}, True), ({"choices": [message], "error": None}, True), ({"choices": []}, False),
        ({"choices": None}, False), ({"choices": [message], "error": {"code": 502}}, False), ({"choices": [{}]}, False),
        ({"choices": [{**message, "error": {"code": 502}}]}, False), ({"content": []}, True), ({}, False), ([], False),
        ({"type": "error", "content": "x"}, False), ({"candidates": [{}]}, True), ({"promptFeedback": {}}, True),
    ]:
        assert holds_answer(json.dumps(body)) is expected, body
    for body in (b"", b"<html>", b'{"choices": [{"mess', b"\xff"):
        assert holds_answer(body) is False, body
    for headers, expected in [
        ({}, None), ({"retry-after": "7"}, 7), ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "soon"}, None), ({"retry-after": "-1"}, None), ({"retry-after": "99999"}, 600),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90),
    ]:
        assert asked_to_wait(headers, 10.0) == expected, headers


def check_side_calls():
    body = """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        ask = lambda _: litellm.completion(messages=[{"role": "user", "content": "set a to 1"}]).model
        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(ask, range(20))) == ["stub/x"] * 20
        asyncio.run(litellm.acompletion(messages=[{"role": "user", "content": "x"}]))
        return text("RESOLVED")
    """
    event = one_of(body)
    assert event["outcome"] == "failed" and event["tokens_in"] == 210, event


# ----------------------------------------------------------------------------------------------------------- limits


def check_hangs():
    def attempt(row):
        name, fields, outcome = row
        body = fields.pop("body", None)
        begun = time.monotonic()
        event = one_of(body, timeout_s=2, **fields) if body else one(timeout_s=2, **fields)
        assert event["outcome"] == outcome, f"{name}: {event}"
        assert time.monotonic() - begun < 300, f"{name} took too long"
        assert event["trace"]["messages"][0]["role"] == "assistant", f"{name}: the conversation is lost"

    side_by_side(attempt, [
        ("sleeps", {"body": "time.sleep(3600)"}, "agent_timeout"),
        ("spins", {"body": "while True: pass"}, "agent_timeout"),
        ("swallows", {"body": "while True:\n    try: time.sleep(9)\n    except BaseException: pass"}, "agent_timeout"),
        ("endless tool", {"body": "return call('slow')"}, "agent_timeout"),
        ("model hangs", {"model": "stub/hang"}, "infra_error"),
        ("user hangs", {"user_model": "stub/hang"}, "infra_error"),
    ])


def check_others_go_on():
    body = "if 'alpha, you' in message.content: time.sleep(3600)\nreturn text('RESOLVED')"
    with agent_file(body) as path:
        events = run(agent=path, timeout_s=8, concurrency=2)
    outcomes = [event["outcome"] for event in events.values()]
    assert outcomes.count("agent_timeout") == 1 and outcomes.count("failed") >= 4, outcomes


def check_forty_awkward_ids():
    alone, crowd = (run(domain="telecom", split="train", concurrency=n) for n in (1, 10))
    assert len(alone) == 40 and list(alone) != [], "not every task ran"
    assert {t: e["reward"] for t, e in alone.items()} == {t: e["reward"] for t, e in crowd.items()}
    assert sum(event["reward"] for event in alone.values()) == 26, "tasks whose value is not told cannot pass"


def check_seeds():
    whole = trials(bench(request(tasks=["easy"], trials=3)))
    seeds = [whole["easy", number]["detail"]["seed"] for number in range(3)]
    assert seeds == [626729, 373753, 361454], seeds
    rest = trials(bench(request(tasks=["easy"], trials=2, seed=301)))
    assert [rest["easy", number]["detail"]["seed"] for number in range(2)] == seeds[1:]


def check_a_trial_leaves_nothing_to_the_next():
    """One runner process runs them all; here the first trial ends with calls that nobody waits for."""
    body = """
        if "alpha, you" in message.content:
            for _ in range(20):
                threading.Thread(target=self.ask, args=(list(state),), daemon=True).start()
        return self.ask(state)
    """
    with agent_file(body) as path:
        mock = run(agent=path, tasks=["hard", "easy", "asserted", "both"], concurrency=1, trials=1)
    plain = run(tasks=["hard", "easy", "asserted", "both"], concurrency=1)
    for task in ("asserted", "both"):
        kept = [{name: event[name] for name in event if name != "seconds"} for event in (mock[task], plain[task])]
        assert kept[0] == kept[1], kept
    assert {task: event["reward"] for task, event in mock.items()} == {t: e["reward"] for t, e in plain.items()}, mock


def check_the_hold_out_beside_train_tasks():
    """Tasks of both kinds in one run: each trace tells of its own task only, and of the hold-out there is none."""
    for concurrency in (1, 4):
        events = run(domain="telecom", split=None, concurrency=concurrency)
        assert len(events) == 60, len(events)
        for task, event in events.items():
            told = {f"Easy {number}]" for number in re.findall(r"MARKER(\d+)X", str(event))}
            assert "trace" not in event or len(told) == 1 and task.rstrip("|").endswith(told.pop()), event
        hidden = [event for event in events.values() if "trace" not in event]
        assert len(hidden) == 20 and "MARKER" not in str(hidden) and "detail" not in str(hidden), hidden


def children(parent):
    """Processes whose parent is the given one."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                state, owner = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(owner) == parent and state != "Z":
            found.append(int(entry))
    return found


def gone(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(condition, what):
    """Waits for a condition; fails when it does not come true."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def check_nothing_survives():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
        with agent_file("while True: time.sleep(9)") as path:
            program = subprocess.Popen(
                [sys.executable, "-B", BENCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
            )
            message = request(agent=path, domain="telecom", split="train", concurrency=10, timeout_s=600)
            program.stdin.write(json.dumps(message).encode() + b"\n")
            program.stdin.flush()
            until(lambda: len(children(program.pid)) >= 20, "the trials did not start")
            family = children(program.pid)
            program.send_signal(number)
            status = program.wait(timeout=30)
            assert status == (-9 if number == signal.SIGKILL else 128 + number), status
            until(lambda: all(map(gone, family)), f"{[p for p in family if not gone(p)]} outlived signal {number}")
            program.stdin.close()
            program.stdout.close()


def check_daemons_end_with_their_trial():
    length = f"98765.{os.getpid()}"
    body = f"""
        import subprocess
        subprocess.Popen(["sleep", "{length}"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            subprocess.Popen(["sleep", "{length}"])
            os._exit(0)
        return text("RESOLVED")
    """
    event = one_of(body)
    assert event["outcome"] == "failed", event
    left = subprocess.run(["pgrep", "-f", f"sleep {length}"], capture_output=True, text=True, check=False).stdout
    assert not left, f"left running: {left}"


def check_prints_do_no_harm():
    event = one_of("print('{\"event\":\"trial\"}')\nos.write(1, b'junk')\nos.write(2, b'junk')\nreturn text('RESOLVED')")
    assert event["trace"]["agent_output"] == '{"event":"trial"}\n', event


# ------------------------------------------------------------------------------------------------------------- main


def judged(name, check, verbose):
    """Runs one check; returns whether it held."""
    begun = time.monotonic()
    try:
        check()
        verdict = "ok"
    except Exception as error:
        verdict = f"FAILED: {type(error).__name__}: {error}"
        if verbose:
            traceback.print_exc()
    if verdict != "ok" or verbose:
        print(f"{name} ({time.monotonic() - begun:.1f} s): {verdict}", flush=True)
    return verdict == "ok"


def main():
    names = [argument for argument in sys.argv[1:] if argument != "-v"]
    checks = {name: check for name, check in {**globals(), **vars(check_tau_cheats)}.items() if name.startswith("check_")}
    checks = {name.removeprefix("check_"): check for name, check in checks.items() if callable(check)}
    unknown = sorted(set(names) - set(checks))
    if unknown:
        print(f"there is no check {', '.join(unknown)}; there are {', '.join(sorted(checks))}", file=sys.stderr)
        return 2
    # Those that wait longest first. How much runs at once is limited where the helper is started.
    order = sorted(names or checks, key=lambda name: name != "hangs")
    with concurrent.futures.ThreadPoolExecutor(len(order)) as pool:
        held = [pool.submit(judged, name, checks[name], "-v" in sys.argv) for name in order]
    failed = sum(not future.result() for future in held)
    print(f"{len(order) - failed} of {len(order)} checks hold", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
