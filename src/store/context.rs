//! `workspace/task_context/`: what all tasks of a benchmark share, for the coding agent.

use std::path::Path;

use super::beneath::Dir;
use crate::error::Result;

/// Where the texts are, below the workspace.
pub(crate) const DIRECTORY: &str = "task_context";

/// Writes these texts, by their plain file names. Without any there is no directory.
/// Errors: usage when a link leads elsewhere, infrastructure when the disk refuses.
pub(crate) fn write(workspace: &Path, texts: &[(String, String)]) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    let place = Dir::make(workspace)?.make_below(Path::new(DIRECTORY))?;
    texts.iter().try_for_each(|(name, text)| place.replace(name.as_ref(), text.as_bytes()))
}
