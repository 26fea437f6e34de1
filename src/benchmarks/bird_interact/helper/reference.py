"""Whether the answer to a follow-up was compared with what the benchmark means by it.

A first task that changes the database leaves what its SQL made to the second, whose gold SQL runs there, behind the submission
and on one connection. So the first submission could decide what is right in the second: by rows of other tables, a view in the
place of one, an operator, or a function that does it when the second submission calls it. After a pass all of this is done
again, by the role that agents' SQL has and in a copy of the same name: the gold SQL alone, the gold SQL behind the submission,
and the gold SQL where the first task was solved by gold SQL as well. The answers must be one; the last may be another where
the agent solved its task differently, if it changed nothing that the gold SQL leaves alone.
"""

import collections

import dataset
from postgres import PostgresError

SNAPSHOT = "__p1snap"
# The service itself ends a statement after 60 s; here it is a second time, on a machine that has more to do.
STATEMENT_S = 180
LIMIT_S = 600
# Of one relation. The benchmark's tables have thousands; a view of an agent's may have no end.
MOST_ROWS = 200_000
CHANGED = "changed what the follow-up is compared with"
MEDDLED = "changed what its first task leaves alone, and the follow-up's answer with it"

# What there is to be read: a relation's name, and its columns as texts.
RELATIONS = """
SELECT format('%I.%I', nspname, relname), string_agg(quote_ident(attname) || '::text', ', ' ORDER BY attnum)
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
  WHERE relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped AND nspname NOT IN ('pg_catalog', 'information_schema')
  AND nspname NOT LIKE 'pg\\_toast%' AND nspname NOT LIKE 'pg\\_temp%' GROUP BY nspname, relname ORDER BY 1;
"""
# Functions by what they are, and what gives words of SQL another meaning by being there.
MEANINGS = """
SELECT 'routine', oid::regprocedure, md5(pg_get_functiondef(oid)) FROM pg_proc WHERE oid >= 16384 AND prokind IN ('f', 'p');
SELECT 'overload', oid::regprocedure, '' FROM pg_proc f WHERE oid >= 16384
  AND EXISTS (SELECT FROM pg_proc b WHERE b.oid < 16384 AND b.proname = f.proname);
SELECT 'operator', oid::regoperator, oprcode FROM pg_operator WHERE oid >= 16384;
SELECT 'cast', format('%s as %s', castsource::regtype, casttarget::regtype), castfunc FROM pg_cast WHERE oid >= 16384;
"""
PLAIN = f"SET search_path = pg_catalog; SET statement_timeout = '{STATEMENT_S}s'; SET extra_float_digits = -3;\n"


def spoiled(role, template, task, alias, submission):
    """What the agent's SQL did to the comparison of a second phase that was passed; None if nothing. Blocking.

    `role` is the server as the role that the agent's SQL runs under, `template` what copies are made from. Raises PostgresError
    when the server fails.
    """
    own = f"{task['selected_database']}__{alias}"
    first, gold = dataset.statements(task.get("sol_sql")), dataset.statements(task["follow_up"].get("sol_sql"))
    other = f"{own}00001"
    try:
        role.copy(template, other)
        meant = answer(role, other, (), gold) if solve(role, other, first) else None
        if meant is None:
            return None  # Then nothing is known of what is meant.
        role.copy(own + SNAPSHOT, own)
        behind = answer(role, own, (submission, submission), gold)
        role.copy(own + SNAPSHOT, own)
        alone = answer(role, own, (), gold)
        if behind is None or alone != behind:
            role.query("SELECT 1")  # Raises if the server was lost, which is not the agent's fault.
            return CHANGED
        if alone == meant:
            return None
        role.copy(template, other)
        untouched = State(role, other)
        solve(role, other, first)
        if meddled(untouched, State(role, other, untouched), State(role, own, untouched)):
            return MEDDLED
        return None
    finally:
        role.drop([other])


def plain(text):
    """SQL for `psql -c`, which would take a leading backslash for a command of its own."""
    return " " + text


def answer(role, database, before, gold):
    """What the gold SQL answers, in whatever order; None when it fails."""
    limit = f"SET statement_timeout = '{STATEMENT_S}s'"
    before = [r"\o /dev/null", *map(plain, before), r"\o"]
    try:
        rows = role.query(
            limit, *before, "SET extra_float_digits = -3", *map(plain, gold), database=database, limit=LIMIT_S
        )
    except PostgresError:
        return None
    return sorted(rows)


def solve(role, database, first):
    """Whether the gold SQL of the first phase could be run."""
    try:
        role.query(*map(plain, first), database=database, limit=LIMIT_S)
    except PostgresError:
        return False
    return True


class State:
    """What an answer may hang on: the rows of every relation that the database had `before` anybody's SQL, by the columns that
    it had then (None where they can no longer be read); which relations there are; what words of SQL mean."""

    def __init__(self, role, database, before=None):
        read = {"database": database, "limit": LIMIT_S}
        self.relations = dict(line.split("\x1f") for line in role.script(PLAIN + RELATIONS, **read))
        self.meanings = {tuple(line.split("\x1f")) for line in role.script(PLAIN + MEANINGS, **read)}
        relations = (before or self).relations
        script = [PLAIN, "\\set ON_ERROR_STOP off\n"]
        for number, (name, columns) in enumerate(relations.items()):
            rows = f"SELECT {columns} FROM {name} LIMIT {MOST_ROWS}"
            script.append(f"\\echo ={number}\nSELECT md5(t::text) FROM ({rows}) t; SELECT '#' FROM (SELECT count(*) FROM ({rows}) t) c;\n")
        self.rows, names, found = {}, list(relations), None
        for line in role.script("".join(script), **read):
            if line.startswith("="):
                found = collections.Counter()
                name = names[int(line[1:])]
            elif line == "#":
                self.rows[name] = found
            else:
                found[line] += 1


def meddled(before, gold, agent):
    """Whether the agent's SQL changed what the gold SQL leaves alone. Pure."""
    for name, rows in before.rows.items():
        theirs, ours = gold.rows.get(name), agent.rows.get(name)
        if theirs is None:
            continue  # It has gone with the gold SQL as well.
        if ours is None or (rows & theirs) - ours or (ours - rows and not theirs - rows):
            return True
    # What hides a relation is in another schema and has its name.
    hidden = {name.rsplit(".", 1)[-1] for name in before.relations}
    hiding = {name for name in agent.relations if name.rsplit(".", 1)[-1] in hidden} - before.relations.keys()
    if hiding - gold.relations.keys():
        return True
    meanings = {meaning for meaning in agent.meanings - before.meanings if meaning[0] != "routine"}
    kept = before.meanings & gold.meanings
    return bool(meanings - gold.meanings or kept - agent.meanings)
