#!/usr/bin/env python3
"""What the report of a long history costs: its size, the CPU time and the memory to make it.

    python3 benches/report.py [--quick] [--keep DIR] [--no-build]

Builds the release binary and makes two experiments in a temporary directory: 50 iterations over 200 train tasks, and 100 over
1,000 with one trace of 100 MB. Their tasks were run for real; later iterations are written into the ledger as the tool chains
them, with a commit or a candidate, a verdict and a section of learnings each. `report`, `show --failing`, `show` of the
largest trace and `export` are then measured on them. Limits: the smaller page takes 5 MB, and what is made of the larger
experiment takes 5 CPU-s and 500 MB. Beside each stands the ratio to reading and hashing the ledger once. Exit status 1 when a
limit is missed. With --keep DIR the larger experiment stays in DIR for `.ci/report.sh BINARY DIR/large/experiment`.
"""

import hashlib
import json
import subprocess

import speed

TURNS = 40
LARGEST = "family-9/task-0009"
PROGRAM = r'''
import json, sys
request = json.load(sys.stdin)
tasks = request["options"]["tasks"]
if request["action"] == "list":
    for i in range(tasks):
        print(json.dumps({"event": "task", "task": f"family-{i % 17}/task-{i:04}", "split": "train"}))
    for i in range(max(10, tasks // 5)):
        print(json.dumps({"event": "task", "task": f"held-{i % 17}/task-{i:04}", "split": "test"}))
else:
    with open(request["agent"]["path"], encoding="utf-8") as file:
        skill = int(file.readline().split("=")[1])
    for task in request["tasks"]:
        number = int(task[-4:])
        reward = 1.0 if number % 10 < skill else 0.0
        messages = [{"role": "user", "content": f"please do {task}"}]
        for turn in range(TURNS // 2):
            said = f"step {turn} of {task}: looking at record {number * 31 + turn}, which needs another look. " * 6
            call = {"function": {"name": "look_up", "arguments": json.dumps({"record": number * 31 + turn})}}
            messages.append({"role": "assistant", "content": said, "tool_calls": [call]})
            messages.append({"role": "tool", "content": f"record {number * 31 + turn}: " + "a line of the record\n" * 20})
        print(json.dumps({"event": "started", "task": task, "trial": 0}))
        print(json.dumps({"event": "trial", "task": task, "trial": 0, "reward": reward, "seconds": 12.5, "tokens_in": 1234,
            "tokens_out": 567, "cost_usd": 0.0123, "error": None if reward else f"check {number % 7} failed",
            "trace": {"messages": messages} if request["keep_traces"] else None}))
'''.replace("TURNS", str(TURNS))


class Night(speed.Experiment):
    """An experiment with a long history."""

    def __init__(self, directory, tasks, iterations):
        super().__init__(directory, tasks)
        self.tasks, self.iterations = tasks, iterations
        self.edit(3, 0)
        self.git("commit", "-qam", "an agent of its size")
        self.run("prepare")
        self.edit(5, 1)
        self.run("gate")
        self.git("commit", "-qam", "edit 1")
        self.run("record")
        self.run("benchmark")
        self.go_on()

    def edit(self, skill, number):
        """An agent of 1,500 lines; every edit changes 100 of them."""
        lines = [f"SKILL = {skill}"]
        for line in range(1500):
            changed = number if line // 100 == number % 15 else 0
            lines.append(f"def helper_{line}(value): return value + {changed}  # what the helper of line {line} is for")
        (self.root / "agent/agent.py").write_text("\n".join(lines) + "\n")

    def commit(self, number):
        """The edit as a commit, and what it is called as an agent."""
        self.edit(3 + number % 7, number)
        self.git("commit", "-qam", f"edit {number}: another way to look up records")
        head = self.told("rev-parse", "HEAD")
        parts = [b"agent/agent.py", (self.root / "agent/agent.py").read_bytes()]
        return head, fingerprint(*parts)

    def told(self, *words):
        return subprocess.run(["git", *words], cwd=self.root, env=self.env, check=True, capture_output=True, text=True).stdout.strip()

    def go_on(self):
        """Writes the later iterations: every other one is recorded, the rest are candidates of the loop."""
        ledger = self.state / "ledger.jsonl"
        lines = ledger.read_bytes().splitlines()
        events = [json.loads(line)["event"] for line in lines]
        trial = next(event["trial"] for event in reversed(events) if "trial" in event and event["trial"]["split"] == "train")
        verdict = next(event["verdict"] for event in events if "verdict" in event)
        recorded = next(event["recorded"] for event in events if "recorded" in event)
        names = [f"family-{i % 17}/task-{i:04}" for i in range(self.tasks)]
        said = ["# Learnings\n"]
        base, iteration = self.told("rev-parse", "HEAD"), 1
        with open(ledger, "ab") as file:
            head, seq = hashlib.sha256(lines[-1]).hexdigest(), len(lines)

            def append(event):
                nonlocal head, seq
                minute = f"{seq // 100000 % 24:02}:{seq // 1000 % 60:02}:{seq // 10 % 60:02}"
                entry = {"v": 1, "seq": seq, "prev": head, "at": f"2027-01-31T{minute}.000Z", "event": event}
                line = json.dumps(entry, separators=(",", ":")).encode()
                file.write(line + b"\n")
                head, seq = hashlib.sha256(line).hexdigest(), seq + 1

            for number in range(2, self.iterations + 1):
                is_kept = number % 2 == 0
                commit, agent = self.commit(number)
                for index, task in enumerate(names):
                    reward = 1.0 if (index * 7 + number * 3) % 10 < 6 else 0.0
                    outcome = "passed" if reward else "failed"
                    append({"trial": {**trial, "run": f"run-{number}", "agent": agent, "task": task, "reward": reward, "outcome": outcome, "error": None if reward else f"check {index % 7} failed"}})
                decision = {**verdict["decision"], "val_score": 0.4 + number / 1000, "status": "passed" if is_kept else "failed"}
                append({"verdict": {**verdict, "agent": agent, "base": base, "decision": decision}})
                if is_kept:
                    iteration, base = iteration + 1, commit
                    row = {**recorded["row"], "iteration": iteration, "commit": commit[:7], "val_score": 0.4 + number / 1000}
                    append({"recorded": {**recorded, "row": row, "commit": commit, "agent": agent, "receipt": seq - 1}})
                else:
                    self.git("update-ref", f"refs/autoharness/candidates/{number}-1", commit)
                    self.git("reset", "-q", "--hard", base)
                said.append(f"\n## Iteration {number}: another way to look up records\n\n" + "- Learned: looking twice costs more than it finds.\n" * 20)
        (self.root / "workspace/learnings.md").write_text("".join(said))
        (self.state / "checkpoint.json").unlink()

    def swell(self, megabytes):
        """Makes one trace of a failing task that large."""
        message = json.dumps({"role": "tool", "content": "a line of a very long log\n" * 4000})
        place = self.root / "workspace/traces/latest" / LARGEST.replace("/", "%2F") / "trace.json"
        assert place.exists(), place
        count = megabytes * 1_000_000 // len(message) + 1
        with open(place, "w", encoding="utf-8") as file:
            file.write('{"messages": [' + ", ".join([message] * count) + "]}")


def fingerprint(path, content):
    """An agent of one file, as guard::staging tells it."""
    told = hashlib.sha256(b"autoharness agent 1\n")
    for part in (len(path).to_bytes(8, "big"), path, b"\0", len(content).to_bytes(8, "big"), content):
        told.update(part)
    return told.hexdigest()


def main():
    speed.PROGRAM = PROGRAM
    asked = speed.measured("report", "a tenth of the tasks and iterations, to try the script")
    with asked as (part, figures, directory):
        night = Night(directory / "night", 200 // part, 50 // part)
        night.run("report")
        page = (night.root / "workspace/report.html").stat().st_size / 1e6
        figures.add(f"page of {night.iterations} iterations x {night.tasks} tasks", page, "MB", 5, 1)

        large = Night(directory / "large", 1000 // part, 100 // part)
        large.swell(100 // part)
        size = f"{large.iterations} iterations x {large.tasks:,} tasks"
        floor = speed.hashing(large.state / "ledger.jsonl")
        figures.note(f"reading and hashing its ledger, {size}", floor, "CPU-s")
        for words in (["report"], ["show", "--failing"], ["show", LARGEST], ["export", "--to", "parquet", str(directory / "tables")]):
            cpu, rss = large.best(3, *words)
            name = " ".join(words[:2])
            figures.note(f"{name}, to reading and hashing", cpu / floor, "x")
            figures.add(f"{name}, {size}", cpu, "CPU-s", 5, 1)
            figures.add(f"{name}, peak memory", rss, "MiB", 500, 1)
        figures.note("its page", (large.root / "workspace/report.html").stat().st_size / 1e6, "MB")


if __name__ == "__main__":
    main()
