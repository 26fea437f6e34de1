#!/usr/bin/env python3
"""Writes the whole book into docs/llms.txt, in reading order, for `autoharness docs` and for anybody's model.

    docs/llms.py            write it
    docs/llms.py --check    fail when it is not what lies there
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
# src/commands/docs.rs splits the file at lines that begin so.
PAGE = "==== docs/src/"


def book():
    config = (HERE / "book.toml").read_text(encoding="utf-8")
    title, description = (re.search(rf'^{key} = "(.*)"$', config, re.M)[1] for key in ("title", "description"))
    yield f"# {title}\n\n> {description}\n"
    yield f"The whole documentation in reading order. `{PAGE}...` begins a page; `autoharness docs PAGE` prints one.\n"
    for path in re.findall(r"\]\(([^)]+\.md)\)", (HERE / "src/SUMMARY.md").read_text(encoding="utf-8")):
        text = (HERE / "src" / path).read_text(encoding="utf-8")
        if PAGE in text:
            sys.exit(f"{path} has a line that would begin a page: {PAGE}")
        yield f"{PAGE}{path}\n\n{text}"


def main():
    target, text = HERE / "llms.txt", "\n".join(book())
    if sys.argv[1:] == ["--check"]:
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            sys.exit("docs/llms.txt is not what the pages say: run docs/llms.py and commit it")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        target.write_text(text, encoding="utf-8")


main()
