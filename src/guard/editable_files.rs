//! The editable files, as they will be scored.

use std::collections::BTreeMap;

/// One editable file, as it will be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditableFile {
    /// Its content, as a commit has it or would have it.
    pub bytes: Vec<u8>,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// The editable files by their paths relative to the experiment.
pub type EditableFiles = BTreeMap<Vec<u8>, EditableFile>;
