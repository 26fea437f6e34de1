#!/usr/bin/env python3
"""A model that follows a script, for compare_tau.py: the agent, the customer and the judge of tau2's tasks.

It knows every task's expected actions and plays agent and customer through them, save where a task's plan is to spoil
something. It keeps no state: what comes next follows from the conversation that it is sent. The customer names the
task's number in every message, as `[case 7]`, and how many steps are done, as `[done 3]`.
"""

import ast
import http.server
import json
import re
import sys
import threading
import time

# What happens in the n-th task. Those of FAULTS make run_domain repeat conversations, so they are never timed.
PLANS = ("gold", "gold", "pairs", "gold", "silent", "gold", "skip", "tool error")
FAULTS = ("gold", "unknown tool", "bad json", "empty", "many errors", "tool error", "silent", "pairs", "skip", "no user")


def make_script(tasks, plans):
    """What the model knows of each task, by case number."""
    script = {}
    for number, task in enumerate(tasks):
        criteria = task.get("evaluation_criteria") or {}
        steps = [
            {"by": step.get("requestor") or "assistant", "name": step["name"], "arguments": step["arguments"]}
            for step in criteria.get("actions") or []
        ]
        plan = plans[number % len(plans)]
        said = [] if plan == "silent" else criteria.get("communicate_info") or []
        script[str(number)] = {"plan": plan, "steps": steps[:-1] if plan == "skip" else steps, "say": said}
    return script


def called(number, name, arguments):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def step_call(steps, at):
    return called(f"g{at}", steps[at]["name"], json.dumps(steps[at]["arguments"]))


def texts(messages, role):
    return [message["content"] for message in messages if message["role"] == role and message.get("content")]


def progress(messages):
    """Which step comes next, and how many calls were wrong on purpose."""
    at = wrong = 0
    for message in messages:
        if message["role"] == "user":
            at = max([at, *map(int, re.findall(r"\[done (\d+)\]", message.get("content") or ""))])
        for call in message.get("tool_calls") or []:
            if call["id"].startswith("g"):
                at = max(at, int(call["id"][1:]) + 1)
            else:
                wrong += 1
    return at, wrong


def agent_turn(script, messages):
    """The agent's next text, or calls."""
    cases = re.findall(r"\[case (\d+)\]", " ".join(texts(messages, "user")))
    if not cases:
        return "What can I do for you?", None
    plan, steps, say = (script[cases[-1]][key] for key in ("plan", "steps", "say"))
    at, wrong = progress(messages)
    if plan == "empty":
        return "", None
    if plan == "bad json":
        return None, [called("x", "get_user_details", '{"user_id": ')]
    if plan == "many errors" or plan == "unknown tool" and not wrong:
        return None, [called(f"x{wrong}", "no_such_tool", "{}")]
    if plan == "tool error" and not wrong:
        own = [step for step in steps if step["by"] == "assistant"]
        if own:
            return None, [called("x0", own[0]["name"], '{"unexpected": 1}')]
    if at >= len(steps):
        return "That is all. " + " ".join(map(str, say)), None
    if steps[at]["by"] == "user":
        return f"Please do step {at}.", None
    both = plan == "pairs" and at + 1 < len(steps) and steps[at + 1]["by"] == "assistant"
    return None, [step_call(steps, number) for number in range(at, at + 1 + both)]


def user_turn(script, messages):
    """The customer's next text, or calls of the tools of their phone."""
    case = re.search(r"\[case (\d+)\]", messages[0]["content"]).group(1)
    steps, said = script[case]["steps"], texts(messages, "user")[-1]
    if "That is all." in said:
        return f"[case {case}] Thank you. ###STOP###", None
    asked = re.search(r"do step (\d+)\.", said)
    if not asked:
        return f"[case {case}] I need help.", None
    at = max(int(asked.group(1)), progress(messages)[0])
    if at < len(steps) and steps[at]["by"] == "user":
        return None, [step_call(steps, at)]
    return f"[case {case}] [done {at}]", None


def judge_turn(script, messages):
    """A verdict on each assertion."""
    text = messages[-1]["content"]
    plan = script[re.findall(r"\[case (\d+)\]", text)[-1]]["plan"]
    wanted = ast.literal_eval(text.rpartition("expectedOutcomes:")[2].strip())
    verdicts = [{"expectedOutcome": one, "reasoning": "script", "metExpectation": plan != "silent"} for one in wanted]
    return json.dumps({"results": verdicts}), None


def serve():
    """The model: reads its script from stdin, says its port, serves until it is killed."""
    settings = json.loads(sys.stdin.readline())
    script = settings["script"]

    lock, flight = threading.Lock(), {"now": 0, "most": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True

        def do_GET(self):
            """How many calls were in flight at once since somebody asked last."""
            with lock:
                most, flight["most"] = flight["most"], 0
            self.answer(200, most)

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            messages = request["messages"]
            first = messages[0]["content"] or ""
            status, answer = 200, None
            if "expectedOutcome" in first:
                content, calls = judge_turn(script, messages)
            elif "<scenario>" in first:
                content, calls = user_turn(script, messages)
                case = re.search(r"\[case (\d+)\]", first).group(1)
                if script[case]["plan"] == "no user":
                    status, answer = 401, {"error": {"message": "bad key", "type": "auth", "code": "invalid_api_key"}}
            else:
                content, calls = agent_turn(script, messages)
            with lock:
                flight["now"] += 1
                flight["most"] = max(flight["most"], flight["now"])
            time.sleep(settings["latency"])
            with lock:
                flight["now"] -= 1
            message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
            self.answer(status, answer or {
                "id": "x", "object": "chat.completion", "created": 1, "model": request["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
            })

        def answer(self, status, value):
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size, daemon_threads = 128, True

        def handle_error(self, *_):
            pass  # A client that was killed.

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
