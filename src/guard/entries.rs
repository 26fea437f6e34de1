//! A commit's files as a sorted table: path below the experiment → what git recorded there.

use git2::Oid;

/// What git records about the kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An ordinary file.
    File,
    /// An ordinary file that its owner may execute.
    Executable,
    /// A symbolic link; the object holds its target.
    Symlink,
    /// A submodule; the object id is a commit of another repository.
    Submodule,
}

impl Mode {
    /// Reads a mode as trees and indexes store it; `None` for directories and anything unknown.
    pub(super) fn from_raw(raw: u32) -> Option<Mode> {
        match raw & 0o170_000 {
            0o100_000 if raw & 0o100 != 0 => Some(Mode::Executable),
            0o100_000 => Some(Mode::File),
            0o120_000 => Some(Mode::Symlink),
            0o160_000 => Some(Mode::Submodule),
            _ => None,
        }
    }

    /// Whether this is an ordinary file, executable or not.
    pub fn is_regular(self) -> bool {
        matches!(self, Mode::File | Mode::Executable)
    }
}

/// One file of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry {
    /// The kind of file.
    pub mode: Mode,
    /// The object that holds its bytes.
    pub oid: Oid,
}

/// Paths (relative, `/`-separated bytes) and their entries, sorted by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    sorted: Vec<(Vec<u8>, TreeEntry)>,
}

impl Entries {
    pub(super) fn new(mut list: Vec<(Vec<u8>, TreeEntry)>) -> Entries {
        list.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Entries { sorted: list }
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The position of `path`, for callers that tick entries off.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.sorted.binary_search_by(|(candidate, _)| candidate.as_slice().cmp(path)).ok()
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<TreeEntry> {
        self.find(path).map(|position| self.sorted[position].1)
    }

    pub(super) fn at(&self, position: usize) -> (&[u8], TreeEntry) {
        let (path, entry) = &self.sorted[position];
        (path, *entry)
    }

    /// Whether the commit has files in directory `directory`, at any depth.
    pub(super) fn any_below(&self, directory: &[u8]) -> bool {
        let mut prefix = directory.to_vec();
        prefix.push(b'/');
        let start = self.sorted.partition_point(|(path, _)| path.as_slice() < prefix.as_slice());
        self.sorted.get(start).is_some_and(|(path, _)| path.starts_with(&prefix))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], TreeEntry)> {
        self.sorted.iter().map(|(path, entry)| (path.as_slice(), *entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_not_confused_with_names_that_start_alike() {
        let entry = TreeEntry { mode: Mode::File, oid: Oid::ZERO_SHA1 };
        let entries = Entries::new(vec![(b"a.b".to_vec(), entry), (b"a/x".to_vec(), entry), (b"ab/y".to_vec(), entry)]);
        assert!(entries.any_below(b"a"));
        assert!(entries.any_below(b"ab"));
        assert!(!entries.any_below(b"a.b"));
        assert!(!entries.any_below(b"b"));
    }

    #[test]
    fn only_the_owner_bit_makes_a_file_executable() {
        assert_eq!(Mode::from_raw(0o100_755), Some(Mode::Executable));
        assert_eq!(Mode::from_raw(0o100_664), Some(Mode::File));
        assert_eq!(Mode::from_raw(0o040_000), None);
    }
}
