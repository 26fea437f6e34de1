//! What the page is made of.

use serde_json::Value;

use super::diff::Edit;
use crate::report::failing::Failing;
use crate::report::history::History;
use crate::report::learnings::LearningCard;

/// What the page is made of.
pub(crate) struct Inputs<'a> {
    pub history: &'a History,
    /// The name of the experiment's directory.
    pub name: String,
    /// When the page was made, for people.
    pub made: String,
    /// The diffs of the edits that git has.
    pub edits: Vec<Edit>,
    /// What the coding agent wrote down.
    pub learnings: Vec<LearningCard>,
    pub failing: Vec<Failing>,
    /// What the train tasks left behind, in the order of the matrix.
    pub traces: Vec<TaskTraces>,
}

/// What a train task left behind.
#[derive(Debug, Clone)]
pub(crate) struct TaskTraces {
    pub task: String,
    /// Whether it fails now: readers want its traces first.
    pub fails: bool,
    pub latest: Option<Value>,
    /// The first ever, where it is another one.
    pub baseline: Option<Value>,
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
