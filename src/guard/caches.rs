//! Caches of well-known tools that ignore themselves. Git looks past them, and so does the guard.
//!
//! The list of names is fixed, because a nested `.gitignore` in general may hide anything from git. Nothing in such a
//! directory is ever staged, so no score can come from it.

use std::path::Path;

use super::files;

const NAMES: [&[u8]; 7] =
    [b".hypothesis", b".import_linter_cache", b".mypy_cache", b".pyre", b".pytest_cache", b".pytype", b".ruff_cache"];
/// Larger than any tool's `.gitignore`.
const MAX_RULES: u64 = 4096;

/// Whether the directory at `path`, below `root`, is a tool's cache with a `.gitignore` of its own that ignores all of it.
pub(super) fn is_tool_cache(root: &Path, path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    NAMES.contains(&name) && ignores_itself(&files::join(root, path).join(".gitignore"))
}

fn ignores_itself(rules: &Path) -> bool {
    let Ok(Some((file, _))) = files::open_regular(rules) else { return false };
    let Ok(Some(text)) = files::read_up_to(file, MAX_RULES) else { return false };
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    // A line that re-includes something would make git show it.
    lines.clone().all(|line| !line.starts_with(b"!")) && lines.any(|line| line == b"*")
}
