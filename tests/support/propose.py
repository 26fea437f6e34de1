"""A coding agent for tests: what each of its sessions does is written in a file.

propose.py PLACE: `PLACE/plan.json` has an object a session, in order; the last one is used again and again. What a session was told
and saw goes into `PLACE/sessions.jsonl`. An object:
  skills: what the agent file is to say; leave it out to edit nothing
  files: {path: text} to write beside
  proposal: text of proposal.md, null for none; left out: a good one
  usage: what it used; stdout, stderr: what it says; exit: its exit status
  reads: {name: path} to try to read; `PLACE/read.json` says of each whether it could
  first: commands of the shell to run before anything else
  links: {path: target}: directories to put links in place of
  runs: commands to run then in the work tree, each a list of words; `PLACE/ran.json` has what each said
  hold: wait until the file `PLACE/release` is there; `PLACE/held` says that it waits. "first": before anything is written
  hang: never end, and leave a process in a session of its own
"""

import json
import os
import subprocess
import sys
import time

GOOD = """---
hypothesis: the agent lacks skills that train asks for
failure_pattern: whole families fail
predicted_fixes: [hard-1, odd-1]
risk_tasks: [easy-2]
surface: tool
---

Gave it more skills.
"""


def main():
    place = sys.argv[1]
    told = sys.stdin.read()
    log = os.path.join(place, "sessions.jsonl")
    count = 0
    if os.path.exists(log):
        with open(log, encoding="utf-8") as file:
            count = len(file.readlines())
    workspace = sorted(os.listdir("workspace")) if os.path.isdir("workspace") else None
    with open("PROGRAM.md", encoding="utf-8") as file:
        program = file.read()
    with open(log, "a", encoding="utf-8") as file:
        passed = trained()
        seen = {"passed": passed, "told": told, "cwd": os.getcwd(), "env": dict(os.environ), "workspace": workspace, "program": program}
        file.write(json.dumps(seen) + "\n")
    with open(os.path.join(place, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    act = plan[min(count, len(plan) - 1)]
    if act.get("hold") == "first":
        hold(place)
    for line in act.get("first", []):
        subprocess.run(["sh", "-c", line], check=False)
    if "skills" in act:
        write("agent/agent.py", "SKILLS = {" + ", ".join(map(repr, sorted(act["skills"]))) + "}\n")
    for path, text in act.get("files", {}).items():
        write(path, text)
    proposal = act.get("proposal", GOOD)
    if proposal is not None:
        write("proposal.md", proposal)
    if "usage" in act:
        write("usage.jsonl", json.dumps(act["usage"]) + "\n")
    sys.stdout.write(act.get("stdout", ""))
    sys.stdout.flush()
    sys.stderr.write(act.get("stderr", ""))
    if "reads" in act:
        write(os.path.join(place, "read.json"), json.dumps({name: readable(path) for name, path in act["reads"].items()}))
    for path, target in act.get("links", {}).items():
        subprocess.run(["rm", "-rf", path], check=True)
        os.symlink(target, path)
    said = []
    for words in act.get("runs", []):
        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        said.append({"code": ran.returncode, "stdout": ran.stdout, "stderr": ran.stderr})
        write(os.path.join(place, "ran.json"), json.dumps(said))
    if act.get("hang"):
        subprocess.Popen(["sleep", "3600"], start_new_session=True, stdout=subprocess.DEVNULL)
        time.sleep(3600)
    if act.get("hold"):
        hold(place)
    return act.get("exit", 0)


def hold(place):
    write(os.path.join(place, "held"), "")
    while not os.path.exists(os.path.join(place, "release")):
        time.sleep(0.005)


def trained():
    try:
        with open("workspace/train_results.json", encoding="utf-8") as results:
            return [task for task, reward in json.load(results)["results"].items() if reward == 1.0]
    except OSError:
        return None


def readable(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def write(path, text):
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


sys.exit(main())
