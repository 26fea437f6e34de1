"""Checks of what needs no process: what calls of a model tell (calls.py), what a trial counts as (verdict.py), and what is
told of it (report.py)."""

import collections
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "..", "agent", "helpers", "bird_interact"))

import calls  # noqa: E402
import proxy  # noqa: E402
import reference  # noqa: E402
import report  # noqa: E402
import sql  # noqa: E402
import verdict  # noqa: E402

Url = collections.namedtuple("Url", "scheme host port path")


def made(*descriptions):
    """Calls from texts such as "0-5 ok", "5-9 failed", "9- pending", "9-40 left"; a call of somebody else ends with "!"."""
    made = calls.Calls()
    for text in descriptions:
        counts = not text.endswith("!")
        times, how = text.rstrip("!").split()
        start, end = times.split("-")
        call = made.begin(float(start), counts)
        call.end = float(end) if end else None
        call.failure = "failed" if how == "failed" else None
        call.refused = "refused" if how == "refused" else None
        call.abandoned = how == "left"
        if how == "limited":
            call.failure, call.retry_after = "limited", 300.0
    return made


def calls_tell_whose_failure_it_is():
    """Name, calls, when the trial ended, its limit, whether the limit ended it, and what the provider is to blame for."""
    table = [
        ("no call at all", [], 100, 1800, True, None),
        ("all went well", ["0-5 ok", "5-9 ok"], 100, 1800, False, None),
        ("the last one failed", ["0-5 ok", "5-9 failed"], 10, 1800, False, "failed"),
        ("it recovered", ["0-5 failed", "5-9 ok"], 10, 1800, False, None),
        ("a call of somebody else failed", ["0-5 ok", "5-9 failed!"], 10, 1800, False, None),
        ("it hangs", ["0-5 ok", "5- pending"], 1800, 1800, True, "no answer"),
        ("it hangs, and the limit is short", ["1- pending"], 60, 60, True, "no answer"),
        ("a call was under way at the end", ["0-1700 ok", "1700- pending"], 1800, 1800, True, None),
        ("it hangs, and the agent asks again and again", ["0-100 left", "100-200 left", "200-310 left"], 320, 1800, False, "no answer"),
        ("the agent does not wait", ["0-0 left", "1-1 left", "2-2 left"], 1800, 1800, True, None),
        ("it is overloaded to the end", ["0-600 failed", "610-1790 failed"], 1800, 1800, True, "failed"),
        ("it failed once, and the agent slept", ["0-5 failed"], 1800, 1800, True, None),
        ("it asked for a long wait", ["0-5 ok", "1500-1501 limited"], 1800, 1800, True, "limited"),
        ("it refuses", ["0-1 refused"], 2, 1800, False, "refused"),
        ("somebody else hangs", ["0-1 ok", "1- pending!"], 1800, 1800, True, None),
    ]
    for name, described, now, limit, ran_out, blamed in table:
        trouble = made(*described).trouble(now, limit, ran_out)
        assert (trouble is None) == (blamed is None) and (not blamed or blamed in trouble.reason), f"{name}: {trouble}"
        assert trouble is None or trouble.fatal == (blamed == "refused"), name


def a_flood_is_no_evidence():
    flood = calls.Calls()
    for _ in range(calls.FLOOD):
        flood.begin(0.0, True)
    for call in flood.all:
        call.end = 1.0
    more = [flood.begin(2.0, True) for _ in range(40)]
    for call in more:
        call.end, call.failure = 3.0, "its provider answered 429"
    # The first of them were no flood yet, and the rest do not make it worse.
    assert [call.flood for call in more] == [False] * calls.FLOOD + [True] * (40 - calls.FLOOD)


def the_model_is_known_by_name_and_place():
    def known(name, variables, url, body, path="/v1/chat/completions"):
        scheme, host = url.split("://")
        host, _, port = host.partition(":")
        url = Url(scheme, host, int(port) if port else None, path)
        model = calls.Model(name, variables)
        return model.knows(url) and model.asked(url, json.dumps(body))

    gateway = {"OPENAI_API_BASE": "http://127.0.0.1:4000/v1"}
    for name, variables, url, model, path, wanted in (
        ("openai/o3-mini", {}, "https://api.openai.com", "o3-mini", "", True),
        ("o3-mini", {}, "https://api.openai.com", "o3-mini", "", True),
        ("openai/o3-mini", {}, "http://127.0.0.1:9", "o3-mini", "", False),
        ("openai/o3-mini", {}, "https://api.openai.com.evil.example", "o3-mini", "", False),
        ("openai/o3-mini", {}, "https://api.openai.com", "no-such-model", "", False),
        ("openai/x", gateway, "http://127.0.0.1:4000", "x", "", True),
        ("openai/x", gateway, "http://127.0.0.1:4001", "x", "", False),
        ("openai/x", gateway, "https://api.openai.com", "x", "", False),
        ("anthropic/claude-x", gateway, "https://api.anthropic.com", "claude-x", "/v1/messages", True),
        ("claude-x", {}, "https://api.anthropic.com", "claude-x", "/v1/messages", True),
        ("gemini/gemini-y", {}, "https://generativelanguage.googleapis.com", None, "/v1beta/models/gemini-y:generateContent", True),
        ("bedrock/converse/a.b-v1", {}, "https://bedrock-runtime.eu-west-1.amazonaws.com", None, "/model/a.b-v1/converse", True),
        ("openrouter/a/b", {}, "https://openrouter.ai", "a/b", "", True),
        ("strange/m", {}, "https://strange.example", "m", "", False),
    ):
        body = {"model": model} if model else {}
        assert known(name, variables, url, body, path) == wanted, (name, variables, url, model)
    model = calls.Model("openai/x", {}, ["sk-right"])
    url = Url("https", "api.openai.com", None, "/v1")
    assert model.holds_key(url, {"authorization": "Bearer sk-right"})
    assert not model.holds_key(url, {"authorization": "Bearer sk-wrong"}), "a wrong key was the provider's refusal"


def agents_reach_their_model_and_what_is_configured():
    def url(text):
        scheme, host = text.split("://")
        host, _, port = host.rpartition(":") if host.count(":") else (host, "", "")
        return Url(scheme, host.strip("[]"), int(port) if port else None, "/")

    gateway = {"OPENAI_API_BASE": "http://127.0.0.1:4000/v1"}
    for name, variables, configured, good, bad in (
        ("openai/x", {}, [], "https://api.openai.com", "https://api.anthropic.com"),
        ("openai/x", {}, [], "http://api.openai.com:443", "https://api.openai.com:22"),
        ("openai/x", gateway, [], "http://127.0.0.1:4000", "https://api.openai.com"),
        ("openai/x", {"OPENAI_API_BASE": "http://[::1]:8000/v1"}, [], "http://[::1]:8000", "http://[::1]:8001"),
        ("azure/x", {}, [], "https://me.openai.azure.com", "https://openai.azure.com.evil.example"),
        ("openai/x", {}, ["a.example:8", ".b.example"], "http://A.example:8", "https://api.openai.com"),
        ("openai/x", {}, ["a.example:8", ".b.example"], "https://c.b.example", "https://b.example"),
        ("openai/x", {}, ["[::1]:8"], "http://[::1]:8", "http://[::1]:9"),
        ("strange/x", {}, ["a.example"], "https://a.example.", "https://a.example.b"),
    ):
        hosts = calls.Model(name, variables).reached_at(configured)
        assert calls.lets_through(hosts, url(good)) and not calls.lets_through(hosts, url(bad)), (name, good, bad, hosts)
    # Nobody knows where these live, or their clients have other ways.
    for name in ("strange/x", "bedrock/x", "vertex_ai/x", ""):
        assert calls.Model(name, {}).reached_at([]) is None, name
    assert calls.lets_through(None, url("https://any.example"))


def answers_are_read():
    for body, kind, failed, tokens in (
        (b'{"choices": [{}], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}', "application/json", False, (7, 2)),
        (b'{"content": [], "usage": {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 2}}', "application/json", False, (10, 2)),
        (b'{"candidates": [], "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}}', "", False, (7, 3)),
        (b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}\n\ndata: {"usage": {"output_tokens": 9}}\n', "text/event-stream", False, (7, 9)),
        (b'{"choices": [{"mess', "application/json", True, None),
        (b"<html>Bad gateway</html>", "text/html", True, None),
        (b'{"error": {"message": "overloaded"}}', "application/json", True, None),
        (b'{"choices": null, "usage": null}', "application/json", True, None),
        (b'{"choices": [{}], "usage": {"prompt_tokens": -7, "completion_tokens": "x"}}', "application/json", False, (0, 0)),
        (b"[" * 100_000, "application/json", True, None),
    ):
        failure, found = calls.read_answer(body, kind)
        assert (failure is not None) == failed and found == tokens, (body[:80], failure, found)


class Shard:
    def __init__(self, *described):
        self.calls = made(*described)


def record_of(sessions=(), passes=None, **more):
    record = proxy.Record("ah00000000t1", "a-interact", 14.0, False, {1})
    record.sessions, record.passes = list(sessions), passes or {}
    for name, value in more.items():
        setattr(record, name, value)
    return record


RUN = ("/run_session", 200, {"state": {}})


def what_the_agent_causes_is_zero():
    honest = {"total_reward": 0.0}
    lying = {"detail": {"kind": "model", "fatal": True, "error": "litellm.RateLimitError: 429"}}
    environment = {"detail": {"kind": "environment", "fatal": True, "error": "ModuleNotFoundError: mcp"}}
    zero = [
        ("a forged reward", record_of([RUN]), {"total_reward": 1.0}, "done"),
        ("a reward that is no number", record_of([RUN]), {"total_reward": float("nan")}, "done"),
        ("a flag that is not true", record_of([RUN]), {**honest, "phase1_passed": True}, "done"),
        ("a service spoken to", record_of([RUN], bypasses=["/init_task"]), honest, "done"),
        ("a provider's name on its own exception", record_of([("/run_session", 500, lying)]), None, "done"),
        ("a package that is not missing", record_of([("/run_session", 500, environment)]), None, "done"),
        ("an answer that is too large", record_of([("/run_session", 502, None)]), None, "done"),
        ("an answer that is no object", record_of([("/run_session", 200, None)]), None, "done"),
        ("no such session", record_of([("/run_session", 404, {"detail": "no such session"})]), None, "done"),
        ("a state that ends the orchestrator", record_of([RUN]), None, "broken: exit status 1"),
        ("a state that no result can be made of", record_of([RUN]), {"error": "unsupported operand"}, "done"),
        ("a result that cannot be read", record_of([RUN]), None, "broken: its output is absurdly large"),
        ("its process ended", record_of(), None, "agent-died: exit status 0"),
        ("the role's password changed", record_of([RUN], spoiled="did it", infrastructure=["PostgreSQL was lost"]), honest, "done"),
    ]
    for name, record, result, ended in zero:
        judged = verdict.judge(record, result, ended)
        assert (judged.outcome, judged.reward, judged.fatal) == ("agent_error", 0.0, False), f"{name}: {judged}"
    busy = record_of(agent_busy=True)
    asking = record_of([RUN], asking=1)
    for record, result, ended in ((busy, None, "timeout"), (asking, None, "timeout"), (busy, {"error": ""}, "done")):
        assert verdict.judge(record, result, ended).outcome == "agent_timeout", (result, ended)


def what_we_saw_is_infrastructure():
    trouble = calls.Trouble("its provider answered 429", False)
    died = ("/run_session", 500, {"detail": {"kind": "agent", "error": "x"}})
    broken = ("/run_session", 500, {"detail": {"kind": "environment", "error": "No module named mcp"}})
    for name, record, result, ended, trouble in (
        ("a service was lost", record_of([RUN], infrastructure=["gone"]), {"total_reward": 0.0}, "done", None),
        ("the model was limited, and the agent gave up", record_of([died]), None, "done", trouble),
        ("the model was limited, and the agent made do", record_of([RUN]), {"total_reward": 0.0}, "done", trouble),
        ("the model hung to the end", record_of(agent_busy=True), None, "timeout", trouble),
        ("the model failed in phase 2", record_of([died], passes={1: 0.7}), None, "done", trouble),
        ("packages are damaged", record_of([broken], broken_installation="No module named mcp"), None, "done", None),
        ("the orchestrator was killed", record_of([RUN]), None, "broken: signal 9", None),
        ("the orchestrator failed before the agent's turn", record_of(), {"error": "500"}, "done", None),
    ):
        judged = verdict.judge(record, result, ended, trouble)
        assert (judged.outcome, judged.reward) == ("infra_error", None), f"{name}: {judged}"
    passed = verdict.judge(record_of([RUN], passes={1: 0.7}), {"total_reward": 0.7}, "done", trouble)
    assert (passed.outcome, passed.reward) == ("passed", 0.7), passed


def nothing_an_agent_hands_back_breaks_the_protocol():
    abyss = []
    for _ in range(400):
        abyss = [abyss]
    for value in ("\ud800", {"\udfff": 1}, float("nan"), 10**400, abyss, "x" * (4 << 20), {"a": {1, 2}}, None):
        state = {"tool_trajectory": value, "final_response": value}
        record = record_of([("/run_session", 200, {"state": state, "usage": {"tokens_in": value, "tokens_out": -1}})])
        record.shard = Shard("0-1 ok")
        judged = verdict.judge(record, {"total_reward": value}, "done")
        text = report.line(report.event("t", record, {"total_reward": value, **state}, judged, 1.0, True))
        event = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
        assert len(text) < 8 << 20 and "tokens_in" not in event and event["reward"] == 0.0, (str(value)[:20], text[:200])
        json.dumps(event, ensure_ascii=False).encode("utf-8")


def tokens_are_the_providers():
    record = record_of([("/run_session", 200, {"usage": {"tokens_in": 5, "tokens_out": 5}})])
    record.shard = Shard()
    record.shard.calls.begin(0.0, True).tokens = (70, 7)
    assert report.collect_usage(record) == {"tokens_in": 70, "tokens_out": 7}
    record.shard.calls.all[0].tokens = None
    assert report.collect_usage(record) == {"tokens_in": 5, "tokens_out": 5}


def requests_that_no_service_takes_are_refused():
    for request in ({"sql": "\ud800"}, {"sql": "x" * 300_000}, {"question": "x" * 30_000}):
        try:
            proxy.require_plain(request, json.dumps(request).encode())
            raise AssertionError(f"taken: {str(request)[:60]}")
        except proxy.Refused as refused:
            assert refused.status in (400, 413)
    proxy.require_plain({"sql": "SELECT 'ä😀'"}, b"{}")


def questions_are_told_from_changes():
    for text in (
        "SELECT 1",
        "select * from t where a = 'DELETE FROM t; INSERT INTO x' -- ; DROP TABLE t\n;",
        "WITH a AS (SELECT 1), b AS MATERIALIZED (SELECT * FROM a) SELECT * FROM b FOR UPDATE",
        "(SELECT 1) UNION (SELECT 2)",
        "VALUES (1)",
        "EXPLAIN (ANALYZE, BUFFERS) SELECT 1; EXPLAIN ANALYZE VERBOSE SELECT 2; TABLE t",
        "SELECT count(update), t.delete, \"insert\" FROM t /* INSERT INTO /* t */ VALUES */",
        "SELECT u & \"flags\" FROM t",
        "SELECT $$ INSERT INTO t $$, $a$ ; DELETE FROM t $$ $a$, E'it\\'s; DROP', U&'\\0041', a$b$ FROM t",
        "",
        ";;",
    ):
        assert sql.only_asks(text), text
    for text in (
        "DELETE FROM t; UPDATE t SET a = 1; SELECT 1",
        "SELECT 1; ALTER ROLE CURRENT_USER SET search_path TO x",
        "WITH d AS (DELETE FROM t RETURNING 1) SELECT 1",
        "WITH d AS (SELECT 1) DELETE FROM t",
        "WITH d AS (SELECT 1) UPDATE t SET a = 1",
        "WITH d AS (SELECT 1) INSERT INTO t VALUES (1)",
        "SELECT * INTO t2 FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN (ANALYZE) UPDATE t SET a = 1",
        "CREATE TEMP TABLE t AS SELECT 1; SELECT 2",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "SELECT set_config('search_path', 'x', false)",
        "SELECT \"set_config\"('search_path', 'x', false)",
        "SELECT U&\"set\\005fconfig\"('search_path', 'x', false)",
        "SELECT 1 -- a\rDELETE FROM t\n; DELETE FROM t",
        "SELECT 1 --\r; DELETE FROM t",
        "SELECT '\\'; DELETE FROM t; --'",
        "SELECT /* /* */ 1 */ 1; DROP TABLE t",
        "SELECT $a$ $b$ $a$; DELETE FROM t",
        "SELECT 1$a$; DELETE FROM t; SELECT $a$, 1; DELETE FROM t",
        "BEGIN READ ONLY; SELECT 1",
        "COPY t TO PROGRAM 'id'",
    ):
        assert not sql.only_asks(text), text


class State:
    """A database, as reference.State reads it: rows by relation, the relations that are new, and meanings."""

    def __init__(self, rows, new=(), meanings=()):
        self.rows = {name: collections.Counter(some) for name, some in rows.items()}
        self.relations = dict.fromkeys([*rows, *new], "")
        self.meanings = set(meanings)


def only_what_the_gold_leaves_alone_is_meddled_with():
    before = State({"public.a": "xyz", "public.b": "pq", "public.v": "1"}, (), [("routine", "f()", "1")])
    gold = State({"public.a": "xy", "public.b": "pr", "public.v": "2"}, ["public.made"], [("routine", "f()", "1"), ("operator", "=", "e")])
    same = {"public.a": "xy", "public.b": "pr", "public.v": "2"}
    for name, changes, new, meanings, wanted in (
        ("as the gold SQL has it", {}, ["public.made"], gold.meanings, False),
        ("another table, other values where values change", {"public.b": "ps"}, ["public.own"], before.meanings, False),
        ("nothing done", {"public.a": "xyz"}, [], before.meanings, False),
        ("a row gone that stays", {"public.a": "x"}, [], before.meanings, True),
        ("a row changed that stays", {"public.a": "xw"}, [], before.meanings, True),
        ("a row too many", {"public.a": "xyw"}, [], before.meanings, True),
        ("a row twice", {"public.a": "xyy"}, [], before.meanings, True),
        ("a row gone beside those that change", {"public.b": "r"}, [], before.meanings, True),
        ("one that hides another", {}, ["decoy.a"], before.meanings, True),
        ("an operator", {}, [], before.meanings | {("operator", "<>", "f")}, True),
        ("a function of the database's own", {}, [], {("routine", "f()", "2")}, True),
        ("a new function", {}, [], before.meanings | {("routine", "g()", "1")}, False),
    ):
        agent = State({**same, **changes}, new, meanings)
        assert reference.meddled(before, gold, agent) == wanted, name
    del agent.rows["public.a"]
    assert reference.meddled(before, gold, agent), "a table that is gone"


CHECKS = [
    only_what_the_gold_leaves_alone_is_meddled_with,
    questions_are_told_from_changes,
    calls_tell_whose_failure_it_is,
    a_flood_is_no_evidence,
    the_model_is_known_by_name_and_place,
    agents_reach_their_model_and_what_is_configured,
    answers_are_read,
    what_the_agent_causes_is_zero,
    what_we_saw_is_infrastructure,
    nothing_an_agent_hands_back_breaks_the_protocol,
    tokens_are_the_providers,
    requests_that_no_service_takes_are_refused,
]

if __name__ == "__main__":
    for check in CHECKS:
        check()
        print(f"ok    {check.__name__}")
