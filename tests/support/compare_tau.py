#!/usr/bin/env python3
"""Compares the rewards and the speed of tau-bench through autoharness with tau2's own run_domain.

    python3 tests/support/compare_tau.py --python VENV/bin/python --data DATA --autoharness target/release/autoharness \\
        --domain retail [--split test] [--concurrency 3 10] [--rounds 1] [--latency 0] [--limit N] [--no-faults]

VENV has tau2 installed, DATA is its data directory (with tau2/domains in it). Both sides run the template of this
repository against the same scripted model on the loopback, which knows every task's expected actions: most tasks it
solves, some it spoils. No network, no keys; Linux only, for the figures. Exit status 0 when every reward agrees or differs
for a reason that is listed in `explained`, 1 otherwise, 2 when a side did not run.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.dont_write_bytecode = True
from tau_script import FAULTS, PLANS, make_script  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "agent", "templates", "tau_bench.py")
MODEL, JUDGE = "openai/scripted", "gpt-4.1-2025-04-14"
SAMPLE_S = 0.2

# ---------------------------------------------------------------------------------------------------------- both sides


def upstream():
    """Runs in the environment that has tau2: run_domain with the template; writes what came of each task."""
    settings = json.loads(sys.stdin.readline())
    import importlib.util

    from tau2.data_model.simulation import TextRunConfig
    from tau2.registry import registry
    from tau2.run import run_domain

    specification = importlib.util.spec_from_file_location("compared_agent", TEMPLATE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)

    def factory(tools, domain_policy, llm=None, llm_args=None, **_):
        return module.HarnessAgent(tools=tools, domain_policy=domain_policy, llm=llm, llm_args=llm_args)

    registry.register_agent_factory(factory, "compared")
    results = run_domain(TextRunConfig(
        domain=settings["domain"], task_split_name=settings["split"], agent="compared", llm_agent=MODEL, llm_user=MODEL,
        max_concurrency=settings["concurrency"], save_to=settings["name"], log_level="CRITICAL",
    ))
    said = {}
    for one in results.simulations:
        info = one.info or {}
        reward = one.reward_info.reward if one.reward_info else None
        said[one.task_id] = (reward, str(getattr(one.termination_reason, "value", "")), str(info.get("error", ""))[:300])
    with open(settings["out"], "w", encoding="utf-8") as file:
        json.dump(said, file)


def memory(root):
    """PSS of a process and all below it, in MB."""
    below, total = {}, 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                below.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(entry))
        except OSError:
            pass  # It ended meanwhile.
    tree = [root]
    for process in tree:
        tree += below.get(process, [])
        try:
            with open(f"/proc/{process}/smaps_rollup", encoding="utf-8") as file:
                total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return total / 1024


class Bench:
    """A temporary directory with tau2's data, the tasks marked, and an experiment."""

    def __init__(self, options, plans):
        self.options, self.place = options, tempfile.mkdtemp(prefix="compare-tau-")
        self.data, self.count = os.path.join(self.place, "data"), 0
        domain = os.path.join("tau2", "domains", options.domain)
        skipped = shutil.ignore_patterns("*_voice.json", "audio_*", "tasks_full.json", "tasks_small.json")
        shutil.copytree(os.path.join(options.data, domain), os.path.join(self.data, domain), ignore=skipped)
        shutil.copytree(os.path.join(options.data, "tau2/user_simulator"), os.path.join(self.data, "tau2/user_simulator"))
        self.script = make_script(self.mark(os.path.join(self.data, domain)), plans)
        given = json.dumps({"script": self.script, "latency": options.latency}) + "\n"
        self.model = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "tau_script.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.model.stdin.write(given)
        self.model.stdin.close()
        self.address = f"http://127.0.0.1:{int(self.model.stdout.readline())}/v1"
        self.keys = {"OPENAI_API_KEY": "scripted", "OPENAI_API_BASE": self.address}

    def mark(self, domain):
        """Gives each chosen task's customer its number, as tasks may share a scenario. Returns the tasks."""
        options = self.options
        tasks, splits = (read_json(os.path.join(domain, name)) for name in ("tasks.json", "split_tasks.json"))
        wanted = splits[options.split][: options.limit]
        by_id = {task["id"]: task for task in tasks}
        for number, name in enumerate(wanted):
            scenario = by_id[name]["user_scenario"]
            scenario["persona"] = f"{scenario.get('persona') or ''} [case {number}]"
        if options.split == "test":
            # `prepare` measures a baseline; one train task is enough of that.
            spare = splits["train"][:1]
            splits = {"train": spare, "test": wanted, "base": spare + wanted}
            scenario = by_id[spare[0]]["user_scenario"]
            scenario["persona"] = f"[case {len(wanted)}]"
            wanted = wanted + spare
        write_json(os.path.join(domain, "tasks.json"), tasks)
        write_json(os.path.join(domain, "split_tasks.json"), splits)
        self.wanted = wanted[: len(wanted) - (options.split == "test")]
        return [by_id[name] for name in wanted]

    def close(self):
        self.model.kill()
        self.model.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def calls_at_once(self):
        """The most model calls in flight since it was asked last."""
        with urllib.request.urlopen(self.address) as answer:
            return json.load(answer)

    def measured(self, command, given=""):
        """Runs a program; returns wall seconds, CPU seconds, peak memory in MB, of it and all below it, and the most model
        calls in flight."""
        self.calls_at_once()
        home = os.path.join(self.place, "home")
        os.makedirs(home, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"], "HOME": home, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "AGENT_MODEL": MODEL,
            "TAU2_DATA_DIR": self.data, "LOGURU_LEVEL": "CRITICAL", **self.keys,
            **{f"GIT_{who}_{what}": "compare@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        log, peak, begun = os.path.join(self.place, "log"), 0.0, time.monotonic()
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, text=True,
                start_new_session=True,  # Linux shares a busy machine out among sessions.
            )
            process.stdin.write(given)
            process.stdin.close()
            ended = threading.Event()
            used = []
            waiter = threading.Thread(target=lambda: (used.extend(os.wait4(process.pid, 0)), ended.set()))
            waiter.start()
            try:
                while not ended.wait(SAMPLE_S):
                    peak = max(peak, memory(process.pid))
            except BaseException:
                if not ended.is_set():
                    os.kill(process.pid, signal.SIGTERM)  # Both end what they started.
                raise
            finally:
                waiter.join()
        wall, process.returncode = time.monotonic() - begun, os.waitstatus_to_exitcode(used[1])
        if process.returncode:
            with open(log, encoding="utf-8", errors="replace") as file:
                tail = "".join(file.readlines()[-30:])
            print(f"{' '.join(command)}: exit {process.returncode}\n{tail}", file=sys.stderr)
            raise SystemExit(2)
        return wall, used[2].ru_utime + used[2].ru_stime, peak, self.calls_at_once()

    def run_upstream(self, concurrency):
        """run_domain over the split: (reward, reason, error) by task, and the figures."""
        self.count += 1
        out = os.path.join(self.place, "upstream.json")
        settings = {
            "domain": self.options.domain, "split": self.options.split, "concurrency": concurrency,
            "name": f"compared-{self.count}", "out": out,
        }
        figures = self.measured([self.options.python, "-B", __file__, "--upstream"], json.dumps(settings) + "\n")
        return read_json(out), figures

    def run_ours(self, concurrency, timed=True):
        """The same tasks through the binary: (reward, outcome, error) by task, and the figures. A run that is not timed is
        the one that `prepare` makes anyway."""
        options, root = self.options, os.path.join(self.place, "experiment")
        harness, figures = [options.autoharness, "-C", root], None
        ledger = os.path.join(root, ".git", "autoharness", "ledger.jsonl")
        if options.split == "base":
            shutil.rmtree(root, ignore_errors=True)  # `prepare` alone runs a domain without splits as a whole, and once.
        if not os.path.isdir(root):
            self.measured([options.autoharness, "init", root, "--benchmark", "tau-bench"])
            with open(os.path.join(root, "experiment_config.yaml"), "w", encoding="utf-8") as file:
                file.write(
                    f"benchmark: tau-bench\ndomain: {options.domain}\nagent_model: {MODEL}\njudge_model: {JUDGE}\n"
                    f"tau2_python: {options.python}\ntau2_data_dir: {self.data}\nper_task_timeout: 600\n"
                    f"infra_retries: 0\nmin_evidence: 0.1\nmax_concurrency: {concurrency}\n"
                )
            figures = self.measured([*harness, "prepare"])
        known = 0
        if options.split == "test" and timed:
            known = len(lines(ledger))
            work = ["benchmark", "--split", "test", "--fresh", "--concurrency", str(concurrency)]
            figures = self.measured([*harness, *work])
        events = [json.loads(line)["event"] for line in lines(ledger)[known:]]
        trials = {event["trial"]["task"]: event["trial"] for event in events if "trial" in event}
        return {name: (one["reward"], one["outcome"], one.get("error")) for name, one in trials.items()}, figures


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.readlines()


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)


# ---------------------------------------------------------------------------------------------------------- comparison


def explained(theirs, ours):
    """Why two different rewards are both right; None when they are not. run_domain gives no reward whenever anything
    raises, and so makes the agent's own failures vanish from the mean."""
    (reward, reason, error), (mine, outcome, _) = theirs, ours
    if reward is not None or reason != "infrastructure_error":
        return None
    if "Unknown tool" in error and outcome in ("passed", "failed"):
        return "this revision cannot replay a call of an unknown tool; ours leaves it out, as newer ones do"
    if mine == 0.0 and outcome == "agent_error":
        for sign, why in (
            ("Expecting value", "the model's arguments are no JSON: the agent's failure"),
            ("must have either content or tool_calls", "an empty message is the agent's failure"),
            ("not found", "an assertion about what the agent never made"),
        ):
            if sign in error:
                return why
    return None


def compare(bench, theirs, ours):
    """Prints the differences; returns how many are not explained."""
    wrong, reasons, passed = 0, {}, [0, 0]
    for number, name in enumerate(bench.wanted):
        first, second = (tuple(side.get(name, (None, "missing", ""))) for side in (theirs, ours))
        passed = [passed[0] + (first[0] == 1.0), passed[1] + (second[0] == 1.0)]
        if first[0] == second[0] and "missing" not in (first[1], second[1]):
            continue
        why = explained(first, second)
        wrong += why is None
        reasons.setdefault(why or "NOT EXPLAINED", []).append(number)
        plan = bench.script[str(number)]["plan"]
        print(f"  case {number} ({plan}) {name[:50]}: run_domain {first}, autoharness {second}: {why or 'NOT EXPLAINED'}")
    print(f"  {len(bench.wanted)} tasks; passed: run_domain {passed[0]}, autoharness {passed[1]}; differences: "
          + (", ".join(f"{len(cases)} {why}" for why, cases in reasons.items()) or "none"))
    return wrong


def main():
    if sys.argv[1:2] == ["--upstream"]:
        return upstream()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--python", "--data", "--autoharness", "--domain"):
        parser.add_argument(name, required=True, type=str if name == "--domain" else os.path.abspath)
    parser.add_argument("--split", default="test", choices=("test", "base"), help="base for mock, which has no other")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[3, 10])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each model call takes")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--no-faults", action="store_true", help="leave the run with failing agents and users out")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wrong = 0
    for plans in (() if options.no_faults else (FAULTS,)) + ((PLANS,) if options.concurrency else ()):
        bench = Bench(options, plans)
        try:
            wrong += faulty(bench) if plans is FAULTS else timed(bench, options)
        finally:
            bench.close()
    return 1 if wrong else 0


def faulty(bench):
    print(f"{bench.options.domain} {bench.options.split}, with faults")
    return compare(bench, bench.run_upstream(10)[0], bench.run_ours(10, timed=False)[0])


def timed(bench, options):
    """Runs both sides in turn; the figures are those of the quickest round."""
    wrong, peaks = 0, {}
    print(f"{options.domain} {options.split}, {options.latency:g} s a model call")
    for concurrency in options.concurrency:
        best = {}
        for _ in range(options.rounds):
            theirs, first = bench.run_upstream(concurrency)
            ours, second = bench.run_ours(concurrency)
            wrong += compare(bench, theirs, ours)
            for side, figures in (("run_domain", first), ("autoharness", second)):
                best[side] = min(best.get(side, figures), figures)
        for side, (wall, cpu, peak, calls) in best.items():
            peaks.setdefault(side, []).append((concurrency, peak))
            print(f"  {side:11}  concurrency {concurrency:3}  wall {wall:6.1f} s  CPU {cpu:6.1f} s  peak {peak:6.0f} MB"
                  f"  calls in flight {calls}")
    for side, seen in peaks.items():
        (low, least), (high, most) = seen[0], seen[-1]
        if high > low:
            print(f"  {side:11}  memory per trial in flight {(most - least) / (high - low):.0f} MB")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
