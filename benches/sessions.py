#!/usr/bin/env python3
"""Nights of edits that change nothing, played through the real binary: how often does the gate believe them?

    python3 benches/sessions.py [--sessions 20] [--edits 20] [--binary FILE] [--jobs 2] [--picture docs/src/nights.svg]

Each task passes with its published Terminal-Bench 2 solve rate (benches/data/tb2_rates.txt), drawn anew for every version of
the agent, task and trial. A session prepares an experiment and gates edits that only add a comment; what passes is committed
and recorded, as a coding agent would do. Printed for both rules of the gate: the share of edits that were accepted, how far
the recorded best lies above the agent's true val_score, and how often the regression suite failed the agent although
nothing had changed. Exit status 1 when the rule `paired` is wrong more often than the issue of its making allows.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATES = ROOT / "benches/data/tb2_rates.txt"
DEFAULT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/autoharness"

PROGRAM = r'''
import hashlib, json, sys
request = json.load(sys.stdin)
rates = json.load(open("rates.json"))
if request["action"] == "list":
    for task in rates:
        print(json.dumps({"event": "task", "task": task, "split": None}))
else:
    agent = hashlib.sha256(open(request["agent"]["path"], "rb").read()).hexdigest()
    session = request["options"]["session"]
    for task in request["tasks"]:
        for trial in range(request["trials"]):
            drawn = hashlib.sha256(f"{session} {agent} {task} {request['seed'] + trial}".encode()).digest()
            reward = float(int.from_bytes(drawn[:8], "big") < rates[task] * 2**64)
            print(json.dumps({"event": "started", "task": task, "trial": trial}))
            print(json.dumps({"event": "trial", "task": task, "trial": trial, "reward": reward, "tokens_in": 1}))
'''

CONFIG = """benchmark: command
command: [python3, bench.py]
options: {{session: "{session}"}}
gate_rule: {rule}
import_agent: false
"""


def rates():
    """Task to solve rate."""
    lines = (line.split() for line in RATES.read_text().splitlines() if line and not line.startswith("#"))
    return {task: int(solved) / int(trials) for task, solved, trials in lines}


class Session:
    """One experiment in a directory of its own."""

    def __init__(self, binary, rule, number, place):
        self.binary, self.place = binary, place
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e",
        }
        self.root = place / "experiment"
        (self.root / "agent").mkdir(parents=True)
        (self.root / "agent/agent.py").write_text("# the agent\n")
        (self.root / "bench.py").write_text(PROGRAM)
        (self.root / "rates.json").write_text(json.dumps(rates()))
        (self.root / ".gitignore").write_text("/workspace/\n/experiment_config.yaml\n")
        (self.root / "experiment_config.yaml").write_text(CONFIG.format(rule=rule, session=number))
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "start")

    def git(self, *words):
        subprocess.run(["git", *words], cwd=self.root, env=self.environment, check=True)

    def run(self, *words):
        """Exit status and the JSON objects that the command printed."""
        command = [self.binary, "--format", "json", *words]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        if done.returncode > 1:
            raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def play(self, edits):
        """Gates so many edits; returns what came of it."""
        self.run("prepare")
        accepted = suites = broken = 0
        first, path = None, [self.best()]
        for number in range(edits):
            with open(self.root / "agent/agent.py", "a", encoding="utf-8") as agent:
                agent.write(f"# {number}\n")
            status, said = self.run("gate")
            if first is None:
                first = status == 0
            suite = next((one["status"] for one in said if one.get("step") == "regression_suite"), "skipped")
            suites += suite != "skipped"
            broken += suite == "failed"
            if status == 0:
                accepted += 1
                self.git("commit", "-qam", f"edit {number}")
                self.run("record")
            else:
                self.git("checkout", "-q", "--", "agent/agent.py")
            path.append(self.best())
        assert self.run("verify")[0] == 0, "verify found something"
        ledger = self.root / ".git/autoharness/ledger.jsonl"
        events = (json.loads(line)["event"] for line in ledger.read_text().splitlines())
        held_out = next(event["prepared"]["split"]["test"] for event in events if "prepared" in event)
        truth = statistics.mean(rates()[task] for task in held_out)
        trials = self.run("status")[1][0]["trials"]
        return {
            "first": first, "accepted": accepted, "suites": suites, "broken": broken, "trials": trials,
            "above": 100 * (path[-1] - truth), "claimed": 100 * (path[-1] - path[0]),
            "path": [100 * (score - truth) for score in path],
        }

    def best(self):
        """val_score as recorded last."""
        return float((self.root / "workspace/results.tsv").read_text().splitlines()[-1].split("\t")[1])


def night(binary, rule, number, edits):
    place = pathlib.Path(tempfile.mkdtemp(prefix="autoharness-sessions-"))
    try:
        return Session(binary, rule, number, place).play(edits)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def picture(nights, edits):
    """How far the recorded best lies above the truth, edit by edit: every session a line, and their mean."""
    width, height, left, top = 340, 200, 44, 30
    low, high = -10, 30

    def x(edit):
        return left + edit * (width - left - 10) / edits

    def y(points):
        return top + (high - max(low, min(high, points))) * (height - top - 30) / (high - low)

    def line(path, style):
        steps = [f"M{x(0):.1f} {y(path[0]):.1f}"]
        steps += [f"H{x(edit):.1f}V{y(points):.1f}" for edit, points in enumerate(path) if edit]
        return f'<path d="{"".join(steps)}" fill="none" {style}/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="11" fill="#808080">',
        "<title>Points by which the recorded best lies above the truth while edits that change nothing are gated</title>",
    ]
    for column, (rule, played) in enumerate(nights.items()):
        parts.append(f'<g transform="translate({column * width})"><text x="{left}" y="16" font-weight="bold">{rule}</text>')
        for points in range(low, high + 1, 10):
            parts.append(f'<path d="M{left} {y(points):.1f}H{width - 10}" stroke="#808080" stroke-opacity="{0.9 if points == 0 else 0.25}"/>')
            parts.append(f'<text x="{left - 6}" y="{y(points) + 4:.1f}" text-anchor="end">{points:+d}</text>')
        for edit in range(0, edits + 1, 5):
            parts.append(f'<text x="{x(edit):.1f}" y="{height - 14}" text-anchor="middle">{edit}</text>')
        parts += [line(night["path"], 'stroke="#888888" stroke-opacity="0.35"') for night in played]
        means = [statistics.mean(column) for column in zip(*(night["path"] for night in played))]
        parts.append(line(means, 'stroke="#d9534f" stroke-width="2.5"') + "</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--binary", default=str(DEFAULT))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--picture", help="draw the sessions as an SVG")
    arguments = parser.parse_args()
    print(f"{arguments.sessions} sessions of {arguments.edits} edits that change nothing")
    print(f"{'':8} {'first':>6} {'edits':>6} {'best above':>11} {'(worst)':>8} {'claims over':>12} {'suite fails':>12} {'trials':>8}")
    print(f"{'rule':8} {'passes':>6} {'pass':>6} {'the truth':>11} {'':8} {'baseline':>12} {'unchanged':>12} {'a session':>8}")
    missed, drawn = False, {}
    for rule in ("best", "paired"):
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            numbers = range(arguments.sessions)
            nights = list(pool.map(lambda number: night(arguments.binary, rule, number, arguments.edits), numbers))

        drawn[rule] = nights

        def mean(key):
            return statistics.mean(night[key] for night in nights)

        share = mean("accepted") / arguments.edits
        suites = sum(night["suites"] for night in nights)
        broken = sum(night["broken"] for night in nights) / suites if suites else 0.0
        worst = max(night["above"] for night in nights)
        print(
            f"{rule:8} {mean('first'):>6.0%} {share:>6.1%} {mean('above'):>+11.1f} {worst:>+8.1f} {mean('claimed'):>+12.1f}"
            f" {broken:>12.1%} {mean('trials'):>8.0f}",
            flush=True,
        )
        error = (0.1 * 0.9 / (arguments.sessions * arguments.edits)) ** 0.5
        missed |= rule == "paired" and (share > 0.1 + 2 * error or broken > 0.1)
    if arguments.picture:
        pathlib.Path(arguments.picture).write_text(picture(drawn, arguments.edits), encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
