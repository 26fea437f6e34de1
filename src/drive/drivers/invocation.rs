//! How a session is asked for and started, and what the readers of event streams share.

use std::ffi::OsString;

use serde_json::Value;

/// What a session is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Assignment<'a> {
    pub prompt: &'a str,
    /// The model, as the coding agent names it.
    pub model: Option<&'a str>,
    /// The session to resume instead of starting a new one, by the coding agent's name for it.
    pub resume: Option<&'a str>,
    /// The most that it may spend, in US dollars.
    pub budget_usd: Option<f64>,
    /// Whether it runs behind our fence: then it needs no sandbox of its own, which could not be built inside.
    pub fenced: bool,
}

/// How a session is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// What it reads on stdin.
    pub stdin: Vec<u8>,
    /// Variables that it needs besides those it may see anyway.
    pub env: Vec<(&'static str, String)>,
}

impl Invocation {
    pub(super) fn new(words: &[&str]) -> Invocation {
        Invocation { words: words.iter().map(OsString::from).collect(), stdin: Vec::new(), env: Vec::new() }
    }

    /// Its own variables, ready for a child process.
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        self.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    pub(super) fn add(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(OsString::from));
    }
}

/// The sum of those of these members that are whole numbers.
pub(super) fn sum(value: &Value, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| value[name].as_u64()).fold(0, u64::saturating_add)
}

/// A message inside an error, wherever it is.
pub(super) fn message(error: &Value) -> String {
    let places = [&error["data"]["message"], &error["message"], error];
    let text = places.into_iter().find_map(Value::as_str).map(str::to_string);
    text.unwrap_or_else(|| error.to_string())
}
