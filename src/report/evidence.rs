//! What a train task left in the work space.

use std::path::Path;

use super::breakdown::Breakdown;
use super::signature::Signature;
use super::trace::Trace;
use crate::error::Result;
use crate::store::traces::{Document, Kept, Place, kept};

/// A trial of a train task as it lies in the work space, read.
#[derive(Debug, Clone)]
pub struct Left {
    /// Where it is from.
    pub place: Place,
    /// The trial's number.
    pub trial: u32,
    /// Its directory, relative to the experiment.
    pub directory: String,
    /// The trace's file, relative to the experiment.
    pub trace_file: String,
    /// Its result.
    pub result: Breakdown,
    /// Its conversation.
    pub trace: Option<Trace>,
    /// Why there is no conversation, when there is none.
    pub without: Option<String>,
}

/// Reads a trial of a train task, each file up to `limit` bytes; `None` when nothing of it is there. The caller makes sure
/// that it is a train task: of others nothing is ever written, and a directory that somebody made is nobody's evidence.
///
/// # Errors
/// As [`kept`].
pub fn left(workspace: &Path, place: Place, task: &str, trial: u32, limit: u64) -> Result<Option<Left>> {
    let Some(Kept { directory, trace_name, result, trace }) = kept(workspace, place, task, trial, limit)? else {
        return Ok(None);
    };
    let directory = format!("workspace/{}", directory.display());
    let trace_file = format!("{directory}/{trace_name}");
    let (trace, without) = match trace {
        Document::Bytes(bytes) => (Some(Trace::read(&bytes)), None),
        Document::TooLarge(bytes) => {
            (None, Some(format!("it has {} MB, too much to be shown here; it lies at {trace_file}", bytes >> 20)))
        }
        Document::Missing => (None, Some("the benchmark sent none for this trial".to_string())),
    };
    let result = match result {
        Document::Bytes(bytes) => Breakdown::read(&bytes),
        Document::TooLarge(_) | Document::Missing => Breakdown::default(),
    };
    Ok(Some(Left { place, trial, directory, trace_file, result, trace, without }))
}

impl Left {
    /// What its failure has in common with others.
    pub fn signature(&self) -> Signature {
        Signature::of(&self.result, self.trace.as_ref())
    }
}
