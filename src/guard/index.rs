//! What is staged: an edit can sit in the index alone, ready to be committed, while the file on disk looks untouched.

use fs_err as fs;
use git2::Index;

use super::base::BaseTree;
use super::change::{Change, Difference};
use super::entries::{Mode, TreeEntry};
use super::policy::Editable;
use super::repo::Repo;
use crate::error::{Code, Error, Result};

/// Differences between the index and the base commit. Flags such as assume-unchanged mean nothing here.
/// Errors: a usage error when the index is missing or in a form that cannot be read, with the command that fixes it.
pub(super) fn staged(repo: &Repo, base: &BaseTree) -> Result<Vec<Change>> {
    let path = repo.index_path();
    // libgit2 takes a missing index for an empty one, which would read as everything deleted.
    if fs::symlink_metadata(&path).is_err() {
        return Err(Error::usage(format!("the git index {} is missing", path.display()))
            .code(Code::GitUnreadable)
            .hint("`git reset` makes it again; files on disk are left alone."));
    }
    let index = Index::open(&path).map_err(|error| explain(&error))?;
    let entries = base.entries();
    let mut seen = vec![false; entries.len()];
    let mut changes = Vec::new();
    for entry in index.iter() {
        let Some(path) = below(&entry.path, repo.prefix()) else { continue };
        let position = entries.find(path);
        if let Some(position) = position {
            seen[position] = true;
        }
        let recorded = position.map(|position| entries.at(position).1);
        let staged = Mode::from_raw(entry.mode).map(|mode| TreeEntry { mode, oid: entry.id });
        let stage = (entry.flags >> 12) & 3;
        if stage != 0 {
            changes.push(Change::new(path, Difference::Conflict));
        } else if staged.is_none() || staged != recorded {
            let regular = staged.is_some_and(|staged| staged.mode.is_regular());
            changes.push(Change::new(path, if regular { Difference::Staged } else { Difference::StagedSpecial }));
        }
    }
    for (position, seen) in seen.into_iter().enumerate() {
        let (path, _) = entries.at(position);
        if !seen {
            changes.push(Change::new(path, Difference::Staged));
        }
    }
    Ok(changes)
}

/// Whether the index holds an editable file otherwise than the commit does.
pub(crate) fn is_staged(repo: &Repo, base: &BaseTree, editable: &Editable) -> bool {
    staged(repo, base).is_ok_and(|changes| changes.iter().any(|change| editable.contains(&change.path)))
}

/// The part of a repository path below `prefix`; `None` when it lies elsewhere.
fn below<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    if prefix.is_empty() { Some(path) } else { path.strip_prefix(prefix)?.strip_prefix(b"/") }
}

fn explain(error: &git2::Error) -> Error {
    let failure = Error::usage(format!("cannot read the git index: {}", error.message())).code(Code::GitUnreadable);
    if error.message().contains("'link'") {
        failure.hint("it is a split index; `git update-index --no-split-index` makes it whole.")
    } else if error.message().contains("'sdir'") {
        failure.hint("it is a sparse index; `git sparse-checkout reapply --no-sparse-index` makes it full.")
    } else {
        failure.hint("`git reset` writes it anew; files on disk are left alone.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_in_the_experiment_count() {
        assert_eq!(below(b"sub/a", b"sub"), Some(b"a".as_slice()));
        assert_eq!(below(b"submarine", b"sub"), None);
        assert_eq!(below(b"other/a", b"sub"), None);
        assert_eq!(below(b"a", b""), Some(b"a".as_slice()));
    }
}
