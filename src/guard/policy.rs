//! Which differences from the base commit are allowed. Pure: no file, no git.

use super::change::{Change, Difference};
use super::files::show_path;
use crate::error::{Code, Error, Result};

/// The instructions that the human steers with; always allowed to change.
pub(super) const PROGRAM: &[u8] = b"PROGRAM.md";

/// What the coding agent may edit: files, and directories with everything in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editable {
    entries: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    path: Vec<u8>,
    directory_only: bool,
}

impl Editable {
    /// Checks the `editable` list of the configuration. A trailing `/` says that an entry is a directory.
    ///
    /// # Errors
    /// A usage error that names the entry.
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Result<Editable> {
        if entries.is_empty() {
            return Err(Error::usage("`editable` is empty: nothing could ever be improved")
                .code(Code::ConfigInvalid)
                .hint("name the agent file, as in `editable: [agent/agent.py]`."));
        }
        let entries = entries.iter().map(|entry| item(entry.as_ref())).collect::<Result<_>>()?;
        Ok(Editable { entries })
    }

    /// Whether a file at this path (relative to the experiment) may be edited.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.entries.iter().any(|item| {
            let below = path.strip_prefix(item.path.as_slice());
            below.is_some_and(|rest| rest.starts_with(b"/") || (rest.is_empty() && !item.directory_only))
        })
    }

    /// The entries in the order of the configuration, without trailing slashes.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|item| item.path.as_slice())
    }

    /// Whether the entry at this path was written with a trailing `/`.
    pub(super) fn names_directory(&self, path: &[u8]) -> bool {
        self.entries.iter().any(|item| item.path == path && item.directory_only)
    }
}

fn item(entry: &str) -> Result<Item> {
    let refuse = |why: &str| {
        Err(Error::usage(format!("`editable` entry `{}` {why}", entry.escape_debug()))
            .code(Code::ConfigInvalid)
            .hint("entries are files or directories relative to the experiment, such as `agent/agent.py` or `agent/`."))
    };
    if entry.starts_with('/') {
        return refuse("is absolute");
    }
    if entry.chars().any(char::is_control) {
        return refuse("has control characters");
    }
    if entry.contains(['*', '?', '[']) {
        return refuse("looks like a pattern, which is not supported");
    }
    let parts: Vec<&str> = entry.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let Some((first, last)) = parts.first().zip(parts.last()) else {
        return refuse("names the whole experiment");
    };
    if parts.contains(&"..") {
        return refuse("leaves the experiment with `..`");
    }
    if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
        return refuse("is inside a git directory");
    }
    if *first == "workspace" {
        return refuse("is inside workspace/, which holds results");
    }
    if parts.as_slice() == ["experiment_config.yaml"] {
        return refuse("is the configuration, which decides how edits are judged");
    }
    if *last == ".gitignore" {
        return refuse("decides which files the guard sees");
    }
    Ok(Item { path: parts.join("/").into_bytes(), directory_only: entry.ends_with('/') })
}

/// A change that the rules do not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Relative to the experiment, any bytes.
    pub path: Vec<u8>,
    /// How it differs from the base commit.
    pub difference: Difference,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", show_path(&self.path), self.difference.describe())
    }
}

/// The changes that are not allowed, at most one per path, in the order given.
pub fn violations(changes: &[Change], editable: &Editable) -> Vec<Violation> {
    let mut result: Vec<Violation> = Vec::new();
    for change in changes {
        let mine = change.path == PROGRAM || editable.contains(&change.path);
        let allowed = mine && is_plain(change.difference);
        if !allowed && result.last().is_none_or(|last| last.path != change.path) {
            result.push(Violation { path: change.path.clone(), difference: change.difference });
        }
    }
    result
}

/// Whether the difference leaves a plain file, or none: anything else could bring in content that is no edit.
fn is_plain(difference: Difference) -> bool {
    match difference {
        Difference::Modified
        | Difference::Deleted
        | Difference::Added
        | Difference::ModeChanged
        | Difference::Staged
        | Difference::Conflict => true,
        Difference::AddedSpecial
        | Difference::TypeChanged
        | Difference::StagedSpecial
        | Difference::NestedRepository
        | Difference::Submodule
        | Difference::Unreadable => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(entry: &str) -> bool {
        Editable::new(&["agent/agent.py", entry]).is_err()
    }

    #[test]
    fn entries_that_would_open_the_door_are_refused() {
        let bad = ["", ".", "./", "/etc/passwd", "../x", "agent/../../x", ".git/config", "a/.GIT", "workspace/x"];
        for entry in
            bad.into_iter().chain(["workspace", "agent/*.py", "experiment_config.yaml", "a/.gitignore", "a\nb"])
        {
            assert!(refused(entry), "{entry:?} was accepted");
        }
        assert!(Editable::new::<&str>(&[]).is_err());
    }

    #[test]
    fn a_directory_covers_what_is_in_it_and_nothing_that_starts_alike() {
        let editable = Editable::new(&["./agent//tools/", "prompt"]).unwrap();
        assert!(editable.contains(b"agent/tools/a/b.py"));
        assert!(!editable.contains(b"agent/tools"));
        assert!(!editable.contains(b"agent/tools.py"));
        assert!(editable.contains(b"prompt"));
        assert!(editable.contains(b"prompt/system.txt"));
        assert!(!editable.contains(b"prompts"));
    }

    #[test]
    fn an_editable_path_must_stay_a_plain_file() {
        let editable = Editable::new(&["agent/agent.py"]).unwrap();
        let on = |difference| violations(&[Change::new(b"agent/agent.py", difference)], &editable).len();
        assert_eq!(on(Difference::Modified), 0);
        assert_eq!(on(Difference::TypeChanged), 1);
        assert_eq!(on(Difference::AddedSpecial), 1);
        assert_eq!(on(Difference::StagedSpecial), 1);
    }

    #[test]
    fn each_path_is_named_once() {
        let editable = Editable::new(&["agent/agent.py"]).unwrap();
        let changes = [
            Change::new(b"PROGRAM.md", Difference::Modified),
            Change::new(b"x", Difference::Modified),
            Change::new(b"x", Difference::Conflict),
        ];
        let named: Vec<String> = violations(&changes, &editable).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["x: modified"]);
    }
}
