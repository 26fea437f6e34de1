//! What differs from the base commit.

/// How a path differs from the base commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Other bytes (for a link: another target).
    Modified,
    /// In the base commit, gone now.
    Deleted,
    /// A file that the base commit neither has nor ignores.
    Added,
    /// A link, pipe, socket or device that the base commit neither has nor ignores.
    AddedSpecial,
    /// Only the executable bit differs.
    ModeChanged,
    /// A file, link or directory became one of the others.
    TypeChanged,
    /// Same on disk, but the index holds something else, or lacks it.
    Staged,
    /// The index holds a link or a submodule that the base commit does not have.
    StagedSpecial,
    /// The index holds an unresolved merge.
    Conflict,
    /// A git repository inside the experiment: git looks past its files.
    NestedRepository,
    /// A submodule that is checked out: its files cannot be compared with a tree of this repository.
    Submodule,
    /// Permissions keep it from being read.
    Unreadable,
}

impl Difference {
    /// A few words for a list of violations.
    pub fn describe(self) -> &'static str {
        match self {
            Difference::Modified => "modified",
            Difference::Deleted => "deleted",
            Difference::Added => "new",
            Difference::AddedSpecial => "new, and not a regular file",
            Difference::ModeChanged => "executable bit changed",
            Difference::TypeChanged => "replaced by another kind of file",
            Difference::Staged => "differs in the git index",
            Difference::StagedSpecial => "not a regular file in the git index",
            Difference::Conflict => "unresolved merge in the git index",
            Difference::NestedRepository => "git repository inside the experiment",
            Difference::Submodule => "checked-out submodule, cannot be compared",
            Difference::Unreadable => "cannot be read",
        }
    }
}

/// One path that differs from the base commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Relative to the experiment, `/`-separated, any bytes.
    pub path: Vec<u8>,
    pub difference: Difference,
}

impl Change {
    /// A change of `path`, relative to the experiment.
    pub fn new(path: &[u8], difference: Difference) -> Change {
        Change { path: path.to_vec(), difference }
    }
}
