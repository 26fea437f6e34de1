//! Errors for missing things, shared by all commands.

use crate::error::{Code, Error};
use crate::model::trial::{Split, show};

/// The error for a task that the split does not have. It is the same for a hold-out task as for one that does not exist.
#[track_caller]
pub(super) fn unknown_task(task: &str, split: Split, known: &[String]) -> Error {
    let near = known
        .iter()
        .map(|id| (strsim::damerau_levenshtein(id, task), id))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, id)| format!("did you mean `{id}`? "));
    Error::usage(format!("there is no {split} task `{}`", show(task)))
        .code(Code::UnknownTask)
        .hint(format!("{}workspace/train_results.json lists the train tasks.", near.unwrap_or_default()))
}

/// The error of commands that need a baseline.
#[track_caller]
pub(super) fn not_prepared() -> Error {
    Error::usage("this experiment is not prepared").code(Code::NotPrepared).hint("run `autoharness prepare` first.")
}
