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

/// The paths whose files are not the same in both.
pub(crate) fn differing<'f>(was: &'f EditableFiles, is: &'f EditableFiles) -> Vec<&'f [u8]> {
    let gone = was.keys().filter(|path| !is.contains_key(*path));
    let other = is.iter().filter(|(path, file)| was.get(*path) != Some(*file)).map(|(path, _)| path);
    gone.chain(other).map(Vec::as_slice).collect()
}
