//! One step of the gate, and the words that steps share.

use serde::{Deserialize, Serialize};

use crate::model::score::Score;
use crate::model::trial::show;

/// How a step or the gate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The edit survives this step.
    Passed,
    /// The edit is rejected.
    Failed,
    /// Nothing to do here.
    Skipped,
    /// Not enough evidence; nothing is decided.
    Undecided,
}

impl Status {
    /// The word printed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
            Status::Undecided => "undecided",
        }
    }
}

/// One step of the gate, with a sentence for people and coding agents. Never names a hold-out task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStep {
    /// `file_guard`, `leak_scan`, `preflight`, `regression_suite`, `hold_out` or `promotion`.
    pub name: String,
    pub status: Status,
    /// Why, in one line.
    pub detail: String,
}

pub(super) fn step(name: &str, status: Status, detail: String) -> GateStep {
    GateStep { name: name.to_string(), status, detail }
}

pub(super) fn too_little(name: &str, score: Score, min_evidence: f64) -> GateStep {
    let detail = format!(
        "{} of {} tasks gave evidence, {min_evidence:.2} of them is needed; nothing is decided",
        score.evaluated, score.expected
    );
    step(name, Status::Undecided, detail)
}

pub(super) fn left_out(score: Score) -> String {
    match score.missing() {
        0 => String::new(),
        missing => format!("; {missing} left out for lack of evidence"),
    }
}

/// Why a step that looks as if it passed decides nothing.
pub(super) const MISSING: &str = "; whether it passes hangs on trials without evidence, so nothing is decided";

/// At most `limit` task ids, then how many more.
pub(super) fn list(names: &[&str], limit: usize) -> String {
    let shown: Vec<String> = names.iter().take(limit).map(|name| show(name)).collect();
    match names.len().saturating_sub(limit) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}
