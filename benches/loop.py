#!/usr/bin/env python3
"""What the loop costs: its own share of an iteration on the demo, and a work tree for a repository of 20,000 files.

    python3 benches/loop.py [--binary FILE] [--runs 3] [--files 20000]

The share is processor time of everything that the loop starts, git included, without that of the benchmark and the coding agent:
both run through a shell that writes down what they took. The work tree is time on the clock, as the log says it: the first one
beside what writing the same files takes there, because a slow disk is not the loop's, and the one of the next iteration. The fence
is off; benches/fence.py measures it. Each is the smallest of several measurements. Exit status 1 when the share is more than 0.3 s,
the first work tree takes more than a second and more than twice the plain writing, or the next one more than a second.
"""

import argparse
import os
import pathlib
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/autoharness"
SESSION = ROOT / "src/benchmarks/demo/session"
MOST_SHARE_S, MOST_TREE_S, MOST_TREE_RATIO = 0.3, 1.0, 2.0
PROPOSAL = """---
hypothesis: notations are read too narrowly
failure_pattern: other notations
predicted_fixes: []
surface: tool
---

Reads more of them.
"""


def quiet(command, **how):
    done = subprocess.run(command, capture_output=True, text=True, **how)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Bed:
    """An experiment with a scripted coding agent, and a `python3` that writes down what it took."""

    def __init__(self, binary, directory, files=0):
        self.binary, self.root = binary, pathlib.Path(directory, "experiment")
        tools = pathlib.Path(directory, "tools")
        tools.mkdir()
        self.times = tools / "times"
        shim = tools / "python3"
        # `times` tells the shell's own time and its children's, in minutes and seconds.
        shim.write_text(f"#!/bin/sh\n{shlex.quote(sys.executable)} \"$@\"\ncode=$?\ntimes >>{shlex.quote(str(self.times))}\nexit $code\n")
        shim.chmod(0o755)
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        self.inside = {"env": {**os.environ, "HOME": directory, "PATH": path}, "stdin": subprocess.DEVNULL}
        self.inside["env"].pop("XDG_CACHE_HOME", None)
        edits = [SESSION / "01_dates_amounts.diff", SESSION / "02_rewrite_breaks_suite.diff"]
        agent = tools / "propose.py"
        agent.write_text(
            "import pathlib, subprocess\n"
            f"count = pathlib.Path({str(tools / 'count')!r})\n"
            "done = int(count.read_text()) if count.exists() else 0\n"
            "count.write_text(str(done + 1))\n"
            f"subprocess.run(['git', 'apply', '--whitespace=nowarn', {[str(edit) for edit in edits]!r}[done % 2]], check=True)\n"
            f"pathlib.Path('proposal.md').write_text({PROPOSAL!r})\n"
        )
        quiet([binary, "init", self.root, "--benchmark", "demo"], **self.inside)
        for number in range(files):
            file = self.root / f"package{number // 200:03}" / f"part{number // 20 % 10}" / f"file{number:05}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text(number))
        if files:
            quiet(["git", "add", "."], cwd=self.root, **self.inside)
            quiet(["git", "commit", "-qm", "many files"], cwd=self.root, **self.inside)
        config = self.root / "experiment_config.yaml"
        coding_agents = f"coding_agents: {{fake: {{command: [{shim}, {agent}]}}}}"
        config.write_text(f"{config.read_text()}\nfence: off\n{coding_agents}\n")
        quiet([binary, "prepare"], cwd=self.root, **self.inside)

    def loop(self, iterations):
        """Processor seconds of all, and of what is not ours."""
        self.times.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = quiet([self.binary, "loop", "--with", "fake", "--iterations", str(iterations)], cwd=self.root, **self.inside)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert said.count("\niteration ") + said.startswith("iteration ") == iterations, said
        theirs = sum(60 * int(m) + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", self.times.read_text()))
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, theirs

    def tree_seconds(self):
        """How long each work tree took to make, by the log."""
        log = (self.root / ".git/autoharness/autoharness.log").read_text()
        return [float(seconds) for seconds in re.findall(r"work tree made files=\d+ seconds=([\d.]+)", log)]


def text(number):
    return f"# file {number}\n" + "value = 1\n" * (number % 300)


def plain(directory, files):
    """Seconds to write the same files."""
    began = time.perf_counter()
    made = set()
    for number in range(files):
        place = f"{directory}/plain/package{number // 200:03}/part{number // 20 % 10}"
        if place not in made:
            os.makedirs(place)
            made.add(place)
        with open(f"{place}/file{number:05}.py", "w", encoding="utf-8") as file:
            file.write(text(number))
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=20000)
    arguments = parser.parse_args()
    binary = arguments.binary.resolve()
    shares = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as directory:
            both, theirs = Bed(binary, directory).loop(2)
            shares.append(((both - theirs) / 2, theirs / 2))
    share, theirs = min(shares)
    trees, later, writes = [], [], []
    for _ in range(arguments.runs if arguments.files else 0):
        with tempfile.TemporaryDirectory() as directory:
            bed = Bed(binary, directory, arguments.files)
            writes.append(plain(directory, arguments.files))
            bed.loop(2)
            seconds = bed.tree_seconds()
            trees.append(seconds[0])
            later.extend(seconds[1:])
    print(f"iteration on the demo: {share:.3f} processor s of ours, beside {theirs:.2f} of benchmark and coding agent")
    bad = share > MOST_SHARE_S
    if trees:
        tree, write = min(trees), min(writes)
        print(f"work tree of {arguments.files} files: {tree:.2f} s, {tree / write:.2f} times writing them ({write:.2f} s)")
        print(f"the next one, of what the first has left: {min(later):.2f} s")
        bad = bad or (tree > MOST_TREE_S and tree / write > MOST_TREE_RATIO) or min(later) > MOST_TREE_S
    return int(bad)


sys.exit(main())
