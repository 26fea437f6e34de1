//! Conversations as a list of messages: OpenAI's and Anthropic's, and what our helpers write.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::conversation::{Call, Trace, Turn, tells_of_failure, text_at};
use super::tree;
use crate::report::text::harmless;

/// Where an object keeps its messages.
const PLACES: [&str; 6] = ["messages", "conversation", "transcript", "history", "trajectory", "items"];

/// The messages of an object; its other fields are facts.
pub(super) fn in_fields(fields: &Map<String, Value>) -> Option<Trace> {
    let (place, mut trace) =
        PLACES.iter().find_map(|place| Some((*place, in_list(fields.get(*place)?.as_array()?)?)))?;
    finish(&mut trace, fields, place);
    Some(trace)
}

/// The first place of messages that is there.
pub(super) fn place_in(is_there: impl Fn(&str) -> bool) -> Option<&'static str> {
    PLACES.into_iter().find(|place| is_there(place))
}

/// Sorts the other fields into facts and turns.
pub(super) fn finish(trace: &mut Trace, fields: &Map<String, Value>, place: &str) {
    if let Some(timeline) = fields.get("timeline").and_then(Value::as_array) {
        times(trace, timeline);
    }
    // What was left out of the model's window is useless without the numbers of messages.
    trace.beside(fields, &[place, "timeline", "left_out"]);
}

/// The messages of a list; `None` when nothing in it is one.
pub(super) fn in_list(items: &[Value]) -> Option<Trace> {
    let mut reader = MessageReader::default();
    items.iter().for_each(|item| reader.take(item));
    reader.trace()
}

fn is_message(item: &Value) -> bool {
    text_at(item, &["role"]).is_some() || is_item(item)
}

/// An item of OpenAI's Responses interface that has no role.
fn is_item(item: &Value) -> bool {
    matches!(text_at(item, &["type"]), Some("function_call" | "function_call_output" | "reasoning"))
}

/// Makes turns of messages, one after the other.
#[derive(Default)]
pub(super) struct MessageReader {
    turns: Vec<Turn>,
    /// Whether any of them was a message.
    is_one: bool,
    /// The tools that were called, by the number of the call.
    called: HashMap<String, String>,
}

impl MessageReader {
    /// The resulting turns; `None` when none of them was a message.
    pub(super) fn trace(self) -> Option<Trace> {
        self.is_one.then(|| Trace { form: "messages", facts: Vec::new(), turns: self.turns })
    }

    pub(super) fn take(&mut self, item: &Value) {
        self.is_one |= is_message(item);
        match (text_at(item, &["role"]), text_at(item, &["type"])) {
            (Some(role), _) => self.message(role, item),
            (None, Some("function_call")) => {
                let call = self.call(item);
                self.turns.push(Turn { role: "assistant".into(), calls: vec![call], ..Turn::default() });
            }
            (None, Some("function_call_output")) => self.answer(item, &plain(&item["output"]), false),
            (None, Some("reasoning")) => {
                let said = format!("(thinking) {}", plain(&item["summary"]));
                self.turns.push(Turn::said("assistant", &said));
            }
            // Something else between the messages, such as what was printed.
            (None, _) => {
                match item.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next()) {
                    Some((_, value)) if plain(value).is_empty() => {}
                    Some((name, value)) => self.turns.push(Turn::said(name, &plain(value))),
                    None => self.turns.push(Turn::said("json", &tree::lines(item))),
                }
            }
        }
    }

    fn message(&mut self, role: &str, item: &Value) {
        let parts = item["content"].as_array();
        let kind = |part: &Value, kinds: &[&str]| text_at(part, &["type"]).is_some_and(|kind| kinds.contains(&kind));
        if role == "tool" || role == "function" {
            let failed = item["error"].as_bool().unwrap_or(false) || item["is_error"].as_bool().unwrap_or(false);
            return self.answer(item, &plain(&item["content"]), failed);
        }
        let (mut said, mut calls) = (Vec::new(), Vec::new());
        if let Some(thought) = text_at(item, &["reasoning_content", "reasoning"]).filter(|thought| !thought.is_empty())
        {
            said.push(format!("(thinking) {thought}"));
        }
        let is_answer = |part: &&Value| kind(part, &["tool_result"]);
        match parts {
            Some(parts) => {
                calls.extend(parts.iter().filter(|part| kind(part, &["tool_use"])).map(|part| self.call(part)));
                let spoken = parts.iter().filter(|part| !kind(part, &["tool_use", "tool_result"]));
                said.extend(spoken.map(plain).filter(|text| !text.is_empty()));
            }
            None => said.push(plain(&item["content"])),
        }
        for call in item["tool_calls"].as_array().into_iter().flatten() {
            calls.push(self.call(call));
        }
        if let Some(call) = item.get("function_call").filter(|call| call.is_object()) {
            calls.push(self.call(call));
        }
        for part in parts.into_iter().flatten().filter(is_answer) {
            self.answer(part, &plain(&part["content"]), part["is_error"].as_bool().unwrap_or(false));
        }
        let text = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
        let only_answers = parts.is_some_and(|parts| !parts.is_empty() && parts.iter().all(|part| is_answer(&part)));
        if !only_answers {
            let tokens = usage(&item["usage"]);
            self.turns.push(Turn { calls, tokens, ..Turn::said(role, &text) });
        }
    }

    fn call(&mut self, call: &Value) -> Call {
        let function = call.get("function").filter(|function| function.is_object()).unwrap_or(call);
        let name = text_at(function, &["name"]).unwrap_or("?");
        if let Some(id) = text_at(call, &["id", "call_id"]) {
            self.called.insert(id.to_string(), name.to_string());
        }
        let arguments = ["arguments", "input", "args"].iter().find_map(|place| function.get(*place));
        Call::of(name, arguments.unwrap_or(&Value::Null))
    }

    fn answer(&mut self, item: &Value, text: &str, failed: bool) {
        let id = text_at(item, &["tool_call_id", "tool_use_id", "call_id", "id"]);
        let tool = id.and_then(|id| self.called.get(id)).map(String::as_str).or(text_at(item, &["name"]));
        let tool = tool.map(|tool| harmless(tool).into_owned());
        let failed = failed || tells_of_failure(text);
        self.turns.push(Turn { tool, failed, ..Turn::said("tool", text) });
    }
}

/// Content as text: a string, parts of which some are text, or other JSON.
pub(super) fn plain(content: &Value) -> String {
    match content {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(plain).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n"),
        Value::Object(part) => match (part.get("text"), part.get("thinking"), part.get("type").and_then(Value::as_str))
        {
            (Some(Value::String(text)), _, _) => text.clone(),
            (_, Some(Value::String(text)), _) => format!("(thinking) {text}"),
            (_, _, Some(kind)) if kind.contains("image") => format!("[{kind}]"),
            _ => content.to_string(),
        },
        other => other.to_string(),
    }
}

/// Tokens read and written, by whichever names.
pub(super) fn usage(usage: &Value) -> Option<u64> {
    let of = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)?.as_u64());
    let (read, written) = (of(["prompt_tokens", "input_tokens"]), of(["completion_tokens", "output_tokens"]));
    (read.is_some() || written.is_some()).then(|| read.unwrap_or(0).saturating_add(written.unwrap_or(0)))
}

/// Gives the turns the seconds that the timeline of the template for terminal-bench has of them.
fn times(trace: &mut Trace, timeline: &[Value]) {
    for (what, role) in [("model call", "assistant"), ("command", "tool")] {
        // Step 0 is the look at the sandbox before the conversation.
        let of = |entry: &&Value| entry["what"] == what && (what != "command" || entry["step"].as_u64() > Some(0));
        let seconds = timeline.iter().filter(of).map(|entry| entry["seconds"].as_f64());
        trace
            .turns
            .iter_mut()
            .filter(|turn| turn.role == role)
            .zip(seconds)
            .for_each(|(turn, took)| turn.seconds = took);
    }
}
