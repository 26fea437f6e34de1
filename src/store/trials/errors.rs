//! Why trials of train were not graded, in the words of their benchmarks.

use std::collections::BTreeMap;

use foldhash::HashMap;

use crate::model::trial::{Outcome, Split};
use crate::store::event::Trial;

/// What benchmarks said of train trials that were not graded: by place in `sets`, number of the task and trial number.
#[derive(Debug, Default)]
pub(super) struct Errors(HashMap<(usize, u32), BTreeMap<u32, String>>);

impl Errors {
    /// Keeps the error of this trial, and forgets that of an earlier one in its place.
    pub(super) fn note(&mut self, place: usize, task: u32, trial: &Trial<'_>) {
        let graded = matches!(trial.outcome, Outcome::Passed | Outcome::Failed);
        match trial.error.as_deref().filter(|_| !graded && trial.split == Some(Split::Train)) {
            Some(error) => {
                self.0.entry((place, task)).or_default().insert(trial.trial, error.to_string());
            }
            None if self.0.is_empty() => {}
            None => {
                if let Some(of_task) = self.0.get_mut(&(place, task)) {
                    of_task.remove(&trial.trial);
                }
            }
        }
    }

    pub(super) fn of(&self, place: usize, task: u32, trial: u32) -> Option<&str> {
        self.0.get(&(place, task))?.get(&trial).map(String::as_str)
    }
}
