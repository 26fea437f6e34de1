#!/usr/bin/env python3
"""Plays `autoharness demo` and draws what it prints as docs/demo.svg, the picture in README.md.

    pip install rich && docs/picture.py target/release/autoharness

The words are the program's own; the colours, and the choice of lines, are this script's. A test compares the words with
those that the demo prints, but for commits and times, which differ in every run.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

WIDTH = 112
# Edits that are shown: one that passes, one that breaks what worked, one that memorises answers.
SHOWN = (1, 2, 3)
STYLES = {
    r"^\$ .*": "bold",
    r"^--- .*": "bold cyan",
    r"\bpassed(?= )": "green",
    r"\bfailed\b": "red",
    r"\bskipped\b": "dim",
    r"val_score[= ][\d.]+": "yellow",
}


def played(program):
    """The demo's output and that of `verify`, a list of lines."""
    with tempfile.TemporaryDirectory() as directory:

        def run(*words):
            return subprocess.run([program, "-q", *words], check=True, stdout=subprocess.PIPE, text=True).stdout

        text = run("demo", f"{directory}/demo") + "\n$ autoharness verify\n" + run("-C", f"{directory}/demo", "verify")
        return text.replace(f"{directory}/demo", "demo").splitlines()


def chosen(lines):
    """The edits shown, without their benchmark runs; then status and verify."""
    kept, edit, command = ["$ autoharness demo", ""], 0, ""
    for line in lines:
        if line.startswith("--- edit "):
            edit, command = int(line.split()[2]), ""
        if line.startswith("$ "):
            command = line.removeprefix("$ autoharness ")
        # What the demo says after `status` is for whoever ran it.
        ending = command in ("status", "verify") and not re.match(r"\d+ of \d+|[A-Z`]|  Read", line)
        if ending or (edit in SHOWN and command not in ("benchmark", "status", "verify")):
            kept.append(line)
        elif edit == max(SHOWN) + 1 and line.startswith("--- "):
            kept += ["(edits 4 and 5)", ""]
    return "\n".join(kept).strip().replace("\n\n\n", "\n\n").splitlines()


def main():
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w", encoding="utf-8"), legacy_windows=False)
    for line in chosen(played(sys.argv[1])):
        indented = line.startswith("    ")
        for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ") if indented else [line]:
            text = Text(part)
            for pattern, style in STYLES.items():
                text.highlight_regex(pattern, style)
            text.truncate(WIDTH, overflow="ellipsis")
            console.print(text)
    # Pictures may not load fonts from elsewhere; the reader's own monospace does.
    form = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.S)
    form = form.replace("Fira Code, monospace", "monospace")
    svg = console.export_svg(title="autoharness demo", code_format=form)
    pathlib.Path(__file__).with_name("demo.svg").write_text(svg + "\n", encoding="utf-8")


main()
