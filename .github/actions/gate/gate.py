"""The steps of the action: `place`, `judge`, `comment`, `conclude`. Everything comes in the environment."""
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

VERDICTS = {0: "passed", 1: "failed", 3: "undecided"}
# GitHub refuses a comment of more than 65,536 characters.
LONGEST = 60_000
PAGE = 100
SECONDS = 30


def main():
    steps = {"place": place, "judge": judge, "comment": comment, "conclude": conclude}
    return steps[sys.argv[1]]()


def given(name, default=""):
    return os.environ.get(name) or default


def output(**values):
    """Hands values to the steps that follow. A line break in one would begin another."""
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file:
        for name, value in values.items():
            file.write(f"{name.replace('_', '-')}={' '.join(str(value).split())}\n")


def say(level, text):
    """A line that the runner shows beside the job."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{level}::{text}", flush=True)


def place():
    """Where state and reports go: outside the checkout, in which a new file would be somebody's edit."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", given("NAME", "autoharness"))
    home = os.path.join(os.environ["RUNNER_TEMP"], f"autoharness-{name}")
    os.makedirs(home, exist_ok=True)
    output(
        state=os.path.join(home, "state"),
        junit=os.path.join(home, "gate.xml"),
        summary=os.path.join(home, "gate.md"),
        cache=f"autoharness-gate-{name}",
    )


def judge():
    """Runs the gate. Its exit code is an output: state is saved and the comment written before the job fails by it."""
    base = given("BASE") or "origin/" + (given("GITHUB_BASE_REF") or given("GITHUB_REF_NAME", "main"))
    summary = os.environ["SUMMARY"]
    # Of an earlier attempt on the same machine.
    for path in (summary, os.environ["JUNIT"]):
        if os.path.exists(path):
            os.remove(path)
    command = [given("PROGRAM", "autoharness"), "-C", given("DIRECTORY", ".")]
    if given("CONFIG"):
        command += ["--config", given("CONFIG")]
    command += ["gate", f"--base={base}", f"--junit={os.environ['JUNIT']}", f"--summary={summary}"]
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        say("error", f"cannot run {command[0]}: {error.strerror}; install autoharness in a step before this one")
        code = 2
    # Ended by a signal, as a shell counts it.
    code = 128 - code if code < 0 else code
    verdict = VERDICTS.get(code, "error")
    output(verdict=verdict, exit_code=code)
    if given("GITHUB_STEP_SUMMARY"):
        with open(os.environ["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as file:
            file.write(told(summary, verdict) + "\n")


def told(summary, verdict):
    """What the gate wrote; of one that broke off before it wrote anything, that."""
    try:
        with open(summary, encoding="utf-8") as file:
            text = file.read().strip()
    except OSError:
        text = ""
    return text or f"## autoharness gate: {verdict}\n\nThe gate wrote nothing; the job's log has more."


def comment():
    """Writes the verdict on the pull request, over the comment of before. What it cannot write decides nothing."""
    number, repository = os.environ["PULL_REQUEST"], os.environ["GITHUB_REPOSITORY"]
    marker = f"<!-- autoharness gate: {re.sub(r'[^A-Za-z0-9._-]', '-', given('NAME', 'autoharness'))} -->"
    text = told(os.environ["SUMMARY"], given("VERDICT", "error"))
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit("\n", 1)[0] + "\n\n… the rest is in the job's summary."
    run = f"{given('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/actions/runs/{given('GITHUB_RUN_ID')}"
    again = " Nothing was decided: run the job again; finished trials are kept." if given("VERDICT") == "undecided" else ""
    body = f"{marker}\n{text}\n\ncommit {given('COMMIT')[:12]}, [the job]({run}).{again}\n"
    try:
        comments = f"/repos/{repository}/issues/{int(number)}/comments"
        earlier = earlier_comment(comments, marker)
        if earlier is None:
            call("POST", comments, {"body": body})
        else:
            call("PATCH", f"/repos/{repository}/issues/comments/{earlier}", {"body": body})
    except urllib.error.HTTPError as error:
        hint = ""
        if error.code in (401, 403, 404):
            hint = "; the job needs the permission `pull-requests: write`, which a fork's pull request does not get"
        say("warning", f"the verdict was not commented: GitHub answered {error.code}{hint}")
    except (OSError, ValueError) as error:
        say("warning", f"the verdict was not commented: {error}")


def earlier_comment(comments, marker):
    """The id of our comment, if there is one. A comment of anybody else with the same mark is not ours."""
    page = 1
    while True:
        found = call("GET", f"{comments}?per_page={PAGE}&page={page}")
        for one in found:
            if (one.get("user") or {}).get("login") == os.environ["AUTHOR"] and (one.get("body") or "").startswith(marker):
                return int(one["id"])
        if len(found) < PAGE:
            return None
        page += 1


def call(method, path, body=None):
    request = urllib.request.Request(
        given("GITHUB_API_URL", "https://api.github.com") + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['TOKEN']}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


def conclude():
    """Ends the job as the gate ended."""
    code = int(given("EXIT_CODE", "2"))
    if code == 3 and given("FAIL_UNDECIDED", "true") != "true":
        say("warning", "nothing was decided; run the job again, finished trials are kept")
        return 0
    return code


sys.exit(main())
