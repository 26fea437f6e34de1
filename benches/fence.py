#!/usr/bin/env python3
"""What the fence costs: processor time to start one program behind it, and the demo's hold-out with it and without.

    python3 benches/fence.py [--binary FILE] [--starts 40] [--runs 5]

A start is processor time; the hold-out is time on the clock, in turns, because what ends behind a fence is waited for by
nobody outside. Both are the smallest of several measurements, so that a busy machine says nearly the same. Exit status 1 when a start costs more than 15 ms beyond the program itself, or the hold-out more than
1.5 times what it costs without a fence.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/autoharness"
MOST_START_S, MOST_RATIO = 0.015, 1.5


def cost(command, times=1, **how):
    """Processor seconds of one of `times` runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times


def start(binary, times):
    """What a start behind the fence costs beyond the program's own."""
    plain = ["/bin/true"]
    fenced = [binary, "__fence", "--", *plain]
    return min(cost(fenced, times) - cost(plain, times) for _ in range(3))


def prepared(binary, mode, directory):
    """The demo, prepared, with this kind of fence; what a command in it is started with."""
    experiment = pathlib.Path(directory) / mode
    subprocess.run([binary, "init", experiment, "--benchmark", "demo"], check=True, capture_output=True)
    config = experiment / "experiment_config.yaml"
    config.write_text(config.read_text() + f"\nfence: {mode}\n")
    inside = {"cwd": experiment, "env": {**os.environ, "HOME": directory}}
    subprocess.run([binary, "prepare"], check=True, capture_output=True, **inside)
    return inside


def holdouts(binary, runs):
    """Seconds of the demo's benchmark on its hold-out, 27 trials: without a fence, and with one."""
    with tempfile.TemporaryDirectory() as directory:
        places = [prepared(binary, mode, directory) for mode in ("off", "auto")]
        best = [float("inf")] * 2
        for _ in range(runs):
            for number, inside in enumerate(places):
                began = time.perf_counter()
                subprocess.run([binary, "benchmark", "--split", "test", "--fresh"], check=True, capture_output=True, **inside)
                best[number] = min(best[number], time.perf_counter() - began)
        return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--binary", default=str(DEFAULT))
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    binary = str(pathlib.Path(options.binary).resolve())
    began = start(binary, options.starts)
    print(f"one start behind the fence: {1000 * began:.1f} ms beyond the program's own (at most {1000 * MOST_START_S:.0f})")
    off, on = holdouts(binary, options.runs)
    print(f"the demo's hold-out: {on:.2f} s with, {off:.2f} s without a fence: {on / off:.2f} times (at most {MOST_RATIO})")
    return int(began > MOST_START_S or on > MOST_RATIO * off)


if __name__ == "__main__":
    sys.exit(main())
