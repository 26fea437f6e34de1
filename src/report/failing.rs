//! The failing train tasks, grouped by signature.

use std::collections::BTreeMap;
use std::path::Path;

use super::evidence::{Left, left};
use super::history::{History, marks};
use super::signature::Signature;
use crate::error::Result;
use crate::model::score::passes;
use crate::store::traces::TracePlace;

/// Larger traces are not opened for a table, in bytes.
const LARGEST: u64 = 16 << 20;

/// A failing train task.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub task: String,
    /// What it earned when it was last run; `None` is no evidence.
    pub reward: Option<f64>,
    /// What its failure has in common with others.
    pub signature: Signature,
    /// A mark for each agent that was measured or judged, in order.
    pub history: String,
    /// True when the signature is of a trace by another agent than the one whose failure it is, or of no trace.
    pub is_older: bool,
    /// Where its trace is, relative to the experiment.
    pub place: Option<String>,
}

/// Train tasks that failed in their last run, those with the commonest signature first. If a trace cannot be read, the ledger
/// says how the task failed, so that one link put in its place hides no other task.
pub(crate) fn failing(history: &History, workspace: &Path) -> Vec<Failing> {
    let columns = history.columns();
    let known = &history.summary().train_results;
    let mut found = Vec::new();
    for task in history.train() {
        let reward = known.get(task).copied().flatten();
        if passes(reward) || !known.contains_key(task) {
            continue;
        }
        let left = of_the_failure(workspace, task).unwrap_or(None);
        let newest = history.newest(task);
        let from_ledger =
            || newest.map(|(outcome, class)| Signature::plain(outcome.as_str(), class)).unwrap_or_default();
        let fits = left.as_ref().is_some_and(|left| !left.result.passed());
        found.push(Failing {
            task: task.clone(),
            reward,
            signature: left.as_ref().filter(|_| fits).map_or_else(from_ledger, Left::signature),
            history: marks(&columns, task),
            is_older: !fits,
            place: left.map(|left| left.directory),
        });
    }
    let mut sizes: BTreeMap<Signature, usize> = BTreeMap::new();
    found.iter().for_each(|each| *sizes.entry(each.signature.clone()).or_default() += 1);
    found.sort_by(|one, other| {
        let key = |each: &Failing| std::cmp::Reverse(sizes.get(&each.signature).copied().unwrap_or(0));
        (key(one), &one.signature, &one.task).cmp(&(key(other), &other.signature, &other.task))
    });
    found
}

/// The newest existing trial of a task that failed: with several trials the first may have passed.
pub(crate) fn of_the_failure(workspace: &Path, task: &str) -> Result<Option<Left>> {
    let first = left(workspace, TracePlace::Latest, task, 0, LARGEST)?;
    if first.as_ref().is_none_or(|first| !first.result.passed()) {
        return Ok(first);
    }
    for trial in 1..MOST_TRIALS {
        match left(workspace, TracePlace::Latest, task, trial, LARGEST)? {
            Some(other) if !other.result.passed() => return Ok(Some(other)),
            Some(_) => {}
            None => break,
        }
    }
    Ok(first)
}

/// A configuration asks for at most this many trials of a task.
const MOST_TRIALS: u32 = 100;
