#!/usr/bin/env python3
"""How much of the machine the tool itself takes, as multiples of what the same work costs at the least on this machine.

    python3 benches/speed.py [--quick] [--keep DIR]

Builds the release binary, makes an experiment with a ledger of 200,000 trials in a temporary directory and measures real
commands there, then the same with a tenth of everything. Nothing is compared with a clock on the wall: CPU time (user +
system) is what the tool takes from the benchmark beside it. Children count too, but the benchmark program reports its own
share, which is taken off.

Every limit is a ratio, so that it says the same on any machine. What a command took is divided by a floor measured right
after it: reading and SHA-256 hashing the ledger's bytes once, and creating as many files and directories, of the same
sizes, as the command left new. Small commands are compared with `git rev-parse HEAD`. Whether cost grows with the work is
the ratio to ten times the cost of a tenth of it. Memory and the size of the binary have limits of their own. Exit status 1
when a limit is missed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/autoharness"
GENESIS = "0" * 64

PROGRAM = r'''
import json, os, resource, sys
request = json.load(sys.stdin)
options = request["options"]
half = options["tasks"] // 2
if request["action"] == "list":
    for i in range(half):
        print(json.dumps({"event": "task", "task": f"family-{i % 97}/train-{i:06}", "split": "train"}))
        print(json.dumps({"event": "task", "task": f"family-{i % 97}/test-{i:06}", "split": "test"}))
else:
    with open(request["agent"]["path"], encoding="utf-8") as file:
        skill = int(file.read().split("=")[1])
    padding = "the agent says something and calls a tool; " * 20
    trace = json.dumps({"messages": [{"role": "user", "content": padding}, {"role": "assistant", "content": padding}]})
    out = []
    for task in request["tasks"]:
        number = int(task[-6:])
        reward = 1.0 if number % 10 < skill else 0.0
        line = f'{{"event":"started","task":"{task}","trial":0}}\n{{"event":"trial","task":"{task}","trial":0,' \
               f'"reward":{reward},"seconds":12.5,"tokens_in":1234,"tokens_out":567,"cost_usd":0.0123'
        if request["keep_traces"]:
            line += f',"trace":{trace},"detail":{{"checks":3}}'
        out.append(line + "}\n")
        if len(out) == 200:
            sys.stdout.write("".join(out))
            out.clear()
    sys.stdout.write("".join(out))
sys.stdout.flush()
used = resource.getrusage(resource.RUSAGE_SELF)
with open(options["usage"], "a", encoding="utf-8") as file:
    file.write(f"{used.ru_utime + used.ru_stime}\n")
'''


class Figures:
    """Prints one line a figure and remembers whether a limit was missed."""

    def __init__(self):
        self.missed = 0

    def add(self, name, value, unit, floor, limit):
        """Compares a value with its floor; `limit` is the largest ratio."""
        ratio = value / floor
        self.missed += ratio > limit
        verdict = "ok" if ratio <= limit else "MISSED"
        print(f"{name:<52} {value:>9.3f} {unit:<5} floor {floor:>8.3f}  ratio {ratio:5.2f} of {limit:<4g}  {verdict}", flush=True)

    def note(self, name, value, unit):
        print(f"{name:<52} {value:>9.3f} {unit}", flush=True)


def cpu_of(work):
    """CPU seconds of this process for a piece of work."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def hashing(path):
    """The floor of reading a file: its bytes are read and hashed once."""

    def work():
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(1 << 18):
                digest.update(chunk)

    return min(cpu_of(work) for _ in range(3))


class Tree:
    """What lies below a directory, to see what a command leaves new."""

    def __init__(self, top):
        self.top, self.files, self.directories = top, {}, set()
        for directory, _, names in os.walk(top):
            self.directories.add(directory)
            for name in names:
                status = os.stat(os.path.join(directory, name))
                self.files[directory, name] = status.st_ino, status.st_mtime_ns, status.st_size

    def creating(self, earlier, scratch):
        """The floor of what is new since `earlier`: the same directories and files, of the same sizes, in an empty place."""
        new = [(key, size) for key, (*rest, size) in self.files.items() if earlier.files.get(key) != (*rest, size)]
        place = {directory: f"{scratch}/{number}" for number, directory in enumerate(self.directories)}
        fresh = self.directories - earlier.directories
        content = bytes(max((size for _, size in new), default=0))

        def work():
            for directory in fresh:
                os.mkdir(place[directory])
            for (directory, name), size in new:
                file = os.open(f"{place[directory]}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(file, memoryview(content)[:size])
                os.close(file)

        def once():
            os.mkdir(scratch)
            try:
                for directory in self.directories - fresh:
                    os.mkdir(place[directory])
                return cpu_of(work)
            finally:
                shutil.rmtree(scratch)

        return min(once() for _ in range(2)), len(new)


class Experiment:
    """An experiment in a temporary directory and the commands run in it."""

    def __init__(self, directory, tasks):
        self.directory = pathlib.Path(directory)
        self.root = self.directory / "experiment"
        self.usage = self.directory / "usage"
        self.state = self.root / ".git/autoharness"
        self.env = {
            "PATH": os.pathsep.join([os.path.dirname(os.path.realpath(sys.executable)), os.environ["PATH"]]),
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            **{f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        (self.root / "agent").mkdir(parents=True)
        (self.root / "bench.py").write_text(PROGRAM)
        options = json.dumps({"tasks": tasks, "usage": str(self.usage)})
        python = os.path.realpath(sys.executable)
        (self.root / "experiment_config.yaml").write_text(
            f"benchmark: command\ncommand: [{python}, bench.py]\nmax_concurrency: 8\noptions: {options}\n"
        )
        (self.root / ".gitignore").write_text("/workspace/\n/experiment_config.yaml\n.env\n")
        self.agent(3)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "start")

    def agent(self, skill):
        (self.root / "agent/agent.py").write_text(f"SKILL = {skill}\n")

    def git(self, *words):
        subprocess.run(["git", *words], cwd=self.root, env=self.env, check=True, stdout=subprocess.DEVNULL)

    def run(self, *words, expect=0):
        """Runs a command; returns CPU seconds without the benchmark program's own, and peak MiB of any process."""
        self.usage.unlink(missing_ok=True)
        cpu, rss = self.child(BINARY, *words, expect=expect)
        program = 0.0
        with contextlib.suppress(FileNotFoundError):
            program = sum(map(float, self.usage.read_text().split()))
        return cpu - program, rss

    def child(self, *words, expect=0):
        process = subprocess.Popen(
            words, cwd=self.root, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != expect:
            sys.exit(f"{' '.join(map(str, words))} exited with {process.returncode}:\n{output}")
        self.kernel = used.ru_stime
        return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

    def best(self, times, *words, expect=0):
        results = [self.run(*words, expect=expect) for _ in range(times)]
        return min(cpu for cpu, _ in results), min(rss for _, rss in results)

    def suite(self):
        return json.loads((self.root / "workspace/suite.json").read_text())["tasks"]

    def grow_ledger(self, trials):
        """Appends trials of earlier agents, chained as the tool chains them."""
        ledger = self.state / "ledger.jsonl"
        lines = ledger.read_bytes().splitlines()
        event = next(json.loads(line)["event"] for line in lines if b'"trial":{' in line)
        have = sum(b'"event":{"trial"' in line for line in lines)
        head, seq = hashlib.sha256(lines[-1]).hexdigest(), len(lines)
        tasks = [json.loads(line)["event"]["trial"]["task"] for line in lines if b'"purpose":"baseline"' in line and b'"event":{"trial"' in line]
        with open(ledger, "ab") as file:
            for number in range(max(0, trials - have)):
                agent, index = divmod(number, len(tasks))
                event["trial"].update(agent=hashlib.sha256(b"%d" % agent).hexdigest(), task=tasks[index], run=f"old-{agent}")
                event["trial"]["reward"] = 1.0 if number % 3 else 0.0
                event["trial"]["outcome"] = "passed" if number % 3 else "failed"
                entry = {"v": 1, "seq": seq, "prev": head, "at": "2026-01-31T12:00:00.000Z", "event": event}
                line = json.dumps(entry, separators=(",", ":")).encode()
                file.write(line + b"\n")
                head, seq = hashlib.sha256(line).hexdigest(), seq + 1


def small(figures, directory):
    small = Experiment(directory / "small", 20)
    git = min(small.child("git", "rev-parse", "HEAD")[0] for _ in range(20))
    start = lambda name, cpu, limit: figures.add(name, 1000 * cpu, "ms", 1000 * git, limit)
    start("--help", small.best(10, "--help")[0], 3)
    small.run("prepare")
    small.agent(6)
    small.run("gate")
    small.git("commit", "-qam", "edit")
    start("record, small ledger", small.run("record")[0], 12)
    start("status, small ledger", small.best(10, "status")[0], 4)
    start("record again, small ledger", small.best(5, "record")[0], 6)


class Large:
    """The loop with many tasks and a long history; keeps what each command took."""

    def __init__(self, figures, directory, tasks, history):
        self.figures, self.tasks, self.history, self.taken = figures, tasks, history, {}
        self.experiment = Experiment(directory / f"large-{tasks}-{history}", tasks)

    def measured(self, name, *words):
        """Runs a command; returns its CPU seconds and the floor of its work."""
        traces, ledger = self.experiment.root / "workspace/traces", self.experiment.state / "ledger.jsonl"
        before = Tree(traces)
        cpu, rss = self.experiment.run(*words)
        kernel = self.experiment.kernel
        files, count = Tree(traces).creating(before, self.experiment.directory / "floor")
        self.taken[name] = cpu
        self.figures.note(f"  {name}: {count:,} files; of its time in the kernel", kernel, "CPU-s")
        if rss > 200:
            self.figures.add("  its peak memory", rss, "MiB", 200, 1)
        return cpu, files + hashing(ledger)

    def run(self, limits):
        """`limits`: whether ratios to the floor are to be kept, which the start of Python and git spoils for little work."""
        experiment, scale = self.experiment, f"{self.tasks:,} trials, ledger of {self.history:,}"

        def add(name, value, floor, limit):
            self.figures.add(f"{name}, {scale}", value, "CPU-s", floor, limit if limits else float("inf"))

        experiment.run("prepare")
        experiment.agent(6)
        experiment.run("gate")
        experiment.git("commit", "-qam", "edit")
        experiment.run("record")
        short = experiment.best(5, "status")[0]
        experiment.grow_ledger(self.history)
        # As a command leaves it, with a checkpoint of the whole.
        experiment.run("suite", "quarantine", experiment.suite()[0], "--reason", "it has a history now")
        experiment.agent(9)
        add("gate", *self.measured("gate", "gate"), 3)
        experiment.git("commit", "-qam", "edit")
        add("record", *self.measured("record", "record"), 1.5)
        self.taken["status"] = experiment.best(5, "status")[0]
        # The history is ten times as long by now; the suite, which status shows, is no longer empty.
        self.figures.add(f"status, {scale}, to a short one", 1000 * self.taken["status"], "ms", 1000 * short, 1.5)
        add("verify", *self.measured("verify", "verify"), 12)

    def grown_from(self, tenth):
        """Cost grows with the work: no more than ten times a tenth of it."""
        for name, cpu in self.taken.items():
            self.figures.add(f"{name}, to 10 x that of a tenth", cpu, "CPU-s", 10 * tenth.taken[name], 1.5)


def guard(figures, directory, files):
    experiment = Experiment(directory / f"guard-{files}", 4)
    written = []
    for number in range(files):
        path = experiment.root / f"data/{number % 100}/file-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n" * 100)
        written.append(path)
    experiment.git("add", "-A")
    experiment.git("commit", "-qm", "files")
    experiment.run("prepare")
    (experiment.root / "data/0/extra.txt").write_text("not committed\n")
    cpu, _ = experiment.best(3, "gate", expect=1)
    floor = cpu_of(lambda: [hashlib.sha1(read_once(path)).digest() for path in written])
    figures.add(f"gate refused by the file guard, {files:,} files", cpu, "CPU-s", floor, 5)


def read_once(path):
    """A file's bytes with as few calls as it takes."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, os.fstat(file).st_size)
    finally:
        os.close(file)


@contextlib.contextmanager
def measured(name, quick):
    """What a bench's command line asks for: a tenth of it or all, its figures, and a directory that goes afterwards. Then ends the
    program with the status that the figures are worth."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--keep", help="work in this directory and leave it")
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    if not arguments.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    figures = Figures()
    directory = pathlib.Path(arguments.keep or tempfile.mkdtemp(prefix=f"autoharness-{name}-"))
    directory.mkdir(exist_ok=True)
    try:
        yield 10 if arguments.quick else 1, figures, directory
    finally:
        if not arguments.keep:
            shutil.rmtree(directory)
    sys.exit(1 if figures.missed else 0)


def main():
    with measured("speed", "a tenth of everything, to try the script") as (part, figures, directory):
        figures.add("size of the release binary", BINARY.stat().st_size / 1e6, "MB", 12, 1)
        small(figures, directory)
        tenth = Large(figures, directory, 2_000 // part, 20_000 // part)
        tenth.run(limits=False)
        whole = Large(figures, directory, 20_000 // part, 200_000 // part)
        whole.run(limits=True)
        whole.grown_from(tenth)
        guard(figures, directory, 50_000 // part)


if __name__ == "__main__":
    main()
