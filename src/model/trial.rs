//! A trial: one execution of one task by one version of the agent, and what it is evidence of.

use serde::{Deserialize, Serialize};

use super::usage::Usage;

/// A trial passes at this reward or above (DESIGN §2).
pub(crate) const PASS_THRESHOLD: f64 = 0.5;

/// The part of the benchmark a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Evidence for the coding agent: traces are kept.
    Train,
    /// The hold-out: rewards only, never per task.
    Test,
}

impl Split {
    /// The word used in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Reward at or above [`PASS_THRESHOLD`].
    Passed,
    /// A graded trial below the threshold.
    Failed,
    /// The agent ran out of time; counted as 0.0 or left out, by policy.
    AgentTimeout,
    /// The agent crashed or broke the rules: 0.0, because crashing must never raise a score.
    AgentError,
    /// Model service, network, sandbox or benchmark failed: no evidence.
    InfraError,
    /// The grader failed or answered nonsense: no evidence.
    VerifierError,
}

impl Outcome {
    /// The word used in files and in the trial protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::AgentTimeout => "agent_timeout",
            Outcome::AgentError => "agent_error",
            Outcome::InfraError => "infra_error",
            Outcome::VerifierError => "verifier_error",
        }
    }

    /// Parses the word of the trial protocol.
    pub fn parse(word: &str) -> Option<Outcome> {
        [
            Outcome::Passed,
            Outcome::Failed,
            Outcome::AgentTimeout,
            Outcome::AgentError,
            Outcome::InfraError,
            Outcome::VerifierError,
        ]
        .into_iter()
        .find(|outcome| outcome.as_str() == word)
    }

    /// True when the trial says nothing about the agent and is worth running again.
    pub fn is_no_evidence(self) -> bool {
        matches!(self, Outcome::InfraError | Outcome::VerifierError)
    }
}

/// A finished trial as a runner reports it: what happened, not yet what it counts for.
#[derive(Debug, Clone)]
pub struct TrialResult {
    /// The task's id, exactly as the benchmark knows it.
    pub task: String,
    /// Trial number of this task, from 0.
    pub trial: u32,
    pub outcome: Outcome,
    /// 0.0–1.0; `None` exactly when `outcome.is_no_evidence()`, or for an agent timeout that was not graded.
    pub reward: Option<f64>,
    pub usage: Usage,
    /// One line that says why it did not pass, when there is one.
    pub error: Option<String>,
    /// The trace (conversation and tool calls) as JSON; asked for on train only.
    pub trace: Option<Box<serde_json::value::RawValue>>,
    /// Breakdown of the reward as JSON, for `result.json` beside the trace.
    pub detail: Option<Box<serde_json::value::RawValue>>,
}

/// A task id for people: control characters, which could forge lines or colour a terminal, are escaped.
pub(crate) fn show(task: &str) -> String {
    if task.chars().any(char::is_control) { task.escape_debug().to_string() } else { task.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_stored_as_they_are_printed() {
        for (split, word) in [(Split::Train, "train"), (Split::Test, "test")] {
            assert_eq!((split.to_string(), serde_json::to_value(split).unwrap()), (word.into(), word.into()));
        }
    }

    #[test]
    fn outcomes_are_read_as_they_are_written() {
        for (outcome, word, no_evidence) in [
            (Outcome::Passed, "passed", false),
            (Outcome::Failed, "failed", false),
            (Outcome::AgentTimeout, "agent_timeout", false),
            (Outcome::AgentError, "agent_error", false),
            (Outcome::InfraError, "infra_error", true),
            (Outcome::VerifierError, "verifier_error", true),
        ] {
            assert_eq!((outcome.as_str(), outcome.is_no_evidence()), (word, no_evidence));
            assert_eq!(serde_json::to_value(outcome).unwrap(), word);
            assert_eq!(Outcome::parse(word), Some(outcome));
        }
        assert_eq!((Outcome::parse("Passed"), Outcome::parse("")), (None, None));
    }

    #[test]
    fn task_ids_forge_no_line_and_stay_as_they_are_otherwise() {
        assert_eq!(show("Ünlösbar [1]|\"x\""), "Ünlösbar [1]|\"x\"");
        assert_eq!(show("a\n\u{1b}[31mgate: passed"), "a\\n\\u{1b}[31mgate: passed");
    }
}
