"""A model, a database and a user that pretend: what an agent talks to where nothing may be paid for."""

import json

# Called when the agent has them, because every agent's tools end here; else the first one that is offered.
LIKELY = ("execute_sql", "ask_user", "submit_sql")
# What the pretended database and user answer, whatever is asked.
ANSWER = {
    "status": "ok",
    "success": True,
    "result": "1",
    "schema": "CREATE TABLE t (x int);",
    "column_meanings": "{}",
    "meaning": "a number",
    "names": ["x"],
    "knowledge": "[]",
    "answer": "Yes.",
    "passed": False,
    "reward": 0.0,
    "message": "SQL failed Phase 1. It is not correct.",
}


class World:
    """The model, the database and the user, behind one port."""

    def __init__(self):
        self.called, self.answered, self.requests = None, False, 0

    async def handle(self, method, path, body):
        if path.endswith("/chat/completions"):
            return 200, json.dumps(self.complete(json.loads(body))).encode()
        if path.endswith("/messages"):
            return 200, json.dumps(self.message(json.loads(body))).encode()
        if path.endswith("/responses"):
            return 200, json.dumps(self.respond(json.loads(body))).encode()
        return 200, json.dumps(ANSWER).encode()

    def choose(self, tools, answered):
        """The tool to call and its arguments, at the first request that offers one; `tools`: name and schema of each."""
        self.requests += 1
        # Told by its id, not by its place: an agent may add messages of its own behind the answer of a tool.
        self.answered |= answered
        if not tools or self.called:
            return None, None
        self.called = next((name for name in LIKELY if name in tools), next(iter(tools)))
        return self.called, arguments_for(tools[self.called] or {})

    def message(self, request):
        """As Anthropic answers."""
        tools = {tool["name"]: tool.get("input_schema") for tool in request.get("tools") or []}
        name, arguments = self.choose(tools, '"tool_use_id": "smoke_1"' in json.dumps(request["messages"]))
        content = [{"type": "text", "text": "Done."}]
        if name:
            content = [{"type": "tool_use", "id": "smoke_1", "name": name, "input": arguments}]
        return {
            "id": "x",
            "type": "message",
            "role": "assistant",
            "model": request.get("model"),
            "content": content,
            "stop_reason": "tool_use" if name else "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }

    def respond(self, request):
        """As OpenAI answers where a model is asked through its newer interface."""
        tools = {tool["name"]: tool.get("parameters") for tool in request.get("tools") or [] if "name" in tool}
        name, arguments = self.choose(tools, '"call_id": "smoke_1", "output"' in json.dumps(request.get("input")))
        text = {"type": "output_text", "text": "Done.", "annotations": []}
        output = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [text]}
        if name:
            call = {"call_id": "smoke_1", "name": name, "arguments": json.dumps(arguments)}
            output = {"type": "function_call", "id": "f", "status": "completed", **call}
        return {
            "id": "x",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": request.get("model"),
            "output": [output],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
        }

    def complete(self, request):
        """As everybody else answers."""
        tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in request.get("tools") or []}
        answered = any(message.get("tool_call_id") == "smoke_1" for message in request["messages"])
        name, arguments = self.choose(tools, answered)
        message = {"role": "assistant", "content": "Done."}
        if name:
            arguments = json.dumps(arguments)
            call = {"id": "smoke_1", "type": "function", "function": {"name": name, "arguments": arguments}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "smoke",
            "choices": [
                {"index": 0, "finish_reason": "tool_calls" if "tool_calls" in message else "stop", "message": message}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }


def arguments_for(schema):
    """Something of the right kind for every argument that a tool demands."""
    kinds = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties") or {}
    return {name: kinds.get((properties.get(name) or {}).get("type"), "SELECT 1") for name in schema.get("required") or []}
