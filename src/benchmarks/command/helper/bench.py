"""A complete benchmark in the trial protocol: one JSON request on stdin, one JSON object a line on stdout."""

import importlib.util, json, os, sys, time

# What the agent prints must not end up in the protocol: keep stdout for ourselves, and send everybody else's to stderr.
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

TASKS = {  # task: (split, question, answer)
    "sum": ("train", "17 plus 25", "42"),
    "product": ("train", "6 times 7", "42"),
    "reverse": ("train", "reverse the word stressed", "desserts"),
    "count": ("train", "count the letters of harness", "7"),
    "sum-large": ("test", "1200 plus 34", "1234"),
    "product-large": ("test", "12 times 12", "144"),
    "reverse-short": ("test", "reverse the word loop", "pool"),
}


def say(**event):
    print(json.dumps(event), file=OUT, flush=True)


request = json.load(sys.stdin)
if request["action"] == "list":
    for task, (split, _, _) in TASKS.items():
        say(event="task", task=task, split=split)
    sys.exit()

for task in request["tasks"]:
    _, question, expected = TASKS[task]
    for trial in range(request["trials"]):
        say(event="started", task=task, trial=trial)
        start, answer, failure = time.monotonic(), None, {}
        try:
            spec = importlib.util.spec_from_file_location("agent", request["agent"]["path"])
            agent = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(agent)
            answer = agent.solve(question)
        except (Exception, SystemExit) as error:
            failure = {"outcome": "agent_error", "error": f"{type(error).__name__}: {error}"}
        result = {"reward": 1.0 if answer == expected else 0.0, "seconds": time.monotonic() - start, **failure}
        if request["keep_traces"]:  # false for the hold-out
            result["trace"] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        say(event="trial", task=task, trial=trial, **result)
