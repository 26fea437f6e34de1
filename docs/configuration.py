#!/usr/bin/env python3
"""Writes the tables of configuration keys into the book, from the program's own table (`autoharness config schema`).

    docs/configuration.py            write them
    docs/configuration.py --check    fail when they are not what lies there

AUTOHARNESS names a built program; without it, cargo builds one. What a key means is written beside it in src/config/common.rs
or in its benchmark's config.rs; only the links are here.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

BOOK = pathlib.Path(__file__).resolve().parent / "src"
HEAD = "| key | default | meaning |\n|---|---|---|\n"
LINKS = {
    "sealed": "[the sealed split](belief.md#the-sealed-split)",
    "fence": "[the fence](trial-protocol.md#the-fence)",
    "model_hosts": "[the network](trial-protocol.md#the-network)",
    "gate_rule": "[which one?](belief.md)",
    "max_suite": "[the suite](gate.md#the-suite)",
    "holdout_disclosure": "[looks](belief.md#looks)",
    "surfaces": "[which part](loop.md#which-part)",
    "coding_agents": "[coding agents](loop.md#coding-agents)",
}
# Larger limits only keep numbers from overflowing.
LARGEST_LIMIT = 100_000


def schema():
    program = os.environ.get("AUTOHARNESS")
    command = [program] if program else ["cargo", "run", "--quiet", "--locked", "--"]
    said = subprocess.run([*command, "config", "schema"], cwd=BOOK.parent.parent, check=True, stdout=subprocess.PIPE)
    return json.loads(said.stdout)


def row(key, of, rule, others):
    """A key's row; `others`: the rules of benchmarks in whose defaults it may differ."""

    def default_of(rule):
        of_rule = rule["properties"].get(key)
        return of_rule.get("default") if isinstance(of_rule, dict) else None

    default = default_of(rule)
    required = key in rule["required"] or key == "benchmark"
    meaning = of["description"].split(" (" + rule["name"] + ")")[0]
    if key == "benchmark":
        meaning += ": " + ", ".join(f"`{name}`" for name in of["enum"])
    if of.get("maximum", LARGEST_LIMIT + 1) <= LARGEST_LIMIT:
        meaning += f" ({of['minimum']:g} to {of['maximum']:g})"
    own = [f"{other['name']} {default_of(other):g}" for other in others if default_of(other) not in (None, default)]
    more = [", ".join(own)] if own else []
    more += [f"see {LINKS[key]}"] if key in LINKS and rule["name"] == "command" else []
    shown_default = "required" if required else "none" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
    return f"| `{key}` | {shown_default} | {'; '.join([meaning, *more])} |\n"


def tables(schema):
    """The table of each page that has one."""
    rules = [{"name": one["if"]["properties"]["benchmark"]["const"], **one["then"]} for one in schema["allOf"]]

    # What a benchmark has of its own is forbidden with others.
    owned = {key for rule in rules for key, of in rule["properties"].items() if of is False}
    usual = next(rule for rule in rules if rule["name"] == "command")
    common = [(key, of) for key, of in schema["properties"].items() if key not in owned]
    yield "configuration.md", "".join(row(key, of, usual, rules) for key, of in common)
    for rule in rules:
        mine = [key for key, of in rule["properties"].items() if key in owned and of is not False]
        if mine:
            yield f"benchmarks/{rule['name']}.md", "".join(row(key, meant(schema, key, rule), rule, []) for key in mine)


def meant(schema, key, rule):
    """A key as this benchmark has it: two may have one of the same name."""
    of = schema["properties"][key]
    return next(one for one in of.get("anyOf", [of]) if one["description"].endswith(f"({rule['name']})"))


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    for page, table in tables(schema()):
        path = BOOK / page
        before = path.read_text(encoding="utf-8")
        after = re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: HEAD + table, before, count=1)
        if HEAD not in before:
            sys.exit(f"{page} has no place for the table of keys: it begins with\n{HEAD}")
        if sys.argv[1:] and before != after:
            sys.exit(f"{page} does not have the keys of the program: run docs/configuration.py and commit it")
        path.write_text(after, encoding="utf-8")


main()
