//! What a trace is read into.

use serde_json::{Map, Value};

use super::tree;
use crate::report::text::{harmless, one_line};

/// Longest value that is a fact beside the conversation, in characters; longer ones are turns of their own.
const LONGEST_FACT: usize = 200;

/// A trace, read. Every text in it is harmless.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Trace {
    /// What it was taken for: `messages`, `atif`, `adk`, `tree`, or `text` when it is no JSON.
    pub form: &'static str,
    /// What it says besides the conversation, such as why it stopped.
    pub facts: Vec<(String, String)>,
    /// The conversation, in order.
    pub turns: Vec<Turn>,
}

/// One thing that was said or done.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Turn {
    /// Who: `system`, `user`, `assistant`, `tool`, or what else the trace calls it.
    pub role: String,
    /// The tool that answers.
    pub tool: Option<String>,
    pub text: String,
    pub calls: Vec<Call>,
    /// True when a tool failed, or something broke here.
    pub failed: bool,
    /// Tokens read and written for this turn, where the trace says.
    pub tokens: Option<u64>,
    /// How long it took, where the trace says.
    pub seconds: Option<f64>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Call {
    pub name: String,
    /// Its arguments, as JSON on one line, or as they were written.
    pub arguments: String,
}

impl Trace {
    /// The last tool that failed: the number of the turn, the tool, what it said.
    pub(crate) fn last_failure(&self) -> Option<(usize, &Turn)> {
        self.turns.iter().enumerate().rfind(|(_, turn)| turn.failed)
    }

    /// Sorts what is not part of the conversation: short values are facts, long ones turns at the end.
    pub(super) fn beside(&mut self, fields: &Map<String, Value>, known: &[&str]) {
        for (name, value) in fields.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let text = match value {
                Value::Null => continue,
                Value::String(text) if text.is_empty() => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            if text.len() <= LONGEST_FACT && !text.contains('\n') {
                self.facts.push((harmless(name).into_owned(), one_line(&text, LONGEST_FACT)));
            } else {
                let text = if value.is_string() { text } else { tree::lines(value) };
                let mut turn = Turn::said(name, &text);
                turn.failed = name == "traceback";
                self.turns.push(turn);
            }
        }
    }
}

impl Turn {
    pub(super) fn said(role: &str, text: &str) -> Turn {
        Turn { role: harmless(role).into_owned(), text: harmless(text).into_owned(), ..Turn::default() }
    }
}

impl Call {
    pub(super) fn of(name: &str, arguments: &Value) -> Call {
        let arguments = match arguments {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Call { name: harmless(name).into_owned(), arguments: harmless(&arguments).into_owned() }
    }
}

/// Whether a tool's answer reports a failure. Only its first words count: any program may print "error" somewhere.
pub(super) fn tells_of_failure(text: &str) -> bool {
    let start = text.trim_start();
    let line = start.lines().next().unwrap_or("").to_ascii_lowercase();
    if let Some(code) = line.strip_prefix("exit code:") {
        return code.trim() != "0";
    }
    let words = ["error", "exception", "traceback (most recent call last)", "command failed", "fatal:"];
    if words.iter().any(|word| line.starts_with(word)) {
        return true;
    }
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "";
    start.starts_with('{')
        && start.len() < 1 << 16
        && serde_json::from_str::<Map<String, Value>>(start).is_ok_and(|answer| answer.get("error").is_some_and(is_set))
}

pub(super) fn text_at<'v>(value: &'v Value, names: &[&str]) -> Option<&'v str> {
    names.iter().find_map(|name| value.get(name)?.as_str())
}
