#!/usr/bin/env python3
"""Stands in for the docker program. Its memory is the directory that it lies in:

calls       what it was asked, one line each
<NAME>      the state of the container of that name, such as `running`
refuses     a JSON object {words of a command: [exit status, what it says on stderr]}
"""

import json
import os
import sys

HOME = os.path.dirname(os.path.abspath(__file__))
NAMES = {"postgresql": "bird_interact_postgresql", "postgresql_full": "bird_interact_postgresql_full"}


def main():
    words = sys.argv[1:]
    with open(os.path.join(HOME, "calls"), "a", encoding="utf-8") as file:
        file.write(" ".join(words) + "\n")
    refuses = os.path.join(HOME, "refuses")
    if os.path.exists(refuses):
        with open(refuses, encoding="utf-8") as file:
            for start, (status, text) in json.load(file).items():
                if all(word in words for word in start.split()):
                    print(text, file=sys.stderr)
                    return status
    if words[0] == "inspect":
        state = os.path.join(HOME, words[-1])
        if not os.path.exists(state):
            print(f"\nError response from daemon: No such container: {words[-1]}", file=sys.stderr)
            return 1
        with open(state, encoding="utf-8") as file:
            print(file.read().strip())
        return 0
    if words[:2] == ["compose", "version"]:
        print("Docker Compose version v2.39.1")
        return 0
    if words[0] == "compose" and words[-3:-1] == ["up", "-d"] and os.path.isfile(words[words.index("-f") + 1]):
        if words[-1] == "postgresql_full" and words[3:5] != ["--profile", "full"]:
            return 1
        state = os.path.join(HOME, NAMES[words[-1]])
        with open(state + ".new", "w", encoding="utf-8") as file:
            file.write("running")
        os.replace(state + ".new", state)
        return 0
    if words[0] == "logs":
        print("FATAL: could not write: No space left on device", file=sys.stderr)
        return 0
    print(f"unknown command {words}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
