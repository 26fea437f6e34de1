//! What failures have in common: tasks with one signature most likely have one cause.

use std::fmt;

use super::breakdown::Breakdown;
use super::text::one_line;
use super::trace::Trace;

/// Longest part, in characters.
const LONGEST: usize = 60;

/// How a trial failed: outcome, exception type, the first failed check, the last tool error.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature {
    /// The outcome's word.
    pub outcome: String,
    /// The class of the exception.
    pub exception: Option<String>,
    /// The first check that failed.
    pub check: Option<String>,
    /// How the last failing tool's answer begins, with its numbers replaced.
    pub tool_error: Option<String>,
}

impl Signature {
    /// From a trial that left its result, and maybe its trace.
    pub(crate) fn of(result: &Breakdown, trace: Option<&Trace>) -> Signature {
        let failure = trace.and_then(Trace::last_failure).filter(|(_, turn)| turn.role == "tool");
        Signature {
            outcome: result.outcome.clone(),
            exception: result.exception.clone(),
            check: result.failed.first().map(|check| one_line(check, LONGEST)),
            tool_error: failure.map(|(_, turn)| telling(&turn.text)).filter(|said| !said.is_empty()),
        }
    }

    /// From the ledger alone.
    pub(crate) fn plain(outcome: &str, exception: Option<&str>) -> Signature {
        Signature {
            outcome: outcome.into(),
            exception: exception.map(|class| one_line(class, LONGEST)),
            ..Signature::default()
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.outcome.is_empty() { "no result" } else { &self.outcome })?;
        if let Some(exception) = &self.exception {
            write!(f, ", {exception}")?;
        }
        if let Some(check) = &self.check {
            write!(f, ", check {check}")?;
        }
        if let Some(said) = &self.tool_error {
            write!(f, ", tool said \"{said}\"")?;
        }
        Ok(())
    }
}

/// The most telling line of a tool's answer: the last one of a traceback, else the first. Numbers, which differ from
/// task to task, are replaced.
fn telling(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines().next().unwrap_or("");
    let line =
        if text.contains("Traceback (most recent call last)") { lines().next_back().unwrap_or(first) } else { first };
    // An exit status says little; what came with it says more.
    let line = match line.to_ascii_lowercase().starts_with("exit code:") {
        true => lines().find(|line| !line.ends_with(':') && *line != first).unwrap_or(first),
        false => line,
    };
    let mut plain = String::new();
    for character in line.chars() {
        match character.is_ascii_digit() {
            true if plain.ends_with('#') => {}
            true => plain.push('#'),
            false => plain.push(character),
        }
    }
    one_line(&plain, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_task_to_task_is_no_part_of_it() {
        for (said, telling_part) in [
            ("exit code: 127\nstderr:\nbash: line 3: foo: command not found", "bash: line #: foo: command not found"),
            ("exit code: 1", "exit code: #"),
            ("Traceback (most recent call last):\n  File x\nKeyError: 'a17'", "KeyError: 'a#'"),
            ("Error: row 4711 is locked", "Error: row # is locked"),
            ("", ""),
        ] {
            assert_eq!(telling(said), telling_part);
        }
        let mut signature = Signature::plain("agent_error", Some("KeyError"));
        signature.check = Some("DB".into());
        signature.tool_error = Some("x".into());
        assert_eq!(signature.to_string(), "agent_error, KeyError, check DB, tool said \"x\"");
        assert_eq!(Signature::default().to_string(), "no result");
    }
}
