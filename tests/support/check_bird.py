#!/usr/bin/env python3
"""Checks the BIRD-Interact helper: scores, failures, cheats, kills, and what must not be left behind.

    python3 tests/support/check_bird.py --python VENV/bin/python [--adk DIR] [-j 2] [-k WORD,WORD]

Runs the real program with google-adk, litellm, fastapi, uvicorn and psycopg2 from the environment of `--python`, a PostgreSQL
from Debian's packages, a scripted model, and stand-ins for the benchmark's services; `--adk` takes a checkout of the real
BIRD-Interact-ADK instead. Exit status 0 when everything holds, 1 with one line per finding otherwise.
"""

import argparse
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "bird"))

import bed as beds  # noqa: E402
import pure  # noqa: E402
import tasks  # noqa: E402
import tricks  # noqa: E402
from bed import wait_for  # noqa: E402
from tasks import LONG, call, gold, submit  # noqa: E402

DONE = tasks.DONE


def reward(result, task):
    event = result.trials[task]
    return event["outcome"], event["reward"]


def expect(result, **wanted):
    got = {task: reward(result, task) for task in wanted}
    assert got == wanted, (
        f"{got}, errors {[event.get('error') for event in result.trials.values()]}, stderr {result.stderr[-800:]}"
    )


# ------------------------------------------------------------------------------------------------------------ scores


def check_honest_a(bed):
    honest(bed, "a-interact")


def check_honest_c(bed):
    honest(bed, "c-interact")


def honest(bed, mode):
    script, rewards = tasks.honest(mode)
    result = bed.run(script=script, mode=mode, concurrency=3)
    assert result.status == 0, result.stderr
    assert {task: event["reward"] for task, event in result.trials.items()} == rewards, result.stdout
    assert "__ah" not in result.stdout and '"Task ID: ah' not in result.stdout, "an alias got out"
    for task, event in result.trials.items():
        calls = [entry["tool"] for entry in event["trace"]["tool_trajectory"]]
        assert calls and event["tokens_in"] >= 100 and event["detail"]["mode"] == mode, event
        if "Task ID" in str(event["trace"]):
            assert f"Task ID: {task}" in str(event["trace"]), "the alias was not mapped back"
    assert "Only paid orders count." in str(result.trials["shop_1"]["trace"]["dialogue_history"])
    with open(bed.scripts + ".log", encoding="utf-8") as file:
        asked = file.read()
    # Reasoning models refuse a whole request for it.
    assert '"temperature": null' in asked and '"temperature": 0' not in asked


def check_oracle(bed):
    result = bed.run(mode="oracle")
    full = {task["instance_id"]: 1.0 if task.get("follow_up") else 0.7 for task in tasks.TASKS}
    assert {task: event["reward"] for task, event in result.trials.items()} == full, result.stdout


def check_hold_out(bed):
    """Rewards and nothing else: no text of a task, of its SQL, or of the conversation."""
    script = {"shop_2": [submit(gold("shop_2")), DONE], "shop_1": [submit("SELECT broken"), {"status": 400}]}
    result = bed.run(["shop_1", "shop_2"], script, keep=False, agent=bed.agent(extra="print('SPOKEN BY THE AGENT')"))
    expect(result, shop_2=("passed", 0.7), shop_1=("agent_error", 0.0))
    for event in result.trials.values():
        assert not {"trace", "detail"} & set(event), event
    for word in ("town", "broken", "Which", "SPOKEN", "SELECT"):
        assert word not in result.stdout + result.stderr, f"{word} got out: {result.stdout}{result.stderr}"


def check_list(bed):
    result = bed.run(action="list")
    assert [event["task"] for event in result.events] == [
        task["instance_id"] for task in tasks.TASKS
    ] and result.status == 0
    for text, reason in (
        ('{"instance_id": "a\'b", "selected_database": "x"}\n', "no usable instance_id"),
        ("version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        ("", "holds no tasks"),
        ('{"instance_id": "a", "selected_database": "x"}\n' * 2, "a second time"),
    ):
        path = bed.path("broken.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        result = bed.run(action="list", options={"data_path": path})
        assert result.status == 2 and reason in result.stderr, f"{text!r}: {result}"
    assert bed.run(["nope"]).status == 2


# -------------------------------------------------------------------------------------------------- failures of agents


def check_import_errors(bed):
    for source, reason in (
        ("import no_such_thing_at_all\n", "agent.py line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "ended the process while it was loaded (exit status 3)"),
        ("def build_agent(mode):\n    raise ValueError('no, thanks')\n", "agent.py line 2: ValueError: no, thanks"),
        ("x = 1\n", "defines no build_agent"),
    ):
        result = bed.run(["shop_1", "shop_2"], agent=bed.agent(source))
        expect(result, shop_1=("agent_error", 0.0), shop_2=("agent_error", 0.0))
        assert result.status == 0 and reason in result.trials["shop_1"]["error"], result.trials
    # One that loads the first time only has lost the later trials, and not taken them out of the score.
    once = "assert not os.path.exists('loaded')\nopen('loaded', 'w').close()\n"
    script = {"shop_2": [submit(gold("shop_2")), DONE]}
    result = bed.run(["shop_2", "shop_1"], script, agent=bed.agent(extra=once), concurrency=1)
    expect(result, shop_2=("passed", 0.7), shop_1=("agent_error", 0.0))
    assert result.status == 0 and "cannot be loaded" in result.trials["shop_1"]["error"], result


def tricked(bed, **chosen):
    return bed.agent(extra=tricks.source(**chosen))


def check_tricks(bed):
    """Forged rewards, a second /init_task, a patched budget, parallel submissions, a look around, a way round the proxy."""
    many = [call("execute_sql", sql="SELECT 1")] * 14
    script = {
        "shop_1": [submit("SELECT 0"), DONE],
        "shop_2": [[submit(gold("shop_2")), submit(gold("shop_2")), submit(gold("shop_2"))], DONE],
        "yard_1": [submit("SELECT 1"), DONE],
        "yard_M_1": [*many, submit(gold("yard_M_1")), submit(gold("yard_M_1")), DONE],
        "yard_2": [submit(gold("yard_2")), DONE],
        "shop_3": [submit("SELECT 1"), DONE],
    }
    agent = tricked(bed, shop_1="_forge", yard_1="_reload", yard_M_1="_rich", yard_2="_spy", shop_3="_bypass")
    variables = {"PG_HOST": "secret-host", "PGPASSFILE": "/nowhere", "HF_TOKEN": "kept"}
    result = bed.run(list(script), script, agent=agent, concurrency=1, **variables)
    expect(
        result,
        shop_1=("agent_error", 0.0),
        shop_2=("passed", 0.7),
        yard_1=("failed", 0.0),
        yard_2=("passed", 0.7),
        shop_3=("agent_error", 0.0),
    )
    assert "behind the tool's back" in result.trials["shop_3"]["error"]
    assert (
        "reported reward 1.0" in result.trials["shop_1"]["error"]
        and "0.0 was earned" in result.trials["shop_1"]["error"]
    )
    assert result.trials["yard_1"]["trace"]["dialogue_history"][:2] == [403, 403], result.trials["yard_1"]
    assert result.trials["yard_1"]["detail"]["refused_requests"] == ["/cleanup_task", "/init_task", "/openapi.json"]
    # 14 coins: after 14 queries one last submission is free, as with honest books, and not two.
    assert result.trials["yard_M_1"]["detail"]["phase1"]["submissions"] == 1, result.trials["yard_M_1"]
    seen = result.trials["yard_2"]["trace"]["dialogue_history"][0]
    assert not [name for name in seen["env"] if name.startswith("PG")] and "not-a-secret" not in seen["values"], seen
    assert not [name for name in seen["cwd"] if "bird" in name or "db_env" in name], seen


def check_failures(bed):
    """Whose fault what was, all in one run: exceptions, exits and deaths of the agent are its own, and the neighbours go on."""
    ok = [submit(gold("shop_2")), DONE]
    script = {
        "shop_1": [DONE],
        "shop_2": ok,
        "shop_3": [DONE],
        "yard_1": [DONE],
        LONG: [submit(gold(LONG)), DONE],
        "yard_2": [call("no_such_tool"), DONE],
        "yard_M_1": [{"status": 400}],
        "shop_M_1": [{"text": "Nothing to say."}],
        # A {name} in the instruction that the state does not have, which the benchmark blames on nobody.
        "case_name": [DONE],
        "case_model": [{"status": 500}],
        "case_user": [call("ask_user", question="Which?"), *ok],
        "case_hang": [{"hang": bed.path("never")}],
        "case_sleep": [DONE],
    }
    agent = tricked(
        bed,
        unknown_name="case_name",
        shop_1="(lambda state: 1 / 0)",
        shop_3="(lambda state: os._exit(7))",
        yard_1="(lambda state: sys.exit(5))",
        case_sleep="(lambda state: __import__('time').sleep(10**6))",
    )
    options = {"data_path": tasks.write(bed.path("cases"), tasks.TASKS + tasks.CASES)}
    result = bed.run(
        list(script),
        {**script, "user": [{"status": 500}]},
        agent=agent,
        concurrency=3,
        timeout_s=60,
        options=options,
    )
    crash = ("agent_error", 0.0)
    expect(
        result,
        shop_1=crash,
        shop_3=crash,
        yard_1=crash,
        yard_M_1=crash,
        yard_2=("failed", 0.0),
        shop_M_1=("failed", 0.0),
        shop_2=("passed", 0.7),
        case_name=crash,
        case_model=("infra_error", None),
        case_user=("infra_error", None),
        case_hang=("infra_error", None),
        case_sleep=("agent_timeout", None),
        **{LONG: ("passed", 0.7)},
    )
    errors = {task: event.get("error") for task, event in result.trials.items()}
    assert "ZeroDivisionError" in errors["shop_1"] and "agent.py line" in errors["shop_1"], errors
    assert "exit status 7" in errors["shop_3"] and "end of the process" in errors["yard_1"], errors
    assert "nobody_knows" in errors["case_name"] and "the agent's model failed" in errors["case_model"], errors
    assert "user simulator's model failed" in errors["case_user"] and "no answer for" in errors["case_hang"], errors
    assert "1 / 0" in result.trials["shop_1"]["trace"]["traceback"]


def check_no_evidence(bed):
    """What an agent may try to have its failing trials left out of the score: it counts 0.0, whatever it looks like."""
    spoil = submit("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database()); END $$")
    cases = [f"case_{word}" for word in ("dead", "named", "lone", "garbled", "crash", "huge", "spoil", "exit")]
    script = {**{case: [submit("SELECT 0"), DONE] for case in cases}, "case_spoil": [spoil, DONE]}
    chosen = {f"case_{word}": f"_{word}" for word in ("dead", "named", "lone", "garbled", "crash", "huge")}
    agent = tricked(bed, case_exit="(lambda state: os._exit(0))", **chosen)
    options = {"data_path": tasks.write(bed.path("cases"), tasks.TASKS + tasks.CASES)}
    result = bed.run(cases, script, agent=agent, concurrency=3, options=options)
    errors = {task: event.get("error") for task, event in result.trials.items()}
    for case in cases:
        wanted = "failed" if case in ("case_lone", "case_garbled", "case_spoil") else "agent_error"
        assert reward(result, case) == (wanted, 0.0), f"{case}: {errors}"
    assert "not for reasons of its provider" in errors["case_dead"] and "RateLimitError" in errors["case_named"], errors
    assert "nothing that can be read" in errors["case_huge"], errors
    # The real orchestrator dies of it.
    assert any(word in errors["case_crash"] for word in ("cannot make sense", "reported reward {}")), errors
    assert result.trials["case_lone"]["trace"]["dialogue_history"] == [400, 400, 400], result.trials["case_lone"]
    assert result.status == 0


# ------------------------------------------------------------------------------------------- failures of everybody else


def check_provider(bed):
    """Nobody here is blamed for a provider that fails behind status 200, or is overloaded to the end."""
    script = {
        "case_cut": [{"text": "a long answer " * 100, "cut": True}],
        "case_page": [{"page": "<html>Bad gateway</html>"}],
        "case_null": [{"raw": {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": None}}],
        "case_limit": [call("get_schema"), {"status": 429}],
        "shop_2": [submit(gold("shop_2")), DONE],
    }
    options = {"data_path": tasks.write(bed.path("cases"), tasks.TASKS + tasks.CASES)}
    result = bed.run(list(script), script, concurrency=3, options=options)
    expect(result, shop_2=("passed", 0.7), **{case: ("infra_error", None) for case in script if case != "shop_2"})
    for case, event in result.trials.items():
        assert case == "shop_2" or "the agent's model failed: its provider" in event["error"], event
    assert result.trials["case_limit"]["tokens_in"] == 100 and result.trials["shop_2"]["tokens_in"] == 100, result.trials


def check_bad_key(bed):
    """A key that is refused ends the run at the first trial instead of billing eight times for nothing."""
    script = {task["instance_id"]: [{"status": 401}] for task in tasks.TASKS}
    result = bed.run(script=script, concurrency=1)
    assert result.status == 5 and len(result.trials) == 1, result
    assert [event["outcome"] for event in result.trials.values()] == ["infra_error"]
    assert "no further trial is started" in result.stdout


def check_database_gone(bed):
    hang = bed.path("gone")
    script = {"shop_1": [call("get_schema"), {"hang": hang}], "shop_2": [submit(gold("shop_2")), DONE]}
    bed.script(script)
    started = bed.start(["shop_1", "shop_2", "yard_1"], concurrency=1)
    try:
        wait_for(lambda: os.path.exists(hang + ".seen"), "the agent is at work", 120)
        bed.database.stop()
        bed.script({**script, "shop_1": [call("get_schema"), submit(gold("shop_1")), DONE]})
        # The model has answered late; what it says next is a submission to a server that is gone.
        with open(bed.scripts, encoding="utf-8"):
            open(hang, "w").close()
        result = started.finish()
    finally:
        bed.database.start()
    assert result.status == 3 and "yard_1" not in result.trials, result
    assert {event["outcome"] for event in result.trials.values()} <= {"infra_error", "failed"}, result.stdout
    assert "PostgreSQL" in result.stdout, result.stdout
    bed.run(["shop_2"], mode="oracle")  # Leaves nothing, although the last run could not clean up.


def check_own_connection(bed):
    """SQL that ends its own connection is wrong SQL, not a lost database: else it would take hard tasks out of the score."""
    suicide = submit("SELECT pg_terminate_backend(pg_backend_pid())")
    murder = submit("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user")
    script = {
        "shop_2": [suicide, DONE],
        "shop_1": [murder, submit(gold("shop_1")), DONE],
        "yard_1": [submit(gold("yard_1")), DONE],
    }
    result = bed.run(["shop_2", "shop_1", "yard_1"], script, concurrency=1)
    expect(result, shop_2=("failed", 0.0), shop_1=("passed", 0.7), yard_1=("passed", 0.7))


def check_spoiling_sql(bed):
    """SQL that decides what is right, or what others of its role find, earns nothing and leaves nothing behind."""
    poison, password = "ALTER ROLE CURRENT_USER SET search_path TO nowhere", "ALTER ROLE CURRENT_USER PASSWORD 'mine'"
    script = {
        # One connection runs this and then the gold SQL, which would agree.
        "yard_2": [call("execute_sql", sql=f"SELECT 1; {poison}"), submit("UPDATE plots SET area = 1; SELECT sum(area) FROM plots"), DONE],
        "yard_M_1": [submit(f"{gold('yard_M_1')}; {poison}"), DONE],
        "yard_1": [submit(gold("yard_1")), DONE],
        "shop_M_1": [submit(f"{gold('shop_M_1')}; {password}"), DONE],
        "shop_2": [submit(gold("shop_2")), DONE],
    }
    result = bed.run(list(script), script, concurrency=1)
    expect(
        result,
        yard_2=("failed", 0.0),
        yard_M_1=("agent_error", 0.0),
        yard_1=("passed", 0.7),
        shop_M_1=("agent_error", 0.0),
        shop_2=("passed", 0.7),
    )
    assert "settings of a database role" in result.trials["yard_M_1"]["error"], result.trials["yard_M_1"]
    assert "the password of the database role" in result.trials["shop_M_1"]["error"], result.trials["shop_M_1"]
    seen = str(result.trials["yard_2"]["trace"]["tool_trajectory"])
    assert "Only SELECT queries" in seen and "this task asks for a query" in seen, seen
    assert not bed.database.admin("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'bird'::regrole")


def check_left_behind(bed):
    """What a first phase leaves behind decides nothing in the second; what an honest one makes may be used there."""
    function = "CREATE FUNCTION f() RETURNS numeric LANGUAGE plpgsql"
    table = "CREATE TABLE decoy.plots AS SELECT 5.0 AS area, 'rye'::text AS crop"
    view = "VIEW plots AS SELECT 3 AS id, 'rye'::text AS crop, 3.0 AS area"
    spoils = {
        "rows": ("UPDATE plots SET area = 7 WHERE crop = 'rye'", "SELECT 14.0"),
        "replaced": (f"ALTER TABLE plots RENAME TO fields; CREATE {view}", "SELECT 3.0"),
        "caller": (f"{function} AS $$ BEGIN UPDATE plots SET area = 0; RETURN 0.0; END $$", "SELECT f()"),
        "definer": (f"{function} SECURITY DEFINER AS $$ BEGIN DELETE FROM plots WHERE id = 3; RETURN 2.5; END $$", "SELECT f()"),
        "path": (
            f"CREATE SCHEMA decoy; {table}; {function} AS $$ BEGIN PERFORM set_config('search_path', 'decoy', false); RETURN 5.0; END $$",
            "SELECT public.f()",
        ),
        "mine": (f"CREATE SCHEMA AUTHORIZATION CURRENT_USER CREATE {view}", "SELECT 3.0"),
    }
    honest = {
        "helper": (f"{function} AS $$ BEGIN RETURN (SELECT sum(area) FROM plots WHERE crop = 'rye'); END $$", "SELECT f()"),
        "scratch": (
            f"{function} AS $$ DECLARE found numeric; BEGIN CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT area FROM plots "
            "WHERE crop = 'rye'; SELECT sum(area) INTO found FROM kept; RETURN found; END $$",
            "SELECT f()",
        ),
        "more": ("CREATE TABLE notes AS SELECT id, 'gone'::text AS why FROM plots", "SELECT sum(area) FROM plots WHERE crop = 'rye'"),
    }
    parts = {**spoils, **honest}
    script = {
        f"case_{word}": [submit(f"{gold('yard_M_1')}; {first}"), submit(second), DONE]
        for word, (first, second) in parts.items()
    }
    options = {"data_path": tasks.write(bed.path("cases"), tasks.TASKS + tasks.CASES)}
    result = bed.run(list(script), script, concurrency=3, options=options)
    got = {word: reward(result, f"case_{word}") for word in parts}
    assert got == {word: ("agent_error", 0.0) if word in spoils else ("passed", 1.0) for word in parts}, (
        got,
        [event.get("error") for event in result.trials.values()],
    )
    for word in spoils:
        said = "its first task leaves alone" if word in ("rows", "replaced", "mine") else "the follow-up is compared with"
        assert said in result.trials[f"case_{word}"]["error"], result.trials[f"case_{word}"]


# Prints which processes' environment or memory may be opened, as one of the same user without root's powers.
PRY = """
import os
for name in filter(str.isdigit, os.listdir("/proc")):
    for file in ("environ", "mem"):
        try:
            open(f"/proc/{name}/{file}", "rb").close()
            print(name)
        except OSError:
            pass
"""


def check_nobody_looks_in(bed):
    """Environment and memory of the driver, the services and the orchestrator are closed to processes of the same user."""
    hang = bed.path("pried")
    bed.script({"shop_2": [{"hang": hang, "then": submit(gold("shop_2"))}, DONE]})
    # Root's powers would look into anything, and be looked into by nobody without them.
    powers = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.getuid() == 0 else []
    started = bed.start(["shop_2"], before=powers)
    wait_for(lambda: os.path.exists(hang + ".seen"), "the agent is at work", 120)
    wanted = ("bench.py", "guard.py", "orchestrator.runner")
    ours = {line.split()[0]: word for line in started.survivors() for word in wanted if word in line}
    seen = subprocess.run([*powers, sys.executable, "-c", PRY], capture_output=True, text=True, check=True).stdout.split()
    open(hang, "w").close()
    expect(started.finish(), shop_2=("passed", 0.7))
    if os.getuid() == 0:  # Anybody else does not find them by what is in their environment.
        assert sorted(ours.values()) == ["bench.py", "guard.py", "guard.py", "orchestrator.runner"], ours
    assert seen and not set(seen) & set(ours), [ours[one] for one in seen if one in ours]


def closed(bed):
    """The templates that refuse connections."""
    return bed.database.admin("SELECT datname FROM pg_database WHERE datname LIKE '%\\_template' AND NOT datallowconn ORDER BY 1")


def enters(bed, template):
    """Whether the role that runs use gets into a template."""
    try:
        bed.database.admin("SELECT 1", database=template, user=beds.database.USER)
    except RuntimeError as error:
        assert "not currently accepting connections" in str(error), error
        return False
    return True


OPENING = "ALTER DATABASE shop_template ALLOW_CONNECTIONS true"


def check_templates_are_closed(bed):
    """While a run is on, nobody gets into a template, and SQL of an agent cannot open one."""
    hang = bed.path("closed")
    bed.script(
        {
            "yard_M_1": [submit(f"{gold('yard_M_1')}; {OPENING}"), DONE],
            "shop_2": [{"hang": hang, "then": submit(gold("shop_2"))}, DONE],
        }
    )
    assert enters(bed, "shop_template") and not closed(bed)
    started = bed.start(["yard_M_1", "shop_2"], concurrency=1)
    wait_for(lambda: os.path.exists(hang + ".seen"), "the second trial", 300)
    assert not enters(bed, "shop_template") and not {"shop_template", "yard_template"} - set(closed(bed))
    open(hang, "w").close()
    result = started.finish()
    expect(result, yard_M_1=("failed", 0.0), shop_2=("passed", 0.7))
    assert "must be owner of database shop_template" in str(result.trials["yard_M_1"]["trace"]), result.trials
    assert not closed(bed) and enters(bed, "shop_template")
    # What the user has closed stays closed.
    bed.database.admin("ALTER DATABASE yard_template ALLOW_CONNECTIONS false")
    expect(bed.run(["shop_2"], {"shop_2": [submit(gold("shop_2")), DONE]}), shop_2=("passed", 0.7))
    assert closed(bed) == ["yard_template"]
    bed.database.admin("ALTER DATABASE yard_template ALLOW_CONNECTIONS true")


def check_roles(bed):
    """Agents' SQL has a role that a run makes: with nothing but copies, with a password that is its own, and gone in the end."""
    hang, name = bed.path("roles"), "SELECT 'role ' || current_user, rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    base = "regexp_replace(current_database(), 't[0-9]+$', 't0')"
    spoil = f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {{}}', {base}); END $$"
    tried = ["ALLOW_CONNECTIONS true", "RENAME TO gone", "IS_TEMPLATE false"]
    tried = [submit(f"{gold('yard_M_1')}; {spoil.format(how)}") for how in tried]
    bed.script(
        {
            "yard_2": [call("execute_sql", sql=name), {"hang": hang, "then": submit(gold("yard_2"))}, DONE],
            "yard_M_1": [*tried, submit(f"{gold('yard_M_1')}; GRANT bird TO CURRENT_USER"), submit(gold("yard_M_1")), DONE],
            "shop_M_1": [submit(f"{gold('shop_M_1')}; ALTER TABLE orders ADD COLUMN n int; DROP TABLE orders CASCADE"), DONE],
        }
    )
    started = bed.start(["yard_2"])
    wait_for(lambda: os.path.exists(hang + ".seen"), "the first run is at work", 120)
    (role,) = bed.database.roles()
    # Another run has another, and takes away neither this one nor its copies.
    result = bed.start(["yard_M_1", "shop_M_1"], concurrency=1).finish()
    expect(result, yard_M_1=("passed", 0.7), shop_M_1=("failed", 0.0))
    assert str(result.trials["yard_M_1"]["trace"]["tool_trajectory"]).count("must be owner of database yard__ah") == 3, result
    assert bed.database.roles() == [role] and bed.database.copies()
    open(hang, "w").close()
    result = started.finish()
    expect(result, yard_2=("passed", 0.7))
    bed.check_clean(started)
    assert f"role {role} | False | False" in str(result.trials["yard_2"]["trace"]), result.trials["yard_2"]


def check_no_roles(bed):
    """A role that may make none runs agents' SQL itself. What that does to others is found, and undone."""
    bed.database.admin("ALTER ROLE bird NOCREATEROLE")
    try:
        script = {
            "yard_M_1": [submit(f"{gold('yard_M_1')}; {OPENING}"), DONE],
            "shop_M_1": [submit(f"{gold('shop_M_1')}; ALTER ROLE CURRENT_USER PASSWORD 'mine'"), DONE],
            "shop_2": [submit(gold("shop_2")), DONE],
        }
        result = bed.run(list(script), script, concurrency=1)
        expect(result, yard_M_1=("agent_error", 0.0), shop_M_1=("agent_error", 0.0), shop_2=("passed", 0.7))
        assert "opened shop_template" in result.trials["yard_M_1"]["error"], result.trials
        assert "password of the database role" in result.trials["shop_M_1"]["error"], result.trials
        assert not closed(bed)
        started = bed.start(action="doctor", program="doctor.py", options={"oracle_sample": 0})
        (said,) = [finding for finding in subprocess_json(bed, started) if finding["check"] == "postgres-role"]
        assert said["level"] == "warning" and "CREATEROLE" in said["hint"], said
    finally:
        bed.database.admin("ALTER ROLE bird CREATEROLE")


def check_ports(bed):
    for family, address, kind in ((socket.AF_INET, "127.0.0.1", "db"), (socket.AF_INET6, "::1", "agent")):
        try:
            with beds.listener(family, address) as port:
                result = bed.run(["shop_2"], {}, options={"ports": {kind: port}})
        except OSError:
            continue  # This machine has no ::1.
        assert result.status == 4 and f"port {port} is in use" in result.stdout and not result.trials, result


def check_wrong_password(bed):
    result = bed.run(["shop_2"], {}, password="wrong")
    assert result.status == 3 and "is not usable as bird" in result.stdout and not result.trials, result


# -------------------------------------------------------------------------------------------------------------- kills


def stages(bed):
    """Moments of a run, as functions that wait for them."""
    hang = bed.path(f"hang{bed.count}")
    script = {"shop_2": [call("get_schema"), {"hang": hang}], "shop_3": [submit("SELECT pg_sleep(30)"), DONE]}

    def busy():
        return bed.database.admin(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
        )

    return script, {
        "starting": lambda started: wait_for(lambda: len(started.survivors()) > 3, "services start"),
        "model": lambda started: wait_for(lambda: os.path.exists(hang + ".seen"), "the model is asked", 300),
        "database": lambda started: wait_for(busy, "the database works", 300),
    }


def check_terminated(bed):
    for number, stage in ((signal.SIGTERM, "starting"), (signal.SIGTERM, "model"), (signal.SIGINT, "database")):
        script, moments = stages(bed)
        bed.script(script)
        started = bed.start(["shop_2", "shop_3"])
        moments[stage](started)
        began = time.monotonic()
        started.process.send_signal(number)
        result = started.finish()
        assert result.status == 128 + number and not result.trials, f"{stage}: {result}"
        bed.check_clean(started)
        assert time.monotonic() - began < 20, f"{stage}: took {time.monotonic() - began:.0f} s to end"


def check_killed(bed):
    """Nothing survives SIGKILL but database copies, and these not the next run. Then the rest of the tasks can be run."""
    for stage in ("starting", "model", "database"):
        script, moments = stages(bed)
        bed.script(script)
        started = bed.start(["shop_2", "shop_3"])
        moments[stage](started)
        bed.kill(started)
        wait_for(lambda: not started.survivors(), f"{stage}: processes end: {started.survivors()}", 15)
    assert bed.database.copies(), "nothing was left to sweep, so this proves nothing"
    assert {"shop_template", "yard_template"} <= set(closed(bed)) and bed.database.roles(), closed(bed)
    # Looking is enough to have the templates back.
    found = subprocess_json(bed, bed.start(action="doctor", program="doctor.py", options={"oracle_sample": 0}), clean=False)
    assert any("had left shop_template, yard_template closed" in finding["message"] for finding in found), found
    assert not closed(bed)
    result = bed.run(
        ["shop_2", "shop_3"], {"shop_2": [submit(gold("shop_2")), DONE], "shop_3": [submit(gold("shop_3")), DONE]}
    )
    expect(result, shop_2=("passed", 0.7), shop_3=("passed", 0.7))
    assert "an earlier run had left" in result.stdout


def check_two_runs(bed):
    """Two runs on one server leave each other's copies alone."""
    hang = bed.path("patience")
    bed.script({"shop_1": [call("get_schema"), {"hang": hang}], "shop_2": [submit(gold("shop_2")), DONE]})
    first = bed.start(["shop_1"])
    wait_for(lambda: os.path.exists(hang + ".seen"), "the first run is at work", 300)
    copies = bed.database.copies()
    second = bed.start(["shop_2"])
    expect(second.finish(), shop_2=("passed", 0.7))
    assert bed.database.copies() == copies and copies, f"{copies}, then {bed.database.copies()}"
    assert {"shop_template", "yard_template"} <= set(closed(bed)), "the end of one run opened what another has closed"
    bed.kill(first)
    bed.run(["shop_2"], mode="oracle")
    assert not closed(bed)


# ------------------------------------------------------------------------------------------------------------ doctor

TOOLLESS = '''from google.adk import Agent
from google.adk.models.lite_llm import LiteLlm


def broken(word: str) -> str:
    """Fails."""
    raise RuntimeError("no")


def build_agent(mode):
    return Agent(name="a", model=LiteLlm(model="openai/x", num_retries=0), instruction="x", tools=[])
'''


COLD = """import os
from google.adk import Agent
from google.adk.models.lite_llm import LiteLlm
from google.genai import types


def ask_user(question: str) -> str:
    \"\"\"Asks.\"\"\"
    return "Yes."


def build_agent(mode):
    model = LiteLlm(model=os.environ["AGENT_MODEL"], num_retries=0, **EXTRA)
    settings = types.GenerateContentConfig(temperature=0.0 if EXTRA.get("cold") else None)
    return Agent(name="a", model=model, instruction="x", tools=[ask_user], generate_content_config=settings)
"""


def check_doctor_models(bed):
    """What the configured model does not take shows before a token is paid for, and what it does take is no finding."""
    cold = COLD.replace("EXTRA.get(\"cold\")", "True").replace("EXTRA", "{}")
    effort = COLD.replace("EXTRA.get(\"cold\")", "False").replace("EXTRA", "{'reasoning_effort': os.environ['AGENT_REASONING_EFFORT']}")
    plain = COLD.replace("EXTRA.get(\"cold\")", "False").replace("EXTRA", "{}")
    for source, model, refused in (
        (cold, "openai/o3-mini", True),
        (plain, "anthropic/claude-sonnet-4-5", False),
        (effort, "openai/gpt-4.1", True),
        (effort, "openai/o3-mini", False),
    ):
        started = bed.start(
            action="doctor", program="doctor.py", agent=bed.agent(source), model=model, effort="low", options={"oracle_sample": 0}
        )
        found = {finding["check"]: finding for finding in subprocess_json(bed, started)}
        about = found.get("agent") if refused else found.get("model-call")
        assert about and about["ok"] != refused, (model, refused, found)
        assert not refused or (about["level"], about["agent"]) == ("error", True), about
        assert not refused or "its model refuses what the agent asks for" in about["message"], about


def check_doctor(bed):
    for mode in ("a-interact", "c-interact"):
        result = subprocess_json(bed, bed.start(action="doctor", program="doctor.py", mode=mode))
        assert all(finding["ok"] for finding in result), result
        said = {finding["check"]: finding["message"] for finding in result}
        assert "called" in said["model-call"] and "gold SQL of 4 tasks passes" in said["oracle"], said


def check_doctor_agents(bed):
    """A call of a tool through the agent service tells the agent's faults from everybody else's."""
    for source, level, text in (
        ("def build_agent(mode):\n    return missing\n", "error", "cannot be loaded: agent.py line 2: NameError"),
        (TOOLLESS, "warning", "offered the model no tool"),
        (TOOLLESS.replace("tools=[]", "tools=[broken]"), "warning", "agent.py line 7: RuntimeError: no"),
        (TOOLLESS.replace('"openai/x"', '"openai/x", api_base="http://127.0.0.1:9/v1"'), "warning", "calls another model"),
    ):
        agent = bed.agent(source)
        started = bed.start(action="doctor", program="doctor.py", agent=agent, options={"oracle_sample": 0})
        found = [finding for finding in subprocess_json(bed, started) if not finding["ok"]]
        assert len(found) == 1 and found[0]["agent"] and found[0]["level"] == level, found
        assert text in found[0]["message"], found


def subprocess_json(bed, started, clean=True):
    result = started.finish()
    if clean:
        bed.check_clean(started)
    assert result.status in (0, 1), result
    return [event for event in result.events if event["event"] == "finding"]


CHECKS = {name[6:]: check for name, check in list(globals().items()) if name.startswith("check_")}
CHECKS.update({check.__name__: lambda _, check=check: check() for check in pure.CHECKS})
LONGEST_FIRST = ["failures", "no_evidence", "provider", "import_errors", "killed", "terminated", "two_runs", "tricks", "honest_a", "honest_c"]


def work(arguments, names, taken, failures):
    """Makes checks until none is left, on a bed of its own."""
    with beds.Bed(arguments.python, arguments.adk) as bed:
        while True:
            with taken.get_lock():
                if taken.value == len(names):
                    return
                name = names[taken.value]
                taken.value += 1
            start = time.monotonic()
            try:
                CHECKS[name](bed)
                print(f"ok    {name} ({time.monotonic() - start:.0f} s)", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError, RuntimeError, KeyError) as error:
                with failures.get_lock():
                    failures.value += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                print(f"FAIL  {name} ({time.monotonic() - start:.0f} s): line {place.lineno}: {error}", flush=True)
                for leftover in bed.database.copies():
                    bed.database.admin(f'ALTER DATABASE "{leftover}" IS_TEMPLATE false')
                    bed.database.admin(f'DROP DATABASE "{leftover}" WITH (FORCE)')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--adk")
    parser.add_argument("-k", default="", help="words, separated by commas; checks that have none of them are left out")
    parser.add_argument("-j", type=int, default=1, help="how many checks are made at a time")
    arguments = parser.parse_args()
    # A killed run leaves orphans to init; here they come to us, and must not linger as zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    chosen = [name for name in CHECKS if any(word in name for word in arguments.k.split(","))]
    if not chosen:
        parser.error(f"no check has {arguments.k!r} in its name; there are {', '.join(CHECKS)}")
    # The longest first, so that they do not end up alone.
    chosen.sort(key=lambda name: LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST))
    taken, failures = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    workers = [
        multiprocessing.Process(target=work, args=(arguments, chosen, taken, failures))
        for _ in range(min(arguments.j, len(chosen)))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    failed = failures.value + sum(worker.exitcode != 0 for worker in workers)
    print(f"{failed} failed" if failed else f"all {len(chosen)} hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
