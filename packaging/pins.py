#!/usr/bin/env python3
"""Renews the hashes in a requirements.txt that the program embeds: after a change of a version, and for another Python.

    packaging/pins.py FILE PYTHONS      packaging/pins.py src/benchmarks/tau_bench/helper/requirements.txt '>=3.12,<3.13'

Needs uv, PyPI and one of these Pythons. A package has the hashes of its source and of what can be installed where the program
runs, by uv's own choice: Linux and macOS, on x86-64 and ARM. Those of every system and Python would be four times as many.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

SYSTEMS = [(system, machine) for system, arm in (("linux", "aarch64"), ("darwin", "arm64")) for machine in ("x86_64", arm)]
PIN = re.compile(r"^([\w.-]+)(\[[\w,]+\])?==([^ ;\\]+)", re.M)


def main(file, pythons):
    old = pathlib.Path(file).read_text(encoding="utf-8")
    pins = list(PIN.finditer(old))
    environments = [f"sys_platform == '{system}' and platform_machine == '{machine}'" for system, machine in SYSTEMS]
    with tempfile.TemporaryDirectory() as directory:
        # What the packages ask of each other is overridden: the file is complete as it stands, and was tested so.
        pathlib.Path(directory, "pyproject.toml").write_text(
            f'[project]\nname = "pins"\nversion = "0"\nrequires-python = "{pythons}"\ndependencies = {[pin[0] for pin in pins]}\n'
            f"[tool.uv]\nenvironments = {environments}\noverride-dependencies = {[f'{pin[1]}=={pin[3]}' for pin in pins]}\n",
            encoding="utf-8",
        )
        uv = ["uv", "--quiet", "--directory", directory]
        subprocess.run([*uv, "lock"], check=True)
        export = ["export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate"]
        locked = subprocess.run([*uv, *export], check=True, capture_output=True, text=True).stdout
    hashes = {}
    for pin, following in zip(PIN.finditer(locked), PIN.split(locked)[4::4]):
        hashes[pin[1].lower(), pin[3]] = re.findall(r"--hash=\S+", following)
    comments = "".join(line for line in old.splitlines(True) if line.startswith("#"))
    lines = (" \\\n    ".join([pin[0], *hashes[pin[1].lower(), pin[3]]]) + "\n" for pin in pins)
    pathlib.Path(file).write_text(comments + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
