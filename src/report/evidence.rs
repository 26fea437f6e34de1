//! What a train task left in the workspace.

use std::path::Path;

use super::breakdown::Breakdown;
use super::signature::Signature;
use super::text::harmless;
use super::trace::Trace;
use crate::error::Result;
use crate::store::traces::{KeptTrial, TraceFile, TracePlace, kept};

/// A trial of a train task, read from the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub place: TracePlace,
    pub trial: u32,
    /// Its directory, relative to the experiment.
    pub directory: String,
    /// The trace's file, relative to the experiment.
    pub trace_file: String,
    pub result: Breakdown,
    pub trace: Option<Trace>,
    /// Why there is no conversation, when there is none.
    pub without: Option<String>,
}

/// Reads a trial of a train task, each file up to `limit` bytes; `None` when nothing of it is there. The caller makes sure
/// that it is a train task: nothing is ever written for others, so a directory of one is not ours.
pub(crate) fn left(workspace: &Path, place: TracePlace, task: &str, trial: u32, limit: u64) -> Result<Option<Left>> {
    let Some(KeptTrial { directory, trace_name, result, trace }) = kept(workspace, place, task, trial, limit)? else {
        return Ok(None);
    };
    let directory = format!("workspace/{}", directory.display());
    let trace_file = format!("{directory}/{trace_name}");
    let (trace, without) = match trace {
        TraceFile::Bytes(bytes) => (Some(Trace::read(&bytes)), None),
        TraceFile::TooLarge(bytes) => {
            (None, Some(format!("it has {} MB, too much to be shown here; it lies at {trace_file}", bytes >> 20)))
        }
        TraceFile::Missing => (None, Some("the benchmark sent none for this trial".to_string())),
    };
    let result = match result {
        TraceFile::Bytes(bytes) => Breakdown::read(&bytes),
        TraceFile::TooLarge(_) | TraceFile::Missing => Breakdown::default(),
    };
    Ok(Some(Left { place, trial, directory, trace_file, result, trace, without }))
}

impl Left {
    /// Stands for a trial whose files cannot be read.
    pub(crate) fn unreadable(place: TracePlace, why: &str) -> Left {
        let (trial, result) = (0, Breakdown::default());
        let without = Some(harmless(why).into_owned());
        Left { place, trial, directory: String::new(), trace_file: String::new(), result, trace: None, without }
    }

    /// What its failure has in common with others.
    pub(crate) fn signature(&self) -> Signature {
        Signature::of(&self.result, self.trace.as_ref())
    }

    /// What grader and trace say besides checks and conversation, without duplicates.
    pub(crate) fn facts(&self) -> Vec<(String, String)> {
        let mut facts = self.result.facts();
        for fact in self.trace.iter().flat_map(|trace| &trace.facts) {
            if !facts.contains(fact) {
                facts.push(fact.clone());
            }
        }
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_grader_and_trace_both_say_is_said_once() {
        let mut left = Left::unreadable(TracePlace::Latest, "gone\u{1b}");
        assert_eq!(left.without.as_deref(), Some("gone\\u{1b}"));
        left.result = Breakdown::read(json!({"detail": {"family": "dates", "expected": "x"}}).to_string().as_bytes());
        left.trace = Some(Trace::of(&json!({"messages": [{"role": "user"}], "expected": "x", "family": "names"})));
        let facts: Vec<String> = left.facts().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(facts, ["family: dates", "expected: x", "family: names"]);
    }
}
