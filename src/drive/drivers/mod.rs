//! The coding agents that the loop can drive: the command lines that start a session, and the event streams that they print.
//!
//! All of it is pure. We tried the command lines with the real programs: Claude Code 2.1.197 and Codex 0.171.0 by
//! tests/real_agents.rs, Gemini CLI 0.61.0 and OpenCode 1.18.33 by hand.

mod claude;
mod codex;
mod gemini;
mod invocation;
pub(crate) mod limit;
mod opencode;
mod seen;

use std::ffi::OsString;

pub(crate) use invocation::{Assignment, Invocation};
pub(crate) use seen::{Counted, Seen};
use serde_json::Value;

use crate::config::{CodingAgent, PromptBy};

/// The names of those that are built in.
pub(crate) const BUILT_IN: [&str; 4] = ["claude", "codex", "gemini", "opencode"];

/// A coding agent.
#[derive(Debug, Clone)]
pub(crate) enum Driver {
    Claude,
    Codex,
    Gemini,
    OpenCode,
    /// A user's own program: its name and how to start it.
    Own(String, CodingAgent),
}

impl Driver {
    /// The one with this name; built-in ones come before those of the configuration.
    pub(crate) fn find(name: &str, own: impl Fn(&str) -> Option<CodingAgent>) -> Option<Driver> {
        match name {
            "claude" => Some(Driver::Claude),
            "codex" => Some(Driver::Codex),
            "gemini" => Some(Driver::Gemini),
            "opencode" => Some(Driver::OpenCode),
            name => own(name).map(|agent| Driver::Own(name.to_string(), agent)),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Driver::Claude => "claude",
            Driver::Codex => "codex",
            Driver::Gemini => "gemini",
            Driver::OpenCode => "opencode",
            Driver::Own(name, _) => name,
        }
    }

    /// Whether its sessions say what they cost.
    pub(crate) fn reports_dollars(&self) -> bool {
        match self {
            Driver::Claude | Driver::OpenCode => true,
            Driver::Codex | Driver::Gemini => false,
            Driver::Own(_, agent) => agent.usage.is_some(),
        }
    }

    /// The command line that starts a session.
    pub(crate) fn invocation(&self, ask: &Assignment<'_>) -> Invocation {
        match self {
            Driver::Claude => claude::invocation(ask),
            Driver::Codex => codex::invocation(ask),
            Driver::Gemini => gemini::invocation(ask),
            Driver::OpenCode => opencode::invocation(ask),
            Driver::Own(_, agent) => {
                let mut invocation = Invocation {
                    words: agent.command.iter().map(OsString::from).collect(),
                    stdin: Vec::new(),
                    env: Vec::new(),
                };
                match agent.prompt {
                    PromptBy::Stdin => invocation.stdin = ask.prompt.as_bytes().to_vec(),
                    PromptBy::Argument => invocation.add(&[ask.prompt]),
                }
                invocation.env.extend(ask.model.map(|model| ("CODING_AGENT_MODEL", model.to_string())));
                invocation
            }
        }
    }

    /// Reads one line of its event stream. Lines that are no JSON object are ignored.
    pub(crate) fn read(&self, line: &[u8], seen: &mut Seen) {
        let Ok(event @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else { return };
        match self {
            Driver::Claude => claude::read(&event, seen),
            Driver::Codex => codex::read(&event, seen),
            Driver::Gemini => gemini::read(&event, seen),
            Driver::OpenCode => opencode::read(&event, seen),
            // Its usage is in the file that the configuration names.
            Driver::Own(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> CodingAgent {
        CodingAgent {
            command: vec!["./propose".into(), "-x".into()],
            prompt: PromptBy::Stdin,
            usage: None,
            reads: vec![],
            writes: vec![],
        }
    }

    #[test]
    fn every_name_finds_its_driver() {
        for name in BUILT_IN {
            assert_eq!(Driver::find(name, |_| None).unwrap().name(), name);
        }
        assert!(Driver::find("mine", |_| None).is_none());
        let mine = Driver::find("mine", |_| Some(own())).unwrap();
        assert!(mine.name() == "mine" && !mine.reports_dollars());
    }

    #[test]
    fn a_program_of_ones_own_gets_the_prompt_as_configured() {
        let ask = Assignment { prompt: "improve", model: Some("m"), resume: None, budget_usd: None, fenced: false };
        let by_stdin = Driver::Own("mine".into(), own()).invocation(&ask);
        assert_eq!(by_stdin.words, ["./propose", "-x"]);
        assert_eq!(by_stdin.stdin, b"improve");
        assert_eq!(by_stdin.env, [("CODING_AGENT_MODEL", "m".to_string())]);
        let by_argument = CodingAgent { prompt: PromptBy::Argument, ..own() };
        let by_argument = Driver::Own("mine".into(), by_argument).invocation(&ask);
        assert_eq!(by_argument.words, ["./propose", "-x", "improve"]);
        assert!(by_argument.stdin.is_empty());
    }

    #[test]
    fn lines_that_are_no_events_say_nothing() {
        for name in BUILT_IN {
            let driver = Driver::find(name, |_| None).unwrap();
            let mut seen = Seen::default();
            for line in [&b"npm warn deprecated"[..], b"", b"[1]", b"\xff", b"{}", b"{\"type\":\"unheard_of\"}"] {
                driver.read(line, &mut seen);
            }
            assert_eq!(seen, Seen::default(), "{name}");
        }
    }
}
