#!/usr/bin/env python3
"""A language model that follows a script, behind the usual chat-completions request on loopback.

    stub.py SCRIPTS PORT_FILE [--until-eof]

SCRIPTS is a JSON file {task id: [step, …]}, read anew for every request. The task is recognised by its question in the
conversation; the step is the number of answers with calls that the conversation holds. A step is {"tool", "args"}, a list of
these (parallel calls), {"text"}, {"status"} (an HTTP error), {"hang": path} (answers once the file at `path` exists, with
the step "then" if it has one; a file `path`.seen says that it has been asked), {"raw"} (a body as it is), {"page"} (text
instead of JSON), or {"cut"} (an answer that breaks off). With --until-eof it ends when its stdin does. Requests without tools come from the user simulator
and follow the script "user". Every request is noted in SCRIPTS.log.
"""

import json
import os
import sys
import threading
import time

sys.path[:0] = [HERE := os.path.dirname(os.path.abspath(__file__)), os.path.dirname(HERE)]
import scripted  # noqa: E402
import tasks  # noqa: E402


def content(message):
    text = message.get("content")
    return text if isinstance(text, str) else json.dumps(text)


def completion(model, step):
    calls = step if isinstance(step, list) else [step] if "tool" in step else []
    text = step.get("text") if isinstance(step, dict) else None
    return scripted.completion(model, text, [(one["tool"], json.dumps(one.get("args", {}))) for one in calls])


class Handler(scripted.Handler):
    def do_POST(self):
        request = self.request_body()
        with open(self.server.scripts, encoding="utf-8") as file:
            scripts = json.load(file)
        messages = request["messages"]
        if request.get("tools"):
            whole = "\n".join(content(message) for message in messages)
            name = next((name for name, task in tasks.BY_ID.items() if task["amb_user_query"] in whole), None)
            # Words put in its place by callbacks are not the model's own answers.
            done = sum(bool(message.get("tool_calls")) for message in messages)
        else:
            name, done = "user", 0
        script = scripts.get(name) or (
            [{"text": "<s>Only paid orders count.</s>"}] if name == "user" else [{"text": "?"}]
        )
        step = script[min(done, len(script) - 1)]
        entry = {
            "task": name,
            "step": done,
            "temperature": request.get("temperature"),
            "reasoning_effort": request.get("reasoning_effort"),
            "tools": [tool["function"]["name"] for tool in request.get("tools") or []],
        }
        scripted.note(self.server.scripts + ".log", entry)
        if isinstance(step, dict) and "hang" in step:
            open(step["hang"] + ".seen", "w").close()
            while not os.path.exists(step["hang"]):
                time.sleep(0.05)
            step = step.get("then", {"text": "Late."})
        status = step.get("status", 200) if isinstance(step, dict) else 200
        if status != 200:
            body = {"error": {"message": f"scripted {status}", "type": "scripted", "code": str(status)}}
        elif isinstance(step, dict) and "raw" in step:
            body = step["raw"]
        else:
            body = completion(request.get("model"), step)
        data = json.dumps(body).encode()
        if isinstance(step, dict) and "page" in step:
            data = step["page"].encode()
        self.answer(status, data, is_cut=isinstance(step, dict) and "cut" in step)


def main():
    server = scripted.serving(Handler)
    server.scripts = sys.argv[1]
    with open(sys.argv[2] + ".tmp", "w", encoding="utf-8") as file:
        file.write(str(server.server_address[1]))
    os.replace(sys.argv[2] + ".tmp", sys.argv[2])
    if "--until-eof" in sys.argv:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        return
    server.serve_forever()


if __name__ == "__main__":
    main()
