"""Ask the model's provider for one word, to see whether it is in trouble.

    <harbor's python> probe.py MODEL [--attempts N] [--pause S] [--timeout S]

For the moment in which an agent says that the provider failed: the agent's word proves nothing, because its code can
raise what it likes. This program has the same packages, keys and addresses, and nothing of the agent. It asks up to N
times, because a service in trouble answers some requests; the first failure is the answer.

Prints one JSON object: {"trouble": null | "authentication" | "model" | "rate" | "quota" | "network" | "api" | "mcp",
"status": HTTP status or null}. Null: every request was answered, be it with a complaint about the request itself. Nothing
at all: it could not ask.
"""

import argparse
import json
import os
import sys
import time

TOOL = {"type": "function", "function": {
    "name": "done", "description": "Say that you are done.", "parameters": {"type": "object", "properties": {}}}}
BY_STATUS = {401: "authentication", 403: "authentication", 402: "quota", 404: "model", 408: "network", 429: "rate"}


def trouble_of(litellm, error):
    """The kind of trouble that an exception of litellm is; None when the provider works."""
    text, status = str(error).lower(), getattr(error, "status_code", None)
    if "no module named 'mcp'" in text:
        return "mcp"
    if "llm provider not provided" in text:
        return "model"
    if isinstance(error, litellm.BudgetExceededError):
        return "quota"
    if isinstance(error, litellm.Timeout):
        return "network"
    if status == 429 and ("insufficient_quota" in text or "billing" in text):
        return "quota"
    # litellm gives lost connections the status 500.
    if isinstance(error, litellm.APIConnectionError):
        return "network"
    if isinstance(status, int) and status >= 500:
        return "api"
    return BY_STATUS.get(status)


def ask(litellm, options):
    """One request: (trouble, status)."""
    try:
        # With a tool, as agents ask: litellm needs a package more for that.
        litellm.completion(
            model=options.model, messages=[{"role": "user", "content": "Answer with the word OK."}], tools=[TOOL],
            max_tokens=16, drop_params=True, timeout=options.timeout, max_retries=0, num_retries=0)
    except Exception as error:
        return trouble_of(litellm, error), getattr(error, "status_code", None)
    return None, 200


def main():
    parser = argparse.ArgumentParser(description="Ask the model's provider for one word.")
    parser.add_argument("model")
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--pause", type=float, default=3.0)
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    # Libraries print; the answer has stdout to itself.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import litellm

    litellm.suppress_debug_info = True
    trouble, status = None, None
    for attempt in range(options.attempts):
        if attempt:
            time.sleep(options.pause)
        trouble, status = ask(litellm, options)
        # A complaint about the request is the same every time.
        if trouble or status != 200:
            break
    print(json.dumps({"trouble": trouble, "status": status}), file=answer, flush=True)


if __name__ == "__main__":
    sys.exit(main())
