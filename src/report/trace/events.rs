//! Trajectories: ATIF, which Harbor's agents write, and what bird-interact keeps of google-adk.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::conversation::{Call, Trace, Turn, tells_of_failure, text_at};
use super::messages::{plain, usage};
use crate::report::text::harmless;

/// An ATIF trajectory, of any version.
pub(super) fn atif(fields: &Map<String, Value>) -> Option<Trace> {
    let steps = fields.get("steps")?.as_array()?;
    let named = fields.get("schema_version").and_then(Value::as_str).is_some_and(|version| version.starts_with("ATIF"));
    if !named && !steps.iter().any(|step| text_at(step, &["source"]).is_some()) {
        return None;
    }
    let mut trace = Trace { form: "atif", ..Trace::default() };
    for step in steps {
        let role = match text_at(step, &["source"]) {
            Some("agent") => "assistant",
            Some(other) => other,
            None => "step",
        };
        let thought = text_at(step, &["reasoning_content"]).filter(|thought| !thought.is_empty());
        let thought = thought.map(|thought| format!("(thinking) {thought}"));
        let said: Vec<String> =
            thought.into_iter().chain([plain(&step["message"])]).filter(|text| !text.is_empty()).collect();
        let mut called = HashMap::new();
        let mut calls = Vec::new();
        for call in step["tool_calls"].as_array().into_iter().flatten() {
            let name = text_at(call, &["function_name", "name"]).unwrap_or("?");
            called.extend(text_at(call, &["tool_call_id"]).map(|id| (id, name)));
            calls.push(Call::of(name, &call["arguments"]));
        }
        trace.turns.push(Turn { calls, tokens: usage(&step["metrics"]), ..Turn::said(role, &said.join("\n")) });
        for result in step["observation"]["results"].as_array().into_iter().flatten() {
            let text = plain(&result["content"]);
            let tool = text_at(result, &["source_call_id"]).and_then(|id| called.get(id).copied());
            let tool = tool.map(|tool| harmless(tool).into_owned());
            trace.turns.push(Turn { tool, failed: tells_of_failure(&text), ..Turn::said("tool", &text) });
        }
    }
    trace.beside(fields, &["steps", "schema_version", "session_id", "tool_definitions"]);
    Some(trace)
}

/// What bird-interact keeps: the events if there are any, because they hold everything in order; else tool calls, then the
/// dialogue with the user.
pub(super) fn adk(fields: &Map<String, Value>) -> Option<Trace> {
    let list = |name: &str| fields.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    let (events, tools, dialogue) = (list("adk_events"), list("tool_trajectory"), list("dialogue_history"));
    if events.is_none() && tools.is_none() && dialogue.is_none() {
        return None;
    }
    let mut trace = Trace { form: "adk", ..Trace::default() };
    if let Some(events) = events {
        events.iter().for_each(|event| trace.turns.extend(event_turns(event)));
    } else {
        for entry in tools.into_iter().flatten() {
            let name = text_at(entry, &["tool", "name"]).unwrap_or("?");
            let call = Call::of(name, entry.get("args").unwrap_or(&entry["arguments"]));
            trace.turns.push(Turn { role: "assistant".into(), calls: vec![call], ..Turn::default() });
            trace.turns.push(answer(name, &plain(&entry["result"])));
        }
        for said in dialogue.into_iter().flatten() {
            trace.turns.push(Turn::said(
                text_at(said, &["role"]).unwrap_or("dialogue"),
                &plain(said.get("content").unwrap_or(said)),
            ));
        }
    }
    if let Some(last) = fields.get("final_response").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        trace.turns.push(Turn::said("final_response", last));
    }
    trace.beside(fields, &["adk_events", "tool_trajectory", "dialogue_history", "final_response", "task"]);
    Some(trace)
}

fn answer(tool: &str, text: &str) -> Turn {
    Turn { tool: Some(harmless(tool).into_owned()), failed: tells_of_failure(text), ..Turn::said("tool", text) }
}

fn event_turns(event: &Value) -> Vec<Turn> {
    if let Some(message) = text_at(event, &["message"]) {
        return vec![Turn::said("user", message)];
    }
    let part = |part: &Value, names: [&str; 2]| {
        names.iter().find_map(|name| part.get(*name).filter(|it| it.is_object())).cloned()
    };
    let (mut own, mut answers) = (Turn { role: "assistant".into(), ..Turn::default() }, Vec::new());
    let mut said = Vec::new();
    for each in event["content"]["parts"].as_array().into_iter().flatten() {
        if let Some(call) = part(each, ["function_call", "functionCall"]) {
            own.calls.push(Call::of(text_at(&call, &["name"]).unwrap_or("?"), &call["args"]));
        } else if let Some(response) = part(each, ["function_response", "functionResponse"]) {
            answers.push(answer(text_at(&response, &["name"]).unwrap_or("?"), &plain(&response["response"])));
        } else {
            said.push(plain(each));
        }
    }
    own.text = harmless(&said.join("\n")).into_owned();
    let spoke = !own.text.is_empty() || !own.calls.is_empty();
    spoke.then_some(own).into_iter().chain(answers).collect()
}
